"""A density of any shape: a monotone rational-quadratic spline in front of a normal.

``z = g((y - loc) / scale)`` is standard normal; g is a spline on ``[-BOUND, BOUND]`` and the
identity outside, so the tails are exactly normal (Durkan, Bekasov, Murray and Papamakarios 2019,
Neural spline flows).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .base import Likelihood, Support, check_n_components
from .components import Normal
from .mixtures import log_scale_of
from .truncated_normal import normal_cdf

#: Half-width of the spline's interval, in scales.
BOUND = 4.0
#: Least share of the interval in one bin, times the number of bins; least slope at a knot.
MIN_BIN = 0.01
MIN_SLOPE = 1e-3


class Spline(Likelihood):
    """Monotone rational-quadratic spline with normal tails.

    Parameters
    ----------
    bins : int, default=8
        Number of bins of the spline.
    min_scale : float, default=None
        Floor of the scale in the units of y.
    """

    n_noise = 1

    def __init__(self, bins: int = 8, min_scale: float | None = None):
        self.bins = bins
        self.min_scale = min_scale

    @property
    def n_params(self) -> int:
        return 3 * self.bins + 1

    def log_prob(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        loc, log_scale, knots = self._knots(raw)
        z, log_slope = _forward((y - loc) * torch.exp(-log_scale), *knots)
        return Normal().log_pdf(z) + log_slope - log_scale

    def cdf(self, raw: Tensor, y: Tensor, support: Support | None = None) -> Tensor:
        loc, log_scale, knots = self._knots(raw)
        z, _ = _forward((y - loc) * torch.exp(-log_scale), *knots)
        return normal_cdf(z)

    def icdf(self, raw: Tensor, u: Tensor, support: Support | None = None) -> Tensor:
        loc, log_scale, knots = self._knots(raw)
        return loc + log_scale.exp() * _inverse(torch.special.ndtri(u), *knots)

    def sample(self, raw: Tensor, noise: Tensor, support: Support | None = None) -> Tensor:
        return self.icdf(raw, noise[..., 0], support)

    def mean(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw)[0]

    def variance(self, raw: Tensor, support: Support | None = None) -> Tensor:
        return self._moments(raw)[1]

    def guess_raw(self, y: np.ndarray) -> np.ndarray:
        scale = math.log(max(float(np.std(y)), 1e-12))
        return np.concatenate([[np.median(y), scale], np.zeros(3 * self.bins - 1)])

    def check(self, where: str = "likelihood") -> None:
        super().check(where)
        check_n_components(self.bins, f"bins of {where}")

    def _knots(self, raw: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Location, log scale, and the knots: positions, values and slopes, (..., bins + 1)."""
        loc, raw_scale = raw[..., 0], raw[..., 1]
        widths, heights, slopes = raw[..., 2:].split([self.bins, self.bins, self.bins - 1], -1)
        slopes = MIN_SLOPE + functional.softplus(slopes + math.log(math.expm1(1.0 - MIN_SLOPE)))
        slopes = functional.pad(slopes, (1, 1), value=1.0)  # continues as the identity
        return (
            loc,
            log_scale_of(raw_scale, self.min_scale),
            (_edges(widths), _edges(heights), slopes),
        )

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Integrals over z of the inverse spline, bin by bin, and closed forms in the tails."""
        loc, log_scale, (x, z, slope) = self._knots(raw)
        nodes, weights = (
            torch.as_tensor(v, dtype=raw.dtype, device=raw.device)
            for v in np.polynomial.legendre.leggauss(64)
        )
        start, width = z[..., :-1, None], z.diff(dim=-1)[..., None]
        point = start + width * 0.5 * (nodes + 1.0)  # (..., bins, n_nodes)
        flat = point.flatten(-2)  # (..., bins * n_nodes)
        mass = (Normal().log_pdf(point).exp() * weights * 0.5 * width).flatten(-2)
        value = _inverse(flat, *(knots.unsqueeze(-2) for knots in (x, z, slope)))
        bound = torch.tensor(BOUND, dtype=raw.dtype, device=raw.device)
        tail = 2.0 * (bound * Normal().log_pdf(bound).exp() + normal_cdf(-bound))
        mean = (mass * value).sum(-1)  # the two tails cancel
        second = (mass * value.square()).sum(-1) + tail
        scale = log_scale.exp()
        return loc + scale * mean, scale.square() * (second - mean.square())


def _edges(raw: Tensor) -> Tensor:
    """Increasing knots from -BOUND to BOUND, (..., bins + 1)."""
    share = MIN_BIN / raw.shape[-1] + (1.0 - MIN_BIN) * raw.softmax(-1)
    inner = -BOUND + 2.0 * BOUND * share.cumsum(-1)[..., :-1]
    low, high = (torch.full_like(raw[..., :1], s * BOUND) for s in (-1.0, 1.0))
    return torch.cat([low, inner, high], -1)


def _bin(value: Tensor, edges: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Left and right entry of `edges` and `others` for the bin that holds each value."""
    shape = torch.broadcast_shapes(value.shape, edges.shape[:-1])
    value = value.expand(shape)
    index = (value.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1, keepdim=True)
    found = []
    for knots in (edges, *others):
        knots = knots.expand(*shape, -1)
        found += [knots.gather(-1, index + i).squeeze(-1) for i in (0, 1)]
    return tuple(found)


def _forward(x: Tensor, xs: Tensor, zs: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Spline of x and the log of its slope."""
    inside = x.abs() < BOUND
    xc = torch.where(inside, x, 0.0)
    x0, x1, z0, z1, d0, d1 = _bin(xc, xs, zs, slopes)
    s = (z1 - z0) / (x1 - x0)
    t = (xc - x0) / (x1 - x0)
    rest = t * (1.0 - t)
    denominator = s + (d0 + d1 - 2.0 * s) * rest
    z = z0 + (z1 - z0) * (s * t.square() + d0 * rest) / denominator
    slope = d1 * t.square() + 2.0 * s * rest + d0 * (1.0 - t).square()
    log_slope = 2.0 * (s.log() - denominator.log()) + slope.log()
    return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)


def _inverse(z: Tensor, xs: Tensor, zs: Tensor, slopes: Tensor) -> Tensor:
    """X whose spline is z: the stable root of a quadratic equation."""
    inside = z.abs() < BOUND
    zc = torch.where(inside, z, 0.0)
    z0, z1, x0, x1, d0, d1 = _bin(zc, zs, xs, slopes)
    s = (z1 - z0) / (x1 - x0)
    offset, curvature = zc - z0, d0 + d1 - 2.0 * s
    a = (z1 - z0) * (s - d0) + offset * curvature
    b = (z1 - z0) * d0 - offset * curvature
    c = -s * offset
    root = (b.square() - 4.0 * a * c).clamp_min(0.0).sqrt()
    t = 2.0 * c / (-b - root)
    return torch.where(inside, x0 + t * (x1 - x0), z)
