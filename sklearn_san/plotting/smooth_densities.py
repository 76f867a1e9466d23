"""Densities of draws for pictures: histograms, smoothed as much as the draws allow.

A histogram of counts c is smoothed by a Gaussian kernel S, reflected at the edges so that no mass
crosses a limit and none is lost. The width of the kernel maximises the likelihood of each draw
under the density of all others, or is the largest that is no worse within the error,

    sum_b c_b log((S c)_b - S_bb),

which adapts to narrow and separate modes, where rules from the standard deviation smear them [1]_.

===================  ====================================================================
`spread_ties`        makes bars of the values of a discrete output
`view_range`         the range of values to show, never far beyond a limit
`density_of_draws`   density of one output on a grid
`PairDensity`        joint density of two outputs, and the thresholds that enclose given masses
===================  ====================================================================

References
----------
.. [1] Silverman (1986), Density Estimation for Statistics and Data Analysis, section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter1d

#: Cells of each axis; about one for each pixel of a panel of a corner plot.
N_CELLS = 128
#: Candidates for the kernel, and the standard deviation of the narrowest in cells.
N_KERNELS, MIN_WIDTH = 16, 0.6
#: Most values that an output can have to be treated as discrete.
MAX_LEVELS = 40


def spread_ties(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Spread the draws of discrete outputs evenly around each value, so that they fill bars.

    Parameters
    ----------
    values : ndarray of shape (n_draws, n_outputs)
    random : Generator

    Returns
    -------
    ndarray of shape (n_draws, n_outputs)
        Columns with many different values are as they were.
    """
    columns = []
    for column in values.T:
        levels, index, counts = np.unique(column, return_inverse=True, return_counts=True)
        if 2 <= len(levels) <= min(MAX_LEVELS, len(column) / 10):
            rank = np.empty(len(column))  # within the draws of the same value, in random order
            rank[np.lexsort((random.permutation(len(column)), index))] = np.arange(len(column))
            rank -= (np.cumsum(counts) - counts)[index]
            column = column + np.diff(levels).min() * ((rank + 0.5) / counts[index] - 0.5)
        columns.append(column)
    return np.stack(columns, axis=1)


def view_range(
    parts: Sequence[np.ndarray],
    truth: np.ndarray,
    limits: np.ndarray,
    *,
    zoom: bool = True,
    cut: float = 0.001,
) -> tuple[float, float]:
    """Range of one output that shows all `parts`.

    Parameters
    ----------
    parts : sequence of ndarray of shape (n_draws,)
        Draws of each row.
    truth : ndarray
        Values that must be in the picture as well.
    limits : ndarray of shape (2,)
    zoom : bool, default=True
        Whether to show where the draws are. False shows everything between finite limits.
    cut : float, default=0.001
        Share of the draws that may lie outside, on each side.

    Returns
    -------
    low, high : float
        Beyond a limit that the draws reach, by 3 % of the range.
    """
    ends = [np.quantile(part, [cut, 1.0 - cut]) for part in parts]
    low, high = np.min([*np.ravel(ends), *truth]), np.max([*np.ravel(ends), *truth])
    span = high - low if high > low else 0.1 * max(abs(low), 1.0)
    low, high = low - 0.1 * span, high + 0.1 * span
    if not zoom:
        low, high = np.where(np.isfinite(limits), limits, [low, high])
    reached = [low <= limits[0], high >= limits[1]]
    low, high = max(low, limits[0]), min(high, limits[1])
    margin = 0.03 * (high - low)
    return float(low - margin * reached[0]), float(high + margin * reached[1])


