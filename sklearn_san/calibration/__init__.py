"""Diagnostics of calibration: is p(y | x) right, and if not, where and how is it wrong.

Each diagnostic turns held-out rows into values that are uniform and independent between rows if the
model is the truth, tests that, and returns a result with its p-value and what a plot needs.

==================================  =======================================================
`rosenblatt_test`                   ``u_j = P(Y_j <= y_j | x, outputs before j)``: each uniform,
                                    all independent; the only one that is complete but for x
`rank_test_from_draws`              rank of y_j among draws (simulation-based calibration)
`hpd_coverage_from_log_prob`        share of draws that are denser than the truth
`tarp_coverage_from_draws`          share of draws nearer to random points than the truth
`local_calibration`                 does u depend on x? In which regions is it off?
`calibration_report`                all of them for a fitted estimator
`Effect`                            how far intervals of one output are off, in words
`DIAGNOSTICS`                       what a report can run, by name; more can be added
==================================  =======================================================

The rows must not have been trained on and must be independent of each other. The estimator is used
through ``predict_density(X)`` alone, whose result must have `cdf`, `sample` and `log_prob`.
Recalibration, which is in this folder as well, has its public names in `sklearn_san.recalibration`.

Results are frozen dataclasses: `pvalue` is that of the whole diagnostic, `summary()` a table.
"""

from __future__ import annotations

from .coverage import CoverageTest
from .diagnostic import DrawsDiagnostic, HeldOut, SomeDraws
from .effects import Effect
from .hpd import hpd_coverage_from_log_prob
from .local import LocalCalibration, Region, local_calibration
from .ranks import RankTest, rank_test_from_draws
from .report import DIAGNOSTICS, CalibrationReport, calibration_report
from .rosenblatt import RosenblattTest, rosenblatt_test
from .tarp import tarp_coverage_from_draws

__all__ = [
    "DIAGNOSTICS",
    "CalibrationReport",
    "CoverageTest",
    "DrawsDiagnostic",
    "Effect",
    "HeldOut",
    "LocalCalibration",
    "RankTest",
    "Region",
    "RosenblattTest",
    "SomeDraws",
    "calibration_report",
    "hpd_coverage_from_log_prob",
    "local_calibration",
    "rank_test_from_draws",
    "rosenblatt_test",
    "tarp_coverage_from_draws",
]
