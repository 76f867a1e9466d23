"""Checks of what scores are given: targets, predictions of the right shape, levels."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_array

from .._tables import without_mask


def check_levels(levels: Any) -> np.ndarray:
    """Levels strictly between 0 and 1, (n_levels,)."""
    try:
        array = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"levels must be numbers between 0 and 1, got {levels!r}.") from None
    if array.ndim != 1 or array.size == 0 or not ((array > 0) & (array < 1)).all():
        raise ValueError(
            f"levels must be one or more numbers strictly between 0 and 1, got {levels!r}."
        )
    return array


def check_level(level: Any) -> float:
    """One level strictly between 0 and 1."""
    if isinstance(level, (bool, np.bool_)) or not isinstance(level, Real):
        raise TypeError(f"level must be a number between 0 and 1, got {level!r}.")
    if not 0.0 < float(level) < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    return float(level)


def check_numbers(values: Any, name: str) -> np.ndarray:
    """Finite numbers in float64, of any shape that has rows."""
    values = without_mask(values)
    return check_array(values, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name=name)


def check_target(y_true: Any) -> tuple[np.ndarray, bool]:
    """Targets (n_rows, n_outputs), and whether they were one-dimensional."""
    y = check_numbers(y_true, "y_true")
    if y.ndim > 2:
        raise ValueError(f"y_true must have shape (n_rows,) or (n_rows, n_outputs), got {y.shape}.")
    return y.reshape(len(y), -1), y.ndim == 1


def check_like(values: Any, name: str, y: np.ndarray) -> np.ndarray:
    """Numbers of the shape of the targets, (n_rows, n_outputs)."""
    array = check_numbers(values, name)
    full = array[:, None] if array.ndim == 1 else array
    if full.shape != y.shape:
        raise ValueError(f"{name} has shape {array.shape}; {_must_be(y, '')}.")
    return full


def check_prediction(
    values: Any, name: str, y: np.ndarray, axis: str, length: int | None = None
) -> np.ndarray:
    """Predictions (n_rows, length, n_outputs); `axis` names the middle one where it is free."""
    array = check_numbers(values, name)
    full = array[..., None] if array.ndim == 2 and y.shape[1] == 1 else array
    length = length or max(full.shape[1:2], default=0)
    if length == 0 or full.shape != (len(y), length, y.shape[1]):
        raise ValueError(f"{name} has shape {array.shape}; {_must_be(y, f'{axis}, ')}.")
    return full


def _must_be(y: np.ndarray, middle: str) -> str:
    """End of an error message on shapes."""
    n_rows, n_outputs = y.shape
    rows = f"{n_rows} row{'s' if n_rows > 1 else ''}"
    outputs = f"{n_outputs} output{'s' if n_outputs > 1 else ''}"
    short = f" or ({n_rows}, {middle})".replace(", )", ")" if middle else ",)")
    accepted = f"({n_rows}, {middle}{n_outputs}){short if n_outputs == 1 else ''}"
    return f"with {rows} and {outputs} it must be {accepted}"


def check_draws(y_draws: Any, y: np.ndarray, fair: bool) -> np.ndarray:
    """Draws (n_rows, n_draws, n_outputs), at least two for each row if `fair`."""
    draws = check_prediction(y_draws, "y_draws", y, "n_draws")
    if fair and draws.shape[1] < 2:
        raise ValueError("fair=True needs at least 2 draws for each row, got 1; set fair=False.")
    return draws


def check_interval(y_interval: Any, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds, (n_rows, n_outputs) each, for y or any number of rows."""
    if y is None:
        shape = np.shape(y_interval)
        y = np.empty((shape[:1] or (1,)) + (shape[2:3] or (1,)))
    bounds = check_prediction(y_interval, "y_interval", y, "2", 2)
    lower, upper = bounds[:, 0], bounds[:, 1]
    wrong = np.argwhere(lower > upper)
    if len(wrong):
        i, d = wrong[0]
        raise ValueError(
            f"y_interval has {len(wrong)} lower bound{'s' if len(wrong) > 1 else ''} above the "
            f"upper one, such as {lower[i, d]:g} > {upper[i, d]:g} in row {i}, output {d}; give "
            "the lower bound first."
        )
    return lower, upper
