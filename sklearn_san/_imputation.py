"""What stands for a missing number: its mean given the others of the row, as if all were normal.

Mean and covariance are fitted to incomplete rows by expectation maximisation [1]_. With `P` the
inverse of the covariance, `m` the missing numbers of a row and `o` the others,

.. math:: E[x_m | x_o] = mean_m - P_{mm}^{-1} P_{mo} (x_o - mean_o), cov[x_m | x_o] = P_{mm}^{-1}.

The network sees beside it which numbers are missing, and learns what is not linear.

References
----------
.. [1] Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM
   algorithm.
"""

from __future__ import annotations

import numpy as np

#: More numbers than this would take too long; 0, the mean, stands for a missing one then.
MOST_NUMBERS = 64
#: Rows that the covariance is fitted to: not more than these, for many numbers so many divided by
#: the cube of their number, but not fewer than the last; and steps of the fit.
MOST_ROWS, MOST_WORK, FEWEST_ROWS, MOST_STEPS = 10_000, 1e8, 1000, 30
#: Largest change of an entry of the covariance that ends the fit.
SMALL_CHANGE = 1e-3
#: Variance that is added to that of each scaled number, for those that repeat others; and the
#: weight, in rows per number, of the numbers being independent.
RIDGE, PRIOR_ROWS = 1e-4, 1.0
#: Entries of the matrices that are in memory at once.
CHUNK = 2**22


class Imputer:
    """Means of missing numbers given the others of their row.

    Attributes
    ----------
    mean : ndarray of shape (n_numbers,)
    precision : ndarray of shape (n_numbers, n_numbers)
        Inverse of the covariance.
    """

    def fit(self, values: np.ndarray, weight: np.ndarray | None = None) -> Imputer:
        """Learn from scaled numbers (n_samples, n_numbers), nan where missing."""
        weight, n = np.ones(len(values)) if weight is None else weight, values.shape[1]
        most = int(min(MOST_ROWS, max(MOST_WORK / n**3, FEWEST_ROWS)))
        if len(values) > most:
            rows = np.random.default_rng(len(values)).permutation(len(values))[:most]
            values, weight = values[rows], weight[rows]
        share, known = weight[:, None] / weight.sum(), ~np.isnan(values)
        total = np.maximum((share * known).sum(axis=0), np.finfo(float).tiny)
        self.mean = (share * np.where(known, values, 0.0)).sum(axis=0) / total
        deviation = np.where(known, values - self.mean, 0.0)
        variance = (share * deviation**2).sum(axis=0) / total
        covariance = np.diag(variance + RIDGE)
        prior = PRIOR_ROWS * n / (PRIOR_ROWS * n + len(values))
        for _ in range(MOST_STEPS):
            self.precision = np.linalg.inv(covariance)
            filled = self.fill(values)
            mean = (share * filled).sum(axis=0)
            scatter = (filled - mean).T @ (share * (filled - mean)) + self._spread(~known, share)
            before = covariance
            covariance = (1.0 - prior) * scatter + prior * np.diag(variance) + RIDGE * np.eye(n)
            self.mean, change = mean, np.abs(covariance - before).max()
            if change < SMALL_CHANGE:
                break
        self.precision = np.linalg.inv(covariance)
        return self

    def fill(self, values: np.ndarray) -> np.ndarray:
        """Values (n_samples, n_numbers) with means instead of nan; each row by itself."""
        filled = values.copy()
        some = np.flatnonzero(np.isnan(values).any(axis=1))
        for rows in _chunks(some, len(self.mean)):
            missing = np.isnan(values[rows])
            deviation = np.where(missing, 0.0, values[rows] - self.mean)
            pull = -(deviation[:, None, :] * self.precision).sum(axis=2)
            pull = np.where(missing, pull, 0.0)[:, :, None]
            step = np.linalg.solve(self._within(missing), pull)[:, :, 0]
            filled[rows] = np.where(missing, self.mean + step, values[rows])
        return filled

    def _within(self, missing: np.ndarray) -> np.ndarray:
        """Precision of the missing numbers and ones on the diagonal of the others, for each row."""
        pairs = missing[:, :, None] & missing[:, None, :]
        return np.where(pairs, self.precision, np.eye(len(self.mean)))

    def _spread(self, missing: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Mean over the rows of the covariance of what they lack."""
        patterns, which = np.unique(missing, axis=0, return_inverse=True)
        share = np.bincount(which.reshape(-1), share[:, 0], len(patterns))
        spread = np.zeros_like(self.precision)
        for chunk in _chunks(np.arange(len(patterns)), len(self.mean)):
            pairs = patterns[chunk][:, :, None] & patterns[chunk][:, None, :]
            own = np.where(pairs, np.linalg.inv(self._within(patterns[chunk])), 0.0)
            spread += (share[chunk, None, None] * own).sum(axis=0)
        return spread


def _chunks(rows: np.ndarray, n: int) -> list[np.ndarray]:
    """Rows in pieces of which each can have a matrix of n by n."""
    size = max(1, CHUNK // n**2)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
