"""Fitted models in one file: what `SANConditionalDensityEstimator.save` writes and `load` reads.

The tree in the file is the attributes of the estimator. `_MODEL` declares what they must be, as
`_saved_states` does for the instances among them, and what these must be to each other: the network
to the scalers, the scalers to the columns, the labels to their probabilities.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from . import _validation as validation
from ._caller_state import own_state
from ._columns import FeatureTable
from ._container import MODEL, REQUESTS, dump_tree, read_checked, rebuilding
from ._engines import load_kernels
from ._files import write_atomically
from ._inputs import InputEncoder
from ._kinds import (
    EACH_ONCE,
    FLAG,
    LEFT_OUT,
    LIMITS,
    NAMES,
    NONE,
    NUMBER,
    TEXT,
    TEXTS,
    Kind,
    Relation,
    Rule,
    UnfitState,
    array,
    instance,
    listed,
    whole,
)
from ._network import SAN
from ._novelty import Novelty
from ._parts import Layout
from ._saved_encoders import (
    check_encoders,
    missing_source,
    own_encoder,
    rebuild_encoders,
    tree_of_encoders,
)
from ._saved_states import check_no_member
from ._scaling import OutputScaler
from ._targets import TargetCodec
from .exceptions import CorruptModelError
from .likelihoods import Likelihood

#: Attributes that begin so are no part of a fitted model: callbacks, or are saved in another way.
_LEFT_OUT = ("_callback", "_parent_callback", "_skl_callback", "_metadata_request")
#: Methods that meta-estimators may be told to pass metadata to, and how they are told.
_REQUESTING = {name: f"set_{name}_request" for name in ("fit", "partial_fit", "predict", "score")}

Estimator = TypeVar("Estimator", bound=BaseEstimator)


def save_estimator(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to `path`; see `SANConditionalDensityEstimator.save`."""
    write_atomically(path, dump_tree(tree_of(estimator), content=MODEL))


def tree_of(estimator: Any) -> dict[str, Any]:
    """All of a fitted estimator as a tree of data."""
    check_is_fitted(estimator, "network_")
    state = {k: v for k, v in vars(estimator).items() if not k.startswith(_LEFT_OUT)}
    if (encoders := state.get("encoders_")) is not None:
        encoder = state.pop("encoder")
        state["encoders_"] = tree_of_encoders(encoders, encoder, estimator.layout_)
    return state | {REQUESTS: _metadata_requests(estimator)}


def load_estimator(
    cls: type[Estimator], path: str | os.PathLike[str], encoder: Any = None
) -> Estimator:
    """Estimator of class `cls` from `path`; see `SANConditionalDensityEstimator.load`."""
    validation.check_encoder("encoder", encoder)
    with own_state():
        return estimator_from(cls, read_checked(path, content=MODEL), path, encoder)


def estimator_from(
    cls: type[Estimator], state: Any, path: str | os.PathLike[str], encoder: Any = None
) -> Estimator:
    """Estimator from the tree of `tree_of`, checked; `path` is where it was read.

    `encoder` is the parameter of that name, where the file does not tell it.
    """
    with rebuilding(repr(os.fspath(path))):
        if type(state) is not dict:
            raise UnfitState(f"it holds no model but a value of type {type(state).__name__}")
        requests, encoded = state.pop(REQUESTS, {}), state.get("encoders_")
        if encoded is not None:
            state["encoders_"] = None  # until they are rebuilt
        # Parameters that an older file does not know keep their defaults.
        estimator: Any = cls()
        _MODEL.check(state, "")
        added = {k: v for k, v in state.items() if k not in _MODEL.kinds.keys() | vars(estimator)}
        check_no_member(cls, added, "")
        vars(estimator).update((k, v) for k, v in state.items() if not k.startswith(_LEFT_OUT))
        if not hasattr(estimator, "layout_"):
            estimator.layout_ = None  # of models of old
        _MODEL.check_relations(estimator, "")
        _check_parameters(estimator)
        if encoded is not None:
            check_encoders(encoded, estimator)
        elif estimator.layout_ is not None:
            raise UnfitState("layout_ must be None without encoders_")
    _add_encoders(estimator, encoded, encoder, os.fspath(path))
    _set_requests(estimator, requests, os.fspath(path))
    load_kernels(estimator.network_)
    return estimator


def _add_encoders(estimator: Any, encoded: Any, encoder: Any, path: str) -> None:
    """Rebuild the encoders of a model from their checked tree, if it has any."""
    if encoded is None:
        if encoder is not None:
            raise ValueError(f"{path!r} holds a model without encoder; load it without encoder=.")
        estimator.encoders_ = None
        return
    if encoder is None:
        if (source := missing_source(encoded)) is not None:
            raise ValueError(
                f"{path!r} holds a model whose encoder, {source}, is not of this package; give "
                "encoder= to `load`, the module or function with which it was fitted."
            )
        with rebuilding(repr(path)):
            estimator.encoder = own_encoder(encoded, estimator.layout_)
            estimator.encoders_ = rebuild_encoders(encoded, estimator.encoder, estimator)
        return
    estimator.encoders_ = rebuild_encoders(encoded, encoder, estimator)
    estimator.encoder = encoder


def _check_parameters(estimator: Any) -> None:
    """Raise for parameters with which nothing could have been fitted, apart from their data."""
    parameters = estimator.get_params(deep=False)
    if isinstance(parameters["checkpoint_dir"], str):
        parameters["checkpoint_dir"] = None  # a folder of the machine on which it was fitted
    try:
        validation.check_parameters(parameters)
    except (TypeError, ValueError) as error:
        raise UnfitState(f"its parameters are not those of a fitted model: {error}") from error


