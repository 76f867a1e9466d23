"""Densities of draws for pictures: histograms, smoothed as much as the draws allow.

A histogram of counts c is smoothed by a Gaussian kernel S, reflected at the edges so that no mass
crosses a limit and none is lost. The width of the kernel maximises the likelihood of each draw
under the density of all others, or is the largest that is no worse within the error,

    sum_b c_b log((S c)_b - S_bb),

which adapts to narrow and separate modes, where rules from the standard deviation smear them [1]_.

Two outputs are smoothed in two ways, of which the likelihood of left-out draws chooses: as they
are, or as the product of their marginal densities times the copula, smoothed on the scale of normal
scores [2]_. The copula of nearly independent outputs is flat, so that it can be smoothed much more
than their densities, and no islands of sampling noise appear where the density hardly changes.

===================  ====================================================================
`spread_ties`        makes bars of the values of a discrete output
`view_range`         the range of values to show, never far beyond a limit
`density_of_draws`   density of one output on a grid
`PairDensity`        joint density of two outputs, and the thresholds that enclose given masses
`densest_pieces`     equal-tailed interval of one output, or the densest pieces of several modes
===================  ====================================================================

References
----------
.. [1] Silverman (1986), Density Estimation for Statistics and Data Analysis, section 3.4.
.. [2] Geenens, Charpentier and Paindaveine (2017), Probit transformation for nonparametric kernel
   estimation of the copula density, Bernoulli 23, 1848.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.special import ndtri
from scipy.stats import rankdata

from .._densest import densest_region

#: Cells of each axis; about one for each pixel of a panel of a corner plot.
N_CELLS = 128
#: Candidates for the kernel, and the standard deviation of the narrowest in cells.
N_KERNELS, MIN_WIDTH = 16, 0.6
#: Draws from which on a copula is tried, and the reach of its normal scores.
MIN_COPULA, SCORES = 50, 4.4
#: Squared differences over their variance from which a rougher density begins to count, and counts.
SIGNIFICANT = (1.0, 2.5)
#: Peaks are modes of their own if the density between them falls below this share of the lower one,
#: and a piece is one if it holds this share of the mass.
VALLEY, LEAST_MASS = 0.5, 0.02
#: Most values that an output can have to be treated as discrete.
MAX_LEVELS = 40

#: Grid and density of one output.
Curve = tuple[np.ndarray, np.ndarray]


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
        cls,
        x: np.ndarray,
        y: np.ndarray,
        x_range: np.ndarray,
        y_range: np.ndarray,
        x_curve: Curve | None = None,
        y_curve: Curve | None = None,
    ) -> PairDensity:
        """Smooth the histogram of pairs within two ranges.

        Parameters
        ----------
        x, y : ndarray of shape (n_draws,)
        x_range, y_range : ndarray of shape (2,)
        x_curve, y_curve : pair of ndarray of shape (n_points,), default=None
            Grid and marginal density of each output, where they are known better than from the
            draws.
        """
        counts, x_edges, y_edges = np.histogram2d(x, y, bins=N_CELLS, range=(x_range, y_range))
        candidates = [_smooth_2d(counts)]
        if counts.sum() >= MIN_COPULA:
            of_x = _Margin.of_draws(x, x_edges, x_curve)
            of_y = _Margin.of_draws(y, y_edges, y_curve)
            candidates.append(_smooth_copula(counts, of_x, of_y, len(x)))
        smooth, _ = max(candidates, key=lambda candidate: (counts * candidate[1]).sum())
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


def _smooth_2d(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed counts (N_CELLS, N_CELLS), and their log without a draw's own part.

    Kernels of both axes are those of the single outputs, made narrower or wider together:
    outputs that depend on each other need narrower ones.
    """
    bank = kernels(N_CELLS)
    start = np.array([best_kernel(counts.sum(axis=1)), best_kernel(counts.sum(axis=0))])
    candidates, scores, owns = [], [], []
    for shift in range(-3, 9):
        k_x, k_y = bank[np.clip(start + shift, 0, N_KERNELS - 1)]
        candidates.append(k_x @ counts @ k_y)
        own = np.outer(np.diag(k_x), np.diag(k_y))
        scores.append(left_out_log_density(counts, candidates[-1], own))
        owns.append(own)
    chosen = smoothest(counts, scores)
    return _settled(candidates[: chosen + 1], owns), scores[chosen]


