"""Local calibration: does u depend on x, and where is it off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.utils.validation import check_array, check_consistent_length

from .._columns import frame_columns, is_frame, is_missing
from .._parts import is_parts
from .._tables import Frame, as_table, without_mask
from .._validation import check_integer, check_real
from .checks import check_levels, check_unit, names_of
from .diagnostic import (
    HeldOut,
    random_stream,
)
from .results import Result, table
from .uniformity import (
    combine,
    combine_independent,
    holm,
    polynomials,
    rank_scores,
)

#: Of parts of X with more columns than these, the mean and the deviation of each row are looked at.
MOST_COLUMNS = 50
#: Blocks of rows in `forward_pvalues`; each is predicted by trees grown on those before it.
N_BLOCKS = 5


class Region(NamedTuple):
    """Calibration of one output in one bin; a list of these makes a pandas frame.

    Parameters
    ----------
    feature, output : str
        Names of what the rows are binned by, and of the output.
    low, high : float
        Edges of the bin.
    n_rows : int
        Rows in it.
    mean_u, mean_u_error : float
        Mean of u, 1/2 if calibrated, and its standard error if calibrated.
    coverage, coverage_error : tuple of float
        Share of u inside each central interval, and its standard error if calibrated.
    pvalue : float
        Two-sided, of mean and coverages together (Bonferroni); not adjusted for other regions.
    flagged : bool
        Whether the p-value, adjusted for all regions (Holm), is at most `alpha`.
    """

    feature: str
    output: str
    low: float
    high: float
    n_rows: int
    mean_u: float
    mean_u_error: float
    coverage: tuple[float, ...]
    coverage_error: tuple[float, ...]
    pvalue: float
    flagged: bool = False


class Features(NamedTuple):
    """Features as numbers.

    Parameters
    ----------
    names : list of str
    values : ndarray of shape (n_rows, n_features)
        With nan and infinities.
    columns : ndarray of shape (n_rows, n_columns)
        Finite: medians stand in for what is not, with masks behind.
    """

    names: list[str]
    values: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class LocalCalibration(Result):
    """Result of `local_calibration`.

    Parameters
    ----------
    output_names : tuple of str
        Names of the outputs.
    linear_pvalues, tree_pvalues : ndarray of shape (n_outputs, 2)
        Can the centre (first column) and the width (second) of u be predicted from the features
        by lines and parabolas, or by trees?
    pvalues : ndarray of shape (n_outputs,)
        Does u depend on x at all?
    pvalue : float
        Of all outputs.
    regions : tuple of Region
        Every bin and output.
    levels : tuple of float
        Levels of the central intervals in `regions`.
    """

    output_names: tuple[str, ...]
    linear_pvalues: np.ndarray
    tree_pvalues: np.ndarray
    pvalues: np.ndarray
    pvalue: float
    regions: tuple[Region, ...]
    levels: tuple[float, ...]

    def worst(self, n_regions: int = 5) -> list[Region]:
        """Regions of the smallest p-values, the worst first."""
        return sorted(self.regions, key=lambda region: region.pvalue)[:n_regions]

    def summary(self) -> str:
        """Tables of the outputs and of the worst regions."""
        rows = [
            [name, *pvalues]
            for name, *pvalues in zip(
                self.output_names,
                self.pvalues,
                self.linear_pvalues.min(axis=1),
                self.tree_pvalues.min(axis=1),
                strict=True,
            )
        ]
        header = ["output", "p local", "smallest p, lines", "smallest p, trees"]
        text = f"Dependence of u on x: p = {self.pvalue:.3g}\n" + table(header, rows)
        n_flagged = sum(region.flagged for region in self.regions)
        text += f"\nWorst of {len(self.regions)} regions, {n_flagged} of which are flagged (*)\n"
        rows = [
            [r.output, f"{r.feature} in [{r.low:.4g}, {r.high:.4g}]", r.n_rows,
             f"{r.mean_u:.3f} ± {r.mean_u_error:.3f}", *(f"{c:.3f}" for c in r.coverage),
             f"{r.pvalue:.3g}{' *' if r.flagged else ''}"]
            for r in self.worst()
        ]  # fmt: skip
        header = ["output", "region", "rows", "mean u", *(f"in {v:.0%}" for v in self.levels), "p"]
        return text + table(header, rows)


def local_calibration(
    u: Any,
    X: Any,
    *,
    by: Any = None,
    n_bins: int = 10,
    levels: Sequence[float] = (0.5, 0.9),
    alpha: float = 0.05,
    output_names: Sequence[str] | None = None,
    random_state: Any = None,
) -> LocalCalibration:
    """Test whether u can be predicted from x, and find the regions where it is off.

    Values u_j that are uniform over all rows may be too high for some x and too low for others.
    The test asks whether their centre and width, the polynomials P_1(u_j) and P_2(u_j), can be
    predicted from the features, in two ways: an F test of lines and parabolas of each feature, and
    trees grown on earlier rows that predict later ones. It does not see a miscalibration that is
    the same everywhere, and the two are combined as in `rosenblatt_test`.

    Parameters
    ----------
    u : array-like of shape (n_rows, n_outputs)
        From ``density.cdf(y)``, or other values that are to be uniform for every x, such as
        `RankTest.pit`, which are about the marginal distribution of each output.
    X : array-like of shape (n_rows, n_features)
        Features, with nan, infinities and labels, if any; names are taken from a frame. Labels
        count by their order, missing and infinite values have no bins of their own.
    by : callable, array-like of shape (n_rows,), dict of these, or None, default=None
        What the table of regions is binned by: ``by(X)`` or values for each row. None bins by
        every feature.
    n_bins : int, default=10
        Quantile bins; a variable of no more values has a bin for each.
    levels : sequence of float, default=(0.5, 0.9)
        Levels of the central intervals of u whose coverage is given.
    alpha : float, default=0.05
        Probability that any region is flagged if the model is calibrated.
    output_names : sequence of str, default=None
        Names of the outputs; None makes y0, y1, ...
    random_state : int, RandomState or None, default=None
        Order of the rows and seed of the trees.

    Returns
    -------
    LocalCalibration

    References
    ----------
    .. [1] Zhao, Dalmasso, Izbicki and Lee (2021), Diagnostics for conditional density models and
       Bayesian inference algorithms, UAI.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import local_calibration
    >>> random = np.random.default_rng(0)
    >>> X, u = random.uniform(size=(1000, 2)), random.uniform(size=(1000, 1))
    >>> u[X[:, 1] > 0.9] **= 2
    >>> result = local_calibration(u, X, random_state=0)
    >>> result.pvalue < 0.001
    True
    >>> [(region.feature, round(region.low, 1), region.flagged) for region in result.worst(1)]
    [('x1', 0.9, True)]
    """
    check_integer("n_bins", n_bins, 1)
    check_real("alpha", alpha, 0.0, 1.0)
    levels = tuple(float(level) for level in check_levels(levels))
    u = check_unit(u, "u")
    features = numeric_features(X)
    check_consistent_length(features.values, u)
    names = names_of(output_names, u.shape[1])
    random = random_stream(random_state)
    scores = polynomials(u, 2)  # (n_rows, n_outputs, 2)
    flat, shape = scores.reshape(len(u), -1), scores.shape[1:]
    linear = linear_pvalues(features.columns, flat).reshape(shape)
    trees = forward_pvalues(features.columns, flat, random).reshape(shape)
    variables = _binning_variables(by, X, features)
    return LocalCalibration(
        output_names=names,
        linear_pvalues=linear,
        tree_pvalues=trees,
        pvalues=np.array([combine_both(*pair) for pair in zip(linear, trees, strict=True)]),
        pvalue=combine_both(linear, trees),
        regions=_regions(u, variables, names, n_bins, levels, alpha),
        levels=levels,
    )


def numeric_features(X: Any) -> Features:
    """Features as numbers: labels by their order, and what has no number in columns of its own.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        Numbers, with nan and infinities, or labels. Of arrays of more dimensions, and in a dict of
        parts of more than `MOST_COLUMNS` columns, the mean and the deviation of each row.
    """
    if is_parts(X):
        X = _columns_of_parts(X)
    elif getattr(X, "ndim", 0) > 2:
        X = Frame(_columns_of_part("X", X))
    else:
        X = as_table(X)
    if is_frame(X):
        columns, names = frame_columns(X), [str(name) for name in X.columns]
    else:
        X = without_mask(X)
        plain = check_array(
            X,
            dtype=None if np.asarray(X).dtype.kind in "OUST" else np.float64,
            ensure_all_finite=False,
            input_name="X",
        )
        columns, names = list(plain.T), [f"x{j}" for j in range(plain.shape[1])]
    values = np.stack([_as_numbers(column) for column in columns], axis=1)
    finite = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(finite).all(axis=0)
    middle = np.zeros(values.shape[1])
    middle[known] = np.nanmedian(finite[:, known], axis=0)
    states = [test(values) for test in (np.isnan, np.isposinf, np.isneginf)]
    masks = [state[:, state.any(axis=0)].astype(np.float64) for state in states]
    filled = np.where(np.isnan(finite), middle, values)
    return Features(names, values, np.concatenate([filled, *masks], axis=1))


def _columns_of_parts(X: Mapping[Any, Any]) -> Frame:
    """Columns of all parts."""
    columns: dict[str, np.ndarray] = {}
    for name, part in X.items():
        if part is None:
            continue
        table = as_table(part)
        if is_frame(table):
            names = [str(column) for column in table.columns]
            columns |= dict(zip(names, frame_columns(table), strict=True))
        else:
            columns |= _columns_of_part(str(name), np.asarray(table))
    return Frame(columns)


def _columns_of_part(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of an array, or what tells most of its rows."""
    if values.ndim == 2 and values.shape[1] <= MOST_COLUMNS:
        return {f"{name} {j}": column for j, column in enumerate(values.T)}
    flat = values.reshape(len(values), -1).astype(np.float64)
    known = np.isfinite(flat)
    n = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, flat, 0.0).sum(axis=1) / n
    square = np.where(known, flat - mean[:, None], 0.0) ** 2
    missing = np.where(known.any(axis=1), 0.0, np.nan)
    columns = (mean + missing, np.sqrt(square.sum(axis=1) / n) + missing)
    return dict(zip((f"{name} mean", f"{name} deviation"), columns, strict=True))


