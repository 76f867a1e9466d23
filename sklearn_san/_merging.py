"""Fitted ensembles that were trained apart, as one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ._estimator import SANConditionalDensityEstimator
from ._inputs import InputEncoder
from ._network import SAN
from ._part_encoders import PartEncoders, gather, spread

#: Relative differences up to this are due to rounding.
TOLERANCE = 1e-9
#: What the members of a merged ensemble share, by the words that messages use.
SHARED = {
    "the number of features": "n_features_in_",
    "the names of the features": "feature_names_in_",
    "the categories of the features": "feature_table_",
    "the parts of X": "layout_",
    "the scaling of X": "input_encoder_",
    "the names of the outputs": "output_names_",
    "the labels of the outputs": "codec_",
    "the order": "order_",
    "the limits": "limits_",
    "the likelihoods": "families_",
    "the scaling of y": "y_scaler_",
    "the number of dimensions of y": "_one_dimensional",
}


#: Attributes of an `InputEncoder` that depend on the number of members.
OF_MEMBERS = {"n_inputs", "n_encoded"}


def merge(estimators: Sequence[SANConditionalDensityEstimator]) -> SANConditionalDensityEstimator:
    """One ensemble of the members of several, such as were trained on different machines.

    Its density is the mean of the densities of all members. They must see X and y alike: fits to
    the same rows with at least two members each do, whatever their seeds, and so do fits of the
    same parameters with ``x_scaler=None``, ``y_scaler=None`` and ``linear_base=False``.

    Parameters
    ----------
    estimators : sequence of SANConditionalDensityEstimator
        Fitted; they are not changed.

    Returns
    -------
    SANConditionalDensityEstimator
        With the parameters of the first, but as many members as all have together. Training curves
        are not merged: it has none.

    Raises
    ------
    ValueError
        If the estimators differ in scalers, order, limits, likelihoods or the shape of their
        networks; says in what. If they have encoders that all members share, of which the others
        would have to be trained again.

    Examples
    --------
    >>> from sklearn_san import SANConditionalDensityEstimator, merge
    >>> from sklearn_san.datasets import make_bimodal
    >>> X, y, _ = make_bimodal(300, random_state=0)
    >>> apart = [
    ...     SANConditionalDensityEstimator(K=3, epochs=3, n_members=2, random_state=seed).fit(X, y)
    ...     for seed in (0, 1)
    ... ]
    >>> merge(apart).n_members_
    4
    """
    members = list(estimators)
    if not members:
        raise ValueError("estimators is empty; give at least one fitted estimator.")
    for i, estimator in enumerate(members):
        if not isinstance(estimator, SANConditionalDensityEstimator):
            raise TypeError(
                f"estimators[{i}] must be a SANConditionalDensityEstimator, got "
                f"{type(estimator).__name__}."
            )
        check_is_fitted(estimator, "network_")
    if any(encoders is not None and encoders.shared for encoders in map(_encoders, members)):
        raise ValueError(
            "estimators with share_encoder=True cannot be merged: the members of one have been "
            "trained for its encoder alone; fit them with share_encoder=False."
        )
    for i, estimator in enumerate(members[1:], 1):
        for what in _differences(members[0], estimator):
            raise ValueError(
                f"estimators[{i}] differs from the first in {what}, so that their members cannot "
                "share one network; fit them to the same rows with the same parameters and at "
                "least two members each."
            )
    merged = copy.copy(members[0])
    if hasattr(merged, "_increment_state"):  # of the optimiser, which is that of fewer members
        del merged._increment_state
    merged.network_ = _joined([_own_network(estimator) for estimator in members])
    encoders = _encoders(merged)
    if encoders is not None:
        merged.encoders_ = _joined_encoders([estimator.encoders_ for estimator in members])
        merged.network_ = spread(merged.network_, encoders.width)
        inputs = merged.input_encoder_ = copy.copy(merged.input_encoder_)
        inputs.extend(
            inputs.encoding, inputs.trees, inputs.forest, inputs.neighbours,
            merged.encoders_.n_features,
        )  # fmt: skip
        merged.novelty_ = None  # it compares features of other members
    merged.n_members = merged.n_members_ = merged.network_.n_members
    merged.n_iter_ = max(estimator.n_iter_ for estimator in members)
    merged.best_epoch_ = max(estimator.best_epoch_ for estimator in members)
    merged.loss_curve_, merged.validation_curve_ = [], []
    return merged


def _differences(first: Any, other: Any) -> Iterator[str]:
    """In what two fitted estimators differ that the members of one ensemble share."""
    for what, name in SHARED.items():
        ours, theirs = (_shared(estimator, name) for estimator in (first, other))
        if not _same(ours, theirs):
            yield what
    if not _same(_encoder_shapes(first), _encoder_shapes(other)):
        yield "the encoders"
    ours, theirs = _own_network(first), _own_network(other)
    for what, part in (
        (
            "the linear base",
            lambda network: (network.base.used, dict(network.base.named_buffers())),
        ),
        ("the likelihoods", lambda network: (network.families, network.limits)),
        ("the activation", lambda network: type(network.activation).__name__),
        ("the shape of the network", _shapes),
    ):
        if not _same(part(ours), part(theirs)):
            yield what


def _encoders(estimator: Any) -> PartEncoders | None:
    return getattr(estimator, "encoders_", None)


def _shared(estimator: Any, name: str) -> Any:
    """An attribute of a fitted estimator, without what goes with the number of members."""
    value = getattr(estimator, name, None)
    if isinstance(value, InputEncoder):
        return {k: v for k, v in vars(value).items() if k not in OF_MEMBERS}
    return value


def _own_network(estimator: Any) -> SAN:
    """Network whose members see the features of their own encoders."""
    encoders = _encoders(estimator)
    return estimator.network_ if encoders is None else gather(estimator.network_, encoders.width)


def _encoder_shapes(estimator: Any) -> Any:
    """Names, shapes and dtypes of what the encoders of one member have."""
    encoders = _encoders(estimator)
    if encoders is None:
        return None
    tensors = (*encoders.weights, *encoders.stacked.values())
    keys = (*encoders.weight_keys, *encoders.buffer_keys)
    return [
        list(encoders.widths),
        *((*key, str(t.dtype), *t.shape[1:]) for key, t in zip(keys, tensors, strict=True)),
    ]


def _joined_encoders(several: list[PartEncoders]) -> PartEncoders:
    """Encoders of the members of all."""
    joined = copy.deepcopy(several[0])
    joined.n_members = sum(one.n_members for one in several)
    targets = (*joined.weights, *joined.stacked.values())
    sources = zip(*((*one.weights, *one.stacked.values()) for one in several), strict=True)
    for target, own in zip(targets, sources, strict=True):
        target.data = torch.cat([tensor.detach() for tensor in own])
    return joined


def _shapes(network: SAN) -> list[Any]:
    """Names, shapes and dtype of the parameters of one member."""
    return [(name, str(p.dtype), *p.shape[1:]) for name, p in network.named_parameters()]


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal up to rounding errors, by what they hold."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return _same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        if a.shape != b.shape:
            return False
        if a.dtype.kind == "f" and b.dtype.kind == "f":
            return np.allclose(a, b, rtol=TOLERANCE, atol=1e-12, equal_nan=True)
        return bool((a == b).all())
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float):
        return bool(np.isclose(a, b, rtol=TOLERANCE, atol=1e-12, equal_nan=True))
    return _same(vars(a), vars(b)) if hasattr(a, "__dict__") else a == b


def _joined(networks: list[SAN]) -> SAN:
    """Network with the members of all."""
    parameters = zip(*(network.parameters() for network in networks), strict=True)
    memo: dict[int, Any] = {
        id(own[0]): nn.Parameter(torch.cat([p.detach() for p in own]), own[0].requires_grad)
        for own in parameters
    }
    joined = copy.deepcopy(networks[0], memo)
    joined.n_members = sum(network.n_members for network in networks)
    return joined