@dataclass(frozen=True)
class _Margin:
    """One output of a pair, as the copula sees it.

    Parameters
    ----------
    mass : ndarray of shape (n_cells,)
        Share of each cell of the picture.
    score : ndarray of shape (n_draws,)
        Normal scores of the draws: quantiles of the normal distribution at their ranks.
    place : ndarray of shape (n_cells, n_cells)
        Interpolates from the cells of scores to those of the picture.
    """

    mass: np.ndarray
    score: np.ndarray
    place: np.ndarray

    @classmethod
    def of_draws(cls, values: np.ndarray, edges: np.ndarray, curve: Curve | None) -> _Margin:
        n_draws, n_cells = len(values), len(edges) - 1
        centres, width = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
        grid, density = curve or density_of_draws(values, edges[0], edges[-1])
        mass = np.interp(centres, grid, density, left=0.0, right=0.0) * width
        score = ndtri((rankdata(values) - 0.5) / n_draws)
        below = np.searchsorted(np.sort(values), centres, side="right")
        at_centres = ndtri(np.clip(below, 0.5, n_draws - 0.5) / n_draws)
        where = np.clip(
            (at_centres + SCORES) / (2.0 * SCORES) * n_cells - 0.5, 0.0, n_cells - 1.001
        )
        cell = where.astype(int)
        place, rows = np.zeros((n_cells, n_cells)), np.arange(n_cells)
        place[rows, cell], place[rows, cell + 1] = 1.0 - (where - cell), where - cell
        return cls(mass, score, place)


def _smooth_copula(
    counts: np.ndarray, of_x: _Margin, of_y: _Margin, n_draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same as `_smooth_2d`, for marginal densities times a copula that is smoothed.

    Both axes have the same kernel. The copula is the density of the normal scores divided by its
    own marginal densities, which the kernel widens as well; the first candidate is independence.
    """
    ends = (-SCORES, SCORES)
    scores, _, _ = np.histogram2d(of_x.score, of_y.score, bins=N_CELLS, range=(ends, ends))
    product = n_draws * np.outer(of_x.mass, of_y.mass)
    product *= counts.sum() / max(product.sum(), 1e-300)
    candidates, owns = [product], [np.zeros(product.shape)]
    log_densities = [left_out_log_density(counts, product, owns[0])]
    x_sum, y_sum = scores.sum(axis=1), scores.sum(axis=0)
    for kernel in kernels(N_CELLS):
        joint, one = kernel @ scores @ kernel, np.diag(kernel)
        margins = np.outer(kernel @ x_sum, kernel @ y_sum) / scores.sum()
        margins = np.maximum(margins, 1e-3 * scores.sum() / scores.size)
        on_picture = [
            of_x.place @ (values / margins) @ of_y.place.T for values in (joint, np.outer(one, one))
        ]
        copula, own = (product * ratio for ratio in on_picture)
        candidates.append(copula)
        owns.append(own)
        log_densities.append(left_out_log_density(counts, copula, own))
    chosen = smoothest(counts, log_densities)
    return _settled(candidates[: chosen + 1], owns), log_densities[chosen]


def _settled(candidates: Sequence[np.ndarray], owns: Sequence[np.ndarray]) -> np.ndarray:
    """Smoothed counts that are as rough as the last candidate only where this is significant.

    From the smoothest on, each candidate replaces what there is where its squared difference,
    averaged over a neighbourhood, is many times its variance. The variance of a sum of Gaussian
    kernels of two dimensions is half of the sum times the height of the kernel, which is the own
    part of a draw.
    """
    settled = candidates[0]
    for rougher, own in zip(candidates[1:], owns[1:], strict=False):
        variance = 0.5 * np.maximum(rougher, settled) * own + 1e-12
        width = min(2.0 / math.sqrt(2.0 * math.pi * max(float(np.median(own)), 1e-6)), 16.0)
        ratio = gaussian_filter((rougher - settled) ** 2 / variance, width, mode="reflect")
        weight = np.clip((ratio - SIGNIFICANT[0]) / (SIGNIFICANT[1] - SIGNIFICANT[0]), 0.0, 1.0)
        settled = settled + weight * (rougher - settled)
    return settled * (candidates[-1].sum() / settled.sum())


def densest_pieces(grid: np.ndarray, density: np.ndarray, mass: float) -> np.ndarray:
    """Where the given mass of one output lies, (n_pieces, 2).

    One piece, the equal-tailed interval, unless there are separate modes: peaks between which the
    density falls below half of the lower one. Then the pieces of the highest-density region.

    Parameters
    ----------
    grid, density : ndarray of shape (n_points,)
        The density is linear between the points.
    mass : float
    """
    cells = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
    cumulative = np.concatenate([[0.0], cells.cumsum()]) / max(cells.sum(), 1e-300)
    pieces = densest_region(grid, density, mass)
    held = np.diff(np.interp(pieces, grid, cumulative), axis=1)[:, 0]
    pieces = pieces[held >= LEAST_MASS]
    if len(pieces) > 1:
        peaks = [density[(grid >= a) & (grid <= b)].max(initial=0.0) for a, b in pieces]
        valleys = [
            density[(grid >= a) & (grid <= b)].min(initial=np.inf)
            for a, b in zip(pieces[:-1, 1], pieces[1:, 0], strict=True)
        ]
        lower = np.minimum(peaks[:-1], peaks[1:])
        if (valleys < VALLEY * lower).any():
            return pieces
    tail = 0.5 * (1.0 - mass)
    return np.interp([[tail, 1.0 - tail]], cumulative, grid)
