"""What all problems check of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def random_stream(random_state: Any) -> np.random.RandomState:
    """RandomState of our own; None takes fresh entropy instead of the global state."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def check_n_samples(n_samples: int) -> None:
    """Refuse what is not a positive integer."""
    if isinstance(n_samples, bool) or not isinstance(n_samples, (int, np.integer)):
        raise TypeError(f"n_samples must be an integer, got {n_samples!r}.")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}.")


def check_share(name: str, value: float) -> None:
    """Refuse what is not a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}.")
