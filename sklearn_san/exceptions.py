"""Warnings of the package, and errors that are more than a plain `ValueError` or `TypeError`."""

from __future__ import annotations

import os
import sys
import warnings

import sklearn
from sklearn.exceptions import ConvergenceWarning

from ._kinds import CorruptModelError

__all__ = [
    "AlignmentWarning",
    "BadRowsWarning",
    "ConvergenceWarning",
    "CorruptModelError",
    "DependentOutputsWarning",
    "EffectiveSampleSizeWarning",
    "ExtremeValuesWarning",
    "FailedSimulationsWarning",
    "GridWarning",
    "KernelCacheWarning",
    "OutOfRangeWarning",
    "ScaleWarning",
    "TiesWarning",
    "TrainingInterruptedWarning",
    "UnknownCategoryWarning",
]


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was stopped by hand; the best weights so far were kept."""


class TiesWarning(UserWarning):
    """A continuous density is fitted to values that repeat a lot."""


class BadRowsWarning(UserWarning):
    """Rows that cannot be used were answered with nan, as was asked for."""


class AlignmentWarning(UserWarning):
    """Rows of two tables have the same names in another order, but are taken as they come."""


class ScaleWarning(UserWarning):
    """Numbers seem to be in other units, or on another scale, than what they stand beside."""


class UnknownCategoryWarning(UserWarning):
    """Categories were not there in `fit` and so count as missing."""


class DependentOutputsWarning(UserWarning):
    """An output is a function of others or of the features, so that it has no density."""


class ExtremeValuesWarning(UserWarning):
    """Some values are so extreme that they look like marks of missing ones, or like mistakes."""


class FailedSimulationsWarning(UserWarning):
    """Simulations failed and were left out, which changes the prior."""


class OutOfRangeWarning(UserWarning):
    """Rows are far outside of what was trained on, where the density means little."""


class EffectiveSampleSizeWarning(UserWarning):
    """Weighted draws are worth so few independent ones that results from them are rough."""


class GridWarning(UserWarning):
    """A grid is too short or too coarse for densities on it, which do not integrate to 1."""


class KernelCacheWarning(UserWarning):
    """Compiled code cannot be kept on disk, so that every process has to compile its own."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line, outside this package and scikit-learn, from which it was called."""
    packages = tuple(os.path.dirname(path) + os.sep for path in (__file__, str(sklearn.__file__)))
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(packages):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
