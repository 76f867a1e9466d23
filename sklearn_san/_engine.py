"""Density and draws of a trained ensemble in scaled units: the reference, in torch.

The density of a row is the mean of those of the members, each draw comes from one of them. `Engine`
does all of it; `compiled.engine` does the same faster for the networks that its kernels know.
`_engines` chooses. Arrays are of numpy, rows first, y in autoregressive order. Uniform numbers, by
which draws are a function, have the axis ``1 + n_outputs * n_noise``: the first one chooses the
member.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._network import SAN, Conditional
from .likelihoods.base import invert_cdf

#: Pairs of row and point that are computed at once.
PAIRS = 16_384


class Summaries(NamedTuple):
    """Of marginal distributions in scaled units; nan where nothing was asked for."""

    mean: np.ndarray  # (n_rows, n_outputs)
    variance: np.ndarray
    quantiles: np.ndarray  # (n_rows, n_levels, n_outputs)


class Engine:
    """Evaluates an ensemble.

    Parameters
    ----------
    network : SAN
        Not to be changed while the engine is used.
    device : torch.device
        To compute on.

    Attributes
    ----------
    name : str
    reason : str or None
        Why this is not the compiled engine.
    """

    name = "torch"

    def __init__(self, network: SAN, device: torch.device, reason: str | None = None):
        dtype = next(network.parameters()).dtype
        self.device, self.reason = device, reason
        self.network = _converted(network, device, dtype)

    @cached_property
    def exact(self) -> SAN:
        """The network in float64."""
        return _converted(self.network, self.device, torch.float64)

    @cached_property
    def _members(self) -> list[SAN]:
        """Each member alone, in float64."""
        return [self.exact.of_members(slice(m, m + 1)) for m in range(self.exact.n_members)]

    @torch.no_grad()
    def log_density(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Log density in nats per scaled unit of every output.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs)
        z : ndarray of shape (n_rows, n_outputs) or (n_rows, n_points, n_outputs)
            Where the last outputs are nan, the density is that of the others.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_points)
        """
        if z.ndim == 3:
            n_rows, n_points, n_outputs = z.shape
            flat = self.log_density(np.repeat(x, n_points, axis=0), z.reshape(-1, n_outputs))
            return flat.reshape(n_rows, n_points)
        network = self.network
        context, values = self._tensor(x, network).unsqueeze(1), self._tensor(z, network)
        return to_numpy(mixed_log_prob(network, context, values))

    @torch.no_grad()
    def draw(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Draws (n_rows, n_draws, n_outputs), given x (n_rows, n_inputs) and their own noise.

        Noise has shape (n_rows, n_draws, 1 + n_outputs * n_noise).
        """
        shape, n_members = noise.shape[:2], self.network.n_members
        chosen = (noise[..., 0] * n_members).astype(np.intp)  # (n_rows, n_draws)
        numbers = noise[..., 1:].reshape(*shape, self.network.n_outputs, -1)
        draws = np.empty((*shape, self.network.n_outputs))
        for m in range(n_members):
            own = chosen == m
            member = self.network.of_members(slice(m, m + 1))
            rows = np.nonzero(own)[0]
            drawn = member.sample(self._tensor(x[rows], member)[None], self._noise(numbers[own]))
            draws[own] = to_numpy(drawn[0])
        return draws

    @torch.no_grad()
    def draw_at(self, x: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Draws (n_rows, n_draws, n_outputs) at the same points for every row.

        Points have shape (n_draws, 1 + n_outputs * n_noise), as many for each member, one member
        after the other. No row's result depends on the rows beside it.
        """
        rows = self._tensor(x, self.exact)[None, :, None]
        draws = self.exact.sample(rows, self._by_member(points))
        return to_numpy(draws.transpose(0, 1).flatten(1, 2))

    @torch.no_grad()
    def summaries_at(
        self,
        x: np.ndarray,
        points: np.ndarray,
        levels: np.ndarray,
        *,
        with_moments: bool = True,
        output: int | None = None,
    ) -> Summaries:
        """Moments and quantiles of the marginal distribution of every output.

        These distributions are means of conditionals given draws of the outputs before.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs) or (n_rows, n_points, n_inputs)
            The same for all points, or one for each.
        points : ndarray of shape (n_points, 1 + n_outputs * n_noise)
            As for `draw_at`.
        levels : ndarray of shape (n_levels,)
            Of the quantiles; there may be none.
        with_moments : bool, default=True
            The mean of labels is the most probable code.
        output : int, default=None
            The only one that is wanted, and the last one that is drawn.
        """
        shape = len(x), self.network.n_outputs
        mean, variance = np.full((2, *shape), np.nan)
        quantiles = np.full((len(x), len(levels), shape[1]), np.nan)
        noise = self._by_member(points)
        for rows in chunks(len(x), max(1, PAIRS // len(points))):

            def summarise(one: Conditional, rows: slice = rows) -> Tensor:
                d = one.output
                r = one.sample(noise)
                if output is None or d == output:
                    if with_moments:
                        mean[rows, d], variance[rows, d] = _moments(one, r)
                    for i, level in enumerate(levels):
                        quantiles[rows, i, d] = to_numpy(_quantile(one, float(level)))
                return r

            self.exact.ancestral(
                self._at_points(x[rows]), summarise, None if output is None else output + 1
            )
        return Summaries(mean, variance, quantiles)

    def cdf_at(
        self, x: np.ndarray, points: np.ndarray, output: int, values: np.ndarray
    ) -> np.ndarray:
        """Marginal cdf of one output at values (n_rows, n_values) inside the limits.

        The distribution is that of `summaries_at`.
        """
        cdf = np.empty((len(x), values.shape[1]))
        for rows, one in self._conditionals_of(x, points, output):
            own = self._tensor(values[rows], self.exact)[None, :, None]
            below = one.family.cdf(one.raw, one.at(own)[0], one.support)
            cdf[rows] = to_numpy(below.mean((0, 2)))
        return cdf

    def log_density_at(
        self,
        x: np.ndarray,
        points: np.ndarray,
        output: int,
        values: np.ndarray,
        *,
        quickly: bool = False,
    ) -> np.ndarray:
        """Marginal log density of one output at values inside the limits, per scaled unit.

        Values are (n_rows, n_values), or (1, n_values) for all rows. With `quickly`, densities need
        no more than the accuracy of float32.
        """
        log_prob = np.empty((len(x), values.shape[1]))
        shared = self._tensor(values, self.exact)[None, :, None]
        for rows, one in self._conditionals_of(x, points, output):
            own = shared if len(values) == 1 else shared[:, rows]
            parts = []
            for some in own.split(max(1, PAIRS * 64 // max(one.raw.numel(), 1)), -1):
                at = one.at(some)[1]  # (n_members, n, n_points, n_values)
                parts.append(at.logsumexp((0, 2)) - math.log(at.shape[0] * at.shape[2]))
            log_prob[rows] = to_numpy(torch.cat(parts, -1))
        return log_prob

    @torch.no_grad()
    def _conditionals_of(
        self, x: np.ndarray, points: np.ndarray, output: int
    ) -> Iterator[tuple[slice, Conditional]]:
        """Chunks of rows with conditionals of one output, (n_members, n, n_points or 1, 1)."""
        noise = self._by_member(points).unsqueeze(3)
        for rows in chunks(len(x), max(1, PAIRS // len(points))):
            found: list[Conditional] = []

            def choose(one: Conditional, found: list[Conditional] = found) -> Tensor:
                found.append(one)
                is_drawn = one.output < output
                return one.sample(noise) if is_drawn else torch.zeros_like(one.raw[..., 0])

            self.exact.ancestral(self._at_points(x[rows]).unsqueeze(3), choose, output + 1)
            yield rows, found[output]

    @torch.no_grad()
    def draw_beside(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws of some outputs while others have known values.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_inputs)
        noise : ndarray of shape (n_rows * n_draws or n_draws, 1 + n_outputs * n_noise)
        known : ndarray of shape (n_rows, n_outputs)
            nan in the columns that are to be drawn.
        chosen : ndarray of shape (n_rows, n_draws)
            Member behind each draw.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_draws, n_outputs)
        log_weight : ndarray of shape (n_rows, n_draws)
            Log density of the known values, each given x and the outputs before it, in nats per
            scaled unit.
        """
        draws = np.empty((*chosen.shape, self.network.n_outputs))
        log_weight = np.empty(chosen.shape)
        for own, _, _, drawn, weight in self._beside(self.network, x, noise, known, chosen):
            draws[own], log_weight[own] = to_numpy(drawn[0]), to_numpy(weight[0])
        return draws, log_weight

    @torch.no_grad()
    def draw_and_score(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws as of `draw_beside`, and the log density of each under the member behind it.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_draws, n_outputs)
        log_prob : ndarray of shape (n_rows, n_draws)
            Of all outputs, in nats per scaled unit of each.
        """
        draws = np.empty((*chosen.shape, self.network.n_outputs))
        log_prob = np.empty(chosen.shape)
        for own, member, context, drawn, _ in self._beside(self.exact, x, noise, known, chosen):
            draws[own] = to_numpy(drawn[0])
            log_prob[own] = to_numpy(member.log_prob(context, drawn)[0])
        return draws, log_prob

    def log_density_and_slope(
        self, x: np.ndarray, z: np.ndarray, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log density of single points, and its gradient by them.

        Parameters
        ----------
        x : ndarray of shape (n, n_contexts, n_inputs)
            With several contexts the density is the mean over them.
        z : ndarray of shape (n, n_outputs)
            Where the last outputs are nan, the density is that of the others.
        chosen : ndarray of shape (n,), default=None
            Member under which each point has its density, instead of the mixture; with one
            context.

        Returns
        -------
        log_prob : ndarray of shape (n,)
            In nats per scaled unit of every output.
        slope : ndarray of shape (n, n_outputs)
            In nats per scaled unit; 0 where z is nan.
        """
        if chosen is None:
            return self._differentiated(self.exact, x, z)
        log_prob, slope = np.empty(len(z)), np.empty(z.shape)
        for m in np.unique(chosen):
            own = chosen == m
            log_prob[own], slope[own] = self._differentiated(self._members[m], x[own], z[own])
        return log_prob, slope

    @torch.enable_grad()
    def _differentiated(
        self, network: SAN, x: np.ndarray, z: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        values = self._tensor(z, network).requires_grad_(True)
        log_prob = mixed_log_prob(network, self._tensor(x, network), values)
        (slope,) = torch.autograd.grad(log_prob.sum(), values)
        return to_numpy(log_prob), to_numpy(slope)

    def _beside(
        self,
        network: SAN,
        x: np.ndarray,
        noise: np.ndarray,
        known: np.ndarray,
        chosen: np.ndarray,
    ) -> Iterator[tuple[np.ndarray, SAN, Tensor, Tensor, Tensor]]:
        """Of each member: which draws are its own, itself, their contexts, `sample_beside`."""
        noise = np.broadcast_to(
            noise.reshape(-1, chosen.shape[1], noise.shape[-1]), (*chosen.shape, noise.shape[-1])
        )
        outputs = [d for d in range(network.n_outputs) if not np.isnan(known[0, d])]
        for m in range(network.n_members):
            own = chosen == m
            member, rows = network.of_members(slice(m, m + 1)), np.nonzero(own)[0]
            context = self._tensor(x[rows], member)[None]
            numbers = noise[own][:, 1:].reshape(len(rows), network.n_outputs, -1)
            drawn, weight = member.sample_beside(
                context,
                self._noise(numbers),
                self._tensor(known[rows], member)[None],
                outputs,
            )
            yield own, member, context, drawn, weight

    def _tensor(self, array: np.ndarray, network: SAN) -> Tensor:
        dtype = next(network.parameters()).dtype
        return torch.as_tensor(array, dtype=dtype, device=self.device)

    def _noise(self, numbers: np.ndarray) -> Tensor:
        """Uniform numbers for one member, float64 whatever the network is."""
        return torch.as_tensor(numbers, dtype=torch.float64, device=self.device)[None]

    def _at_points(self, x: np.ndarray) -> Tensor:
        """Features as (n_members or 1, n_rows, n_points or 1, n_inputs)."""
        own = self._tensor(x, self.exact)
        if own.ndim == 2:
            return own[None, :, None]
        return own.unflatten(1, (self.exact.n_members, -1)).movedim(1, 0)

    def _by_member(self, points: np.ndarray) -> Tensor:
        """Points as (n_members, 1, n_points, n_outputs, n_noise)."""
        network = self.exact
        shape = (network.n_members, 1, len(points) // network.n_members, network.n_outputs, -1)
        return self._tensor(points[:, 1:], network).reshape(shape)


def _converted(network: SAN, device: torch.device, dtype: torch.dtype) -> SAN:
    """Network in evaluation mode, on a device and in a dtype; itself or a copy."""
    current = next(network.parameters())
    is_plain = not (network.training or current.is_inference())
    if current.device == device and current.dtype == dtype and is_plain:
        return network
    return copy.deepcopy(network).to(device, dtype).requires_grad_(False).eval()


def mixed_log_prob(network: SAN, x: Tensor, z: Tensor) -> Tensor:
    """Log of the mean density at z (n, n_outputs), in nats per scaled unit; differentiable.

    x is (n, n_points, n_features): with several points for each row the mixture is over these too.
    """
    log_prob = network.log_prob(x.unsqueeze(0), z[None, :, None])  # (n_members, n, n_points)
    return log_prob.logsumexp((0, 2)) - math.log(network.n_members * x.shape[1])


def _moments(one: Conditional, r: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (n,) of the mean of conditionals (n_members, n, n_points or 1).

    Those of the drawn residuals `r` where a family's own are not cheap.
    """
    probabilities = one.probabilities()
    if probabilities is not None:
        best = to_numpy(probabilities.mean((0, 2)).argmax(-1))
        return best, np.zeros_like(best)
    if one.family.cheap_moments:
        mean, variance = one.moments()
    else:
        mean = one.location + one.scale * r
        variance = torch.zeros_like(mean)
    spread = mean.var((0, 2), correction=0)
    return to_numpy(mean.mean((0, 2))), to_numpy(variance.mean((0, 2)) + spread)


def _quantile(one: Conditional, level: float) -> Tensor:
    """Quantile (n,) of the mean of conditionals (n_members, n, n_points or 1)."""
    weight = torch.ones_like(one.raw[..., 0])
    weight /= weight.shape[0] * weight.shape[2]
    return mixture_quantile(one, torch.full_like(weight[0, :, 0], level), weight)


def mixture_quantile(one: Conditional, u: Tensor, weight: Tensor) -> Tensor:
    """Quantiles u (n,) of the mixture of a conditional over members and points of x.

    `weight` is (n_members, n, n_points).
    """

    def mixed(z: Tensor) -> tuple[Tensor, Tensor]:
        r, log_prob = one.at(z[:, None])
        cdf = one.family.cdf(one.raw, r, one.support)
        return (weight * cdf).sum((0, 2)), (weight * log_prob.exp()).sum((0, 2))

    if one.family.scaling == "none":  # codes of labels: the first whose cdf reaches u
        codes = torch.arange(one.family.n_params - 1, dtype=u.dtype, device=u.device)
        cdf = torch.stack([mixed(code.expand(len(u)))[0] for code in codes], -1)
        return (u.unsqueeze(-1) > cdf).sum(-1).to(u.dtype)
    z = one.location + one.scale * one.family.icdf(one.raw, u[:, None], one.support)
    return invert_cdf(mixed, u, z.amin((0, 2)), z.amax((0, 2)))


def chunks(n_rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Float64 array on the CPU."""
    return tensor.detach().cpu().double().numpy()
