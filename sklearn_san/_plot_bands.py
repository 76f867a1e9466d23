"""What pictures of calibration are made of: bands, ranks and levels.

Of a calibrated model, PIT values are uniform, ranks of the truth among draws are uniform, and
the densest region of mass a holds the truth in a share a of all rows. With n rows,

    count in a bin of probability p  ~  Binomial(n, p).

Bands of bars hold each bar with the stated probability; bands of curves hold the whole curve,
with limits from simulated uniform values [1]_.

=====================  ==================================================================
`binomial_band`        of the bars of a histogram
`uniform_band`         of an empirical distribution function
`ranks_of`             ranks of the truth among draws, ties in random order
`hpd_levels`           mass of the densest region with the truth on its edge
=====================  ==================================================================

References
----------
.. [1] Säilynoja, Bürkner and Vehtari (2022), Graphical test for discrete uniformity and its
   applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
   Computing 32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.utils import check_random_state

from ._plot_arrays import as_numbers

#: Points at which curves and their bands are evaluated.
N_POINTS = 100
#: Data sets that are simulated for the band of a curve.
N_SIMULATIONS = 2000


def binomial_band(n: int, edges: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Range of the bars of a histogram of n uniform values, relative to their expectation.

    Parameters
    ----------
    n : int
    edges : ndarray of shape (n_bins + 1,)
        Rising from 0 to 1.
    level : float
        Smallest probability with which the range holds a bar.

    Returns
    -------
    low, high : ndarray of shape (n_bins,)
    """
    probability, tail = np.diff(edges), 0.5 * (1.0 - level)
    low, high = binom.ppf([[tail], [1.0 - tail]], n, probability) / (n * probability)
    return low, high


def uniform_band(n: int, edges: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Band around zero that holds ``ecdf(edges) - edges`` of n uniform values.

    The limits are binomial quantiles at each edge, of one probability for all edges, such
    that a share `level` of simulated curves stays inside everywhere.

    Parameters
    ----------
    n : int
    edges : ndarray of shape (n_edges,)
        Rising from 0 to 1.
    level : float

    Returns
    -------
    low, high : ndarray of shape (n_edges,)
    """
    inner = edges[1:-1]
    random = np.random.default_rng(0)
    counts = random.multinomial(n, np.diff(edges), size=N_SIMULATIONS).cumsum(axis=1)[:, :-1]
    below, above = binom.cdf(counts, n, inner), binom.sf(counts - 1, n, inner)
    rarest = 2.0 * np.minimum(below, above).min(axis=1)  # (N_SIMULATIONS,)
    tail = 0.5 * np.quantile(rarest, 1.0 - level)
    low, high = binom.ppf([[tail], [1.0 - tail]], n, inner) / n - inner
    return np.pad(low, 1), np.pad(high, 1)


def ranks_of(draws: np.ndarray, y: np.ndarray, random_state: Any) -> np.ndarray:
    """Number of draws (n_rows, n_draws, ...) below y (n_rows, 1, ...); ties in random order."""
    below, ties = (draws < y).sum(axis=1), (draws == y).sum(axis=1)
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return below + random.randint(0, ties + 1)


def hpd_levels(density: Any, y: Any, n_draws: int, random_state: Any) -> np.ndarray:
    """Mass of the densest region with y on its edge, (n_rows,), uniform if calibrated.

    The rank among all ``n_draws + 1`` is spread evenly over its step, so that levels are
    continuous.
    """
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)
    at_truth = np.asarray(density.log_prob(y)).reshape(-1, 1)
    draws = density.sample(n_draws, random_state=random)
    at_draws = np.asarray(density.log_prob(draws)).reshape(len(at_truth), n_draws)
    rank = ranks_of(-at_draws, -at_truth, random)
    return (rank + random.uniform(size=len(rank))) / (n_draws + 1)


def check_probabilities(values: Any, name: str, n_dimensions: int) -> np.ndarray:
    """Values in [0, 1] as float64 with `n_dimensions`."""
    array = as_numbers(values, name, n_dimensions)
    if array.min() < 0.0 or array.max() > 1.0:
        worst = array.min() if array.min() < 0.0 else array.max()
        raise ValueError(f"{name} must lie between 0 and 1, got {worst:g}.")
    return array
