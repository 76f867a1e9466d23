"""For Dask: densities of arrays and frames that are larger than memory, on many workers.

=============  ==========================================
`predict`      a summary of each row
`sample`       draws of each row, by its name and a seed
`log_prob`     log density of known targets
`pdf_grid`     density of one output on a grid
=============  ==========================================

Nothing is computed before Dask is told to: shapes, columns and dtypes are those of an answer to no
rows. An array gives an array, a frame a frame. The model is one constant of the graph, which a
worker receives once. A task computes on one thread: as many run at a time as the workers have
threads.

In all functions `estimator` is a fitted density estimator, or a pipeline or search around one, or
the name of a file of `save` that all workers can read; X is an array of shape
(n_rows, n_features), or a frame of which the columns that `fit` saw are taken. What goes along with
its rows (`y`, `row_ids`, `X_err`) is of the same kind and in the same partitions, or for frames the
names of columns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
from dask.dataframe.utils import meta_nonempty
from joblib import parallel_config
from joblib.parallel import SequentialBackend

from .._estimator import SANConditionalDensityEstimator
from ..chains import density_of

__all__ = ["log_prob", "pdf_grid", "predict", "sample"]


def predict(
    estimator: Any, X: Any, *, output_type: str = "mean", quantiles: Any = (0.05, 0.5, 0.95),
    X_err: Any = None, on_bad_rows: str = "raise",
) -> Any:  # fmt: skip
    """Summary of each row, as `SANConditionalDensityEstimator.predict` has it.

    Parameters
    ----------
    estimator : estimator, str or path-like
    X : dask.array.Array or frame
    output_type : {"mean", "median", "std", "quantiles", "mode"}, default="mean"
    quantiles : float or sequence of float, default=(0.05, 0.5, 0.95)
    X_err : dask.array.Array, frame or list of str, default=None
    on_bad_rows : {"raise", "nan"}, default="raise"

    Returns
    -------
    dask.array.Array or frame
        In the units of y; columns such as ``z_mean`` or ``z_q05`` for an output z.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn_san import SANConditionalDensityEstimator
    >>> from sklearn_san.adapters.dask import predict
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> est = SANConditionalDensityEstimator(K=3, epochs=3, n_members=1, random_state=0).fit(X, y)
    >>> mean = predict(est, da.from_array(X, chunks=(100, 1)))
    >>> mean.shape, mean.numblocks, mean.compute().shape
    ((300, 2), (3, 1), (300, 2))
    """
    work = partial(_summary, output_type, quantiles)
    return _apply(work, estimator, X, {"X_err": X_err}, on_bad_rows)


def _summary(output_type: str, quantiles: Any, density: Any, index: Any) -> Any:
    found = density.summarise([output_type], quantiles=quantiles)[output_type]
    if index is None:
        return found
    words = [output_type]
    if output_type == "quantiles":
        words = [f"q{100 * level:02.6g}" for level in np.atleast_1d(quantiles)]
    names = [f"{name}_{word}" for word in words for name in density.output_names]
    return pd.DataFrame(found.reshape(len(density), len(names)), index, names)


def sample(
    estimator: Any, X: Any, n_samples: int = 1, *, row_ids: Any = None, random_state: Any = None,
    X_err: Any = None, on_bad_rows: str = "raise",
) -> Any:  # fmt: skip
    """Draws of each row, the same whatever the partitions.

    Parameters
    ----------
    estimator : estimator, str or path-like
    X : dask.array.Array or frame
    n_samples : int, default=1
    row_ids : dask.array.Array, frame column or str, default=None
        Whole numbers or text, different for all rows of all partitions, which are not compared;
        the name of a column, or "index". None is the number of the row in an array.
    random_state : int or None, default=None
        None takes a fresh seed, which stays that of the result.
    X_err : dask.array.Array, frame or list of str, default=None
    on_bad_rows : {"raise", "nan"}, default="raise"

    Returns
    -------
    dask.array.Array or frame
        Draws (n_rows, n_samples, n_outputs), or a row for each draw, with its number in ``draw``
        and the index of its row.
    """
    if row_ids is None:
        if not isinstance(X, da.Array) or np.isnan(X.shape[0]):
            raise ValueError(
                "row_ids=None takes the numbers of the rows, which only an array with known sizes "
                "of chunks has; name a column whose entries are different in all rows."
            )
        row_ids = da.arange(X.shape[0], chunks=(X.chunks[0],))
    if random_state is None:
        random_state = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    work = partial(_draws, n_samples, random_state)
    return _apply(work, estimator, X, {"row_ids": row_ids, "X_err": X_err}, on_bad_rows)


def _draws(n: int, seed: int, density: Any, index: Any, row_ids: Any) -> Any:
    if index is None:
        return density.sample(n, random_state=seed, row_ids=row_ids)
    ids = np.asarray(row_ids)
    draws = density.to_frame(n, random_state=seed, row_ids=ids, index=np.arange(len(ids)))
    draws.insert(0, "draw", draws.index.get_level_values(1).astype(np.int64))
    return draws.set_axis(index.repeat(n))


def log_prob(
    estimator: Any, X: Any, y: Any = None, *, X_err: Any = None, on_bad_rows: str = "raise"
) -> Any:
    """Log density of y in nats, per unit of every output.

    Parameters
    ----------
    estimator : estimator, str or path-like
    X : dask.array.Array or frame
    y : dask.array.Array, frame or list of str, default=None
        None takes the columns of X that are called like the outputs.
    X_err : dask.array.Array, frame or list of str, default=None
    on_bad_rows : {"raise", "nan"}, default="raise"

    Returns
    -------
    dask.array.Array of shape (n_rows,), or frame
        With a column ``log_prob``.
    """
    if y is None and isinstance(X, da.Array):
        raise TypeError("y is missing; only the columns of a frame can have the names of outputs.")
    aligned = {"y": [] if y is None else y, "X_err": X_err}
    return _apply(_log_density, estimator, X, aligned, on_bad_rows)


def _log_density(density: Any, index: Any, y: Any) -> Any:
    found = density.log_prob(y)
    return found if index is None else pd.DataFrame({"log_prob": found}, index)


def pdf_grid(
    estimator: Any, X: Any, output: Any, grid: Any, *, X_err: Any = None, on_bad_rows: str = "raise"
) -> Any:
    """Marginal density of one output of each row on a grid that all rows share.

    Parameters
    ----------
    estimator : estimator, str or path-like
    X : dask.array.Array or frame
    output : int or str
    grid : array-like of shape (n_points,)
    X_err : dask.array.Array, frame or list of str, default=None
    on_bad_rows : {"raise", "nan"}, default="raise"

    Returns
    -------
    dask.array.Array of shape (n_rows, n_points), or frame
        Per unit of the output, with columns ``pdf_0``, ``pdf_1``, ...
    """
    work = partial(_on_grid, output, np.asarray(grid, dtype=np.float64))
    return _apply(work, estimator, X, {"X_err": X_err}, on_bad_rows)


def _on_grid(output: Any, grid: np.ndarray, density: Any, index: Any) -> Any:
    found = density.pdf_grid(output, grid)
    return found if index is None else pd.DataFrame(found, index).add_prefix("pdf_")


def _apply(
    work: Callable[..., Any], estimator: Any, X: Any, aligned: dict[str, Any], on_bad_rows: str
) -> Any:
    """``work(density, index, **aligned)`` of each partition."""
    if isinstance(estimator, (str, os.PathLike)):
        fitted = SANConditionalDensityEstimator.load(estimator)
        model = dask.delayed(SANConditionalDensityEstimator.load)(os.fspath(estimator))
    else:
        fitted, model = estimator, dask.delayed(estimator, traverse=False)
    aligned = {name: value for name, value in aligned.items() if value is not None}
    if isinstance(X, da.Array):
        return _of_array(work, fitted, model, X, aligned, on_bad_rows)
    columns = {name: value for name, value in aligned.items() if isinstance(value, (str, list))}
    frames = {name: value for name, value in aligned.items() if name not in columns}
    part = partial(_part, work, on_bad_rows, columns, list(frames))
    none = part(X._meta, fitted, *(frame._meta for frame in frames.values()))
    return X.map_partitions(part, model, *frames.values(), meta=none)


def _of_array(
    work: Callable[..., Any], fitted: Any, model: Any, X: Any, aligned: dict[str, Any],
    on_bad_rows: str,
) -> Any:  # fmt: skip
    part = partial(_part, work, on_bad_rows, {}, list(aligned))
    arrays = [da.asarray(value) for value in aligned.values()]
    empty = (np.empty((0, *one.shape[1:]), one.dtype) for one in arrays)
    none = part(np.empty((0, X.shape[1]), X.dtype), fitted, *empty)
    # Rows are axis 0 of all; the other axes come whole and have numbers of their own.
    pairs = [(one, (0, 2 + i)[: one.ndim]) for i, one in enumerate(arrays)]
    new = {10 + k: size for k, size in enumerate(none.shape[1:])}
    return da.blockwise(
        part, (0, *new), X, (0, 1), model, None, *(one for pair in pairs for one in pair),
        new_axes=new, concatenate=True, meta=none, dtype=none.dtype,
    )  # fmt: skip


def _part(
    work: Callable[..., Any], on_bad_rows: str, columns: dict[str, Any], names: list[str],
    X: Any, model: Any, *others: Any,
) -> Any:  # fmt: skip
    """Answer to one partition, an array or a frame."""
    parts = dict(zip(names, others, strict=True))
    is_frame = isinstance(X, pd.DataFrame)
    features = X
    if is_frame:
        for name, wanted in columns.items():
            parts[name] = X.index if wanted == "index" else X[wanted]
        if hasattr(model, "feature_names_in_"):
            features = X[list(model.feature_names_in_)]
        else:
            used = {one for wanted in columns.values() for one in np.atleast_1d(wanted)}
            features = X[[name for name in X if name not in used]].to_numpy()
        if "X_err" in columns:
            parts["X_err"] = parts["X_err"].to_numpy()
    errors = {"X_err": parts.pop("X_err")} if "X_err" in parts else {}
    with parallel_config(SequentialBackend(nesting_level=1)):  # one thread
        density = _density(model, features, {"on_bad_rows": on_bad_rows, **errors})
        if "y" in columns:
            wanted = columns["y"] or density.output_names
            parts["y"] = X[wanted].set_axis(density.output_names, axis=1)
        return work(density, X.index if is_frame else None, **parts)


def _density(model: Any, X: Any, options: dict[str, Any]) -> Any:
    if len(X) or isinstance(model, SANConditionalDensityEstimator):
        return density_of(model, X, **options)
    # Transformers of scikit-learn refuse tables without rows.
    made_up = meta_nonempty(X) if isinstance(X, pd.DataFrame) else np.zeros((1, X.shape[1]))
    return density_of(model, made_up)[:0]
