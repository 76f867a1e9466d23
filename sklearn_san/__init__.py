"""Exact, fast conditional densities p(y | x) with several outputs, as scikit-learn estimators.

What is public is imported when it is asked for, since torch and scikit-learn take seconds.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "CalibratedDensity", "OwnBatches", "SANConditionalDensityEstimator", "__version__", "merge",
]  # fmt: skip

_MODULES = (
    "adapters", "calibration", "chains", "datasets", "density", "encoders", "exceptions",
    "likelihoods", "metrics", "photoz", "plotting", "recalibration", "simulation",
)  # fmt: skip
#: Modules in which other public names are found.
_HOMES = {
    "CalibratedDensity": "recalibration",
    "OwnBatches": "_rows",
    "SANConditionalDensityEstimator": "_estimator",
    "merge": "_merging",
}

if TYPE_CHECKING:
    from . import (  # noqa: F401
        adapters,
        calibration,
        chains,
        datasets,
        density,
        encoders,
        exceptions,
        likelihoods,
        metrics,
        photoz,
        plotting,
        recalibration,
        simulation,
    )
    from ._estimator import SANConditionalDensityEstimator
    from ._merging import merge
    from ._rows import OwnBatches
    from .recalibration import CalibratedDensity
else:  # not for type checkers, to which any name would be one of ours

    def __getattr__(name):
        """Import a module, or what is in it."""
        from importlib import import_module

        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if name in _HOMES:
            return getattr(import_module(f".{_HOMES[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
