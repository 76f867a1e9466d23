"""What pictures of calibration are made of: ranks and levels.

Of a calibrated model, PIT values are uniform, ranks of the truth among draws are uniform, and
the densest region of mass a holds the truth in a share a of all rows.

=====================  ==================================================================
`ranks_of`             ranks of the truth among draws, ties in random order
`hpd_levels`           mass of the densest region with the truth on its edge
=====================  ==================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calibration.diagnostic import random_stream
from ..calibration.uniformity import randomised_pit
from .arrays import as_numbers

#: Points at which curves and their bands are evaluated.
N_POINTS = 100


def ranks_of(draws: np.ndarray, y: np.ndarray, random_state: Any) -> np.ndarray:
    """Number of draws (n_rows, n_draws, ...) below y (n_rows, ...); ties in random order."""
    pit = randomised_pit(draws, y, random_stream(random_state))
    return np.floor(pit * (draws.shape[1] + 1)).astype(int)


def hpd_levels(density: Any, y: Any, n_draws: int, random_state: Any) -> np.ndarray:
    """Mass of the densest region with y on its edge, (n_rows,), uniform if calibrated.

    The rank among all ``n_draws + 1`` is spread evenly over its step, so that levels are
    continuous.
    """
    random = random_stream(random_state)
    at_truth = np.asarray(density.log_prob(y)).reshape(-1)
    draws = density.sample(n_draws, random_state=random)
    at_draws = np.asarray(density.log_prob(draws)).reshape(len(at_truth), n_draws)
    return randomised_pit(-at_draws, -at_truth, random)


def check_probabilities(values: Any, name: str, n_dimensions: int) -> np.ndarray:
    """Values in [0, 1] as float64 with `n_dimensions`."""
    array = as_numbers(values, name, n_dimensions)
    if array.min() < 0.0 or array.max() > 1.0:
        worst = array.min() if array.min() < 0.0 else array.max()
        raise ValueError(f"{name} must lie between 0 and 1, got {worst:g}.")
    return array
