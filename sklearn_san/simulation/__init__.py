"""Inference with a prior and a simulator instead of a table.

In the words of simulation-based inference the parameters ``theta`` are y, the simulated data ``x``
are X, and the posterior of an observation ``x_o`` is p(y | x) at one row. All is on top of the
public estimator, its `fit`, `predict_density` and `novelty_score`.

=====================  =====================================================================
`fit_simulator`        prior and simulator to a fitted estimator (NPE), from fixed rows or
                       from rows that are fresh in every pass
`infer`                posterior of one observation, in rounds (TSNPE)
`Posterior`            draws and log density inside the prior
`check_observation`    is the observation like the simulations?
`draw_simulations`     the pairs on their own, kept on disk, as `Simulations`
`Prior`                prior from limits, distributions of scipy, or functions
=====================  =====================================================================
"""

from __future__ import annotations

from .fitting import fit_simulator
from .observations import ObservationCheck, check_observation
from .posterior import Posterior, Round, Rounds
from .priors import Prior
from .rounds import infer
from .simulations import Simulations, draw_simulations

__all__ = [
    "ObservationCheck",
    "Posterior",
    "Prior",
    "Round",
    "Rounds",
    "Simulations",
    "check_observation",
    "draw_simulations",
    "fit_simulator",
    "infer",
]
