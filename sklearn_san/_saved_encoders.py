"""Encoders of parts of X in files: their weights, and the names of what they are made of.

A file holds no code, so that a module of the user's own is built only if `load` is told how: its
import path in the file is for people. Encoders of this package, which plain parameters tell in
full, are built without help. Whatever is built must have the weights that the file has.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.parameter import is_lazy

from ._caller_state import own_random
from ._constants import NUMBERS
from ._kinds import FLAG, TEXT, Kind, Rule, listed, unfit, whole
from ._part_encoders import PartEncoders, build
from ._parts import WHOLE, Layout, encoders_by_part

#: Where the encoders are that can be built without help.
OWN = f"{__name__.partition('.')[0]}.encoders"

_TENSORS = Kind(
    "tensors of finite numbers",
    lambda v, _: (
        type(v) is list and all(isinstance(t, Tensor) and bool(t.isfinite().all()) for t in v)
    ),
)
_SOURCE = Rule({"path": TEXT, "parameters": Kind("None or a dict", lambda v, _: _is_plain_dict(v))})
_ENCODERS = Rule(
    {
        "widths": listed(whole(1)),
        "shared": FLAG,
        "sources": listed(Kind("a dict", lambda v, _: type(v) is dict), "widths"),
        "weight_names": listed(TEXT),
        "weights": _TENSORS,
        "buffer_names": listed(TEXT),
        "buffers": Kind(
            "tensors", lambda v, _: type(v) is list and all(isinstance(t, Tensor) for t in v)
        ),
    }
)


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, str, *NUMBERS))


def _is_plain_dict(value: Any) -> bool:
    return value is None or (
        type(value) is dict and all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    )


def tree_of_encoders(encoders: PartEncoders, encoder: Any, layout: Layout) -> dict[str, Any]:
    """Trained encoders, and what they were made of, as a tree of data."""
    specs = encoders_by_part(encoder, layout)
    return {
        "widths": list(encoders.widths),
        "shared": encoders.shared,
        "sources": [_source_of(specs[name]) for name in encoders.names],
        "weight_names": _joined_names(encoders.weight_keys),
        "weights": [weight.detach() for weight in encoders.weights],
        "buffer_names": _joined_names(encoders.buffer_keys),
        "buffers": list(encoders.stacked.values()),
    }


def _joined_names(keys: list[tuple[int, str]]) -> list[str]:
    return [f"{part}.{name}" for part, name in keys]


def _source_of(spec: Any) -> dict[str, Any]:
    """Import path of what makes an encoder, and its parameters if it is of this package."""
    named = spec if hasattr(spec, "__qualname__") else type(spec)
    path = f"{named.__module__}.{named.__qualname__}"
    parameters = None
    if _is_own(type(spec)):
        parameters = spec.get_params(deep=False)
        if not _is_plain_dict(parameters):
            raise TypeError(
                f"encoder {spec!r} has parameters that are no plain values, which cannot be saved; "
                "use `joblib.dump` instead."
            )
    return {"path": path, "parameters": parameters}


def _is_own(cls: type) -> bool:
    in_package = cls.__module__ == OWN or cls.__module__.startswith(f"{OWN}.")
    return in_package and issubclass(cls, BaseEstimator)


def check_encoders(state: Any, estimator: Any) -> None:
    """Raise `UnfitState` unless the tree can be that of the encoders of a fitted estimator."""
    if type(state) is not dict:
        raise unfit("encoders_", "a dict", state)
    _ENCODERS.check(state, "encoders_")
    for source in state["sources"]:
        _SOURCE.check(source, "encoders_.sources")
    layout = estimator.layout_
    if layout is None or len(layout.shapes) != len(state["widths"]):
        raise unfit("layout_", f"of {len(state['widths'])} parts as encoders_", layout)
    n_sets = 1 if state["shared"] else estimator.network_.n_members
    if estimator.input_encoder_.n_encoded != n_sets * sum(state["widths"]):
        raise unfit("encoders_.widths", "those of the features of parts", state["widths"])
    for kind in ("weight", "buffer"):
        tensors = state[f"{kind}s"]
        if len(state[f"{kind}_names"]) != len(tensors):
            raise unfit(f"encoders_.{kind}s", "as many as there are names", len(tensors))
        for tensor in tensors:
            if not tensor.ndim or len(tensor) != estimator.network_.n_members:
                raise unfit(f"encoders_.{kind}s", "one for each member", tensor)


def missing_source(state: Any) -> str | None:
    """Import path of an encoder that is not of this package, so that `load` must be given it."""
    paths = (one["path"] for one in state["sources"] if one["parameters"] is None)
    return next(paths, None)


def own_encoder(state: Any, layout: Layout) -> Any:
    """Parameter of the estimator from encoders of this package."""
    specs = {
        name: _own_factory(source["path"], source["parameters"])
        for name, source in zip(layout.shapes, state["sources"], strict=True)
    }
    _check_sizes(specs, layout, state)
    if layout.kind == "array":
        return specs[WHOLE]
    if layout.kind == "dict":
        return specs
    return [specs.get(name) for name in sorted(layout.names, key=int)]


def _check_sizes(specs: Mapping[str, Any], layout: Layout, state: Any) -> None:
    """Raise unless encoders have weights of the sizes in the file, before any memory is taken."""
    expected = {
        name: tuple(tensor.shape[1:])
        for name, tensor in zip(state["weight_names"], state["weights"], strict=True)
    }
    for p, (name, shape) in enumerate(layout.shapes.items()):
        with torch.device("meta"), own_random(0, torch.device("cpu")):
            module = build(specs[name], name, shape)
        for key, weight in module.named_parameters():
            found = expected.get(f"{p}.{key}")
            if found != tuple(weight.shape):
                words = f"of shape {tuple(weight.shape)}, as its encoder has it"
                raise unfit(f"encoders_.weights.{p}.{key}", words, found)


def _own_factory(path: str, parameters: Mapping[str, Any]) -> Any:
    name = path.rpartition(".")[2]
    cls = getattr(importlib.import_module(OWN), name, None) if path.startswith(OWN) else None
    if not (isinstance(cls, type) and _is_own(cls)):
        raise unfit("encoders_.sources", "the names of encoders of this package", path)
    return cls(**parameters)


def rebuild_encoders(state: Any, encoder: Any, estimator: Any) -> PartEncoders:
    """Encoders from a checked tree, built as `encoder` says.

    Parameters
    ----------
    state : dict
        Of `tree_of_encoders`, checked.
    encoder : object
        As the parameter of the estimator.
    estimator : estimator
        With all else that was fitted.

    Raises
    ------
    ValueError, TypeError
        If what is built is not what was saved.
    """
    layout, network = estimator.layout_, estimator.network_
    specs, names = encoders_by_part(encoder, layout), list(layout.shapes)
    if set(specs) != set(names):
        raise ValueError(
            f"encoder must be for the parts {', '.join(map(repr, names))}, got one for "
            f"{', '.join(map(repr, specs))}."
        )
    dtype, modules = next(network.parameters()).dtype, []
    for name, shape in layout.shapes.items():
        with own_random(0, torch.device("cpu")):
            module = build(specs[name], name, shape).to(dtype).eval()
            if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
                with torch.no_grad():
                    module(torch.zeros((2, *shape), dtype=dtype))
        modules.append([module] * network.n_members)
    encoders = PartEncoders(names, modules, state["widths"], shared=state["shared"])
    _fill(encoders, state)
    encoders.masks = estimator.input_encoder_.part_masks
    _try_out(encoders, layout, dtype)
    return encoders.requires_grad_(False).eval()


def _fill(encoders: PartEncoders, state: Any) -> None:
    """Put the tensors of a file in the places of those that were built."""
    paths = ", ".join(source["path"] for source in state["sources"])
    remedy = f"give the module, or what makes it, with which the model was fitted ({paths})"
    for kind, keys, targets in (
        ("weight", encoders.weight_keys, list(encoders.weights)),
        ("buffer", encoders.buffer_keys, list(encoders.stacked.values())),
    ):
        own, names = _joined_names(keys), state[f"{kind}_names"]
        if own != names:
            unlike = sorted(set(own) ^ set(names)) or names
            raise ValueError(
                f"encoder has not the {kind}s that were saved, as {unlike[0]!r} shows; {remedy}."
            )
        for name, target, tensor in zip(own, targets, state[f"{kind}s"], strict=True):
            # Buffers may have another shape since the module has seen rows
            if tensor.dtype != target.dtype or (kind == "weight" and tensor.shape != target.shape):
                raise ValueError(
                    f"encoder has {name!r} of {target.dtype} and shape {tuple(target.shape[1:])}, "
                    f"but {tensor.dtype} and {tuple(tensor.shape[1:])} were saved; {remedy}."
                )
            target.data = tensor.detach()


@torch.no_grad()
def _try_out(encoders: PartEncoders, layout: Layout, dtype: torch.dtype) -> None:
    """Raise unless the encoders give as many features as the file says."""
    for p, (name, shape) in enumerate(layout.shapes.items()):
        try:
            found = encoders._run(p, 0, torch.zeros((2, *shape), dtype=dtype))
        except Exception as error:
            raise ValueError(
                f"encoder of the part {name!r} failed for values of the shape {(2, *shape)} "
                f"({type(error).__name__}: {error})."
            ) from error
        expected = (2, encoders.widths[p])
        if not isinstance(found, Tensor) or found.shape != expected:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"encoder of the part {name!r} gives the shape {shown} for 2 rows, but the model "
                f"was fitted with {expected}; give the same module or function with the same "
                "parameters."
            )
