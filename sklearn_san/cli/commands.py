"""The commands of the command line that work on tables: fit, sample, predict and score."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._container import check_path
from .formats import Columns
from .headers import about, grid_notes, notes_of
from .options import check_fit, check_known, complete, percent
from .printing import note, print_json, print_lines, progress_bar
from .rows import Rows, as_frame, check_finite, load, read_rows
from .tables import (
    UsageError,
    check_format,
    check_input,
    check_output,
    is_hdf5,
    write_array,
    write_table,
)

#: Numbers that are drawn at once, and rows that are summarised at once.
N_VALUES, N_ROWS = 2**20, 2048
#: Draws per row behind the CRPS, and from `sample`.
N_SCORED, N_DRAWS = 200, 100
STATISTICS = ("mean", "std", "median", "q05", "q95")


def fit(options: Namespace) -> None:
    """Fit a model to a table, and write it."""
    complete(options)
    check_fit(options)
    check_input(options.table, options.group)
    check_output(options.model, overwrite=options.overwrite, inputs=[options.table])
    estimator = _new_estimator(options)
    features, targets = ({n: n for n in names} for names in (options.features, options.targets))
    rows = read_rows(options, features, targets, dict.fromkeys(options.categorical or ()))
    check_finite(options, rows, estimator)
    training, test = _split(rows, options.test_fraction, options.seed)
    X, y = (as_frame(one, training.units) for one in (training.features, training.targets))
    estimator.fit(X, y, **training.fit_options())
    # The file is the same with --quiet and without.
    estimator.set_params(verbose=False).save(options.model)
    note(
        options,
        f"wrote {options.model!r}: {len(features)} features, {len(targets)} targets, "
        f"{len(training)} rows, {estimator.n_iter_} epochs",
    )
    if test is not None:
        log_prob = test.density(estimator).log_prob(as_frame(test.targets, test.units))
        mean, error = _mean_and_error(log_prob, test.weight)
        print(f"test log-likelihood: {mean:.4f} +- {error:.4f} nats per row ({len(test)} rows)")


def _new_estimator(options: Namespace) -> Any:
    from .._estimator import SANConditionalDensityEstimator

    known = SANConditionalDensityEstimator().get_params()
    check_known(options.parameters, known, "The estimator", "parameter")
    limits = [options.limits.get(name, (-np.inf, np.inf)) for name in options.targets]
    return SANConditionalDensityEstimator(
        **options.parameters,
        limits=limits if options.limits else None,
        random_state=options.seed,
        verbose=not options.quiet,
    )


def _split(rows: Rows, share: float | None, seed: int | None) -> tuple[Rows, Rows | None]:
    if share is None:
        return rows, None
    n_test = max(1, round(share * len(rows)))
    if len(rows) - n_test < 2:
        raise ValueError(
            f"--test-fraction {share:g} of {len(rows)} rows leaves fewer than 2 to learn from."
        )
    order = np.random.RandomState(seed).permutation(len(rows))
    return rows.take(np.sort(order[n_test:])), rows.take(np.sort(order[:n_test]))


def _mean_and_error(values: np.ndarray, weight: np.ndarray | None) -> tuple[float, float]:
    """Mean over rows and its standard error; rows of nan or without weight do not count."""
    weight = np.ones(len(values)) if weight is None else weight
    used = (weight > 0) & ~np.isnan(values)
    values, weight = values[used], weight[used]
    if not used.any():
        return math.nan, math.nan
    mean = float(np.average(values, weights=weight))
    if len(values) < 2 or not math.isfinite(mean):
        return mean, math.nan
    share = weight / weight.sum()
    scale = 1.0 / (1.0 - (share**2).sum())  # n / (n - 1) for equal weights
    return mean, math.sqrt(scale * float((share**2 * (values - mean) ** 2).sum()))


def sample(options: Namespace) -> None:
    """Write draws for each row of a table."""
    form = options.format or _form_of(options.out)
    if form == "npy":
        _check_array(options)
    check_files(options, is_table=form != "npy", with_vectors=form == "vectors")
    estimator, rows = load(options)
    if form != "long":
        for name, classes in zip(estimator.output_names_, estimator.codec_.classes, strict=True):
            if classes is not None:
                raise ValueError(
                    f"Output {name!r} has labels, which no vector of numbers holds; write a row "
                    "for each draw with --format long."
                )
    if form == "npy":
        shape = (len(rows), options.n, estimator.n_outputs_)
        density = rows.density(estimator, options.on_bad_rows)
        blocks = (block for _, _, block in _draws(options, density, rows.ids))
        if options.dtype == "float32":
            from .._targets import single_inside

            blocks = (single_inside(block, estimator.limits_) for block in blocks)
        write_array(options.out, shape, options.dtype, blocks)
        return
    check_distinct(rows.kept, ["draw", *estimator.output_names_])
    pieces = _long_pieces if form == "long" else _vector_pieces
    notes = {
        name: notes_of(estimator, name, f"draws from p({name} | x)")
        for name in estimator.output_names_
    }
    write_table(options.out, pieces(options, estimator, rows), about(options, rows, notes))


def _form_of(path: str) -> str:
    if path.endswith(".npy"):
        return "npy"
    return "vectors" if is_hdf5(path) else "long"


def _check_array(options: Namespace) -> None:
    """Raise for what goes with tables alone."""
    for option, value in (("--keep", options.keep), ("--out-group", options.out_group)):
        if value:
            raise UsageError(f"{option} goes with a table, not with a .npy file.")
    if options.out == "-":
        raise UsageError("--format npy needs a file, not '-'.")


def check_files(options: Namespace, *, is_table: bool = True, with_vectors: bool = False) -> None:
    """Raise unless there are files to be read, and one, if any, can be written as asked for."""
    check_input(options.table, options.group)
    check_path(options.model)
    if options.out is None:
        return
    if is_table:
        check_format(options.out, with_vectors=with_vectors, group=options.out_group)
    if options.out == "-":
        return
    inputs = [options.table, options.model]
    check_output(options.out, overwrite=options.overwrite, inputs=inputs)


def check_distinct(kept: Iterable[str], written: Iterable[str]) -> None:
    """Raise where a column that is kept has the name of one that is written."""
    for name in set(kept) & set(written):
        raise ValueError(
            f"--keep {name} would be a second column {name!r} of the result; leave it out."
        )


def _noise(options: Namespace, ids: np.ndarray) -> Any:
    """Random numbers of rows by their ids and the seed, fresh ones without a seed."""
    from .._keyed_noise import make_noise

    seed = options.seed
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    return make_noise(seed, ids, len(ids))


def _draws(
    options: Namespace, density: Any, ids: np.ndarray
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of draws, (n_rows, n_draws, n_outputs), in the order of the result.

    They are those of `sample` with the same seed and the ids of the rows.
    """
    from .._draws import pair_blocks

    noise = _noise(options, ids)
    n_pairs = max(1, N_VALUES // density.n_outputs)
    with progress_bar(options, "sample", len(density)) as bar:
        blocks = list(pair_blocks(len(density), options.n, n_pairs))
        for rows, draws in blocks or [(slice(0, 0), slice(0, options.n))]:
            n = draws.stop - draws.start
            block = density[rows].sample(n, random_state=noise.take(rows, draws.start))
            yield rows, draws, block.reshape(-1, n, density.n_outputs)
            bar.update((rows.stop - rows.start) * n / options.n)


def _long_pieces(options: Namespace, estimator: Any, rows: Rows) -> Iterator[Columns]:
    """A row for each draw."""
    density = rows.density(estimator, options.on_bad_rows)
    dtypes = _dtypes(estimator, density)
    for some, draws, block in _draws(options, density, rows.ids):
        n_rows, n_draws, _ = block.shape
        kept = {name: np.repeat(column[some], n_draws) for name, column in rows.kept.items()}
        number = np.tile(np.arange(draws.start, draws.stop), n_rows)
        yield {**kept, "draw": number, **_outputs(estimator, block, dtypes)}


def _vector_pieces(options: Namespace, estimator: Any, rows: Rows) -> Iterator[Columns]:
    """A row for each row of the table, its draws in a vector for each output."""
    density = rows.density(estimator, options.on_bad_rows)
    dtypes, parts = _dtypes(estimator, density), []
    for some, draws, block in _draws(options, density, rows.ids):
        parts.append(block)
        if draws.stop == options.n:
            whole = np.concatenate(parts, axis=1)  # (n_rows, n_draws, n_outputs)
            kept = {name: column[some] for name, column in rows.kept.items()}
            columns = _outputs(estimator, whole, dtypes)
            shape = whole.shape[:2]
            yield kept | {name: column.reshape(shape) for name, column in columns.items()}
            parts = []


def _dtypes(estimator: Any, density: Any) -> list[np.dtype]:
    """Of each output; numbers are floats, and text any object, where rows may be nan."""
    dtypes, codec = [], estimator.codec_
    for is_whole, classes in zip(codec.whole, codec.classes, strict=True):
        dtype = np.dtype(np.int64 if is_whole else np.float64) if classes is None else classes.dtype
        if hasattr(density, "usable"):
            dtype = np.dtype(np.float64 if dtype.kind in "biuf" else object)
        dtypes.append(dtype)
    return dtypes


def _outputs(estimator: Any, values: np.ndarray, dtypes: Sequence[np.dtype]) -> Columns:
    """Columns of values of y (..., n_outputs), each in its own dtype."""
    names = estimator.output_names_
    return {name: _as_column(values[..., j].ravel(), dtypes[j]) for j, name in enumerate(names)}


def _as_column(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in their own dtype; a label that is missing is an empty cell."""
    if dtype.kind == "O":
        return np.array(["" if v != v else v for v in values.tolist()], dtype=object)
    return values.astype(dtype)


def predict(options: Namespace) -> None:
    """Write summaries for each row of a table."""
    is_array = options.out.endswith(".npy")
    if is_array:
        _check_array(options)
        if options.statistics or len(options.pdf) != 1:
            raise UsageError(
                "A .npy file holds the density of one output: give --pdf NAME=LOW,HIGH,N once and "
                "no --statistics."
            )
    check_files(options, is_table=not is_array, with_vectors=bool(options.pdf))
    estimator, rows = load(options)
    grids = dict(options.pdf)
    check_known(grids, estimator.output_names_, "--pdf", "output")
    if is_array:
        [(name, grid)] = grids.items()
        tables = _pieces(options, estimator, rows, [], grids)
        arrays = (columns[f"{name}_pdf"] for columns in tables)
        write_array(options.out, (len(rows), grid[-1]), "float32", arrays)
        return
    has_labels = any(classes is not None for classes in estimator.codec_.classes)
    # Labels have nothing but a most probable one.
    usual = () if grids else ["mean"] if has_labels else STATISTICS
    statistics = list(dict.fromkeys(options.statistics or usual))
    notes = {
        f"{name}_{one}": notes_of(estimator, name, f"{one} of p({name} | x)")
        for name in estimator.output_names_
        for one in statistics
    } | {f"{name}_pdf": grid_notes(estimator, name, grid) for name, grid in grids.items()}
    check_distinct(rows.kept, notes)
    pieces = _pieces(options, estimator, rows, statistics, grids)
    write_table(options.out, pieces, about(options, rows, notes))


def _pieces(
    options: Namespace,
    estimator: Any,
    rows: Rows,
    statistics: list[str],
    grids: Mapping[str, tuple[float, float, int]],
) -> Iterator[Columns]:
    """Statistics of each output, and densities on grids in single precision."""
    from .._model import chunks

    density = rows.density(estimator, options.on_bad_rows)
    dtypes = _dtypes(estimator, density)
    with progress_bar(options, "predict", len(rows)) as bar:
        for some in list(chunks(len(rows), N_ROWS)) or [slice(0, 0)]:
            summaries = _summaries(density[some], statistics) if statistics else {}
            columns = {name: column[some] for name, column in rows.kept.items()}
            for j, name in enumerate(estimator.output_names_):
                is_label = estimator.codec_.classes[j] is not None
                dtype = dtypes[j] if is_label else np.dtype(np.float64)
                for one, values in summaries.items():
                    columns[f"{name}_{one}"] = _as_column(values[:, j], dtype)
            for name, grid in grids.items():
                pdf = density[some].pdf_grid(name, np.linspace(*grid))
                columns[f"{name}_pdf"] = pdf.astype(np.float32)
            yield columns
            bar.update(some.stop - some.start)


def _summaries(density: Any, statistics: Sequence[str]) -> dict[str, np.ndarray]:
    """Each statistic of each row and output, (n_rows, n_outputs)."""
    levels = {one: percent(one) / 100.0 for one in statistics if not math.isnan(percent(one))}
    wanted = [one for one in statistics if one not in levels]
    if levels:
        wanted.append("quantiles")
    found = density.summarise(wanted, quantiles=list(levels.values()) or 0.5)
    columns = {}
    for one, values in found.items():
        n = len(levels) if one == "quantiles" else 1
        columns[one] = values.reshape(len(density), n, density.n_outputs)
    for i, one in enumerate(levels):
        columns[one] = columns["quantiles"][:, [i]]
    return {one: columns[one][:, 0] for one in statistics}


def score(options: Namespace) -> None:
    """Print log-likelihood and CRPS of a table with targets, and write those of each row."""
    if options.keep and not options.out:
        raise UsageError("--keep goes with --per-row.")
    check_files(options)
    estimator, rows = load(options, with_targets=True)
    names = [
        name
        for name, classes in zip(estimator.output_names_, estimator.codec_.classes, strict=True)
        if classes is None
    ]
    log_prob, scores = _scores(options, estimator, rows, names)
    if options.out:
        columns = {"log_prob": log_prob, **{f"crps_{name}": scores[name] for name in names}}
        check_distinct(rows.kept, columns)
        notes = {"log_prob": {"description": "log p(y | x) in nats"}} | {
            f"crps_{name}": notes_of(estimator, name, f"CRPS of {name}") for name in names
        }
        write_table(options.out, [{**rows.kept, **columns}], about(options, rows, notes))
    report = {
        "rows": len(rows),
        "rows_not_scored": int(np.isnan(log_prob).sum()),
        "rows_of_density_zero": int(np.isneginf(log_prob).sum()),
        "log_likelihood": _averaged(log_prob, rows),
        "crps": {name: _averaged(scores[name], rows) for name in names},
    }
    print_json(report) if options.json else _print_scores(report)


def _scores(
    options: Namespace, estimator: Any, rows: Rows, names: list[str]
) -> tuple[np.ndarray, Columns]:
    """Log density of each row, and the CRPS of each output in `names`; nan without a target."""
    from .._model import chunks
    from ..metrics import crps

    density, noise = rows.density(estimator, options.on_bad_rows), _noise(options, rows.ids)
    dtypes = _dtypes(estimator, density)
    log_prob, scores = np.empty(len(rows)), {name: np.empty(len(rows)) for name in names}
    with progress_bar(options, "score", len(rows)) as bar:
        for some in chunks(len(rows), max(1, N_VALUES // (options.n * density.n_outputs))):
            part = rows.take(some)
            log_prob[some] = density[some].log_prob(as_frame(part.targets, part.units))
            draws = density[some].sample(options.n, random_state=noise.take(some))
            columns = _outputs(estimator, draws.reshape(-1, density.n_outputs), dtypes)
            for name in names:
                y, one = part.targets[name], columns[name].reshape(len(part), options.n)
                score = crps(np.nan_to_num(y), np.nan_to_num(one), per_row=True)
                unknown = np.isnan(y) | np.isnan(log_prob[some])
                scores[name][some] = np.where(unknown, np.nan, score)
            bar.update(len(part))
    return log_prob, scores


def _averaged(values: np.ndarray, rows: Rows) -> dict[str, float]:
    mean, error = _mean_and_error(values, rows.weight)
    return {"mean": mean, "standard_error": error}


def _print_scores(report: dict[str, Any]) -> None:
    lines = {"rows": str(report["rows"])}
    if report["rows_not_scored"]:
        lines["rows not scored"] = str(report["rows_not_scored"])
    if report["rows_of_density_zero"]:
        lines["rows of density zero"] = str(report["rows_of_density_zero"])
    lines["log-likelihood"] = _with_error(report["log_likelihood"]) + " nats per row"
    for name, score in report["crps"].items():
        lines[f"CRPS of {name}"] = _with_error(score)
    print_lines(lines)


def _with_error(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.4g} +- {score['standard_error']:.2g}"
