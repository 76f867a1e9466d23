"""Features of x that are evaluated once per row: encoded columns, trees, and neighbours.

==================  ========================================================================
`PiecewiseLinear`   each number as its progress through intervals between quantiles [1]_
`TreeFeatures`      predictions of each output by boosted trees, out of fold where x is learned
                    from [2]_
`Forest`            predictions by random trees and how far these are from each other [3]_
`Neighbours`        outputs of the most similar rows, their spread, and how near they are [4]_
==================  ========================================================================

The boosted trees are oblivious: all nodes of one depth ask the same question, so that the leaf is a
binary number, and a tree three short arrays. `_boosting` grows all trees.

References
----------
.. [1] Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep
   learning.
.. [2] Wolpert (1992), Stacked generalization.
.. [3] Geurts, Ernst and Wehenkel (2006), Extremely randomized trees.
.. [4] Cover and Hart (1967), Nearest neighbor pattern classification.
"""

from __future__ import annotations

from abc import abstractmethod
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial import KDTree

#: Knots of a column, and rows for each of them; scale of the encoded columns, so small that
#: training may leave them alone.
N_KNOTS, ROWS_PER_KNOT, GAIN = 17, 20, 0.3
#: Rows that go through the trees at once.
CHUNK = 1024
#: Neighbours of a row, by so many columns at most, among at least and at most so many rows.
N_NEIGHBOURS, MOST_COLUMNS, LEAST_KNOWN, MOST_KNOWN = 5, 12, 100, 50_000
#: Share of the mean distance that is added to each before its inverse is a weight; what is added to
#: spreads and distances before their logarithm.
SOFTENING, LEAST_SPREAD, LEAST_DISTANCE = 0.3, 0.03, 1e-3
#: Leaves of random trees predict multiples of this.
FOREST_STEP = 2.0**-16


