"""Checks of coordinates, draws, levels and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._tables import without_mask

#: Fewer rows tell nothing.
MIN_ROWS = 20


def names_of(output_names: Sequence[str] | None, n_outputs: int) -> tuple[str, ...]:
    """Names of the outputs; y0, y1, ... where there are none."""
    if output_names is None:
        return tuple(f"y{j}" for j in range(n_outputs))
    if len(output_names) != n_outputs:
        raise ValueError(
            f"output_names has {len(output_names)} entries, but there are {n_outputs} outputs."
        )
    return tuple(map(str, output_names))


def check_rows(n_rows: int, name: str) -> None:
    """Raise for fewer than `MIN_ROWS`."""
    if n_rows < MIN_ROWS:
        raise ValueError(f"{name} has {n_rows} rows; at least {MIN_ROWS} are needed.")


def check_unit(u: Any, name: str) -> np.ndarray:
    """Values in [0, 1] as float64 (n_rows, n_outputs)."""
    u = np.asarray(u, dtype=np.float64)
    if u.ndim == 1:
        u = u[:, None]
    if u.ndim != 2 or u.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n_rows, n_outputs), got {u.shape}.")
    check_rows(len(u), name)
    wrong = ~((u >= 0.0) & (u <= 1.0))  # nan included
    if wrong.any():
        raise ValueError(f"{name} must lie between 0 and 1, got {u[wrong][0]:g}.")
    return u


def check_draws(
    draws: Any, y: Any, draws_name: str = "draws", y_name: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n_rows, n_draws, n_outputs) and truth (n_rows, n_outputs) as floats."""
    draws, y = np.asarray(without_mask(draws)), np.asarray(without_mask(y), dtype=np.float64)
    if draws.dtype not in (np.float32, np.float64):  # which may be large memory maps
        draws = draws.astype(np.float64)
    if y.ndim == 1 and draws.ndim == 2:
        draws, y = draws[..., None], y[:, None]
    if draws.ndim != 3 or y.ndim != 2 or (len(draws), draws.shape[2]) != y.shape:
        raise ValueError(
            f"{draws_name} must have one axis of draws between those of {y_name}; got shapes "
            f"{draws.shape} and {y.shape}."
        )
    if draws.shape[1] < 2:
        raise ValueError(f"{draws_name} has {draws.shape[1]} draws; at least 2 are needed.")
    check_rows(len(y), y_name)
    for name, values in ((draws_name, draws), (y_name, y)):
        if np.isnan(values).any():
            raise ValueError(f"{name} has {np.isnan(values).sum()} values that are nan.")
    return draws, y


def check_levels(levels: Any) -> np.ndarray:
    """Levels strictly between 0 and 1, (n_levels,)."""
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0.0) & (levels < 1.0)).all():
        raise ValueError(f"levels must be numbers strictly between 0 and 1, got {levels!r}.")
    return levels
