"""A network from its saved state, which may have been made up.

What a network declares (widths, families, members) says which tensors it has, and of which shapes.
If those of the file are these, the network is made anew by its constructor, and they take their
places. The modules inside are mere records until then, so that nothing is made of a size that the
file does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._kinds import (
    FINITES,
    FLAG,
    LIMITS,
    NOTHING,
    POSITIVES,
    TRIANGLE,
    Kind,
    Rule,
    State,
    array,
    joined,
    listed,
    unfit,
    whole,
)
from ._network import ACTIVATIONS, SAN, Block, LinearBase, input_widths
from ._plain_trees import Record
from .likelihoods import Likelihood


def record(*classes: type) -> Kind:
    """The record of a module."""
    names = [cls.__name__ for cls in classes]
    return Kind(" or ".join(names), lambda v, _: isinstance(v, Record) and v.name in names)


def _is_resolved(family: Likelihood) -> bool:
    """Whether a family has all its parameters, with numbers that single precision has, too."""
    numbers = [v for v in family.get_params().values() if isinstance(v, (float, np.floating))]
    return family.n_params > 0 and all(abs(v) <= np.finfo(np.float32).max for v in numbers)


_RESOLVED = Kind("Likelihood", lambda v, _: isinstance(v, Likelihood) and _is_resolved(v))
_NETWORK = Rule(
    {
        "families": Kind(
            "one or more families of likelihood with all parameters",
            lambda v, s: len(v) > 0 and listed(_RESOLVED).holds(v, s),
        ),
        "n_features": whole(1),
        "n_members": whole(1),
        "limits": array(LIMITS, "families", 2),
        "activation": record(*ACTIVATIONS.values()),
        "encoder": record(nn.ModuleList),
        "base": record(LinearBase),
        "blocks": record(nn.ModuleList),
    }
)
_BASE = Rule(
    {
        "used": listed(whole(0)),
        "weight_x": array(FINITES, "families", "n_features"),
        "weight_y": array(TRIANGLE, "families", "families"),
        "intercept": array(FINITES, "families"),
        "scale": array(POSITIVES, "families"),
    }
)
_BASE_TENSORS = ("weight_x", "weight_y", "intercept", "scale")
_BLOCK = Rule(
    {
        "shape": Kind(
            "one or more widths",
            lambda v, s: type(v) is tuple and len(v) > 0 and all(whole(1).holds(n, s) for n in v),
        ),
        "layer_norm": FLAG,
        "n_sequence": whole(0),
    }
)


def rebuild_network(state: State, path: str) -> SAN:
    """Network with the tensors of a state, each of which is what it would have been."""
    _NETWORK.check(state, path)
    blocks = _blocks(state, f"{path}.blocks")
    _check_base(state, f"{path}.base")
    encoder = _encoder_widths(state["encoder"], f"{path}.encoder")
    tensors, shapes = dict(_tensors(state)), dict(_shapes(state, blocks, encoder))
    for name in sorted(shapes.keys() | tensors.keys()):
        found, dtype = tensors.get(name, NOTHING), state["limits"].dtype
        _check_tensor(found, shapes.get(name), dtype, joined(path, name))
    network = _new_network(state, blocks, encoder)
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False).eval()


def _tensors(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of a module and of those inside, by the names that torch gives them."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield prefix + name, value.detach()
        elif isinstance(value, Record):
            yield from _tensors(value.state, f"{prefix}{name}.")


def _blocks(state: State, path: str) -> list[State]:
    """States of the blocks, which are alike but for the shape of the first."""
    n_outputs, children = len(state["families"]), state["blocks"].state
    for d in range(n_outputs):
        block = children.get(str(d), NOTHING)
        if not record(Block).holds(block, state):
            raise unfit(f"{path}.{d}", "a Block", block)
        _BLOCK.check(block.state, f"{path}.{d}")
    blocks = [children[str(d)].state for d in range(n_outputs)]
    for d, block in enumerate(blocks):
        alike = {
            "shape": blocks[min(d, 1)]["shape"],
            "layer_norm": blocks[0]["layer_norm"],
            "n_sequence": blocks[0]["n_sequence"] if d < n_outputs - 1 else 0,
        }
        for name, value in alike.items():
            if block[name] != value:
                raise unfit(f"{path}.{d}.{name}", repr(value), block[name])
    return blocks


def _check_base(state: State, path: str) -> None:
    """Raise unless the least-squares base is one for the outputs that it says."""
    base, n_outputs = state["base"].state, len(state["families"])
    _BASE.check({**state, **base}, path)
    used = np.isin(np.arange(n_outputs), base["used"])
    if base["used"] != np.flatnonzero(used).tolist():
        words = f"rising numbers of some of {n_outputs} outputs"
        raise unfit(f"{path}.used", words, base["used"])
    for name in _BASE_TENSORS:
        if (base[name].numpy()[~used] != (name == "scale")).any():
            words = f"{int(name == 'scale')} for outputs that are not used"
            raise unfit(f"{path}.{name}", words, base[name])


def _encoder_widths(encoder: Record, path: str) -> list[int]:
    """Width of each layer of the encoder."""
    layers = [layer for layer in encoder.state.values() if isinstance(layer, Record)]
    weights = [layer.state.get("weight", NOTHING) for layer in layers]
    for i, weight in enumerate(weights):
        if not (isinstance(weight, Tensor) and weight.ndim == 3):
            raise unfit(f"{path}.{i}.weight", "a matrix for each member", weight)
    return [weight.shape[-1] for weight in weights]


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _shapes(state: State, blocks: list[State], encoder: list[int]) -> Shapes:
    """Shape of every tensor of the network, by the names that torch gives them."""
    families, n_members, n_features = (state[k] for k in ("families", "n_members", "n_features"))
    n_context = n_features + (encoder[-1] if encoder else 0)
    n_sequence, used = blocks[0]["n_sequence"], state["base"].state["used"]
    yield "limits", (len(families), 2)
    yield from ((f"base.{name}", tuple(state["base"].state[name].shape)) for name in _BASE_TENSORS)
    yield from _layer_shapes("encoder", n_members, [n_features, *encoder])
    n_inputs = input_widths(n_context, n_sequence, families, used)
    for d, (family, block) in enumerate(zip(families, blocks, strict=True)):
        widths = [n_inputs[d], *block["shape"]]
        yield from _layer_shapes(f"blocks.{d}.hidden", n_members, widths)
        for i, width in enumerate(block["shape"] if block["layer_norm"] else ()):
            for name in ("weight", "bias"):
                yield f"blocks.{d}.norms.{i}.{name}", (n_members, width)
        n_out = block["n_sequence"] + family.n_params
        yield f"blocks.{d}.heads.weight", (n_members, widths[-1], n_out)
        yield f"blocks.{d}.heads.bias", (n_members, n_out)


def _layer_shapes(prefix: str, n_members: int, widths: list[int]) -> Shapes:
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        yield f"{prefix}.{i}.weight", (n_members, n_in, n_out)
        yield f"{prefix}.{i}.bias", (n_members, n_out)


def _check_tensor(found: Any, shape: Any, dtype: torch.dtype, path: str) -> None:
    """Raise unless a tensor is one that a network of the given dtype has at this place."""
    if shape is None:
        raise unfit(path, "left out", found)
    fits = isinstance(found, Tensor) and found.shape == shape and found.dtype == dtype
    # Limits may be infinite, and are checked already
    if not fits or not (path.endswith(".limits") or bool(found.isfinite().all())):
        raise unfit(path, f"finite {str(dtype).removeprefix('torch.')} of shape {shape}", found)


def _new_network(state: State, blocks: list[State], encoder: list[int]) -> SAN:
    """Network as declared, with weights that do not matter."""
    families, base = state["families"], state["base"].state
    used = np.isin(np.arange(len(families)), base["used"])
    names = {cls.__name__: name for name, cls in ACTIVATIONS.items()}
    return SAN(
        state["n_features"],
        families,
        [np.zeros(family.n_params) for family in families],
        state["limits"].numpy(),
        LinearBase(**{name: base[name].numpy() for name in _BASE_TENSORS}, used=used),
        n_members=state["n_members"],
        first_module_shape=blocks[0]["shape"],
        module_shape=blocks[-1]["shape"],
        encoder_shape=encoder,
        sequence_features=blocks[0]["n_sequence"],
        activation=names[state["activation"].name],
        layer_norm=blocks[0]["layer_norm"],
        generator=torch.Generator(),
    )
