"""Coverage of the densest regions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._validation import check_real
from .bands import binomial_band
from .checks import check_draws
from .coverage import LEVELS, CoverageTest
from .diagnostic import (
    DrawsDiagnostic,
    HeldOut,
    SomeDraws,
    log_density,
    random_stream,
    row_chunks,
)
from .uniformity import (
    randomised_pit,
    smooth_pvalue,
)

#: Draws of each row, at most, whose log density a report takes: one costs as much as several draws,
#: and ranks among more of them hardly sharpen the test.
N_SCORED = 200


def hpd_coverage_from_log_prob(
    log_prob_draws: Any,
    log_prob: Any,
    *,
    confidence: float = 0.95,
    random_state: Any = None,
) -> CoverageTest:
    """Coverage of the densest regions: how often those of each mass hold the truth.

    A region holds the truth if its mass is more than the share of the draws that are denser. Sees
    the joint density, but in one number: too wide here and too narrow there may cancel.

    Parameters
    ----------
    log_prob_draws : array-like of shape (n_rows, n_draws)
        Log density of draws of the model.
    log_prob : array-like of shape (n_rows,)
        Log density of the truth; may be -inf.
    confidence : float, default=0.95
        Probability of the binomial band.
    random_state : int, RandomState or None, default=None
        Breaks ties.

    Returns
    -------
    CoverageTest

    References
    ----------
    .. [1] Hermans, Delaunoy, Rozet, Wehenkel, Begy and Louppe (2022), A crisis in
       simulation-based inference? Beware, your posterior approximations can be unfaithful, TMLR.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_san.calibration import hpd_coverage_from_log_prob
    >>> random = np.random.default_rng(0)
    >>> y, draws = random.normal(size=500), 0.7 * random.normal(size=(500, 200))
    >>> result = hpd_coverage_from_log_prob(-(draws**2), -(y**2), random_state=0)
    >>> result.coverage[result.levels == 0.9].round(2)
    array([0.7...])
    """
    check_real("confidence", confidence, 0.0, 1.0)
    draws, truth = check_draws(log_prob_draws, log_prob, "log_prob_draws", "log_prob")
    random = random_stream(random_state)
    values = [
        randomised_pit(-draws[rows], -truth[rows], random)
        for rows in row_chunks(len(truth), draws[0].size)
    ]
    return _result(np.concatenate(values), confidence)


def _denser_draws(held_out: HeldOut, some: SomeDraws, random: np.random.RandomState) -> np.ndarray:
    truth = held_out.log_prob[some.rows]
    draws = log_density(some.density, some.draws[:, :N_SCORED])
    return randomised_pit(-draws[..., None], -truth[..., None], random)


def _diagnose(held_out: HeldOut, random: np.random.RandomState, values: np.ndarray) -> CoverageTest:
    return _result(values)


#: The entry of the table of diagnostics.
HPD = DrawsDiagnostic(_denser_draws, _diagnose)


def _result(values: np.ndarray, confidence: float = 0.95) -> CoverageTest:
    """Result from the mass of each row's region, (n_rows, 1)."""
    values = values[:, 0]
    return CoverageTest(
        name="HPD",
        values=values,
        levels=LEVELS,
        coverage=(values[:, None] <= LEVELS).mean(axis=0),
        band=binomial_band(len(values), LEVELS, confidence) / len(values),
        pvalue=float(smooth_pvalue(values)),
    )
