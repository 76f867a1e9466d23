"""Boosted and random trees, grown fold by fold; see `_features` for what they are."""

from __future__ import annotations

import numpy as np
from sklearn.tree import ExtraTreeRegressor

from ._features import FOREST_STEP, Forest, TreeFeatures
from .compiled.boosting import grow

#: Shares of rows and columns that each tree draws.
ROW_SHARE, COLUMN_SHARE = 0.7, 0.6
#: Trees of each output and fold, their depth, rate and penalty, which are rows of residual 0 that
#: each leaf has besides its own, with fewer and with more rows than `FEW_ROWS`.
FEW_SHAPE, MANY_SHAPE = (300, 4, 0.2, 1.0), (200, 8, 0.15, 2.0)
#: Values of a column that questions tell apart, with fewer and with more rows.
FEW_BINS, MANY_BINS = 64, 128
#: Folds, of fewer and of more rows than these; rows to learn from, shared by all outputs.
FEW_FOLDS, MANY_FOLDS, FEW_ROWS, MAX_ROWS = 5, 10, 2000, 50_000
#: Leaves add multiples of this.
STEP = 2.0**-24
#: Random trees for each fold, the fewest complete rows that they are grown for, and from how many
#: rows on they are left out, as they have a leaf for each row.
FOREST_TREES, FEWEST_ROWS, FOREST_BELOW = 10, 100, 10_000


def n_folds(n_rows: int) -> int:
    """Folds of so many rows."""
    return MANY_FOLDS if n_rows < FEW_ROWS else FEW_FOLDS


def fit_trees(
    x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, fold: np.ndarray, n_folds: int
) -> TreeFeatures:
    """Trees for each column of y, one set without each fold.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_columns)
    y : ndarray of shape (n_samples, n_outputs)
        Nan where an output is missing.
    sample_weight : ndarray of shape (n_samples,) or None
    fold : ndarray of shape (n_samples,)
        From 0 to ``n_folds - 1``.
    n_folds : int
    """
    rows = slice(None, None, -(-len(x) * y.shape[1] // MAX_ROWS))
    x, y, fold = x[rows], y[rows], fold[rows]
    weight = np.ones(len(x)) if sample_weight is None else sample_weight[rows]
    few = len(x) < FEW_ROWS
    most = FEW_BINS if few else MANY_BINS
    edges = [_edges(values, most) for values in x.T]
    codes = np.stack([np.searchsorted(e, v) for e, v in zip(edges, x.T, strict=True)])
    codes, n_bins = codes.astype(np.uint8), np.array([len(e) + 1 for e in edges])
    n_trees, depth, rate, penalty = FEW_SHAPE if few else MANY_SHAPE
    padded = np.zeros((len(edges), most))
    for own, e in zip(padded, edges, strict=True):
        own[: len(e)] = e
    shape = (n_folds, y.shape[1], n_trees)
    column, code = (np.zeros((*shape, depth), dtype=np.int64) for _ in range(2))
    value = np.zeros((*shape, 2**depth))
    for k in range(n_folds):
        for d, target in enumerate(y.T):
            own = np.where((fold == k) | np.isnan(target), 0.0, weight)
            if not own.any():
                continue
            mean = np.average(np.nan_to_num(target), weights=own)
            scale = np.sqrt(np.average(np.nan_to_num(target - mean) ** 2, weights=own)) or 1.0
            grow(codes, n_bins, np.nan_to_num(target - mean) / scale, own, rate, penalty,
                 ROW_SHARE, COLUMN_SHARE, 1 + d + k * y.shape[1],
                 column[k, d], code[k, d], value[k, d])  # fmt: skip
            # Means and scales of the folds differ: all predict in those of all rows
            known = ~np.isnan(target)
            centre, unit = _moments(target[known], weight[known])
            value[k, d] *= scale / unit
            value[k, d, 0] += (mean - centre) / unit
    return TreeFeatures(column, padded[column, code], np.round(value / STEP) * STEP)


def fit_forest(
    x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, fold: np.ndarray, n_folds: int
) -> Forest | None:
    """Random trees for all columns of y; arguments are those of `fit_trees`.

    Of complete rows; None if they are too few.
    """
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    known = (weight > 0.0) & ~np.isnan(y).any(axis=1)
    x, y, weight, fold = x[known], y[known], weight[known], fold[known]
    if len(x) < FEWEST_ROWS or len(np.unique(fold)) < 2:
        return None
    centre, unit = np.transpose([_moments(values, weight) for values in y.T])
    most = np.finfo(np.float32).max
    x, z = np.clip(x, -most, most), (y - centre) / unit
    root = np.empty((n_folds, FOREST_TREES), dtype=np.int64)
    parts: list[tuple[np.ndarray, ...]] = []
    n_nodes = n_leaves = 0
    for k in range(n_folds):
        own = fold != k
        for t in range(FOREST_TREES):
            tree = ExtraTreeRegressor(max_features=1.0, random_state=k * FOREST_TREES + t)
            grown = tree.fit(x[own], z[own], weight[own]).tree_
            is_leaf = grown.children_left < 0
            n_own = int(is_leaf.sum())
            # The first child of a node is the one behind it
            after = np.where(is_leaf, n_leaves + np.cumsum(is_leaf) - 1,
                             n_nodes + grown.children_right)  # fmt: skip
            threshold = np.where(is_leaf, 0.0, grown.threshold)
            value = grown.value[is_leaf, :, 0]
            parts.append((np.where(is_leaf, -1, grown.feature), threshold, after, value))
            root[k, t] = n_nodes
            n_nodes, n_leaves = n_nodes + len(is_leaf), n_leaves + n_own
    column, threshold, after, value = (np.concatenate(one) for one in zip(*parts, strict=True))
    single = threshold.astype(np.float32)
    # Features are compared in single precision, so the next smaller number is the same question
    single = np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)
    value = (np.round(value / FOREST_STEP) * FOREST_STEP).astype(np.float32)
    return Forest(root, column.astype(np.int32), single, after.astype(np.int32), value)


def _moments(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    mean = float(np.average(values, weights=weight))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=weight))) or 1.0


def _edges(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Thresholds between values if they are few, else quantiles; rising, at most `n_bins` - 1."""
    distinct = np.unique(values)
    if len(distinct) <= n_bins:
        return 0.5 * (distinct[1:] + distinct[:-1])
    return np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins))
