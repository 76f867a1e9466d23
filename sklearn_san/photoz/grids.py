"""Grids of redshift: checks, the trapezoidal rule, and whether they hold p(z)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _validation as validation
from ..exceptions import GridWarning, warn_caller
from ..metrics.checks import check_numbers

#: Numbers that a temporary array may hold.
CELLS = 2**21
#: By how much the integral over the grid may miss 1, and in which share of the rows.
MASS_ERROR, MASS_SHARE = 0.02, 0.01
#: Points of a grid that is not given, and the mass that it leaves out at each end of every row.
N_POINTS, TAIL = 301, 5e-4


def check_grid(grid: Any, name: str = "grid") -> np.ndarray:
    """Rising numbers, two or more, (n_points,)."""
    array = check_numbers(grid, name)
    if array.ndim != 1 or len(array) < 2 or (np.diff(array) <= 0).any():
        raise ValueError(f"{name} must hold two or more rising redshifts, got {grid!r}.")
    return array


def point_weights(grid: np.ndarray) -> np.ndarray:
    """Integral of each hat function, (n_points,): the trapezoidal rule."""
    step = np.diff(grid)
    return 0.5 * (np.append(step, 0.0) + np.insert(step, 0, 0.0))


def row_chunks(n_rows: int, n_values: int) -> Iterator[slice]:
    """Slices of rows whose arrays of `n_values` each take bounded memory."""
    size = max(1, CELLS // n_values)
    return (slice(i, min(i + size, n_rows)) for i in range(0, n_rows, size))


def default_grid(density: Any, output: Any) -> np.ndarray:
    """Points over the limits of an output, or over nearly all of the mass where there are none."""
    j = validation.check_output(output, density.output_names, "output")
    low, high = density.limits[j]
    if not np.isfinite([low, high]).all():
        ends = density.quantile([TAIL, 1.0 - TAIL]).reshape(len(density), 2, -1)[..., j]
        low, high = max(low, np.nanmin(ends)), min(high, np.nanmax(ends))
    return np.linspace(low, high, N_POINTS)


def divided(pdf: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Normalised rows; nan where there is no mass."""
    mass = np.where(mass > 0, mass, np.nan)
    return pdf / mass[:, None]


def warn_of_mass(mass: np.ndarray) -> None:
    """Warn where p(z) of too many rows (n_rows,) does not integrate to 1."""
    off = np.abs(mass - 1.0) > MASS_ERROR
    if off.mean() > MASS_SHARE:
        share, worst = 100.0 * off.mean(), mass[np.nanargmax(np.abs(mass - 1.0))]
        warn_caller(
            f"p(z) of {share:.1f} % of the rows does not integrate to 1 over the grid (the worst "
            f"to {worst:.3g}) and was normalised; take more points or a wider range.",
            GridWarning,
        )
