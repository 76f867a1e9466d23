"""Recalibrated estimators in one file, of the format of the estimators inside."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._caller_state import own_state
from .._container import dump_tree, read_checked, rebuilding
from .._estimator import SANConditionalDensityEstimator
from .._files import write_atomically
from .._kinds import FINITES, FLAG, POSITIVES, Kind, Rule, UnfitState, Values, array, listed
from .._saving import estimator_from, tree_of
from ..chains import inner_estimator
from .recalibrated import BASE_LEVELS
from .score_maps import ScoreMap

#: What such a file says that it holds.
CONTENT = "CalibratedDensity"
_SCORES = Values("numbers in rising order", (np.float64,), lambda v: ~np.isnan(v))
_MAP = {
    "weight": array(POSITIVES, "weight"),
    "loc": array(FINITES, "weight"),
    "scale": array(POSITIVES, "weight"),
}


def _is_map(v: Any, _: Any) -> bool:
    return type(v) is dict and all(kind.holds(v[name], v) for name, kind in _MAP.items())


def _is_rising(scores: Any) -> bool:
    return bool((scores[1:] >= scores[:-1]).all())


_FILE = Rule(
    {
        "maps": listed(Kind("the weights, locations and scales of a map", _is_map)),
        "interval_scores": Kind(
            "scores of intervals, rising",
            lambda v, s: (
                array(_SCORES, len(v), len(BASE_LEVELS), len(s["maps"])).holds(v, s)
                and _is_rising(v)
            ),
        ),
        "region_scores": Kind(
            "scores of regions, rising",
            lambda v, s: array(_SCORES, len(s["interval_scores"])).holds(v, s) and _is_rising(v),
        ),
        "one_dimensional": FLAG,
        "frozen": FLAG,
    }
)


def save_calibrated(calibrated: Any, path: Any) -> None:
    """Write a fitted `CalibratedDensity`; see its `save`."""
    check_is_fitted(calibrated, "maps_")
    fitted, prefix, _ = inner_estimator(calibrated.estimator_)
    if prefix or not isinstance(fitted, SANConditionalDensityEstimator):
        raise TypeError(
            "only a CalibratedDensity of a SANConditionalDensityEstimator can be saved, got "
            f"{calibrated.estimator_!r}; joblib.dump can save others."
        )
    tree = {
        "estimator": tree_of(fitted),
        "frozen": fitted is not calibrated.estimator_,
        "cv": calibrated.cv,
        "random_state": calibrated.random_state,
        "maps": [{name: getattr(m, name) for name in _MAP} for m in calibrated.maps_],
        "interval_scores": calibrated.interval_scores_,
        "region_scores": calibrated.region_scores_,
        "one_dimensional": calibrated._one_dimensional,
    }
    write_atomically(path, dump_tree(tree, content=CONTENT))


def load_calibrated(path: Any) -> dict[str, Any]:
    """What such a file holds: parameters, the fitted estimator, maps and scores, checked."""
    with own_state():
        tree = read_checked(path, content=CONTENT)
        with rebuilding(repr(os.fspath(path))):
            if type(tree) is not dict:
                raise UnfitState(f"it holds no model but a value of type {type(tree).__name__}")
            _FILE.check(tree, "")
            tree["maps"] = [ScoreMap(**{n: one[n] for n in _MAP}) for one in tree["maps"]]
            state = tree["estimator"]
        fitted = estimator_from(SANConditionalDensityEstimator, state, path)
        with rebuilding(repr(os.fspath(path))):
            if fitted.n_outputs_ != len(tree["maps"]):
                raise UnfitState(f"maps must be those of {fitted.n_outputs_} outputs")
            if fitted._one_dimensional != tree["one_dimensional"]:
                raise UnfitState("one_dimensional must be that of the estimator")
        return tree | {"estimator": fitted}
