"""Scores of some rows at a time, and their means over rows and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .checks import check_numbers

#: Numbers that a temporary array may hold.
_CHUNK = 2**21


def by_rows(score: Callable[[slice], np.ndarray], n_rows: int, values_per_row: int) -> np.ndarray:
    """Scores (n_rows, n_outputs) of some rows at a time, in bounded memory."""
    step = max(1, _CHUNK // values_per_row)
    return np.concatenate([score(slice(i, i + step)) for i in range(0, n_rows, step)])


def average(
    scores: np.ndarray, sample_weight: Any, multioutput: Any, per_row: bool
) -> float | np.ndarray:
    """Means of scores (n_rows, n_outputs), as the table at the top of `metrics` has them."""
    return over_rows(over_outputs(scores, multioutput), sample_weight, per_row)


def over_outputs(scores: np.ndarray, multioutput: Any) -> np.ndarray:
    """Mean over the last axis, or the scores themselves."""
    if isinstance(multioutput, str):
        if multioutput not in ("uniform_average", "raw_values"):
            raise ValueError(
                "multioutput must be 'uniform_average', 'raw_values' or one weight for each "
                f"output, got {multioutput!r}."
            )
        return scores if multioutput == "raw_values" else scores.mean(axis=-1)
    weights = np.asarray(multioutput, dtype=np.float64)
    if weights.shape != scores.shape[-1:]:
        raise ValueError(
            f"multioutput has shape {weights.shape}; as weights it must be {scores.shape[-1:]}, "
            "one for each output."
        )
    if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise ValueError(
            f"multioutput must hold weights that are not negative and not all zero, got "
            f"{weights.tolist()}."
        )
    return np.average(scores, axis=-1, weights=weights)


def over_rows(scores: np.ndarray, sample_weight: Any, per_row: bool) -> Any:
    """Mean over the first axis, or the scores themselves."""
    if per_row:
        if sample_weight is not None:
            raise ValueError(
                "sample_weight weights the mean over rows, and per_row=True takes none; leave one "
                "of them out."
            )
        return scores
    if sample_weight is None:
        mean = scores.mean(axis=0)
    else:
        weight = _check_weight(sample_weight, len(scores))
        used = weight > 0  # 0 times -inf is nan
        mean = np.average(scores[used], axis=0, weights=weight[used])
    return float(mean) if np.ndim(mean) == 0 else mean


def _check_weight(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Weights (n_rows,): finite, not negative, not all zero."""
    weight = check_numbers(sample_weight, "sample_weight")
    if weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight must have shape ({n_rows},), one weight per row; got {weight.shape}."
        )
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min():g}.")
    if not (weight > 0).any():
        raise ValueError("sample_weight is zero for every row; at least one must count.")
    return weight