def _as_numbers(column: np.ndarray) -> np.ndarray:
    """Float64 (n_rows,): numbers, or the position of each label among all; nan where missing."""
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    missing = np.array([is_missing(value) for value in column.tolist()], dtype=bool)
    numbers = np.full(len(column), np.nan)
    try:
        numbers[~missing] = column[~missing].astype(np.float64)
    except (TypeError, ValueError):
        labels = [str(value) for value in column[~missing].tolist()]
        numbers[~missing] = np.unique(labels, return_inverse=True)[1]
    return numbers


def _binning_variables(by: Any, X: Any, features: Features) -> dict[str, np.ndarray]:
    """Named variables (n_rows,) that rows are binned by; nan and infinities have no bin."""
    if by is None:
        return dict(zip(features.names, features.values.T, strict=True))
    if not isinstance(by, Mapping):
        by = {getattr(by, "__name__", "by"): by}
    variables = {}
    for name, entry in by.items():
        values = np.asarray(entry(X) if callable(entry) else entry, dtype=np.float64)
        if values.shape != (len(features.values),) or not np.isfinite(values).all():
            raise ValueError(
                f"by must give one finite number for each of the {len(features.values)} rows; "
                f"{name!r} has shape {values.shape}."
            )
        variables[str(name)] = values
    return variables