def _metadata_requests(estimator: Any) -> dict[str, dict[str, Any]]:
    """What was set by `set_fit_request` and its like."""
    if not hasattr(estimator, "_metadata_request"):
        return {}
    routing = estimator.get_metadata_routing()
    requests = {method: dict(getattr(routing, method).requests) for method in _REQUESTING}
    return {method: request for method, request in requests.items() if request}


def _set_requests(estimator: Any, requests: Any, path: str) -> None:
    try:
        with sklearn.config_context(enable_metadata_routing=True):
            for method in requests:
                getattr(estimator, _REQUESTING[method])(**requests[method])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(
            f"{path!r} has metadata requests {requests!r}, which this estimator does not take; "
            "save the model again without them."
        ) from error


def _has_sizes_of_table(estimator: Any) -> bool:
    """Whether the encoder takes as many features as there are, with as many categories."""
    table, sizes = estimator.feature_table_, estimator.input_encoder_.n_categories
    layout, n_features = estimator.layout_, estimator.n_features_in_
    n_parts = 0 if layout is None else len(layout.shapes)
    if sizes[n_features:] != [0] * n_parts or 0 in sizes[:n_features]:
        return False
    sizes = sizes[:n_features]
    if len(sizes) != n_features:
        return False
    if table is None:
        return all(size is None for size in sizes)
    return [None if one is None else len(one) for one in table.categories] == sizes


def _keeps_labels(estimator: Any) -> bool:
    """Whether codes of labels go to the network as they are."""
    codes = np.array([[1.0], [2.0]])
    scaled = estimator.y_scaler_.transform(np.tile(codes, estimator.n_outputs_))
    labels = [family.scaling == "none" for family in estimator.families_]
    return bool((scaled[:, labels] == codes).all())


def _has_codes_of_labels(estimator: Any) -> bool:
    """Whether columns of labels, and no others, have probabilities for all their labels."""
    classes = [estimator.codec_.classes[j] for j in estimator.order_]
    return all(
        (family.scaling == "none") == (labels is not None)
        and (labels is None or len(labels) <= family.n_params)
        for family, labels in zip(estimator.network_.families, classes, strict=True)
    )


def _has_scaled_limits(estimator: Any) -> bool:
    limits = estimator.network_.limits.numpy()
    scaled = estimator.y_scaler_.transform_limits(estimator.limits_[estimator.order_])
    return np.allclose(limits, scaled.astype(limits.dtype), rtol=1e-5, atol=1e-6) and all(
        np.isfinite(ends).all() or not family.needs_both_limits
        for ends, family in zip(limits, estimator.network_.families, strict=True)
    )


_MODEL = Rule(
    {
        "network_": instance(SAN),
        "input_encoder_": instance(InputEncoder),
        "y_scaler_": instance(OutputScaler),
        "feature_table_": NONE | instance(FeatureTable),
        "codec_": instance(TargetCodec),
        "n_features_in_": whole(0),
        "layout_": LEFT_OUT | NONE | instance(Layout),
        "feature_units_": LEFT_OUT | TEXTS,
        "feature_labels_": LEFT_OUT | listed(TEXT),
        "feature_names_in_": LEFT_OUT | array(NAMES, "n_features_in_"),
        "n_outputs_": whole(1),
        "output_names_": listed(TEXT, "n_outputs_"),
        "order_": array(EACH_ONCE, "n_outputs_"),
        "limits_": array(LIMITS, "n_outputs_", 2),
        "families_": listed(instance(Likelihood), "n_outputs_"),
        "_one_dimensional": FLAG,
        "novelty_": LEFT_OUT | NONE | instance(Novelty),
        "device": LEFT_OUT | TEXT | instance(torch.device) | whole(0),
        **dict.fromkeys(("n_members_", "epochs_", "batch_size_"), LEFT_OUT | whole(1)),
        **dict.fromkeys(("n_iter_", "best_epoch_", "n_synthetic_rows_"), LEFT_OUT | whole(0)),
        **dict.fromkeys(("loss_curve_", "validation_curve_"), LEFT_OUT | listed(NUMBER)),
        "_increment_state": LEFT_OUT | NONE | Kind("a dict", lambda v, _: type(v) is dict),
    },
    [
        Relation(
            "_one_dimensional",
            "False for several outputs",
            lambda e: e.n_outputs_ == 1 or not e._one_dimensional,
        ),
        Relation("codec_", "of the output_names_", lambda e: e.codec_.names == e.output_names_),
        Relation("feature_table_", "that of the input_encoder_", _has_sizes_of_table),
        Relation(
            "network_",
            "of the width of the input_encoder_",
            lambda e: e.network_.n_features == e.input_encoder_.n_inputs,
        ),
        Relation(
            "novelty_",
            "of the width of the input_encoder_",
            lambda e: (
                getattr(e, "novelty_", None) is None
                or e.novelty_.neighbours.shape[1]
                == e.input_encoder_.n_plain + e.input_encoder_.n_encoded
            ),
        ),
        Relation("network_", "of n_outputs_", lambda e: e.network_.n_outputs == e.n_outputs_),
        Relation(
            "n_members_",
            "that of the network_",
            lambda e: getattr(e, "n_members_", e.network_.n_members) == e.network_.n_members,
        ),
        Relation("y_scaler_", "of n_outputs_", lambda e: len(e.y_scaler_.slope) == e.n_outputs_),
        Relation(
            "families_",
            "those of the network_ in the units of y",
            lambda e: [f.scaling for f in e.families_] == [f.scaling for f in e.network_.families],
        ),
        Relation("codec_", "of the labels of the network_", _has_codes_of_labels),
        Relation("y_scaler_", "without effect on labels", _keeps_labels),
        Relation("limits_", "those of the network_ in the units of y", _has_scaled_limits),
    ],
)
