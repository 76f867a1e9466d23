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

import numpy as np

from .densities import crps_gaussian, log_score
from .draws import crps, energy_score, pit_values
from .intervals import (
    coverage_error,
    interval_coverage,
    interval_score,
    interval_width,
    pinball_loss,
)
from .scorers import DrawsScorer, IntervalScorer, LogScorer, QuantileScorer

__all__ = [
    "SCORERS",
    "DrawsScorer",
    "IntervalScorer",
    "LogScorer",
    "QuantileScorer",
    "coverage_error",
    "crps",
    "crps_gaussian",
    "energy_score",
    "interval_coverage",
    "interval_score",
    "interval_width",
    "log_score",
    "pinball_loss",
    "pit_values",
]

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
