"""Warnings of the package, and errors that are more than a plain `ValueError` or `TypeError`."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

from ._kinds import CorruptModelError

__all__ = [
    "BadRowsWarning",
    "ConvergenceWarning",
    "CorruptModelError",
    "EffectiveSampleSizeWarning",
    "KernelCacheWarning",
    "TiesWarning",
    "TrainingInterruptedWarning",
]


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was stopped by hand; the best weights so far were kept."""


class TiesWarning(UserWarning):
    """A continuous density is fitted to values that repeat a lot."""


class BadRowsWarning(UserWarning):
    """Rows that cannot be used were answered with nan, as was asked for."""


class EffectiveSampleSizeWarning(UserWarning):
    """Weighted draws are worth so few independent ones that results from them are rough."""


class KernelCacheWarning(UserWarning):
    """Compiled code cannot be kept on disk, so that every process has to compile its own."""
