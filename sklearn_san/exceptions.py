"""Warnings of the package, and errors that are more than a plain `ValueError` or `TypeError`."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

from ._kinds import CorruptModelError

__all__ = [
    "ConvergenceWarning",
    "CorruptModelError",
    "DependentOutputsWarning",
    "EffectiveSampleSizeWarning",
    "ExtremeValuesWarning",
    "KernelCacheWarning",
    "OutOfRangeWarning",
    "TiesWarning",
    "TrainingInterruptedWarning",
]


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was stopped by hand; the best weights so far were kept."""


class TiesWarning(UserWarning):
    """A continuous density is fitted to values that repeat a lot."""


class DependentOutputsWarning(UserWarning):
    """An output is a function of others or of the features, so that it has no density."""


class ExtremeValuesWarning(UserWarning):
    """Some values are so extreme that they look like marks of missing ones, or like mistakes."""


class OutOfRangeWarning(UserWarning):
    """Rows are far outside of what was trained on, where the density means little."""


class EffectiveSampleSizeWarning(UserWarning):
    """Weighted draws are worth so few independent ones that results from them are rough."""


class KernelCacheWarning(UserWarning):
    """Compiled code cannot be kept on disk, so that every process has to compile its own."""
