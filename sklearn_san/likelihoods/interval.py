"""Families that live on a finite interval: mixtures of betas, and histograms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .base import (
    Likelihood,
    Support,
    check_n_components,
    choose_component,
    invert_cdf,
    require,
)
from .distribution_functions import beta_cdf, beta_icdf

#: Betas are evaluated this far from the ends of the unit interval at least.
_EDGE = 1e-12
#: Least value of a beta's two shape parameters; below 1 the density would be infinite at a limit,
#: and values that lie on it would make the likelihood infinite.
MIN_SHAPE = 1.0


class _OnInterval(Likelihood):
    """A family on the unit interval, stretched to a support whose bounds are both finite."""

    bounded = True
    needs_both_limits = True

    @staticmethod
    def _width(support: Support | None) -> Tensor:
        """Distance of the bounds; at least their rounding error, where they lie far out."""
        low, high = require(support)
        info = torch.finfo(low.dtype)
        error = info.eps * torch.maximum(low.abs(), high.abs())
        return torch.maximum(high - low, error).clamp_min(info.tiny)

    def _from_unit(self, x: Tensor, support: Support | None) -> Tensor:
        low, high = require(support)
        y = low + x * (high - low)
        return torch.minimum(torch.maximum(y, low), high)


class MixtureOfBetas(_OnInterval):
    """Mixture of `K` beta distributions between two finite limits.

    Both shape parameters of a component are at least 1, so that its density is bounded.

    Parameters
    ----------
    K : int, default=None
        Number of components; None takes the estimator's `K`.
    """

    n_noise = 2

    def __init__(self, K: int | None = None):
        self.K = K

    @property
    def n_params(self) -> int:
        return 3 * self._n_components

    @property
    def _n_components(self) -> int:
        if self.K is None:
            raise ValueError(f"{type(self).__name__} needs K outside an estimator, got None.")
        return self.K

    def components(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights and the two shape parameters, each (..., K).

        The raw numbers are logits, the logits of the means, and log concentrations.
        """
        logits, raw_mean, raw_concentration = raw.split(self._n_components, -1)
        concentration = torch.exp(raw_concentration.clamp(max=16.0))
        a = MIN_SHAPE + concentration * torch.sigmoid(raw_mean)
        b = MIN_SHAPE + concentration * torch.sigmoid(-raw_mean)
        return logits.log_softmax(-1), a, b

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, a, b = self.components(raw)
        low, high = require(support)
        width = self._width(support)
        # Distances from both ends, so that neither loses digits
        log_x = ((y - low) / width).clamp(_EDGE, 1.0).log().unsqueeze(-1)
        log_rest = ((high - y) / width).clamp(_EDGE, 1.0).log().unsqueeze(-1)
        log_norm = _log_beta(a.double(), b.double()).to(a.dtype)
        log_density = (a - 1.0) * log_x + (b - 1.0) * log_rest - log_norm
        return torch.logsumexp(log_weights + log_density, -1) - width.log()

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        log_weights, a, b = self.components(raw)
        low, _ = require(support)
        x = ((y - low) / self._width(support)).clamp(0.0, 1.0).unsqueeze(-1)
        cdf = beta_cdf(*torch.broadcast_tensors(x, a, b))
        return (log_weights.exp() * cdf).sum(-1).clamp(max=1.0)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        log_weights, a, b = self.components(raw)
        a, b = choose_component(log_weights, noise[..., :1], a, b)
        return self._from_unit(beta_icdf(*torch.broadcast_tensors(noise[..., 1], a, b)), support)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        _, a, b = self.components(raw)
        quantiles = beta_icdf(*torch.broadcast_tensors(u.unsqueeze(-1), a, b))
        unit = Support(torch.zeros_like(u), torch.ones_like(u))
        x = invert_cdf(
            lambda x: (self.cdf(raw, x, unit), self.log_prob(raw, x, unit).exp()),
            u,
            quantiles.amin(-1),
            quantiles.amax(-1),
        )
        return self._from_unit(x, support)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._from_unit(self._moments(raw)[0], support)

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        low, high = require(support)
        return (high - low).square() * self._moments(raw)[1]

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        log_weights, a, b = self.components(raw)
        weights, total = log_weights.exp(), a + b
        mean_k = a / total
        variance_k = mean_k * (b / total) / (total + 1.0)
        mean = (weights * mean_k).sum(-1)
        spread = (mean_k - mean.unsqueeze(-1)).square()
        return mean, (weights * (variance_k + spread)).sum(-1)

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        K = self._n_components
        spread = (np.arange(K) + 0.5) / K
        return np.concatenate([np.zeros(K), np.log(spread / (1.0 - spread)), np.full(K, 1.5)])


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


