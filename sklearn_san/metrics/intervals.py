"""Scores of quantiles and of intervals, and the coverage of the latter."""

from __future__ import annotations

from typing import Any

import numpy as np

from .averages import average, over_outputs
from .checks import (
    check_interval,
    check_level,
    check_levels,
    check_prediction,
    check_target,
)


def pinball_loss(
    y_true: Any,
    y_quantiles: Any,
    levels: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """Pinball loss of quantiles, the mean over their levels; smaller is better.

    ``max(t (y - q), (t - 1) (y - q))`` for the quantile q of level t.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_quantiles : array-like of shape (n_rows, n_levels) or (n_rows, n_levels, n_outputs)
        Quantiles of each row, as from ``predict(X, output_type="quantiles", quantiles=levels)``.
    levels : float or array-like of shape (n_levels,)
        Levels, strictly between 0 and 1.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.
    multioutput : str or array-like of shape (n_outputs,), default="uniform_average"
        "uniform_average", "raw_values" or weights of the outputs.
    per_row : bool, default=False
        Whether to return every row's loss instead of the mean.

    Returns
    -------
    float or ndarray
        In the units of y.

    Raises
    ------
    ValueError
        For shapes that do not go together, nan and infinities, or levels outside (0, 1).

    References
    ----------
    Gneiting and Raftery (2007), Journal of the American Statistical Association 102, 359.

    Examples
    --------
    >>> from sklearn_san.metrics import pinball_loss
    >>> pinball_loss([1.0, 2.0], [[0.0, 2.0], [1.0, 4.0]], levels=[0.25, 0.75])
    0.3125
    """
    y, _ = check_target(y_true)
    tau = check_levels(levels)
    quantiles = check_prediction(y_quantiles, "y_quantiles", y, f"{len(tau)}", len(tau))
    error = y[:, None] - quantiles  # (n_rows, n_levels, n_outputs)
    loss = error * (tau[:, None] - (error < 0))
    return average(loss.mean(axis=1), sample_weight, multioutput, per_row)


def interval_score(
    y_true: Any,
    y_interval: Any,
    level: float,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """Interval score of Winkler for equal-tailed intervals; smaller is better.

    The width, and for each y outside its distance to the interval times ``2 / (1 - level)``.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_interval : array-like of shape (n_rows, 2) or (n_rows, 2, n_outputs)
        Lower and upper bound.
    level : float
        Nominal coverage, strictly between 0 and 1; the bounds are the quantiles of levels
        ``(1 - level) / 2`` and ``(1 + level) / 2``.
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
    ValueError, TypeError
        For shapes that do not go together, nan and infinities, a level outside (0, 1), or a lower
        bound above the upper one.

    References
    ----------
    Gneiting and Raftery (2007), Journal of the American Statistical Association 102, 359.

    Examples
    --------
    >>> from sklearn_san.metrics import interval_score
    >>> interval_score([0.5, 3.0], [[0.0, 1.0], [0.0, 1.0]], level=0.5)
    5.0
    """
    y, _ = check_target(y_true)
    alpha = 1.0 - check_level(level)
    lower, upper = check_interval(y_interval, y)
    outside = np.maximum(lower - y, 0.0) + np.maximum(y - upper, 0.0)
    return average(upper - lower + 2.0 / alpha * outside, sample_weight, multioutput, per_row)


def interval_coverage(
    y_true: Any,
    y_interval: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """Share of observed targets inside intervals, bounds included.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_interval : array-like of shape (n_rows, 2) or (n_rows, 2, n_outputs)
        Lower and upper bound.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.
    multioutput : str or array-like of shape (n_outputs,), default="uniform_average"
        "uniform_average", "raw_values" or weights of the outputs.
    per_row : bool, default=False
        Whether to return 1 for inside and 0 for outside of every row instead of the share.

    Returns
    -------
    float or ndarray
        Between 0 and 1.

    Raises
    ------
    ValueError
        For shapes that do not go together, nan and infinities, or a lower bound above the upper
        one.

    Examples
    --------
    >>> from sklearn_san.metrics import interval_coverage
    >>> interval_coverage([0.5, 3.0], [[0.0, 1.0], [0.0, 1.0]])
    0.5
    """
    y, _ = check_target(y_true)
    lower, upper = check_interval(y_interval, y)
    inside = ((lower <= y) & (y <= upper)).astype(np.float64)
    return average(inside, sample_weight, multioutput, per_row)


def interval_width(
    y_interval: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """Mean width of intervals: how sharp they are, whatever was observed.

    Parameters
    ----------
    y_interval : array-like of shape (n_rows, 2) or (n_rows, 2, n_outputs)
        Lower and upper bound.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.
    multioutput : str or array-like of shape (n_outputs,), default="uniform_average"
        "uniform_average", "raw_values" or weights of the outputs.
    per_row : bool, default=False
        Whether to return the width of every row instead of the mean.

    Returns
    -------
    float or ndarray
        In the units of y.

    Raises
    ------
    ValueError
        For another shape, nan and infinities, or a lower bound above the upper one.

    Examples
    --------
    >>> from sklearn_san.metrics import interval_width
    >>> interval_width([[0.0, 1.0], [0.0, 3.0]])
    2.0
    """
    lower, upper = check_interval(y_interval)
    return average(upper - lower, sample_weight, multioutput, per_row)


def coverage_error(
    y_true: Any,
    y_interval: Any,
    level: float,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
) -> float | np.ndarray:
    """Absolute difference of empirical and nominal coverage of each output; smaller is better.

    It is no proper score: wide and useless intervals can have none. For m rows, exact intervals
    have one of about ``0.8 sqrt(level (1 - level) / m)``.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_interval : array-like of shape (n_rows, 2) or (n_rows, 2, n_outputs)
        Lower and upper bound.
    level : float
        Nominal coverage, strictly between 0 and 1.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the mean over rows.
    multioutput : str or array-like of shape (n_outputs,), default="uniform_average"
        "uniform_average", "raw_values" or weights of the outputs.

    Returns
    -------
    float or ndarray of shape (n_outputs,)
        Between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        As for `interval_score`.

    Examples
    --------
    >>> from sklearn_san.metrics import coverage_error
    >>> coverage_error([0.5, 3.0], [[0.0, 1.0], [0.0, 1.0]], level=0.75)
    0.25
    """
    level = check_level(level)
    share = interval_coverage(
        y_true, y_interval, sample_weight=sample_weight, multioutput="raw_values"
    )
    error = over_outputs(np.abs(np.atleast_2d(share) - level), multioutput)[0]
    return float(error) if np.ndim(error) == 0 else error
