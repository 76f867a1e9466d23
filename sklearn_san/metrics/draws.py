"""Scores of draws: CRPS and energy score; and PIT values, uniform if y is like a draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist
from sklearn.utils import check_random_state

from .averages import average, by_rows, over_rows
from .checks import (
    check_draws,
    check_prediction,
    check_target,
)

#: Draws whose distances to all others are held at once.
_BLOCK = 512


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
