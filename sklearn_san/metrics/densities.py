"""Scores of densities: the log score, and the CRPS of Gaussian mixtures in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erf
from sklearn.utils import check_array

from .._tables import without_mask
from .averages import average, by_rows, over_rows
from .checks import (
    check_like,
    check_prediction,
    check_target,
)


def log_score(log_prob: Any, *, sample_weight: Any = None) -> float:
    """Mean log density of the observed targets; greater is better.

    Parameters
    ----------
    log_prob : array-like of shape (n_rows,)
        Log density of each row at its observed y, in nats, per unit of y. -inf is allowed.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.

    Returns
    -------
    float
        In nats per row; -inf if a row of positive weight has -inf.

    Raises
    ------
    ValueError
        For nan and +inf, which no log density can be averaged with.

    Examples
    --------
    >>> from sklearn_san.metrics import log_score
    >>> log_score([-1.0, -2.0])
    -1.5
    """
    values = check_array(
        without_mask(log_prob),
        ensure_2d=False,
        dtype=np.float64,
        ensure_all_finite=False,
        input_name="log_prob",
    )
    if values.ndim != 1:
        raise ValueError(
            f"log_prob must have shape (n_rows,), one joint log density per row; got "
            f"{values.shape}."
        )
    wrong = np.flatnonzero(np.isnan(values) | (values == np.inf))
    if len(wrong):
        raise ValueError(
            f"log_prob has {values[wrong[0]]:g} in row {wrong[0]}; it must hold numbers or -inf."
        )
    return float(over_rows(values, sample_weight, per_row=False))


def crps_gaussian(
    y_true: Any,
    loc: Any,
    scale: Any,
    weights: Any = None,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """CRPS of Gaussians or mixtures of them, in closed form; smaller is better.

    ``sum_k w_k A(y - m_k, s_k) - sum_kl w_k w_l A(m_k - m_l, hypot(s_k, s_l)) / 2`` with
    ``A(m, s) = E|N(m, s^2)|``.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    loc : array-like of the shape of y_true, (n_rows, K) or (n_rows, K, n_outputs)
        Means, of one Gaussian for each target or of the components of a mixture.
    scale : array-like of the shape of loc
        Standard deviations.
    weights : array-like of shape (n_rows, K) or (n_rows, K, n_outputs), default=None
        Weights of the components, which sum to 1. None means that there is one Gaussian.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.
    multioutput : str or array-like of shape (n_outputs,), default="uniform_average"
        "uniform_average", "raw_values" or weights of the outputs.
    per_row : bool, default=False
        Whether to return every row's score instead of the mean.

    Returns
    -------
    float or ndarray
        In the units of y.

    Raises
    ------
    ValueError
        For shapes that do not go together, nan and infinities, scales that are not positive, or
        weights that are negative or do not sum to 1.

    References
    ----------
    Grimit, Gneiting, Berrocal and Johnson (2006), Quarterly Journal of the Royal Meteorological
    Society 132, 2925.

    Examples
    --------
    >>> from sklearn_san.metrics import crps_gaussian
    >>> round(crps_gaussian([0.0], [0.0], [1.0]), 4)
    0.2337
    >>> round(crps_gaussian([0.0], [[-1.0, 1.0]], [[0.1, 0.1]], weights=[[0.5, 0.5]]), 4)
    0.4718
    """
    y, _ = check_target(y_true)
    w, m, s = _check_mixture(loc, scale, weights, y)

    def score(rows: slice) -> np.ndarray:
        wr, mr, sr = w[rows], m[rows], s[rows]  # (rows, K, n_outputs)
        error = (wr * _mean_absolute(y[rows, None] - mr, sr)).sum(axis=1)
        gap = _mean_absolute(mr[:, :, None] - mr[:, None], np.hypot(sr[:, :, None], sr[:, None]))
        return error - 0.5 * np.einsum("nkj,nlj,nklj->nj", wr, wr, gap)

    pairs_per_row = w[0].size * w.shape[1]
    return average(by_rows(score, len(y), pairs_per_row), sample_weight, multioutput, per_row)


def _check_mixture(
    loc: Any, scale: Any, weights: Any, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and standard deviations, (n_rows, K, n_outputs) each."""
    if weights is None:
        m, s = (check_like(v, name, y)[:, None] for v, name in ((loc, "loc"), (scale, "scale")))
        w = np.ones_like(m)
    else:
        w = check_prediction(weights, "weights", y, "K")
        m = check_prediction(loc, "loc", y, f"K={w.shape[1]}", w.shape[1])
        s = check_prediction(scale, "scale", y, f"K={w.shape[1]}", w.shape[1])
    if s.min() <= 0:
        raise ValueError(f"scale must be positive, got {s.min():g}.")
    total = w.sum(axis=1)
    worst = total.flat[np.abs(total - 1.0).argmax()]
    if w.min() < 0 or abs(worst - 1.0) > 1e-5:  # rounding errors of float32 pass
        raise ValueError(
            f"weights must not be negative and sum to 1 over the components; the least is "
            f"{w.min():g} and the sum furthest from 1 is {worst:g}."
        )
    return w, m, s


def _mean_absolute(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Mean absolute value of Gaussians, elementwise."""
    z = mean / (np.sqrt(2.0) * scale)
    return scale * np.sqrt(2.0 / np.pi) * np.exp(-(z**2)) + mean * erf(z)
