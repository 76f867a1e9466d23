"""Warnings of the package, and errors that are more than a plain `ValueError` or `TypeError`."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

from ._kinds import CorruptModelError

__all__ = [
    "AlignmentWarning",
    "ConvergenceWarning",
    "CorruptModelError",
    "EffectiveSampleSizeWarning",
    "KernelCacheWarning",
    "ScaleWarning",
    "TiesWarning",
    "TrainingInterruptedWarning",
    "UnknownCategoryWarning",
]


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was stopped by hand; the best weights so far were kept."""


class TiesWarning(UserWarning):
    """A continuous density is fitted to values that repeat a lot."""


class AlignmentWarning(UserWarning):
    """Rows of two tables have the same names in another order, but are taken as they come."""


class ScaleWarning(UserWarning):
    """Numbers seem to be in other units, or on another scale, than what they stand beside."""


class UnknownCategoryWarning(UserWarning):
    """Categories were not there in `fit` and so count as missing."""


class EffectiveSampleSizeWarning(UserWarning):
    """Weighted draws are worth so few independent ones that results from them are rough."""


class KernelCacheWarning(UserWarning):
    """Compiled code cannot be kept on disk, so that every process has to compile its own."""
