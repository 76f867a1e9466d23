"""The Sequential Autoregressive Network (SAN): p(y | x) as a chain of one-dimensional blocks.

    log p(y | x) = sum_d log p(y_d | y_1..y_(d-1), x)

Block d sees the context (the scaled features, and their encoding where there is an encoder), the
sequence features of block d-1 and the earlier targets. It returns the sequence features for
block d+1 and the raw parameters of a likelihood family for y_d.

A `LinearBase` may come first: then the blocks model ``r = (y - location(x, y_<d)) / scale``, the
residual of a least-squares fit, and see the earlier residuals next to the earlier targets.

===============  ==========================================================================
`SAN`            log density, draws, and the cdf of each conditional
`FreeRunning`    the objective that feeds a SAN its own draws during training
`LinearBase`     the least-squares location and scale of each output
`Block`          one small multilayer perceptron with two heads
===============  ==========================================================================

Everything here is in scaled units. A network holds the weights of several *members* of an ensemble
and evaluates them side by side: the first axis of every array is theirs, of size 1 where all
members see the same. Shapes: x ``(members, ..., n_features)``, y ``(members, ..., n_outputs)``.
The axes in between broadcast, so x of shape ``(1, n, 1, n_features)`` serves draws
``(1, n, n_draws, n_outputs)`` and whatever depends on x alone is computed once per row.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ._constants import LAYER_NORM_EPSILON
from .likelihoods import Categorical, Likelihood, Support

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class LinearBase(nn.Module):
    """Location ``x @ weight_x.T + y @ weight_y.T + intercept`` and scale of each output.

    Parameters
    ----------
    weight_x : ndarray of shape (n_outputs, n_features)
    weight_y : ndarray of shape (n_outputs, n_outputs)
        Strictly lower triangular: output d may depend on outputs before d only.
    intercept, scale : ndarray of shape (n_outputs,)
    used : ndarray of bool of shape (n_outputs,)
        Outputs that have a base; the others have location 0 and scale 1.
    """

    def __init__(
        self,
        weight_x: np.ndarray,
        weight_y: np.ndarray,
        intercept: np.ndarray,
        scale: np.ndarray,
        used: np.ndarray,
    ):
        super().__init__()
        for name, value in [
            ("weight_x", weight_x),
            ("weight_y", weight_y),
            ("intercept", intercept),
            ("scale", scale),
        ]:
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))
        self.used = [d for d, is_used in enumerate(used) if is_used]
        self.weight_x: Tensor
        self.weight_y: Tensor
        self.intercept: Tensor
        self.scale: Tensor

    def location(self, x: Tensor, y: Tensor) -> Tensor:
        """Location of every output; shape (..., n_outputs)."""
        return x @ self.weight_x.T + y @ self.weight_y.T + self.intercept


class Linear(nn.Module):
    """One affine map for each member, with normal weights of deviation ``gain / sqrt(n_in)``."""

    def __init__(self, n_members: int, n_in: int, n_out: int, gain: float, generator: Generator):
        super().__init__()
        std = gain / math.sqrt(max(n_in, 1))
        shape = (n_members, n_in, n_out)
        weight = torch.randn(shape, generator=generator, dtype=torch.float32)
        self.weight = nn.Parameter(std * weight)
        self.bias = nn.Parameter(torch.zeros(n_members, n_out, dtype=torch.float32))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Map ``cat(parts, -1)``, where the leading axes of the parts need only broadcast."""
        if all(part.shape[:-1] == parts[0].shape[:-1] for part in parts):
            joined = parts[0] if len(parts) == 1 else torch.cat(list(parts), -1)
            return self._product(joined, self.weight, self.bias)
        weights = self.weight.split([part.shape[-1] for part in parts], 1)
        # Small ones, shared by all draws, first
        pairs = sorted(zip(parts, weights, strict=True), key=lambda pair: pair[0].numel())
        total = self._product(*pairs[0], self.bias)
        for part, weight in pairs[1:]:
            total = total + self._product(part, weight)
        return total

    def _product(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``h @ weight + bias`` for h (1 or n_members, ..., n_in)."""
        n_members, n_in, n_out = weight.shape
        flat = h.reshape(len(h), -1, n_in).expand(n_members, -1, -1)
        if bias is None:
            product = torch.bmm(flat, weight)
        else:
            product = torch.baddbmm(bias.unsqueeze(1), flat, weight)
        return product.reshape(n_members, *h.shape[1:-1], n_out)


class LayerNorm(nn.Module):
    """Layer normalisation with the scale and shift of each member."""

    def __init__(self, n_members: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_members, width, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(n_members, width, dtype=torch.float32))

    def forward(self, h: Tensor) -> Tensor:
        """Normalise h (n_members, ..., width) over its last axis."""
        shape = (len(h), *(1,) * (h.ndim - 2), h.shape[-1])
        normal = nn.functional.layer_norm(h, h.shape[-1:], eps=LAYER_NORM_EPSILON)
        return torch.addcmul(self.bias.view(shape), normal, self.weight.view(shape))


class Block(nn.Module):
    """Multilayer perceptron from several inputs to sequence features and raw parameters.

    Parameters
    ----------
    n_members : int
    n_inputs : int
        Total width of the inputs.
    shape : sequence of int
        Width of each hidden layer.
    n_sequence : int
        Number of sequence features returned; 0 for the last block.
    initial_raw : ndarray of shape (n_params,)
        Raw parameters that the untrained block returns, up to a small perturbation.
    """

    def __init__(
        self,
        n_members: int,
        n_inputs: int,
        shape: Sequence[int],
        n_sequence: int,
        initial_raw: np.ndarray,
        *,
        activation: str,
        layer_norm: bool,
        generator: Generator,
    ):
        super().__init__()
        widths = [n_inputs, *shape]
        self.hidden = nn.ModuleList(
            Linear(n_members, n_in, n_out, math.sqrt(2.0), generator)
            for n_in, n_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(
            LayerNorm(n_members, width) if layer_norm else nn.Identity() for width in shape
        )
        self.activation = ACTIVATIONS[activation]()
        self.shape = tuple(shape)
        self.layer_norm = layer_norm
        self.n_sequence = n_sequence
        # Both heads in one product: sequence features first, then the raw parameters.
        n_params = len(initial_raw)
        self.heads = Linear(n_members, widths[-1], n_sequence + n_params, 1.0, generator)
        with torch.no_grad():
            self.heads.weight[..., n_sequence:] *= 0.1
            self.heads.bias[:, n_sequence:] = torch.as_tensor(initial_raw, dtype=torch.float32)

    @property
    def unlike_outputs(self) -> list[nn.Parameter]:
        """Weights whose outputs are not to be mixed by the optimiser."""
        return [self.heads.weight]

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sequence features (..., n_sequence) and raw parameters (..., n_params)."""
        parts = inputs
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            parts = [self.activation(norm(layer(parts)))]
        out = self.heads(parts)  # (n_members, ..., n_sequence + n_params)
        return torch.relu(out[..., : self.n_sequence]), out[..., self.n_sequence :]


class SAN(nn.Module):
    """Sequential Autoregressive Network.

    Parameters
    ----------
    n_features : int
        Width of x.
    families : list of Likelihood
        One per output, resolved.
    initial_raw : list of ndarray
        Raw parameters from which each output starts.
    limits : ndarray of shape (n_outputs, 2)
        Bounds of each output in scaled units, infinities allowed.
    base : LinearBase
    n_members : int
        Networks that are evaluated side by side, with weights of their own.
    first_module_shape, module_shape, encoder_shape : sequence of int
        Hidden widths; an empty `encoder_shape` means no encoder.
    sequence_features : int
        Width of what a block hands to the next.
    """

    def __init__(
        self,
        n_features: int,
        families: list[Likelihood],
        initial_raw: list[np.ndarray],
        limits: np.ndarray,
        base: LinearBase,
        *,
        n_members: int,
        first_module_shape: Sequence[int],
        module_shape: Sequence[int],
        encoder_shape: Sequence[int],
        sequence_features: int,
        activation: str,
        layer_norm: bool,
        generator: Generator,
    ):
        super().__init__()
        self.families = families
        self.n_features = n_features
        self.n_outputs = len(families)
        self.n_members = n_members
        self.base = base
        self.register_buffer("limits", torch.tensor(limits, dtype=torch.float64))
        self.limits: Tensor
        widths = [n_features, *encoder_shape]
        self.encoder = nn.ModuleList(
            Linear(n_members, n_in, n_out, math.sqrt(2.0), generator)
            for n_in, n_out in pairwise(widths)
        )
        self.activation = ACTIVATIONS[activation]()
        n_context = n_features + (encoder_shape[-1] if encoder_shape else 0)
        n_inputs = input_widths(n_context, sequence_features, families, base.used)
        self.blocks = nn.ModuleList()
        for d, raw in enumerate(initial_raw):
            self.blocks.append(
                Block(
                    n_members,
                    n_inputs[d],
                    module_shape if d else first_module_shape,
                    sequence_features if d < self.n_outputs - 1 else 0,
                    raw,
                    activation=activation,
                    layer_norm=layer_norm,
                    generator=generator,
                )
            )
        self._groups = _group(families)
        self._has_labels = any(family.n_features != 1 for family in families)

    def _based_before(self, d: int) -> list[int]:
        return [j for j in self.base.used if j < d]

    def context(self, x: Tensor) -> Tensor:
        """Scaled features and their encoding; shape (..., n_context)."""
        encoded = x
        for layer in self.encoder:
            encoded = self.activation(layer([encoded]))
        return torch.cat([x.expand(len(encoded), *x.shape[1:]), encoded], -1) if self.encoder else x

    def _run_block(
        self, d: int, context: Tensor, sequence: Tensor, y: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Block d, given the targets and residuals before d (their later columns are not read)."""
        if d == 0:
            return self.blocks[0]([context])
        earlier = y[..., :d]
        if self._has_labels:
            columns = zip(self.families[:d], earlier.unbind(-1), strict=True)
            earlier = torch.cat([family.encode(column) for family, column in columns], -1)
        if based := self._based_before(d):
            # Residuals also vary with x, of which there may be several for each y
            earlier = torch.cat([earlier.expand(*r.shape[:-1], -1), r[..., based]], -1)
        return self.blocks[d]([context, sequence, earlier])

    def raw_parameters(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Raw parameters of every output, (..., n_params) each, given the true earlier targets."""
        return self._raw_parameters(x, y, (y - self.base.location(x, y)) / self.base.scale)

    def _raw_parameters(self, x: Tensor, y: Tensor, r: Tensor) -> list[Tensor]:
        context, sequence, raw_parameters = self.context(x), x[..., :0], []
        for d in range(self.n_outputs):
            sequence, raw = self._run_block(d, context, sequence, y, r)
            raw_parameters.append(raw)
        return raw_parameters

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """Log density of every member, per scaled unit of every output; (n_members, ...).

        Where the last outputs of a row are missing (nan), that of the outputs before them.
        """
        missing = y.isnan()
        some_missing = bool(missing.any())
        if some_missing:
            y = y.nan_to_num()
        location = self.base.location(x, y)  # (..., n_outputs)
        r = (y - location) / self.base.scale
        raw_parameters = self._raw_parameters(x, y, r)
        shape = torch.broadcast_shapes(
            (self.n_members, *(1,) * (y.ndim - 2)), y.shape[:-1], x.shape[:-1]
        )
        log_scale = self.base.scale.log().expand(y.shape)
        if some_missing:
            log_scale = log_scale.masked_fill(missing, 0.0)
        total = -log_scale.sum(-1)
        for family, outputs in self._groups:
            raw = torch.stack(
                [raw_parameters[d].expand(*shape, -1) for d in outputs], -2
            )  # (n_members, ..., n_group, n_params)
            value, support = r[..., outputs], self._support(outputs, location[..., outputs])
            if support is not None:
                # A value on a limit keeps its slope, which `maximum` would share with the limit
                value = torch.where(value < support.low, support.low, value)
                value = torch.where(value > support.high, support.high, value)
            log_prob = family.log_prob(raw, value, support)
            if some_missing:
                log_prob = log_prob.masked_fill(missing[..., outputs], 0.0)
            total = total + log_prob.sum(-1)
        return total

    def is_mass(self, x: Tensor, y: Tensor) -> Tensor:
        """Values whose part of `log_prob` is the log of a probability; (..., n_outputs)."""
        location = self.base.location(x, y)
        columns = []
        for d, family in enumerate(self.families):
            columns.append(family.is_mass(y[..., d], self._support(d, location[..., d])))
        return torch.stack(columns, -1)

    def _support(self, outputs: list[int] | int, location: Tensor) -> Support | None:
        """Bounds of `outputs`, which share one family, in units of their residuals."""
        first = outputs if isinstance(outputs, int) else outputs[0]
        if not self.families[first].bounded:
            return None
        limits, scale = self.limits[outputs], self.base.scale[outputs]
        return Support((limits[..., 0] - location) / scale, (limits[..., 1] - location) / scale)

    def ancestral(self, x: Tensor, choose: Choice, n_outputs: int | None = None) -> Tensor:
        """Build y output by output; `choose` picks each residual from its conditional.

        Parameters
        ----------
        x : Tensor of shape (..., n_features)
        choose : callable
            Receives the `Conditional` of one output and returns its residual, of a shape to
            which the conditional's own shape broadcasts.
        n_outputs : int, default=None
            How many outputs to build; None means all.

        Returns
        -------
        Tensor of shape (..., n_outputs)
        """
        base = self.base
        context, sequence = self.context(x), x[..., :0]
        y = r = x[..., :0]
        for d, family in enumerate(self.families[:n_outputs]):
            sequence, raw = self._run_block(d, context, sequence, y, r)
            location = torch.zeros_like(base.intercept[d])
            if d in base.used:
                location = x @ base.weight_x[d] + y @ base.weight_y[d, :d] + base.intercept[d]
            support = self._support(d, location)
            r_d = choose(Conditional(d, family, raw, support, location, base.scale[d]))
            y_d = location + base.scale[d] * r_d
            if support is not None:
                y_d = torch.minimum(torch.maximum(y_d, self.limits[d, 0]), self.limits[d, 1])
            y = torch.cat([y.expand(*y_d.shape, d), y_d.unsqueeze(-1)], -1)  # (..., d + 1)
            r = torch.cat([r.expand(*y_d.shape, d), r_d.unsqueeze(-1)], -1)
        return y

    def sample(self, x: Tensor, noise: Tensor) -> Tensor:
        """Draws as a function of uniform noise.

        Parameters
        ----------
        x : Tensor of shape (..., n_features)
        noise : Tensor of shape (..., n_outputs, n_noise)
            Strictly inside (0, 1).

        Returns
        -------
        Tensor of shape (..., n_outputs)
        """
        return self.ancestral(x, lambda one: one.sample(noise))

    def sample_beside(
        self, x: Tensor, noise: Tensor, known: Tensor, outputs: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Draws beside the known values of some outputs, and the log density of these.

        Parameters
        ----------
        x : Tensor of shape (..., n_features)
        noise : Tensor of shape (..., n_outputs, n_noise)
            Strictly inside (0, 1).
        known : Tensor of shape (..., n_outputs)
            Read in the columns `outputs` only.
        outputs : sequence of int

        Returns
        -------
        draws : Tensor of shape (..., n_outputs)
        log_prob : Tensor of shape (...)
            Sum of the log densities of the known values, each given x and the outputs before it.
        """
        total = torch.zeros(noise.shape[:-2], dtype=x.dtype, device=x.device)

        def choose(one: Conditional) -> Tensor:
            nonlocal total
            if one.output not in outputs:
                return one.sample(noise)
            r, log_prob = one.at(known[..., one.output])
            total = total + log_prob
            return r.expand(total.shape)

        return self.ancestral(x, choose), total

    def of_members(self, members: slice) -> SAN:
        """Network of some of the members; shares its weights with this one."""
        memo: dict[int, Any] = {
            id(p): nn.Parameter(p.detach()[members], p.requires_grad) for p in self.parameters()
        }
        memo |= {id(buffer): buffer for buffer in self.buffers()}
        part = copy.deepcopy(self, memo)
        part.n_members = len(range(*members.indices(self.n_members)))
        return part

    @property
    def n_noise(self) -> int:
        """Uniform numbers per output and draw."""
        return max(family.n_noise for family in self.families)

    def conditionals(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and cdf of every conditional at y, (n_members, ..., n_outputs) each."""
        location = self.base.location(x, y)
        r = (y - location) / self.base.scale
        log_prob, cdf = [], []
        for d, raw in enumerate(self._raw_parameters(x, y, r)):
            support = self._support(d, location[..., d])
            one = Conditional(
                d, self.families[d], raw, support, location[..., d], self.base.scale[d]
            )
            value, log_prob_d = one.at(y[..., d])
            log_prob.append(log_prob_d)
            cdf.append(one.family.cdf(raw, value, support))
        return torch.stack(log_prob, -1), torch.stack(cdf, -1)


class Conditional(NamedTuple):
    """The density of one output given x and the outputs before it, ``y = location + scale r``."""

    output: int
    family: Likelihood
    raw: Tensor  # (..., n_params)
    support: Support | None  # of r
    location: Tensor
    scale: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Residual as a function of the noise (..., n_outputs, n_noise) of all outputs.

        In the dtype of the noise, whose tails a smaller one would cut; then in that of the network.
        """
        return self._draw(self.family.sample, noise)

    def rsample(self, noise: Tensor) -> Tensor:
        """The same with a gradient."""
        return self._draw(self.family.rsample, noise)

    def _draw(self, family_draw: Callable[..., Tensor], noise: Tensor) -> Tensor:
        own, support = noise[..., self.output, : self.family.n_noise], self.support
        if support is not None:
            support = Support(support.low.to(own.dtype), support.high.to(own.dtype))
        return family_draw(self.raw.to(own.dtype), own, support).to(self.raw.dtype)

    def at(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals of the values y, and their log density per scaled unit of y."""
        r = (y - self.location) / self.scale
        if self.support is not None:
            r = torch.minimum(torch.maximum(r, self.support.low), self.support.high)
        return r, self.family.log_prob(self.raw, r, self.support) - self.scale.log()

    def probabilities(self) -> Tensor | None:
        """Probability of each label, (..., n_classes); None for numbers."""
        if isinstance(self.family, Categorical):
            return self.family.probabilities(self.raw)
        return None

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the output itself, in scaled units."""
        mean = self.family.mean(self.raw, self.support)
        variance = self.family.variance(self.raw, self.support)
        return self.location + self.scale * mean, self.scale.square() * variance


Choice = Callable[[Conditional], Tensor]


class FreeRunning(nn.Module):
    """Objective that feeds each block the network's own draws of the earlier targets.

    Trained this way, a SAN cannot learn how its outputs depend on each other, because the draw it
    is shown has nothing to do with the value it is asked for. It is kept for comparison.

    Parameters
    ----------
    network : SAN
    through_draws : bool
        Whether gradients flow through the draws, by implicit reparametrisation.
    seeds : list of int
        Of the draws, one per member.
    """

    def __init__(self, network: SAN, through_draws: bool, seeds: list[int]):
        super().__init__()
        self.network = network
        self.through_draws = through_draws
        self.seeds = seeds
        self.generators = [Generator().manual_seed(seed) for seed in seeds]

    def of_members(self, members: slice) -> FreeRunning:
        """Objective of some of the members."""
        part = self.network.of_members(members)
        return FreeRunning(part, self.through_draws, self.seeds[members])

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over outputs of the log density of y_d given x and drawn values of y_<d."""
        network, missing = self.network, y.isnan()
        y = y.nan_to_num()
        shape = (*y.shape[1:], network.n_noise)
        noise = torch.stack([uniform(shape, one) for one in self.generators])
        noise = noise.to(y.device)  # (n_members, ..., n_outputs, n_noise)
        log_prob: list[Tensor] = []

        def score_and_draw(one: Conditional) -> Tensor:
            log_prob.append(one.at(y[..., one.output])[1])
            return one.rsample(noise) if self.through_draws else one.sample(noise).detach()

        network.ancestral(x, score_and_draw)
        return torch.stack(log_prob, -1).masked_fill(missing, 0.0).sum(-1)


def uniform(shape: tuple[int, ...], generator: Generator | np.random.Generator) -> Tensor:
    """Uniform numbers strictly inside (0, 1), drawn on the CPU, in the order of the flat array.

    Of 53 bits, in float64: those of float32 would end all draws at 5.2 standard deviations.
    """
    if isinstance(generator, np.random.Generator):
        noise = generator.random(shape)
    else:
        noise = torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
    if noise.min(initial=1.0) == 0.0:
        # In numpy, which does not leave threads spinning that the kernels could use
        np.maximum(noise, 2.0**-54, out=noise)
    return torch.from_numpy(noise)


def input_widths(
    n_context: int, sequence_features: int, families: list[Likelihood], used: list[int]
) -> list[int]:
    """Total width of the inputs of each block; `used` are the outputs with a base."""
    n_earlier = np.cumsum([0, *(family.n_features for family in families)])  # targets
    return [
        n_context + (sequence_features if d else 0) + int(n_earlier[d]) + sum(j < d for j in used)
        for d in range(len(families))
    ]


def _group(families: list[Likelihood]) -> list[tuple[Likelihood, list[int]]]:
    """Outputs whose families are alike, to be evaluated together."""
    groups: dict[str, tuple[Likelihood, list[int]]] = {}
    for d, family in enumerate(families):
        key = f"{type(family).__module__}.{type(family).__qualname__}{family.get_params()}"
        groups.setdefault(key, (family, []))[1].append(d)
    return list(groups.values())
