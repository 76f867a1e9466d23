"""Bands of counts and curves, inside which those of a calibrated model lie.

References
----------
.. [1] Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its
   applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
   Computing 32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import stats

#: Simulated data sets behind `uniform_band`.
N_SIMULATIONS = 4000


def binomial_band(n: int, probability: np.ndarray, confidence: float) -> np.ndarray:
    """Range (2, ...) that holds each count out of n with at least the given probability."""
    tail = 0.5 * (1.0 - confidence)
    return np.stack([stats.binom.ppf(p, n, probability) for p in (tail, 1.0 - tail)])


@lru_cache(maxsize=32)
def uniform_band(n: int, edges: tuple[float, ...], confidence: float) -> np.ndarray:
    """Band (2, n_edges) that holds a whole ``ecdf(z) - z`` of n uniform values.

    At edges z that rise from 0 to 1; binomial quantiles of one probability for all z, such that
    a share `confidence` of simulated curves stays inside everywhere [1]_.
    """
    random, z = np.random.RandomState(0), np.array(edges[1:-1])
    counts = random.multinomial(n, np.diff(edges), size=N_SIMULATIONS).cumsum(axis=1)[:, :-1]
    tail = np.minimum(stats.binom.cdf(counts, n, z), stats.binom.sf(counts - 1, n, z)).min(axis=1)
    level = float(np.quantile(tail, 1.0 - confidence))
    band = np.stack([stats.binom.ppf(p, n, z) for p in (level, 1.0 - level)]) / n - z
    band = np.pad(band, [(0, 0), (1, 1)])
    band.setflags(write=False)
    return band
