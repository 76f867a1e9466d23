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
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ._network import SAN, Conditional


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
            drawn = member.sample(
                self._tensor(x[rows], member)[None], self._tensor(numbers[own], member)[None]
            )
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
    def moments_at(self, x: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each output, (n_rows, n_outputs), over draws of those before it.

        Points are as for `draw_at`. The mean of labels is the most probable code.
        """
        noise = self._by_member(points)
        moments: list[tuple[Tensor, Tensor]] = []

        def remember(one: Conditional) -> Tensor:
            probabilities, r = one.probabilities(), one.sample(noise)
            if probabilities is not None:
                best = probabilities.mean((0, 2), keepdim=True).argmax(-1).double()
                moments.append((best, torch.zeros_like(best)))
            elif one.family.cheap_moments:
                moments.append(one.moments())
            else:
                drawn = one.location + one.scale * r
                moments.append((drawn, torch.zeros_like(drawn)))
            return r

        self.exact.ancestral(self._tensor(x, self.exact)[None, :, None], remember)
        mean, variance = np.empty((2, len(x), len(moments)))
        for d, (mean_d, variance_d) in enumerate(moments):
            # Of each member at each point, (n_members or 1, n_rows, n_points or 1)
            mean[:, d] = to_numpy(mean_d.mean((0, 2)))
            spread = mean_d.var((0, 2), correction=0)
            variance[:, d] = to_numpy(variance_d.mean((0, 2)) + spread)
        return mean, variance

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
        network = self.network
        noise = np.broadcast_to(
            noise.reshape(-1, chosen.shape[1], noise.shape[-1]), (*chosen.shape, noise.shape[-1])
        )
        draws = np.empty((*chosen.shape, network.n_outputs))
        log_weight = np.zeros(chosen.shape)
        for m in range(network.n_members):
            own = chosen == m
            member, rows = network.of_members(slice(m, m + 1)), np.nonzero(own)[0]
            values = self._tensor(known[rows], member)
            numbers = noise[own][:, 1:].reshape(len(rows), network.n_outputs, -1)
            drawn, weight = member.sample_beside(
                self._tensor(x[rows], member)[None],
                self._tensor(numbers, member)[None],
                values[None],
                [d for d in range(network.n_outputs) if not np.isnan(known[0, d])],
            )
            draws[own], log_weight[own] = to_numpy(drawn[0]), to_numpy(weight[0])
        return draws, log_weight

    def _tensor(self, array: np.ndarray, network: SAN) -> Tensor:
        dtype = next(network.parameters()).dtype
        return torch.as_tensor(array, dtype=dtype, device=self.device)

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


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Float64 array on the CPU."""
    return tensor.detach().cpu().double().numpy()