def _regions(
    u: np.ndarray,
    variables: Mapping[str, np.ndarray],
    output_names: tuple[str, ...],
    n_bins: int,
    levels: tuple[float, ...],
    alpha: float,
) -> tuple[Region, ...]:
    """Every bin of every variable, for every output."""
    regions = [
        Region(feature, output_names[j], *statistics)
        for feature, values in variables.items()
        for j, *statistics in bin_statistics(u, values, n_bins, levels)
    ]
    adjusted = holm(np.array([region.pvalue for region in regions]))
    flags = (adjusted <= alpha).tolist()
    return tuple(r._replace(flagged=flag) for r, flag in zip(regions, flags, strict=True))


def linear_pvalues(X: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """F test of the regression of each score on straight lines and parabolas of each feature.

    Features (n_rows, n_features) count by their ranks. Scores (n_rows, n_scores) may have any
    distribution; the result has shape (n_scores,).
    """
    n = len(X)
    basis = rank_scores(X, 2).reshape(n, -1)
    left, singular, _ = np.linalg.svd(basis - basis.mean(axis=0), full_matrices=False)
    left = left[:, singular > 1e-10 * max(singular[0], 1.0)]
    n_terms = left.shape[1]
    if n_terms == 0 or n_terms >= n - 1:
        return np.ones(scores.shape[1])
    centred = scores - scores.mean(axis=0)
    total = (centred**2).sum(axis=0)
    r_squared = ((left.T @ centred) ** 2).sum(axis=0) / np.where(total > 0, total, 1.0)
    return stats.beta.sf(np.minimum(r_squared, 1.0), n_terms / 2, (n - 1 - n_terms) / 2)


def forward_pvalues(
    X: np.ndarray, scores: np.ndarray, random: np.random.RandomState, n_trees: int = 50
) -> np.ndarray:
    """Whether extremely randomised trees predict scores of rows they have not seen, (n_scores,).

    Rows come in random order and blocks; each block is predicted from those before it. Given the
    past and the scores of a block, all assignments of these to its rows are equally likely if they
    do not depend on X, so that the mean and variance of the sum of ``prediction * score`` are
    known exactly. (Blocks that predict each other, as in cross-validation, would make the sums
    depend on each other.) The test is one-sided.
    """
    ranks = stats.rankdata(X, axis=0)  # trees then do not depend on outliers
    blocks = np.array_split(random.permutation(len(X)), N_BLOCKS)
    covariance, variance = np.zeros((2, scores.shape[1]))
    for k in range(1, N_BLOCKS):
        past, now = np.concatenate(blocks[:k]), blocks[k]
        trees = ExtraTreesRegressor(
            n_trees, max_depth=5, min_samples_leaf=20, random_state=random.randint(2**31 - 1)
        ).fit(ranks[past], scores[past])
        predicted = trees.predict(ranks[now]).reshape(len(now), -1)
        predicted = predicted - predicted.mean(axis=0)
        covariance += (predicted * scores[now]).sum(axis=0)
        variance += (predicted**2).sum(axis=0) * scores[now].var(axis=0, ddof=1)
    known = variance > 0
    z = np.where(known, covariance / np.sqrt(np.where(known, variance, 1.0)), 0.0)
    return stats.norm.sf(z)


def combine_both(linear: np.ndarray, trees: np.ndarray) -> float:
    """One p-value from those of lines and of trees."""
    both = [combine_independent(linear), combine_independent(trees)]
    return combine(np.array(both))


def bin_statistics(
    u: np.ndarray, values: np.ndarray, n_bins: int, levels: Sequence[float]
) -> Iterator[tuple]:
    """Calibration of u (n_rows, n_outputs) in bins of `values` (n_rows,).

    Yields the number of an output and the fields of a `Region` from `low` to `pvalue`. The mean is
    tested by its normal limit, the number of u inside each central interval as a binomial one.
    """
    level = np.array(levels)
    inside = np.abs(u[..., None] - 0.5) <= 0.5 * level  # (n_rows, n_outputs, n_levels)
    for low, high, rows in _bins(values, n_bins):
        n, mean = len(rows), u[rows].mean(axis=0)
        count = inside[rows].sum(axis=0)  # (n_outputs, n_levels)
        error, errors = 1.0 / np.sqrt(12.0 * n), np.sqrt(level * (1.0 - level) / n)
        smallest = np.minimum(
            2.0 * stats.norm.sf(np.abs(mean - 0.5) / error),
            2.0 * stats.binom.cdf(count, n, level).min(axis=1),
        )
        smallest = np.minimum(smallest, 2.0 * stats.binom.sf(count - 1, n, level).min(axis=1))
        pvalue = np.minimum(smallest * (1 + len(level)), 1.0)
        for j in range(u.shape[1]):
            share = tuple((count[j] / n).tolist())
            yield (j, low, high, n, float(mean[j]), float(error), share,
                   tuple(errors.tolist()), float(pvalue[j]))  # fmt: skip


def _bins(values: np.ndarray, n_bins: int) -> Iterator[tuple[float, float, np.ndarray]]:
    """Edges and row numbers of each bin: quantile bins, or one for each of few values."""
    known = np.flatnonzero(np.isfinite(values))
    values = values[known]
    low = high = np.unique(values)
    index = np.searchsorted(low, values)
    if len(low) > n_bins:
        edges = np.unique(np.quantile(values, np.arange(n_bins + 1) / n_bins))
        low, high = edges[:-1], edges[1:]
        index = np.searchsorted(edges[1:-1], values, side="right")
    for b in np.unique(index):
        yield float(low[b]), float(high[b]), known[index == b]


def diagnose_local(held_out: HeldOut, random: np.random.RandomState) -> LocalCalibration:
    """The entry of the table of diagnostics."""
    return local_calibration(
        held_out.u,
        held_out.X,
        by=held_out.by,
        output_names=held_out.output_names,
        random_state=random,
    )
