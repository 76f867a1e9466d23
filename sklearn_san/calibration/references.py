"""Reference points, from which the distances of TARP are measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validation import check_choice, check_integer

#: Where reference points can come from.
REFERENCES = ("uniform", "normal", "rows")


def check_references(references: Any, n_references: int, y: np.ndarray) -> str | np.ndarray:
    """One of the `REFERENCES`, or points (n_rows, n_references, n_outputs) in the units of y."""
    check_integer("n_references", n_references, 1)
    if isinstance(references, str):
        check_choice("references", references, REFERENCES)
        return references
    points = np.asarray(references, dtype=np.float64)
    n_rows, n_outputs = y.shape
    if points.ndim != 3 or points.shape[::2] != y.shape or not np.isfinite(points).all():
        raise ValueError(
            f"references must be one of {', '.join(map(repr, REFERENCES))} or finite "
            f"points of shape ({n_rows}, n_references, {n_outputs}); got an array of shape "
            f"{points.shape}."
        )
    return points


def reference_points(
    references: str | np.ndarray, n_references: int, y: np.ndarray, random: np.random.RandomState
) -> np.ndarray:
    """Points (n_rows, n_references, n_outputs) of `check_references`."""
    if not isinstance(references, str):
        return references
    n_rows = len(y)
    shape = (n_rows, n_references, y.shape[1])
    if references == "uniform":
        return random.uniform(y.min(axis=0), y.max(axis=0), size=shape)
    if references == "normal":
        return random.normal(y.mean(axis=0), y.std(axis=0), size=shape)
    shift = random.randint(1, n_rows, size=shape[:2])
    return y[(np.arange(n_rows)[:, None] + shift) % n_rows]
