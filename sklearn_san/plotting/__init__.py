"""Displays of fitted estimators and of draws, after scikit-learn's convention.

Each display is made by ``from_estimator(estimator, X, y)`` or, from arrays of any origin, by
``from_predictions(...)``; it keeps its axes, figure and artists, and ``plot()`` draws it again.

====================  =========================================================================
`CornerDisplay`       joint density of the outputs of one or a few rows, pair by pair
`MarginalDisplay`     density of each output of one or a few rows
`ChainDisplay`        how one draw comes about, conditional by conditional
`RecoveryDisplay`     posteriors of many rows against their true values
`PITDisplay`          probability integral transform of each output: uniform if calibrated
`RankDisplay`         rank of the truth among draws: uniform if calibrated
`CoverageDisplay`     nominal against empirical coverage of intervals and densest regions
`CalibrationDisplay`  all of a calibration report
`PredictiveDisplay`   statistics of an observation among those of simulations
`TrainingDisplay`     loss of the training and validation rows after each epoch
====================  =========================================================================

They need matplotlib, ``pip install "sklearn-san[plot]"``, once something is drawn. Settings of
matplotlib are not changed; colours can be told apart by colour-blind readers [1]_.

References
----------
.. [1] Okabe and Ito (2008), Color universal design.
"""

from __future__ import annotations

from .calibration import CalibrationDisplay
from .chain import ChainDisplay
from .corner import CornerDisplay
from .coverage import CoverageDisplay
from .marginal import MarginalDisplay
from .predictive import PredictiveDisplay
from .recovery import RecoveryDisplay
from .training import TrainingDisplay
from .uniformity import PITDisplay, RankDisplay

__all__ = [
    "CalibrationDisplay",
    "ChainDisplay",
    "CornerDisplay",
    "CoverageDisplay",
    "MarginalDisplay",
    "PITDisplay",
    "PredictiveDisplay",
    "RankDisplay",
    "RecoveryDisplay",
    "TrainingDisplay",
]
