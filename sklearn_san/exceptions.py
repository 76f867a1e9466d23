"""Warnings of the package; errors are Python's own `ValueError` and `TypeError`."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning

__all__ = ["ConvergenceWarning", "TiesWarning", "TrainingInterruptedWarning"]


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was stopped by hand; the best weights so far were kept."""


class TiesWarning(UserWarning):
    """A continuous density is fitted to values that repeat a lot."""
