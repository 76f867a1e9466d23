"""How unlike the rows of `fit` a row is: distance to its nearest neighbours, as a p-value.

One half of the rows of `fit` (at most `MAX_ROWS`) are neighbours, the distances of the other half
to these are the scale: the p-value of a row is the share of them that are at least as large, which
is uniform for rows like those of `fit` [1]_.

References
----------
.. [1] Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world, section 2.2.
"""

from __future__ import annotations

import numpy as np

#: Rows of either half, neighbours of which the mean distance is taken, and rows done at once.
MAX_ROWS, N_NEIGHBOURS, CHUNK = 1000, 5, 4096


class Novelty:
    """Fitted measure of novelty.

    Attributes
    ----------
    neighbours : ndarray of shape (n_neighbours, n_inputs)
        Rows as the network sees them, float32.
    distances : ndarray of shape (n_distances,)
        Of the other rows, rising.
    """

    def fit(self, x: np.ndarray, generator: np.random.Generator) -> Novelty:
        """Learn from rows (n_samples, n_inputs) as the network sees them, at least 2."""
        chosen = generator.permutation(len(x))[: 2 * MAX_ROWS]
        half = len(chosen) // 2
        self.neighbours = x[chosen[:half]].astype(np.float32)
        self.distances = np.sort(self._distance(x[chosen[half:]]))
        return self

    def score(self, x: np.ndarray) -> np.ndarray:
        """P-value of each row, (n_samples,)."""
        n_nearer = np.searchsorted(self.distances, self._distance(x), side="left")
        return (len(self.distances) - n_nearer + 1.0) / (len(self.distances) + 1.0)

    def _distance(self, x: np.ndarray) -> np.ndarray:
        """Mean distance to the nearest neighbours, (n_samples,)."""
        known = self.neighbours.astype(np.float64)
        k = min(N_NEIGHBOURS, len(known))
        square = np.einsum("ij,ij->i", known, known)
        parts = []
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            own = np.einsum("ij,ij->i", part, part)[:, None]
            squares = np.maximum(own + square - 2.0 * (part @ known.T), 0.0)
            nearest = np.partition(squares, k - 1, axis=1)[:, :k]
            parts.append(np.sqrt(nearest).mean(axis=1))
        return np.concatenate(parts) if parts else np.zeros(0)