def density_of_draws(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Density of draws between `low` and `high`, per unit of the values.

    Parameters
    ----------
    values : ndarray of shape (n_draws,)
    low, high : float
        The density does not leak out of this range; draws outside lie outside the picture.

    Returns
    -------
    grid, density : ndarray of shape (n_points,)
        The integral is the share of draws in the range.
    """
    counts, edges = np.histogram(values, bins=2 * N_CELLS, range=(low, high))
    smooth = kernels(len(counts))[best_kernel(counts)] @ counts
    density = smooth / (len(values) * (edges[1] - edges[0]))
    return with_ends(edges), np.pad(density, 1, mode="edge")


@lru_cache(maxsize=4)
def kernels(n_cells: int) -> np.ndarray:
    """Gaussian kernels from smooth to rough, reflected at the ends, (n_kernels, n_cells, n_cells).

    Read only, as they are kept for the next picture.
    """
    widths = np.geomspace(n_cells / 8, MIN_WIDTH, N_KERNELS)
    unit = np.eye(n_cells)
    bank = np.stack([gaussian_filter1d(unit, width, axis=0, mode="reflect") for width in widths])
    bank.setflags(write=False)
    return bank


def best_kernel(counts: np.ndarray) -> int:
    """Number of the kernel for the counts (n_cells,) of one output."""
    bank = kernels(len(counts))
    return smoothest(counts, [left_out_log_density(counts, k @ counts, np.diag(k)) for k in bank])


def left_out_log_density(counts: np.ndarray, smooth: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Log density in each cell of a draw under all draws but itself, up to a constant."""
    floor = 1e-3 * counts.sum() / counts.size  # bounds what a lone outlier can say
    return np.log(np.maximum(smooth - own, floor))


def smoothest(counts: np.ndarray, scores: Sequence[np.ndarray]) -> int:
    """First of the candidates that is not clearly worse than the best one.

    Candidates are ordered from smooth to rough. The best one tends to be rough; another
    passes if its mean log density per draw falls behind by no more than one standard error.
    """
    n_draws = counts.sum()
    best = max(scores, key=lambda score: (counts * score).sum())
    for index, score in enumerate(scores):
        loss = (counts * (best - score)).sum() / n_draws
        error = math.sqrt((counts * (best - score) ** 2).sum()) / n_draws
        if loss <= error:
            return index
    raise RuntimeError("the best candidate passes by definition")


def with_ends(edges: np.ndarray) -> np.ndarray:
    """Centres of cells between the two outermost edges."""
    return np.concatenate([edges[:1], 0.5 * (edges[1:] + edges[:-1]), edges[-1:]])


@dataclass(frozen=True)
class PairDensity:
    """Joint density of two outputs on a grid.

    Parameters
    ----------
    x, y : ndarray of shape (n_x,), (n_y,)
    density : ndarray of shape (n_x, n_y)
        Per unit of both.
    at_draws : ndarray of shape (n_draws,)
        The density at the draws, interpolated as contours are; 0 outside the grid.
    """

    x: np.ndarray
    y: np.ndarray
    density: np.ndarray
    at_draws: np.ndarray

    @classmethod
    def of_draws(
        cls, x: np.ndarray, y: np.ndarray, x_range: np.ndarray, y_range: np.ndarray
    ) -> PairDensity:
        """Smooth the histogram of pairs (x, y), each of shape (n_draws,), within two ranges."""
        counts, x_edges, y_edges = np.histogram2d(x, y, bins=N_CELLS, range=(x_range, y_range))
        smooth = _smooth_2d(counts)
        cell = (x_edges[1] - x_edges[0]) * (y_edges[1] - y_edges[0])
        density = np.pad(smooth / (len(x) * cell), 1, mode="edge")
        grid = with_ends(x_edges), with_ends(y_edges)
        interpolate = RegularGridInterpolator(grid, density, bounds_error=False, fill_value=0.0)
        return cls(*grid, density, interpolate(np.column_stack([x, y])))

    def thresholds(self, masses: Sequence[float]) -> np.ndarray:
        """Densities above which the shares `masses` of the draws lie, strictly increasing.

        The regions are the highest-density regions of these masses, counted in draws: whatever
        the smoothing does to their shape, they hold what they say.
        """
        top = self.density.max()
        quantiles = np.quantile(self.at_draws, 1.0 - np.sort(masses)[::-1])
        levels = np.clip(quantiles, 1e-6 * top, (1.0 - 1e-5) * top)
        return levels + 1e-7 * top * np.arange(len(levels))  # equal levels cannot be drawn


def _smooth_2d(counts: np.ndarray) -> np.ndarray:
    """Smoothed counts (N_CELLS, N_CELLS).

    Kernels of both axes are those of the single outputs, made narrower or wider together:
    outputs that depend on each other need narrower ones.
    """
    bank = kernels(N_CELLS)
    start = np.array([best_kernel(counts.sum(axis=1)), best_kernel(counts.sum(axis=0))])
    candidates, scores = [], []
    for shift in range(-3, 9):
        k_x, k_y = bank[np.clip(start + shift, 0, N_KERNELS - 1)]
        candidates.append(k_x @ counts @ k_y)
        own = np.outer(np.diag(k_x), np.diag(k_y))
        scores.append(left_out_log_density(counts, candidates[-1], own))
    return candidates[smoothest(counts, scores)]