class PiecewiseLinear:
    """Fitted encoding of columns by intervals.

    Attributes
    ----------
    column : ndarray of shape (n_intervals,)
        Number of the column of each interval.
    low, width : ndarray of shape (n_intervals,)
        Where it starts, and how wide it is.
    """

    def fit(self, x: np.ndarray) -> PiecewiseLinear:
        """Learn from columns of shape (n_samples, n_columns)."""
        n_knots = min(N_KNOTS, max(2, len(x) // ROWS_PER_KNOT))
        knots = [_knots(values, n_knots) for values in x.T]
        knots = [own if len(own) > 2 else own[:0] for own in knots]  # two are the column itself
        n_intervals = [max(len(own) - 1, 0) for own in knots]
        self.column = np.repeat(np.arange(len(knots)), n_intervals)
        self.low = np.concatenate([np.zeros(0), *(own[:-1] for own in knots)])
        self.width = np.concatenate([np.zeros(0), *(np.diff(own) for own in knots)])
        return self

    @property
    def n_features(self) -> int:
        """Width of what `transform` returns."""
        return len(self.column)

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Encoded columns, (n_samples, n_features)."""
        progress = np.clip((x[:, self.column] - self.low) / self.width, 0.0, 1.0)
        return GAIN * (2.0 * progress - 1.0)


def _knots(values: np.ndarray, n_knots: int) -> np.ndarray:
    """All values if they are few, else quantiles; rising."""
    distinct = np.unique(values)
    if len(distinct) > n_knots:
        distinct = np.unique(np.quantile(values, np.linspace(0.0, 1.0, n_knots)))
    # Differences of neighbours must not vanish in single precision
    apart = np.diff(distinct, prepend=-np.inf) > 1e-6 * max(1.0, np.abs(distinct).max())
    return distinct[apart]


class _OutOfFold:
    """Features by several sets of trees, each of which has not seen one fold of the rows."""

    @property
    @abstractmethod
    def n_folds(self) -> int:
        """Sets of trees."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Width of what `transform` returns."""

    def transform(self, x: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
        """Features, (n_samples, n_features).

        Parameters
        ----------
        x : ndarray of shape (n_samples, n_columns)
        fold : ndarray of shape (n_samples,), default=None
            The fold of each row, whose trees have not seen it. None takes the mean over all sets
            of trees, for rows that none has seen.
        """
        out = np.empty((len(x), self.n_features))
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            if fold is None:
                out[rows] = self._of_all(x[rows])
                continue
            for k in np.unique(fold[rows]):
                own = start + np.flatnonzero(fold[rows] == k)
                out[own] = self._of_set(x[own], k)
        return out

    @abstractmethod
    def _of_all(self, x: np.ndarray) -> np.ndarray:
        """Features of some rows by all sets of trees."""

    @abstractmethod
    def _of_set(self, x: np.ndarray, k: int) -> np.ndarray:
        """Features of some rows by one set of trees."""


class TreeFeatures(_OutOfFold):
    """Trees that predict each output, one set for each fold of the rows.

    Attributes
    ----------
    column, threshold : ndarray of shape (n_folds, n_outputs, n_trees, depth)
        Question of each depth: is that column above that threshold?
    value : ndarray of shape (n_folds, n_outputs, n_trees, 2**depth)
        What each leaf adds, multiples of a power of two, so that sums are exact in any order.
    """

    def __init__(self, column: np.ndarray, threshold: np.ndarray, value: np.ndarray):
        self.column, self.threshold, self.value = column, threshold, value

    @property
    def n_folds(self) -> int:
        """Sets of trees, each of which has not seen one fold of the rows."""
        return len(self.value)

    @property
    def n_features(self) -> int:
        """Width of what `transform` returns, one feature for each output."""
        return self.value.shape[1]

    def _of_all(self, x: np.ndarray) -> np.ndarray:
        return np.sum([self._of_set(x, k) for k in range(self.n_folds)], axis=0) / self.n_folds

    def _of_set(self, x: np.ndarray, k: int) -> np.ndarray:
        columns = np.ascontiguousarray(x.T)
        predictions = []
        for column, threshold, value in zip(
            self.column[k], self.threshold[k], self.value[k], strict=True
        ):
            leaf = np.zeros((len(column), columns.shape[1]), dtype=np.intp)
            for level in range(column.shape[1]):
                above = columns[column[:, level]] > threshold[:, level, None]
                leaf |= above.astype(np.intp) << level
            predictions.append(np.take_along_axis(value, leaf, axis=1).sum(axis=0))
        return np.stack(predictions, axis=1)

    def importance(self, n_columns: int) -> np.ndarray:
        """How much questions about each column change predictions, from 0 to 1; (n_columns,)."""
        depth, n_outputs = self.column.shape[3], self.n_features
        total = np.zeros((n_outputs, n_columns))
        for level in range(depth):
            halves = self.value.reshape(*self.value.shape[:3], -1, 2, 2**level)
            change = np.square(halves[..., 1, :] - halves[..., 0, :]).mean(axis=(-2, -1))
            for d in range(n_outputs):
                own = self.column[:, d, :, level].ravel()
                total[d] += np.bincount(own, change[:, d].ravel(), n_columns)
        total /= np.maximum(total.max(axis=1, keepdims=True), np.finfo(float).tiny)
        return total.mean(axis=0)


class Forest(_OutOfFold):
    """Random trees that predict all outputs, grown until leaves are pure, some for each fold.

    What is not smooth in the outputs of few rows shows in how far the trees are from each other.

    Attributes
    ----------
    root : ndarray of shape (n_folds, n_trees)
        First node of each tree.
    column : ndarray of shape (n_nodes,)
        Number of the column that a node asks about; -1 for leaves.
    threshold : ndarray of shape (n_nodes,)
        Whose column is not above this goes to the following node.
    after : ndarray of shape (n_nodes,)
        Where the others go. Of a leaf, its number.
    value : ndarray of shape (n_leaves, n_outputs)
        Predictions, multiples of `FOREST_STEP`, so that sums of them and of their squares are exact
        in any order.
    """

    def __init__(
        self,
        root: np.ndarray,
        column: np.ndarray,
        threshold: np.ndarray,
        after: np.ndarray,
        value: np.ndarray,
    ):
        self.root, self.column, self.threshold = root, column, threshold
        self.after, self.value = after, value

    @property
    def n_folds(self) -> int:
        """Sets of trees, each of which has not seen one fold of the rows."""
        return len(self.root)

    @property
    def n_features(self) -> int:
        """Width of what `transform` returns: mean and spread of each output."""
        return 2 * self.value.shape[1]

    def _of_all(self, x: np.ndarray) -> np.ndarray:
        return self._describe(x, self.root.ravel())

    def _of_set(self, x: np.ndarray, k: int) -> np.ndarray:
        return self._describe(x, self.root[k])

    def _describe(self, x: np.ndarray, root: np.ndarray) -> np.ndarray:
        x = x.astype(np.float32)
        node = np.repeat(root[:, None], len(x), axis=1)  # (n_trees, n_rows)
        row = np.broadcast_to(np.arange(len(x)), node.shape)
        while True:
            column = self.column[node]
            asks = column >= 0
            if not asks.any():
                break
            below = x[row, column] <= self.threshold[node]
            node = np.where(asks, np.where(below, node + 1, self.after[node]), node)
        value, n = self.value[self.after[node]].astype(np.float64), len(root)
        mean = value.sum(axis=0) / n
        square = np.square(value).sum(axis=0)
        variance = np.maximum(square - n * np.square(mean), 0.0) / max(n - 1, 1)
        spread = np.log(np.sqrt(variance) + LEAST_SPREAD)
        return np.concatenate([mean, GAIN * spread], axis=1)


class Neighbours:
    """Rows of `fit` that are most similar to a row, in the columns that trees find important.

    A row is no neighbour of its copies, so that rows to learn from are described as others are.

    Attributes
    ----------
    column, scale : ndarray of shape (n_used,)
        Columns that distances are taken in, and what they are multiplied by.
    known : ndarray of shape (n_known, n_used)
        Scaled rows, all of them different.
    value : ndarray of shape (n_known, n_outputs)
        Their outputs, means over copies.
    """

    def __init__(self, column: np.ndarray, scale: np.ndarray, known: np.ndarray, value: np.ndarray):
        self.column, self.scale, self.known, self.value = column, scale, known, value

    @property
    def n_features(self) -> int:
        """Width of what `transform` returns: mean and spread of each output, and the distance."""
        return 2 * self.value.shape[1] + 1

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Features (n_samples, n_features) of rows (n_samples, n_columns)."""
        distance, index = _search_tree(self).query(x[:, self.column] * self.scale, N_NEIGHBOURS + 1)
        start = (distance[:, :1] == 0.0).astype(np.intp)  # behind its copies
        chosen = start + np.arange(N_NEIGHBOURS)
        distance = np.take_along_axis(distance, chosen, axis=1)
        index = np.take_along_axis(index, chosen, axis=1)
        near = distance.mean(axis=1, keepdims=True)  # (n_samples, 1)
        weight = 1.0 / (distance + SOFTENING * near)
        weight = (weight / weight.sum(axis=1, keepdims=True))[..., None]
        value = self.value[index]  # (n_samples, N_NEIGHBOURS, n_outputs)
        mean = (weight * value).sum(axis=1)
        spread = np.sqrt((weight * np.square(value - mean[:, None])).sum(axis=1))
        logs = np.log(spread + LEAST_SPREAD), np.log(near + LEAST_DISTANCE)
        return np.concatenate([mean, GAIN * logs[0], GAIN * logs[1]], axis=1)


#: Not part of the state of `Neighbours`, because it is made of it and cannot be saved.
_search_trees: WeakKeyDictionary[Neighbours, KDTree] = WeakKeyDictionary()


def _search_tree(neighbours: Neighbours) -> KDTree:
    if neighbours not in _search_trees:
        _search_trees[neighbours] = KDTree(neighbours.known)
    return _search_trees[neighbours]


def fit_neighbours(
    x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None, trees: TreeFeatures
) -> Neighbours | None:
    """Neighbours among complete rows, or None if too few of them differ.

    Parameters
    ----------
    x : ndarray of shape (n_samples, n_columns)
    y : ndarray of shape (n_samples, n_outputs)
        Nan where an output is missing.
    sample_weight : ndarray of shape (n_samples,) or None
    trees : TreeFeatures
        That predict y from x.
    """
    rows = slice(None, None, -(-len(x) // MOST_KNOWN))
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    x, y, weight = x[rows], y[rows], weight[rows]
    own = (weight > 0.0) & ~np.isnan(y).any(axis=1)
    importance = trees.importance(x.shape[1])
    column = np.sort(np.argsort(-importance, kind="stable")[:MOST_COLUMNS])
    column = column[importance[column] > 0.0]
    if not len(column):
        return None
    scale = importance[column]
    known, copy = np.unique(x[own][:, column] * scale, axis=0, return_inverse=True)
    if len(known) < LEAST_KNOWN:
        return None
    share = np.bincount(copy, weight[own])
    means = [np.bincount(copy, weight[own] * target) / share for target in y[own].T]
    return Neighbours(column, scale, known, np.stack(means, axis=1))