class Softmax(_OnInterval):
    """Histogram of `atoms` equal bins between two finite limits, with learned probabilities.

    Parameters
    ----------
    atoms : int, default=50
        Number of bins.
    interpolate : bool, default=False
        Whether the density is linear between the edges of the bins, and continuous, instead of
        constant inside them.
    """

    n_noise = 1

    def __init__(self, atoms: int = 50, interpolate: bool = False):
        self.atoms = atoms
        self.interpolate = interpolate

    @property
    def n_params(self) -> int:
        return self.atoms + int(self.interpolate)

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        low, width = require(support)[0], self._width(support)
        left, right = self._edges(raw)
        _, t, left, right = self._locate((y - low) / width, left, right)
        density = (1.0 - t) * left + t * right  # an edge has its own, however low it is
        return density.clamp_min(torch.finfo(y.dtype).tiny).log() - width.log()

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        low, _ = require(support)
        left, right = self._edges(raw)
        below = self._cumulative(left, right)
        bin_, t, left, right = self._locate((y - low) / self._width(support), left, right)
        below = below.expand(*bin_.shape[:-1], -1).gather(-1, bin_).squeeze(-1)
        inside = (left + 0.5 * (right - left) * t) * t / self.atoms
        return (below + inside).clamp(max=1.0)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        left, right = self._edges(raw)
        below = self._cumulative(left, right)
        shape = torch.broadcast_shapes(u.shape, below.shape[:-1])
        u = u.expand(shape)
        bin_ = (u.unsqueeze(-1) >= below[..., 1:]).sum(-1, keepdim=True).clamp(max=self.atoms - 1)
        start, left, right = (
            v.expand(*shape, -1).gather(-1, bin_).squeeze(-1) for v in (below, left, right)
        )
        # (left + (right - left) t / 2) t = mass, by the root that is stable for equal densities
        mass = (u - start) * self.atoms
        root = (left.square() + 2.0 * (right - left) * mass).clamp_min(0.0).sqrt()
        t = (2.0 * mass / (left + root).clamp_min(torch.finfo(u.dtype).tiny)).clamp(0.0, 1.0)
        return self._from_unit((bin_.squeeze(-1) + t) / self.atoms, support)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        return self.icdf(raw, noise[..., 0], support)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._from_unit(self._moments(raw)[0], support)

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        low, high = require(support)
        return (high - low).square() * self._moments(raw)[1]

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self._edges(raw)
        h = 1.0 / self.atoms
        start = torch.arange(self.atoms, dtype=raw.dtype, device=raw.device) * h
        rise = right - left
        # Integrals of x p(x) and x^2 p(x) over a bin, with x = start + h t
        zeroth, first, second = (h * (left / (n + 1) + rise / (n + 2)) for n in range(3))
        mean = (start * zeroth + h * first).sum(-1)
        square = start.square() * zeroth + 2.0 * h * start * first + h**2 * second
        return mean, square.sum(-1) - mean.square()

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        return np.zeros(self.n_params)

    def check(self, where: str = "likelihood") -> None:
        super().check(where)
        check_n_components(self.atoms, f"atoms of {where}")

    def _edges(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Density on the unit interval at both ends of each bin, (..., atoms)."""
        if not self.interpolate:
            density = raw.softmax(-1) * self.atoms
            return density, density
        height = raw.softmax(-1)
        area = height.sum(-1, keepdim=True) - 0.5 * (height[..., :1] + height[..., -1:])
        height = height * self.atoms / area
        return height[..., :-1], height[..., 1:]

    def _cumulative(self, left: Tensor, right: Tensor) -> Tensor:
        """Probability below each bin, and 1, (..., atoms + 1)."""
        mass = (0.5 * (left + right)).cumsum(-1) / self.atoms
        return functional.pad(mass / mass[..., -1:], (1, 0))

    def _locate(self, x: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """Bin number (..., 1) of x, its place inside from 0 to 1, and that bin's densities."""
        position = x.clamp(0.0, 1.0) * self.atoms
        bin_ = position.detach().floor().clamp(max=self.atoms - 1)
        t = position - bin_
        shape = torch.broadcast_shapes(x.shape, left.shape[:-1])
        bin_ = bin_.long().expand(shape).unsqueeze(-1)
        left, right = (v.expand(*shape, -1).gather(-1, bin_).squeeze(-1) for v in (left, right))
        return bin_, t, left, right
