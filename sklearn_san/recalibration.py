"""Recalibration of a fitted density on rows that it was not trained on.

The Rosenblatt coordinates u of a calibrated density are uniform. `CalibratedDensity` learns how
they really are distributed, output by output, and maps them (`ScoreMap`); the density changes with
them (`RecalibratedDensity`). What depends on x, or between the outputs, stays as it was.

Conformal sets need no such model: they are widened until they hold the wanted share of the held-out
rows, which then holds for new rows as well [1]_, [2]_.

==========================  ================================================================
`CalibratedDensity`         meta-estimator: holds rows out, fits the maps and the sets
`RecalibratedDensity`       what its `predict_density` returns
==========================  ================================================================

References
----------
.. [1] Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world.
.. [2] Romano, Patterson and Candes (2019), Conformalized quantile regression.
"""

from __future__ import annotations

from .calibration.recalibrated import RecalibratedDensity
from .calibration.recalibrator import CalibratedDensity
from .calibration.score_maps import ScoreMap, fit_score_map

__all__ = ["CalibratedDensity", "RecalibratedDensity", "ScoreMap", "fit_score_map"]
