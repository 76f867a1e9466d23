"""Exact, fast conditional densities p(y | x) with several outputs, as scikit-learn estimators."""

from ._estimator import SANConditionalDensityEstimator

__version__ = "0.1.0.dev0"
__all__ = ["CalibratedDensity", "SANConditionalDensityEstimator", "__version__", "merge"]


def __getattr__(name: str) -> object:
    """Import what few need when it is asked for."""
    if name == "CalibratedDensity":
        from .recalibration import CalibratedDensity

        return CalibratedDensity
    if name == "merge":
        from ._merging import merge

        return merge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
