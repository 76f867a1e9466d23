"""Coverage of balls around random reference points (TARP)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from .._validation import check_real
from .checks import check_draws
from .coverage import LEVELS, CoverageTest
from .diagnostic import (
    DrawsDiagnostic,
    HeldOut,
    SomeDraws,
    random_stream,
    row_chunks,
)
from .references import check_references, reference_points
from .uniformity import (
    N_POLYNOMIALS,
    polynomials,
    randomised_pit,
)

#: Draws of each row that take the place of the truth, for the null distribution of TARP.
N_STAND_INS = 8


def tarp_coverage_from_draws(
    draws: Any,
    y: Any,
    *,
    references: Any = "uniform",
    n_references: int = 10,
    confidence: float = 0.95,
    random_state: Any = None,
) -> CoverageTest:
    """Coverage of balls around random reference points (TARP); needs no density.

    The ball around a reference point with the truth on its edge has the mass of the share of the
    draws inside. The points of a row are averaged over before testing, which gives more power than
    any one of them; the covariance of these averages, and so the p-value and the band, comes from
    draws that take the place of the truth. The p-value is accurate from about 100 rows on.

    Parameters
    ----------
    draws : array-like of shape (n_rows, n_draws, n_outputs)
        Draws of the model.
    y : array-like of shape (n_rows, n_outputs)
        True values. Distances are in units of their standard deviations.
    references : {"uniform", "normal", "rows"} or array-like, default="uniform"
        Distribution of the reference points: uniform over the box around y, normal with the mean
        and standard deviation of each output, or the y of other rows; or the points themselves,
        (n_rows, n_references, n_outputs). These may depend on x but not on y itself. Points that
        do not depend on x cannot tell the truth from a density that ignores x, if that is the
        distribution of y.
    n_references : int, default=10
        Points for each row.
    confidence : float, default=0.95
        Probability of the band.
    random_state : int, RandomState or None, default=None
        Source of the points; breaks ties.

    Returns
    -------
    CoverageTest

    References
    ----------
    .. [1] Lemos, Coogan, Hezaveh and Perreault-Levasseur (2023), Sampling-based accuracy testing
       of posterior estimators for general inference, ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import tarp_coverage_from_draws
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=(500, 2)), random.normal(size=(500, 100, 2))
    >>> tarp_coverage_from_draws(draws, y, random_state=0).pvalue > 0.05
    True
    >>> tarp_coverage_from_draws(0.7 * draws, y, random_state=0).pvalue < 1e-6
    True
    """
    check_real("confidence", confidence, 0.0, 1.0)
    draws, y = check_draws(draws, y)
    random = random_stream(random_state)
    points = reference_points(
        check_references(references, n_references, y), n_references, y, random
    )
    return _result(*ball_fractions(draws, y, points, scale_of(y), random), confidence)


def ball_fractions(
    draws: np.ndarray,
    y: np.ndarray,
    references: np.ndarray,
    scale: np.ndarray,
    random: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Share of the draws nearer to each reference point than the truth.

    Parameters
    ----------
    draws : ndarray of shape (n_rows, n_draws, n_outputs)
    y : ndarray of shape (n_rows, n_outputs)
    references : ndarray of shape (n_rows, n_references, n_outputs)
    scale : ndarray of shape (n_outputs,)
        Unit of distances along each output.
    random : RandomState

    Returns
    -------
    fractions : ndarray of shape (n_rows, n_references)
    stand_ins : ndarray of shape (n_rows, n_stand_ins, n_references)
        The same for some of the draws in the place of the truth, among the others.
    """
    n, n_draws, n_outputs = draws.shape
    n_references = references.shape[1]
    n_stand_ins = min(N_STAND_INS, n_draws)
    fractions = np.empty((n, n_references))
    stand_ins = np.empty((n, n_stand_ins, n_references))
    for rows in row_chunks(n, n_draws * n_outputs):
        pool = np.concatenate([y[rows, None], draws[rows]], axis=1) / scale
        pool = np.ascontiguousarray(pool.transpose(2, 0, 1))  # (n_outputs, n_rows, 1 + n_draws)
        for r in range(n_references):
            distance = np.zeros(pool.shape[1:])
            for column, point in zip(pool, (references[rows, r] / scale).T, strict=True):
                gap = column - point[:, None]
                distance += np.multiply(gap, gap, out=gap)
            truth, others = distance[:, 0], distance[:, 1:]
            fractions[rows, r] = randomised_pit(others, truth, random)
            for s in range(n_stand_ins):
                pit = randomised_pit(others, others[:, s], random, is_draw=True)
                stand_ins[rows, s, r] = pit
    return fractions, stand_ins


def ball_pvalue(fractions: np.ndarray, stand_ins: np.ndarray) -> float:
    """Smooth test of fractions averaged over the reference points of each row.

    The covariance of the averages is that of the stand-ins, for which the model is right.
    """
    mean = polynomials(fractions, N_POLYNOMIALS).mean(axis=(0, 1))
    null = polynomials(stand_ins, N_POLYNOMIALS).mean(axis=2).reshape(-1, N_POLYNOMIALS)
    covariance = null.T @ null / len(null)
    statistic = len(fractions) * mean @ np.linalg.solve(covariance, mean)
    return float(stats.chi2.sf(statistic, N_POLYNOMIALS))


def _balls_of_draws(
    held_out: HeldOut, some: SomeDraws, random: np.random.RandomState
) -> np.ndarray:
    """Fractions of the truth and of its stand-ins, (n_rows, 1 + n_stand_ins, n_references)."""
    truth, points = held_out.truth[some.rows], held_out.reference_points[some.rows]
    scale = scale_of(held_out.truth)
    fractions, stand_ins = ball_fractions(some.numbers, truth, points, scale, random)
    return np.concatenate([fractions[:, None], stand_ins], axis=1)


def _diagnose(held_out: HeldOut, random: np.random.RandomState, balls: np.ndarray) -> CoverageTest:
    return _result(balls[:, 0], balls[:, 1:])


#: The entry of the table of diagnostics.
TARP = DrawsDiagnostic(_balls_of_draws, _diagnose)


def _result(fractions: np.ndarray, stand_ins: np.ndarray, confidence: float = 0.95) -> CoverageTest:
    """Result from those of `ball_fractions`."""
    null = (stand_ins[..., None] <= LEVELS).mean(axis=2)  # (n_rows, n_stand_ins, n_levels)
    error = np.sqrt(((null - LEVELS) ** 2).mean(axis=(0, 1)) / len(fractions))
    half_width = stats.norm.ppf(0.5 + 0.5 * confidence) * error
    return CoverageTest(
        name="TARP",
        values=fractions,
        levels=LEVELS,
        coverage=(fractions[..., None] <= LEVELS).mean(axis=(0, 1)),
        band=np.clip([LEVELS - half_width, LEVELS + half_width], 0.0, 1.0),
        pvalue=ball_pvalue(fractions, stand_ins),
    )


def scale_of(y: np.ndarray) -> np.ndarray:
    """Unit of distances along each output; that of a constant one does not matter."""
    scale = y.std(axis=0)
    return np.where(scale > 0, scale, 1.0)
