"""Scores of densities, draws, quantiles and intervals, and scorers for model selection.

A score is proper if the true density has the best expected value. Those of draws work in the
units of y, and all but the log score are losses: smaller is better.

======================  =========================================================================
`log_score`             mean of log p(y | x); greater is better
`crps`                  E|Y' - y| - E|Y' - Y''| / 2 of each output, from draws Y', Y''
`crps_gaussian`         the same of a Gaussian or a mixture of them, in closed form
`energy_score`          the same of all outputs together, with the Euclidean distance
`pinball_loss`          of quantiles; twice its mean over all levels is the CRPS
`interval_score`        width of intervals and a penalty for each y outside
`interval_coverage`     share of y inside intervals; to be compared with the nominal one
`interval_width`        mean width
`coverage_error`        distance between the share and the nominal coverage
`pit_values`            uniform if the draws come from the distribution of y
`SCORERS`               scorers by name; made of `LogScorer`, `DrawsScorer`, `QuantileScorer` and
                        `IntervalScorer`
======================  =========================================================================

All take y_true of shape (n_rows,) or (n_rows, n_outputs) and put outputs on the last axis of
predictions, which may be left out where there is one. They return a float, the mean over rows and
outputs; ``multioutput="raw_values"`` keeps outputs apart and ``per_row=True`` rows:

============  ================================  =================================
              multioutput="uniform_average"     multioutput="raw_values"
============  ================================  =================================
default       float                             ndarray of shape (n_outputs,)
per_row=True  ndarray of shape (n_rows,)        ndarray (n_rows, n_outputs)
============  ================================  =================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.special import erf
from sklearn.utils import check_array, check_random_state

from ._scorers import (
    DrawsScorer,
    IntervalScorer,
    LogScorer,
    QuantileScorer,
    average,
    by_rows,
    check_draws,
    check_interval,
    check_level,
    check_levels,
    check_like,
    check_prediction,
    check_target,
    over_outputs,
    over_rows,
)

#: Draws whose distances to all others are held at once.
_BLOCK = 512


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
        log_prob,
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


def crps(
    y_true: Any,
    y_draws: Any,
    *,
    fair: bool = True,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    per_row: bool = False,
) -> float | np.ndarray:
    """Continuous ranked probability score of draws, for each output by itself; smaller is better.

    ``E|Y' - y| - E|Y' - Y''| / 2`` with Y' and Y'' independent draws, in time n log n of the
    number of draws.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_draws : array-like of shape (n_rows, n_draws) or (n_rows, n_draws, n_outputs)
        Draws for each row, in the units of y.
    fair : bool, default=True
        Whether to leave pairs of a draw with itself out of the second mean. This estimates the
        score of the distribution which the draws come from without bias, whatever their number,
        and can be negative. False gives the score of the draws as a distribution of their own,
        to be used for draws that are not independent.
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
        For shapes that do not go together, nan and infinities, or ``fair=True`` with one draw.

    References
    ----------
    Gneiting and Raftery (2007), Journal of the American Statistical Association 102, 359.
    Ferro (2014), Quarterly Journal of the Royal Meteorological Society 140, 1917.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.metrics import crps
    >>> draws = np.random.default_rng(0).normal(size=(3, 10_000))
    >>> crps([0.0, 0.0, 0.0], draws)  # exact: 0.2337
    0.23...
    >>> crps([[0.0], [1.0]], [[[0.0], [2.0]], [[1.0], [1.0]]], fair=False, per_row=True)
    array([0.5, 0. ])
    """
    y, _ = check_target(y_true)
    draws = check_draws(y_draws, y, fair)
    return average(_crps_of_draws(y, draws, fair), sample_weight, multioutput, per_row)


def _crps_of_draws(y: np.ndarray, draws: np.ndarray, fair: bool) -> np.ndarray:
    """Scores (n_rows, n_outputs) from draws (n_rows, n_draws, n_outputs)."""
    n_draws = draws.shape[1]
    # sum_(i<j) |x_j - x_i| = sum_i (2 i - n + 1) x_i of sorted x, i = 0, 1, ...
    rank = 2.0 * np.arange(n_draws) - (n_draws - 1)
    n_pairs = n_draws * (n_draws - 1 if fair else n_draws)

    def score(rows: slice) -> np.ndarray:
        # Relative to y, so that an offset common to all does not cost digits
        error = draws[rows] - y[rows, None]  # (rows, n_draws, n_outputs)
        error.sort(axis=1)
        spread = np.einsum("s,nsj->nj", rank, error) / n_pairs
        return np.abs(error).mean(axis=1) - spread

    return by_rows(score, len(y), draws[0].size)


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


def energy_score(
    y_true: Any,
    y_draws: Any,
    *,
    fair: bool = True,
    scale: Any = None,
    sample_weight: Any = None,
    per_row: bool = False,
) -> float | np.ndarray:
    """Energy score of joint draws of several outputs; smaller is better.

    ``E||Y' - y|| - E||Y' - Y''|| / 2`` with Y' and Y'' independent draws: the CRPS for one output.
    For several, the time grows with the square of the number of draws; the memory does not.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_draws : array-like of shape (n_rows, n_draws) or (n_rows, n_draws, n_outputs)
        Draws for each row, in the units of y.
    fair : bool, default=True
        Whether to leave pairs of a draw with itself out of the second mean; see `crps`.
    scale : "std", array-like of shape (n_outputs,) or None, default=None
        Unit of length of each output, by which it is divided. "std" takes the standard deviations
        of y_true, which makes scores comparable for the same y_true only. None takes the units
        of y, where outputs of large values decide.
    sample_weight : array-like of shape (n_rows,), default=None
        Weight of each row, for "std" too.
    per_row : bool, default=False
        Whether to return the score of every row, (n_rows,), instead of the mean.

    Returns
    -------
    float or ndarray of shape (n_rows,)
        In the units of y or of `scale`.

    Raises
    ------
    ValueError
        For shapes that do not go together, nan and infinities, ``fair=True`` with one draw, or a
        `scale` that is not positive.

    References
    ----------
    Gneiting and Raftery (2007), Journal of the American Statistical Association 102, 359.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.metrics import energy_score
    >>> draws = np.random.default_rng(0).normal(size=(3, 500, 2))
    >>> energy_score(np.zeros((3, 2)), draws)  # exact: 0.3671
    0.36...
    """
    y, _ = check_target(y_true)
    draws = check_draws(y_draws, y, fair)
    unit = _unit(scale, y, sample_weight)
    if len(unit) == 1:  # the sort of the CRPS is faster than all pairs
        return over_rows(_crps_of_draws(y, draws, fair)[:, 0] / unit, sample_weight, per_row)
    n_draws = draws.shape[1]
    n_pairs = n_draws * (n_draws - 1 if fair else n_draws)
    scores = np.empty(len(y))
    for i, (point, cloud) in enumerate(zip(y / unit, draws, strict=True)):
        cloud = cloud / unit  # (n_draws, n_outputs)
        spread = _sum_of_distances(cloud) / n_pairs
        scores[i] = cdist(cloud, point[None]).mean() - spread
    return over_rows(scores, sample_weight, per_row)


def _sum_of_distances(points: np.ndarray) -> float:
    """Sum over all pairs of points (n_points, n_outputs), with memory for some at a time."""
    total = 0.0
    for start in range(0, len(points), _BLOCK):
        block, rest = points[start : start + _BLOCK], points[start + _BLOCK :]
        total += pdist(block).sum()
        if len(rest):
            total += cdist(block, rest).sum()
    return total


def _unit(scale: Any, y: np.ndarray, sample_weight: Any) -> np.ndarray:
    """Unit of length of each output, (n_outputs,)."""
    if scale is None:
        return np.ones(y.shape[1])
    if isinstance(scale, str):
        if scale != "std":
            raise ValueError(f"scale must be 'std', numbers or None; got {scale!r}.")
        center = over_rows(y, sample_weight, per_row=False)
        unit = np.sqrt(over_rows((y - center) ** 2, sample_weight, per_row=False))
        hint = " (y_true is constant)"
    else:
        unit, hint = np.atleast_1d(np.asarray(scale, dtype=np.float64)), ""
        if unit.shape != y.shape[1:]:
            raise ValueError(
                f"scale has shape {unit.shape}; it must be {y.shape[1:]}, one for each output."
            )
    if not ((unit > 0) & (unit < np.inf)).all():
        d = int(np.argmin((unit > 0) & (unit < np.inf)))
        raise ValueError(
            f"scale must be positive and finite, got {unit[d]:g} for output {d}{hint}."
        )
    return unit


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


def pit_values(y_true: Any, y_draws: Any, *, random_state: Any = None) -> np.ndarray:
    """Probability integral transform of every output by draws.

    ``u = (number of draws below y + v (1 + number of draws equal to y)) / (1 + n_draws)`` with v
    uniform on [0, 1): exactly uniform if y and the draws come from one distribution, be it
    continuous or discrete, whatever the number of draws.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Observed targets.
    y_draws : array-like of shape (n_rows, n_draws) or (n_rows, n_draws, n_outputs)
        Independent draws for each row, in the units of y.
    random_state : int, RandomState or None, default=None
        Source of v. None takes fresh entropy; the global random state is neither read nor changed.

    Returns
    -------
    ndarray of the shape of y_true
        Between 0 and 1. Outputs of one row are not independent of each other.

    Raises
    ------
    ValueError
        For shapes that do not go together, nan and infinities.

    References
    ----------
    Dawid (1984), Journal of the Royal Statistical Society A 147, 278.
    Gneiting, Balabdaoui and Raftery (2007), Journal of the Royal Statistical Society B 69, 243.

    Examples
    --------
    >>> from sklearn_san.metrics import pit_values
    >>> u = pit_values([0.0, 5.0], [[-1.0, 1.0, 2.0], [1.0, 2.0, 3.0]], random_state=0)
    >>> (u * 4).astype(int)
    array([1, 3])
    """
    y, one_dimensional = check_target(y_true)
    draws = check_prediction(y_draws, "y_draws", y, "n_draws")
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)
    below = (draws < y[:, None]).sum(axis=1)
    ties = (draws == y[:, None]).sum(axis=1)
    u = (below + random.uniform(size=y.shape) * (1 + ties)) / (1 + draws.shape[1])
    return u[:, 0] if one_dimensional else u


#: Scorers by name, to be passed as ``scoring=`` to scikit-learn, all together or one of them. All
#: are deterministic, and greater is better. With outputs of different units use, for example,
#: ``DrawsScorer(energy_score, scale="std")``.
SCORERS: dict[str, Callable[..., float]] = {
    "log_score": LogScorer(),
    "neg_crps": DrawsScorer(crps),
    "neg_energy_score": DrawsScorer(energy_score),
    "neg_pinball_loss": QuantileScorer(pinball_loss, levels=np.arange(1, 10) / 10),
    "neg_interval_score": IntervalScorer(interval_score, level=0.9),
    "neg_coverage_error": IntervalScorer(coverage_error, level=0.9),
}
