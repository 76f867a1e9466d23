"""Exact, fast conditional densities p(y | x) with several outputs, as scikit-learn estimators."""

from ._estimator import SANConditionalDensityEstimator

__version__ = "0.1.0.dev0"
__all__ = ["SANConditionalDensityEstimator", "__version__"]
