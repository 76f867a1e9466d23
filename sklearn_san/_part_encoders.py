"""Encoders of the user's: torch modules that make features of spectra, images or sets.

Each member of the ensemble has an encoder of its own for each part of X, or all share one. Their
parameters and buffers are stacked, members first, like those of the network, so that the same
optimiser moves both; a *template* says what is computed with those of one member.

===================  =======================================================================
`PartEncoders`       encoders of all parts and members
`make_encoders`      these from what the user gave
`Encoded`            a network behind them, to be trained with them
`with_features`      rows for validation with features in place of parts
`spread`, `gather`   a network that sees the features of all members side by side, and back
===================  =======================================================================

While training, a member sees its own features. The trained network is one for all: it sees the
features of all members side by side, and the weights of a member are 0 for those of the others.
What goes on from there, compiled or not, knows no encoders.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from ._caller_state import own_random
from ._network import SAN, LinearBase
from ._parts import Layout, Part, encoders_by_part
from ._training import Rows

#: Numbers of a part that are encoded at once, and rows.
CHUNK, CHUNK_ROWS = 2**22, 1024
#: Rows that `observe` is shown at most, and on which a new encoder is tried.
OBSERVED, TRIED = 20_000, 8
#: Seeds of torch's generators are below this.
SEEDS = 2**62
#: Layers that cannot be trained with a single row.
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class PartEncoders(nn.Module):
    """Encoders of all parts, with weights of their own for each member or shared by all.

    Parameters
    ----------
    names : list of str
        Of the parts.
    modules : list of list of Module
        Of each part, one for each member.
    widths : list of int
        Features that those of a part give.
    shared : bool
        Whether all members have the same weights.

    Attributes
    ----------
    masks : list of int or None
        Column of the other inputs of the network that is 1 where a part is missing; None where
        that cannot be.
    templates : list of Module
        Of each part; their own weights are not used.
    """

    def __init__(
        self, names: list[str], modules: list[list[nn.Module]], widths: list[int], *, shared: bool
    ):
        super().__init__()
        self.names, self.widths, self.shared = names, widths, shared
        self.n_members = len(modules[0])
        self.masks: list[int | None] = [None] * len(names)
        self.templates = [own[0] for own in modules]
        self.weights = nn.ParameterList()
        #: Part and name, there, of each parameter and of each buffer
        self.weight_keys: list[tuple[int, str]] = []
        self.buffer_keys: list[tuple[int, str]] = []
        for p, own in enumerate(modules):
            for name, tensors in _tensors_by_name(own):
                stacked = torch.stack([tensor.detach() for tensor in tensors])
                if isinstance(tensors[0], nn.Parameter) and tensors[0].requires_grad:
                    self.weights.append(nn.Parameter(stacked))
                    self.weight_keys.append((p, name))
                else:
                    self.register_buffer(f"buffer{len(self.buffer_keys)}", stacked)
                    self.buffer_keys.append((p, name))

    @property
    def width(self) -> int:
        """Features of a member."""
        return sum(self.widths)

    @property
    def n_features(self) -> int:
        """Features that the trained network sees, those of all members."""
        return self.width * (1 if self.shared else self.n_members)

    @property
    def stacked(self) -> dict[str, Tensor]:
        """Buffers, members first, by their names here."""
        return dict(self.named_buffers())

    @property
    def accepts(self) -> dict[str, bool]:
        """Parts whose encoder accepts nan inside of a row."""
        pairs = zip(self.names, self.templates, strict=True)
        return {name: bool(getattr(one, "accepts_missing", False)) for name, one in pairs}

    def train(self, mode: bool = True) -> PartEncoders:
        super().train(mode)
        for template in self.templates:
            template.train(mode)
        return self

    def of_members(self, members: slice) -> PartEncoders:
        """Those of some members; shares no memory with these."""
        part = copy.deepcopy(self)
        part.n_members = len(range(*members.indices(self.n_members)))
        for tensor in (*part.weights, *part.stacked.values()):
            tensor.data = tensor.data[members].clone()
        return part

    def forward(
        self, x: Tensor, parts: Sequence[Tensor], generators: Sequence[Generator] = ()
    ) -> Tensor:
        """Features (n_members, n, width) of rows of each member, 0 where a part is missing.

        Parameters
        ----------
        x : Tensor of shape (n_members, n, n_inputs)
            The other inputs of the network.
        parts : sequence of Tensor of shape (n_members, n, ...)
            (1, n, ...) where the encoders are shared: then all members have the same rows.
        generators : sequence of Generator
            Of what encoders draw in training, such as dropout; one for each member.
        """
        blocks = []
        for p, values in enumerate(parts):
            mask = self.masks[p]
            rows = []
            for m in range(1 if self.shared else self.n_members):
                there = None if mask is None else x[m, :, mask] == 0  # (n,)
                rows.append(self._encode(p, m, values[m], there, _seed_of(generators, m)))
            blocks.append(torch.stack(rows).expand(self.n_members, -1, -1))
        return torch.cat(blocks, -1)

    def _encode(self, p: int, m: int, values: Tensor, there: Tensor | None, seed: int) -> Tensor:
        """Features (n, width) of rows (n, ...) of part p by member m, 0 unless they are there."""
        if there is None or bool(there.all()):
            return self._run(p, m, values, seed)
        features = values.new_zeros((len(values), self.widths[p]))
        if not bool(there.any()):
            return features
        return features.index_put((there.nonzero()[:, 0],), self._run(p, m, values[there], seed))

    def _run(self, p: int, m: int, values: Tensor, seed: int = 0) -> Tensor:
        """What the encoder of member m gives for rows (n, ...) of part p, all there."""
        template, training = self.templates[p], self.training
        weights = {
            name: weight[m]
            for (part, name), weight in zip(self.weight_keys, self.weights, strict=True)
            if part == p
        }
        stacked = zip(self.buffer_keys, self.stacked.values(), strict=True)
        own = {name: buffer for (part, name), buffer in stacked if part == p}
        # Copies, because layers keep them for the gradient, and change those of other members
        buffers = {name: buffer[m].clone() for name, buffer in own.items()}
        tensors = {**weights, **buffers}
        alone = training and len(values) == 1 and any(map(_is_norm, template.modules()))
        if alone:
            template.eval()
        with own_random(seed, values.device):
            features = functional_call(template, tensors, (values,))
        if alone:
            template.train()
        if training:
            for name, buffer in own.items():
                buffer[slice(None) if self.shared else m] = tensors[name].detach()
        return features

    @torch.no_grad()
    def features(
        self, parts: Sequence[Part], states: np.ndarray, device: torch.device
    ) -> np.ndarray:
        """What the trained network sees of rows, (n_rows, n_features) in float64.

        Parameters
        ----------
        parts : sequence of Part
        states : ndarray of shape (n_rows, n_parts)
            See `_parts`; parts whose state is not 0 are not looked at.
        device : torch.device
            To compute on.
        """
        encoders = self if device.type == "cpu" else copy.deepcopy(self).to(device)
        encoders.eval()
        members = range(1 if self.shared else self.n_members)
        result = np.zeros((len(states), len(members), self.width))
        start, dtype = 0, self.dtype
        for p, part in enumerate(parts):
            stop = start + self.widths[p]
            there = np.flatnonzero(states[:, p] == 0)
            for rows in np.split(there, range(0, len(there), chunk_of(part.shape))[1:]):
                values = torch.as_tensor(part.read(rows), dtype=dtype, device=device)
                for m in members if len(rows) else ():
                    own = encoders._run(p, m, values).cpu().double().numpy()
                    if not np.isfinite(own).all():
                        i = int(rows[np.flatnonzero(~np.isfinite(own).all(axis=1))[0]])
                        raise ValueError(
                            f"encoder of the part {self.names[p]!r} gives nan or infinity for row "
                            f"{i} of X; drop the row, or make it nan throughout if the part is "
                            "missing there."
                        )
                    result[rows, m, start:stop] = own
            start = stop
        return result.reshape(len(states), self.n_features)

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes in."""
        floats = (t.dtype for t in self.tensors() if t.is_floating_point())
        return next(floats, torch.float32)

    def tensors(self) -> Iterator[Tensor]:
        """Weights and buffers of all members."""
        yield from self.weights
        yield from self.stacked.values()


