"""Where a density of one variable is highest, from its values at points between which it is linear.

===================  ======================================================================
`densest_region`     pieces of the smallest region that holds a mass
`count_modes`        peaks with real valleys between them
`highest_points`     vertex of the parabola through the highest point and its neighbours
===================  ======================================================================
"""

from __future__ import annotations

import numpy as np

#: Halvings of the level of a region, more than the precision of the densities needs.
N_HALVINGS = 50


def densest_region(grid: np.ndarray, density: np.ndarray, mass: float) -> np.ndarray:
    """Pieces (n_pieces, 2) of the smallest region that holds a share `mass`.

    Parameters
    ----------
    grid, density : ndarray of shape (n_points,)
        Rising values, and the density at them, up to a factor.
    mass : float
        Share of the mass on the grid.
    """
    cells = 0.5 * (density[1:] + density[:-1]) * np.diff(grid)
    total = cells.sum()
    pieces, low, high = grid[None, [0, -1]], 0.0, float(density.max())
    for _ in range(N_HALVINGS):
        level = 0.5 * (low + high)
        found = _above(grid, density, level)
        if _mass_inside(grid, density, cells, found) >= mass * total:
            low, pieces = level, found
        else:
            high = level
    return pieces


def _above(grid: np.ndarray, density: np.ndarray, level: float) -> np.ndarray:
    """Intervals (n, 2) in which the density is above a level."""
    inside = np.concatenate([[False], density > level, [False]])
    starts, stops = np.flatnonzero(np.diff(inside.astype(int))).reshape(-1, 2).T
    ends = []
    for point, step in ((starts, -1), (stops - 1, 1)):
        other = np.clip(point + step, 0, len(grid) - 1)
        fall = density[point] - density[other]
        share = np.divide(density[point] - level, fall, out=np.zeros(len(point)), where=fall > 0)
        ends.append(grid[point] + share * (grid[other] - grid[point]))
    return np.stack(ends, axis=1)


def _mass_inside(
    grid: np.ndarray, density: np.ndarray, cells: np.ndarray, pieces: np.ndarray
) -> float:
    """Integral of the density over intervals (n, 2)."""
    below = np.concatenate([[0.0], cells.cumsum()])
    place = np.clip(np.searchsorted(grid, pieces, side="right") - 1, 0, len(grid) - 2)
    step = np.diff(grid)[place]
    t = (pieces - grid[place]) / step
    left, right = density[place], density[place + 1]
    at_ends = below[place] + step * t * (left + 0.5 * (right - left) * t)
    return float(np.diff(at_ends, axis=1).sum())


def count_modes(density: np.ndarray, depth: float, least: float) -> np.ndarray:
    """Number of peaks of each row (n_rows, n_points) of densities, at the ends included.

    Parameters
    ----------
    density : ndarray of shape (n_rows, n_points)
    depth : float
        Between two peaks the density falls by this share of the lower one or more.
    least : float
        Lowest peak that counts, relative to the highest one of the row.
    """
    top = density.max(axis=1)
    count = np.zeros(len(density), dtype=np.intp)
    climbing, extreme = np.ones(len(density), dtype=bool), np.zeros(len(density))
    for values in (*density.T, np.zeros(len(density))):
        falls = climbing & (values <= (1.0 - depth) * extreme) & (extreme > 0)
        count += falls & (extreme >= least * top)
        rises = ~climbing & (values > 0) & (values * (1.0 - depth) >= extreme)
        turns = falls | rises
        climbing ^= turns
        kept = np.where(climbing, np.maximum(extreme, values), np.minimum(extreme, values))
        extreme = np.where(turns, values, kept)
    return count


def highest_points(grid: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Where the density of each row is highest, (n_rows,).

    Parameters
    ----------
    grid, density : ndarray of shape (n_rows, n_points)
    """
    every, top = np.arange(len(grid)), density.argmax(axis=1)
    i = np.clip(top, 1, grid.shape[1] - 2)
    left, right = grid[every, i] - grid[every, i - 1], grid[every, i + 1] - grid[every, i]
    fall = (density[every, i] - density[every, i - 1]) / left
    rise = (density[every, i + 1] - density[every, i]) / right
    bend = fall - rise
    shift = np.divide(
        0.5 * (fall * right + rise * left), bend, out=np.zeros(len(grid)), where=bend > 0
    )
    at_vertex = grid[every, i] + np.clip(shift, -left, right)
    return np.where(top == i, at_vertex, grid[every, top])
