"""Features of x that are evaluated once per row: encoded columns, and predictions of trees.

==================  ========================================================================
`PiecewiseLinear`   each number as its progress through intervals between quantiles [1]_
`TreeFeatures`      predictions of each output by boosted trees, out of fold where x is learned
                    from [2]_
==================  ========================================================================

The trees are oblivious: all nodes of one depth ask the same question, so that the leaf is a binary
number, and a tree three short arrays. `_boosting` grows them.

References
----------
.. [1] Gorishniy, Rubachev and Babenko (2022), On embeddings for numerical features in tabular deep
   learning.
.. [2] Wolpert (1992), Stacked generalization.
"""

from __future__ import annotations

import numpy as np

#: Knots of a column, and rows for each of them; scale of the encoded columns, so small that
#: training may leave them alone.
N_KNOTS, ROWS_PER_KNOT, GAIN = 17, 20, 0.3
#: Rows that go through the trees at once.
CHUNK = 1024


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


class TreeFeatures:
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

    def transform(self, x: np.ndarray, fold: np.ndarray | None = None) -> np.ndarray:
        """Predictions, (n_samples, n_features).

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
            columns = np.ascontiguousarray(x[rows].T)
            if fold is None:
                sums = [self._predict(columns, k) for k in range(self.n_folds)]
                out[rows] = np.sum(sums, axis=0) / self.n_folds
                continue
            for k in np.unique(fold[rows]):
                own = np.flatnonzero(fold[rows] == k)
                out[start + own] = self._predict(columns[:, own], k)
        return out

    def _predict(self, columns: np.ndarray, k: int) -> np.ndarray:
        """Predictions of one set of trees for columns (n_columns, n_rows); (n_rows, n_outputs)."""
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