def chunk_of(shape: tuple[int, ...]) -> int:
    """Rows of a part that are encoded at once."""
    return max(1, min(CHUNK_ROWS, CHUNK // math.prod(shape)))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NORMS)


def _seed_of(generators: Sequence[Generator], m: int) -> int:
    """Seed of what a member draws next; the same each time without generators."""
    if not generators:
        return 0
    return int(torch.randint(SEEDS, (1,), generator=generators[m]))


def _tensors_by_name(modules: list[nn.Module]) -> Iterator[tuple[str, list[Tensor]]]:
    """Parameters and buffers of modules that are alike."""
    for kind in ("named_parameters", "named_buffers"):
        own = [dict(getattr(module, kind)()) for module in modules]
        for name in own[0]:
            yield name, [tensors[name] for tensors in own]


def make_encoders(
    encoder: Any,
    layout: Layout,
    parts: Sequence[Part],
    n_members: int,
    generator: Generator,
    dtype: torch.dtype,
    *,
    shared: bool,
) -> PartEncoders:
    """Untrained encoders.

    Parameters
    ----------
    encoder : object
        The parameter of the estimator.
    layout : Layout
    parts : sequence of Part
        Rows to learn from.
    n_members : int
    generator : Generator
        Of the seeds of initial weights.
    dtype : torch.dtype
    shared : bool
    """
    specs = encoders_by_part(encoder, layout)
    modules, widths = [], []
    for (name, shape), part in zip(layout.shapes.items(), parts, strict=True):
        seeds = torch.randint(SEEDS, (1 if shared else n_members,), generator=generator).tolist()
        own = []
        for seed in seeds:
            with own_random(seed, torch.device("cpu")):
                own.append(_make_module(specs[name], name, shape, part, dtype))
        with own_random(0, torch.device("cpu")):
            found = [_width(module, name, part, dtype) for module in own]
        kinds = [_described(module) for module in own]
        for one in range(1, len(own)):
            if found[one] != found[0] or kinds[one] != kinds[0]:
                raise ValueError(
                    f"encoder of the part {name!r} makes modules that differ in width or in the "
                    "shapes of their weights, but all members need the same."
                )
        modules.append(own * n_members if shared else own)
        widths.append(found[0])
    return PartEncoders(list(layout.shapes), modules, widths, shared=shared)


def _described(module: nn.Module) -> list[tuple[Any, ...]]:
    return [(name, t.dtype, *t.shape) for name, (t,) in _tensors_by_name([module])]


def build(spec: Any, name: str, shape: tuple[int, ...]) -> nn.Module:
    """Module from what the user gave for a part: a copy, or what a callable makes of its shape."""
    if isinstance(spec, nn.Module):
        try:
            return copy.deepcopy(spec)
        except Exception as error:
            raise TypeError(
                f"encoder of the part {name!r} cannot be copied, of which each member needs one "
                f"({type(error).__name__}: {error}); give a function of the shape that makes it."
            ) from error
    try:
        module = spec(shape)
    except Exception as error:
        raise ValueError(
            f"encoder={spec!r} cannot make a module of the part {name!r} for rows of the shape "
            f"{shape} ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"encoder={spec!r} must make a torch module of the part {name!r} from the shape of a "
            f"row, {shape}, but made {type(module).__name__}."
        )
    return module


def _make_module(
    spec: Any, name: str, shape: tuple[int, ...], part: Part, dtype: torch.dtype
) -> nn.Module:
    """A new module that has seen the rows to learn from."""
    module = build(spec, name, shape).to(dtype)
    if isinstance(spec, nn.Module):
        for one in module.modules():
            frozen = any(not p.requires_grad for p in one.parameters())
            if hasattr(one, "reset_parameters") and not frozen:
                reset: Any = one.reset_parameters
                reset()
    usable = _usable(part, name, module)
    step = max(1, len(usable) // OBSERVED)
    observe: Any = getattr(module, "observe", None)
    if observe is not None:
        shown = torch.as_tensor(part.read(usable[::step][:OBSERVED]), dtype=dtype)
        _tried(observe, name, shown)
    module.eval()
    values = torch.as_tensor(part.read(usable[:TRIED]), dtype=dtype)
    with torch.no_grad():
        _tried(module, name, values)  # makes what is lazy
    return module.to(dtype)


def _usable(part: Part, name: str, module: nn.Module) -> np.ndarray:
    """Numbers of the rows that a module may be given."""
    accepts = bool(getattr(module, "accepts_missing", False))
    there = (part.state == 0) | (accepts & (part.state == -np.inf))
    if not there.any():
        raise ValueError(f"X has no value at all in the part {name!r}; leave it out.")
    return np.flatnonzero(there)


def _tried(call: Callable[[Tensor], Any], name: str, values: Tensor) -> Any:
    """What the user's code makes of values; what it raises tells of which part."""
    try:
        return call(values)
    except Exception as error:
        raise ValueError(
            f"encoder of the part {name!r} failed for values of the shape {tuple(values.shape)} "
            f"({type(error).__name__}: {error})."
        ) from error


@torch.no_grad()
def _width(module: nn.Module, name: str, part: Part, dtype: torch.dtype) -> int:
    """Number of features that a module gives, checked on a few rows and on one."""
    usable = _usable(part, name, module)[:TRIED]
    widths = set()
    for rows in (usable, usable[:1]):
        values = torch.as_tensor(part.read(rows), dtype=dtype)
        found = _tried(module, name, values)
        if not isinstance(found, Tensor):
            raise TypeError(
                f"encoder of the part {name!r} must return a tensor (n, n_features), got "
                f"{type(found).__name__}."
            )
        if found.ndim != 2 or len(found) != len(rows) or not found.shape[1]:
            raise ValueError(
                f"encoder of the part {name!r} must return a tensor ({len(rows)}, n_features) for "
                f"{len(rows)} rows, got the shape {tuple(found.shape)}."
            )
        if found.dtype != dtype:
            raise TypeError(
                f"encoder of the part {name!r} must return {dtype} for what is given in {dtype}, "
                f"got {found.dtype}."
            )
        if not bool(found.isfinite().all()):
            raise ValueError(
                f"encoder of the part {name!r} gives nan or infinity for rows of finite values."
                if not getattr(module, "accepts_missing", False)
                else f"encoder of the part {name!r} gives nan or infinity, although it says that "
                "it accepts missing values."
            )
        widths.add(int(found.shape[1]))
    if len(widths) > 1:
        raise ValueError(
            f"encoder of the part {name!r} gives {max(widths)} features for some rows and "
            f"{min(widths)} for others."
        )
    return widths.pop()


class Encoded(nn.Module):
    """Objective of a network behind encoders, which are trained with it.

    Parameters
    ----------
    inner : Module
        Has ``log_prob(x, y)``.
    encoders : PartEncoders
    seeds : list of int
        Of what encoders draw in training, one per member.
    """

    def __init__(self, inner: Any, encoders: PartEncoders, seeds: list[int]):
        super().__init__()
        self.inner, self.encoders, self.seeds = inner, encoders, seeds
        self.own_generators = [Generator().manual_seed(seed) for seed in seeds]
        self.generators = [*self.own_generators, *getattr(inner, "generators", ())]

    def log_prob(self, x: Tensor, y: Tensor, *parts: Tensor) -> Tensor:
        """Log density of every member, (n_members, n), at rows (n_members, n, ...)."""
        generators = self.own_generators if self.training else ()
        features = self.encoders(x, parts, generators)
        return self.inner.log_prob(torch.cat([x, features], -1), y)

    def of_members(self, members: slice) -> Encoded:
        """Objective of some of the members."""
        inner, encoders = self.inner.of_members(members), self.encoders.of_members(members)
        return Encoded(inner, encoders, self.seeds[members])

    @property
    def member_buffers(self) -> dict[str, Tensor]:
        """Buffers with the members on their first axis, which training changes."""
        return self.encoders.stacked

    @property
    def shared_parameters(self) -> list[nn.Parameter]:
        """Parameters that are to stay the same for all members."""
        return list(self.encoders.weights) if self.encoders.shared else []


@torch.no_grad()
def with_features(encoders: PartEncoders, rows: Rows, most: int) -> Rows:
    """At most so many rows of each member, with features in place of the parts; on the CPU."""
    encoders.eval()
    index = rows.index[:, :most].cpu()
    inputs = rows.to(torch.device("cpu")).inputs
    parts = []
    for some in index.split(
        chunk_of(max((part.part.shape for part in inputs[2:]), key=math.prod)), 1
    ):
        x, y, *values = (column[some] for column in inputs)
        parts.append((torch.cat([x, encoders(x, values)], -1), y))
    columns = [torch.cat(column, 1).flatten(0, 1) for column in zip(*parts, strict=True)]
    if rows.weighted:
        columns.append(rows.columns[-1].cpu()[index].flatten())
    own = torch.arange(index.numel()).reshape(index.shape)
    return Rows(tuple(columns), own, rows.offset.cpu(), rows.weighted)


def spread(network: SAN, width: int) -> SAN:
    """Network that sees the features of all members side by side, of one that sees `width` own."""
    n_plain, n_members = network.n_features - width, network.n_members

    def widened(weight: Tensor) -> Tensor:
        before, own, behind = weight.split(
            [n_plain, width, weight.shape[1] - network.n_features], 1
        )
        wide = weight.new_zeros((n_members, n_members, width, weight.shape[2]))
        for m in range(n_members):
            wide[m, m] = own[m]
        return torch.cat([before, wide.flatten(1, 2), behind], 1)

    return _resized(network, n_plain + n_members * width, widened)


def gather(network: SAN, width: int) -> SAN:
    """The network of which `spread` made this one."""
    n_members = network.n_members
    n_plain = network.n_features - n_members * width

    def narrowed(weight: Tensor) -> Tensor:
        before, wide, behind = weight.split(
            [n_plain, n_members * width, weight.shape[1] - network.n_features], 1
        )
        wide = wide.unflatten(1, (n_members, width))
        own = torch.stack([wide[m, m] for m in range(n_members)])
        return torch.cat([before, own, behind], 1)

    return _resized(network, n_plain + width, narrowed)


def _resized(network: SAN, n_features: int, change: Callable[[Tensor], Tensor]) -> SAN:
    """Copy of a network with another number of inputs, which its first layers take otherwise."""
    resized = copy.deepcopy(network)
    resized.n_features = n_features
    blocks: Any = resized.blocks
    layers = [block.hidden[0] for block in blocks]
    if len(resized.encoder):
        layers.append(resized.encoder[0])
    for layer in layers:
        weight = layer.weight
        layer.weight = nn.Parameter(change(weight.detach()), weight.requires_grad)
    weight_x = resized.base.weight_x
    padded = weight_x.new_zeros((len(weight_x), n_features))
    n = min(n_features, weight_x.shape[1])
    padded[:, :n] = weight_x[:, :n]
    resized.base.weight_x = padded
    return resized


def padded(base: LinearBase, n_columns: int, width: int) -> LinearBase:
    """Base of so many plain columns that sees nothing of `width` features behind them."""
    weight_x = base.weight_x[:, :n_columns]
    base.weight_x = torch.cat([weight_x, weight_x.new_zeros((len(weight_x), width))], 1)
    return base
