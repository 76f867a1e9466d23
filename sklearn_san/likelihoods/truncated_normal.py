"""The truncated normal distribution, stable in log space and in every tail.

For a component with location m and scale s on [low, high] put ``a = (low - m) / s``,
``b = (high - m) / s``, ``z = (y - m) / s`` and let c be the point of [a, b] nearest to 0. Then

    log p(y) = -(z^2 - c^2) / 2 - log s - log M,   M = integral_a^b exp(-(t^2 - c^2) / 2) dt

where M never under- or overflows: it is a sum of error functions when the mode is inside the
bounds (c = 0), and a difference of scaled complementary error functions when it is outside.
Gradients are analytic, in terms of the density at the two bounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
#: Below this value of width times distance the tail integral is done by quadrature.
_NARROW = 0.5
#: Moments: an exponential this many scales out, quadrature below this standardised width.
_EXPONENTIAL, _SHORT = 250.0, 0.5
#: A mode this many scales outside the bounds is in the tail: quantiles start from the bound.
_FAR = 1.0
_points, _weights = np.polynomial.legendre.leggauss(8)
_NODES, _NODE_WEIGHTS = 0.5 * (_points + 1.0), 0.5 * _weights  # on [0, 1]
_points, _weights = np.polynomial.legendre.leggauss(16)
_FINE_NODES, _FINE_WEIGHTS = 0.5 * (_points + 1.0), 0.5 * _weights


def normal_cdf(z: Tensor) -> Tensor:
    """Probability of a standard normal below z, in the lower tail to all its digits.

    That of torch is a difference from 1/2, of which nothing is left 8 deviations out.
    """
    return 0.5 * torch.erfc(-_SQRT_HALF * z)


def log_scaled_mass(a: Tensor, b: Tensor, width: Tensor) -> Tensor:
    """``log integral_a^b exp(-(t^2 - c^2) / 2) dt``, with c the point of [a, b] nearest to 0.

    Parameters
    ----------
    a, b : Tensor
        Standardised bounds, ``a < b``, infinities allowed.
    width : Tensor
        ``b - a``, given apart because the difference loses digits far out.
    """
    flip = b < 0
    near = torch.where(flip, -b, a)  # the bound nearest to 0, if 0 is outside
    far = torch.where(flip, -a, b)
    # Mode inside: a sum of two positive terms.
    mass = _SQRT_HALF_PI * (torch.erf(far * _SQRT_HALF) - torch.erf(near * _SQRT_HALF))
    outside = near > 0
    if bool(outside.any()):
        mass = torch.where(outside, _tail_mass(near, far, width, outside), mass)
    return mass.clamp_min(torch.finfo(mass.dtype).tiny).log()


def _tail_mass(near: Tensor, far: Tensor, width: Tensor, outside: Tensor) -> Tensor:
    """``integral_0^width exp(-near t - t^2 / 2) dt``, computed where `outside` is True."""
    near, far, width, outside = torch.broadcast_tensors(near, far, width, outside)
    full = torch.zeros_like(near)
    near, far, width = near[outside], far[outside], width[outside]  # (n_outside,)
    mass = torch.special.erfcx(near * _SQRT_HALF)
    decay = torch.exp(-0.5 * width * (near + far))
    mass = _SQRT_HALF_PI * (mass - decay * torch.special.erfcx(far * _SQRT_HALF))
    narrow = width * (near + width) < _NARROW
    if bool(narrow.any()):
        n, w = near[narrow], width[narrow]
        nodes = torch.as_tensor(_NODES, dtype=n.dtype, device=n.device)
        weights = torch.as_tensor(_NODE_WEIGHTS, dtype=n.dtype, device=n.device)
        t = w.unsqueeze(-1) * nodes  # (n_narrow, n_nodes)
        integrand = torch.exp(-t * (n.unsqueeze(-1) + 0.5 * t))
        mass[narrow] = w * (integrand * weights).sum(-1)
    return full.masked_scatter(outside, mass)


def _standardise(
    loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Inverse scale, standardised bounds, their nearest point to 0, and the log mass M."""
    inverse = torch.exp(-log_scale)
    a, b = (low - loc) * inverse, (high - loc) * inverse
    nearest = torch.zeros_like(a).clamp(a, b)
    return inverse, a, b, nearest, log_scaled_mass(a, b, (high - low) * inverse)


def _at_bound(bound: Tensor, nearest: Tensor, log_norm: Tensor) -> Tensor:
    """Density at a standardised bound; zero where that is infinite."""
    density = torch.exp(-0.5 * (bound - nearest) * (bound + nearest) - log_norm)
    return torch.where(bound.isinf(), 0.0, density)


def _moment(bound: Tensor, loc: Tensor, density: Tensor) -> Tensor:
    """``(bound - loc) * density`` with 0 for an infinite bound."""
    return torch.where(bound.isinf(), 0.0, (bound - loc) * density)


class _TruncatedNormalLogProb(Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        inverse, a, b, nearest, log_mass = _standardise(loc, log_scale, low, high)
        centre = torch.minimum(torch.maximum(loc, low), high)
        # z^2 - c^2 as a product: no digits are lost when both are large.
        half_sum = (0.5 * (y + centre) - loc) * inverse
        log_norm = log_scale + log_mass
        ctx.save_for_backward(y, loc, low, high, inverse, a, b, nearest, log_norm)
        return -(y - centre) * inverse * half_sum - log_norm

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, loc, low, high, inverse, a, b, nearest, log_norm = ctx.saved_tensors
        at_low, at_high = _at_bound(a, nearest, log_norm), _at_bound(b, nearest, log_norm)
        z = (y - loc) * inverse
        slope = z * inverse
        bounds = _moment(high, loc, at_high) - _moment(low, loc, at_low)
        gradients = (
            lambda: -grad * slope,
            lambda: grad * (slope + at_high - at_low),
            lambda: grad * (z.square() - 1.0 + bounds),
            lambda: grad * at_low,
            lambda: -grad * at_high,
        )
        return _reduced(ctx, gradients, (y, loc, loc, low, high))


class _TruncatedNormalCdf(Function):
    @staticmethod
    def forward(
        ctx: Any, y: Tensor, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        inverse, a, b, nearest, log_mass = _standardise(loc, log_scale, low, high)
        z = torch.minimum(torch.maximum((y - loc) * inverse, a), b)
        below = torch.zeros_like(z).clamp(a, z)  # nearest point to 0 of [a, z]
        log_below = log_scaled_mass(a, z, (y - low) * inverse)
        log_ratio = -0.5 * (below - nearest) * (below + nearest) + log_below - log_mass
        cdf = torch.where(z > a, log_ratio.exp().clamp(max=1.0), 0.0)
        ctx.save_for_backward(y, loc, low, high, inverse, a, b, nearest, log_scale + log_mass, cdf)
        return cdf

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, loc, low, high, inverse, a, b, nearest, log_norm, cdf = ctx.saved_tensors
        at_low, at_high = _at_bound(a, nearest, log_norm), _at_bound(b, nearest, log_norm)
        z = (y - loc) * inverse
        at_y = torch.exp(-0.5 * (z - nearest) * (z + nearest) - log_norm)
        moment_low, moment_high = _moment(low, loc, at_low), _moment(high, loc, at_high)
        gradients = (
            lambda: grad * at_y,
            lambda: grad * (at_low - at_y + cdf * (at_high - at_low)),
            lambda: grad * (moment_low - (y - loc) * at_y + cdf * (moment_high - moment_low)),
            lambda: -grad * (1.0 - cdf) * at_low,
            lambda: -grad * cdf * at_high,
        )
        return _reduced(ctx, gradients, (y, loc, loc, low, high))


def _reduced(ctx: Any, gradients: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Evaluate the gradients that are needed, summed over the axes that were broadcast."""
    return tuple(
        gradient().sum_to_size(value.shape) if needed else None
        for gradient, value, needed in zip(gradients, inputs, ctx.needs_input_grad, strict=True)
    )


def truncated_normal_log_prob(
    y: Tensor, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Log density of a normal truncated to [low, high]; all arguments broadcast."""
    return _TruncatedNormalLogProb.apply(y, loc, log_scale, low, high)


def truncated_normal_cdf(
    y: Tensor, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Cumulative distribution of a normal truncated to [low, high]."""
    return _TruncatedNormalCdf.apply(y, loc, log_scale, low, high)


def truncated_normal_icdf(
    u: Tensor, loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Quantile function of a normal truncated to [low, high].

    The bounds are mirrored so that the work is done in the left tail, where probabilities keep
    their digits.
    """
    u, loc, log_scale, low, high = torch.broadcast_tensors(u, loc, log_scale, low, high)
    scale = log_scale.exp()
    a, b = (low - loc) / scale, (high - loc) / scale
    mirror = a + b > 0
    left, right = torch.where(mirror, -b, a), torch.where(mirror, -a, b)
    # 1 - u has only the digits that u left it, so that either tail is counted from its own side
    u, rest = torch.where(mirror, 1.0 - u, u), torch.where(mirror, u, 1.0 - u)
    below = normal_cdf(left)
    mass = normal_cdf(right) - below
    below, above = below + u * mass, normal_cdf(-right) + rest * mass
    z = torch.special.ndtri(torch.minimum(below, above))
    z = torch.where(above < below, -z, z)
    z = torch.minimum(torch.maximum(z, left), right)
    y = loc + scale * torch.where(mirror, -z, z)
    far = right < -_FAR
    if bool(far.any()):
        width = ((high - low) / scale)[far]
        inward = _tail_offset(rest[far], u[far], -right[far], width)
        inward = scale[far] * inward  # distance from the bound next to the mode
        edge = torch.where(mirror[far], low[far] + inward, high[far] - inward)
        y = y.masked_scatter(far, edge)
    return torch.minimum(torch.maximum(y, low), high)


def _tail_offset(u: Tensor, rest: Tensor, near: Tensor, width: Tensor) -> Tensor:
    """Quantile t of a standard normal on [near, near + width] less `near`, far in the tail.

    With ``rest = 1 - u`` to all its digits.
    Solves ``S(near + t) / S(near) = v`` for the survival function S by Newton's method on its
    log, in terms of t itself, so that no digits are lost however large `near` is.
    """

    def log_mills(t: Tensor) -> Tensor:
        return torch.special.erfcx((near + t) * _SQRT_HALF).log()

    start = log_mills(torch.zeros_like(near))
    far_log = torch.where(
        width.isinf(), -torch.inf, log_mills(width) - start - width * (near + 0.5 * width)
    )
    v = torch.log(rest + u * torch.exp(far_log))
    target = -torch.where(u < 0.5, torch.log1p(u * torch.expm1(far_log)), v)  # -log v
    t = 2.0 * target / (torch.sqrt(near.square() + 2.0 * target) + near)
    for _ in range(5):
        value = t * (near + 0.5 * t) - log_mills(t) + start - target
        inverse_hazard = _SQRT_HALF_PI * log_mills(t).exp()
        t = (t - value * inverse_hazard).clamp_min(0.0)
    return t


def truncated_normal_moments(
    loc: Tensor, log_scale: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of a normal truncated to [low, high]; computed in float64.

    From the boundary terms of partial integration. These cancel far out in a tail, where the
    density is exponential with rate c (relative error of the variance: 6 / c^2), and between
    bounds close together, where quadrature takes their place.
    """
    dtype = loc.dtype
    loc, log_scale, low, high = (
        value.double() for value in torch.broadcast_tensors(loc, log_scale, low, high)
    )
    inverse, a, b, nearest, log_mass = _standardise(loc, log_scale, low, high)
    width = (high - low) * inverse
    at_low, at_high = _at_bound(a, nearest, log_mass), _at_bound(b, nearest, log_mass)
    mean = at_low - at_high  # in standardised units
    zero = torch.zeros_like(a)
    variance = 1.0 + _moment(a, zero, at_low) - _moment(b, zero, at_high) - mean.square()
    # Measured from the bound nearest to the mode, in the direction away from the mode
    start, sign = torch.where(nearest == 0, a, nearest), torch.where(b < 0, -1.0, 1.0)
    near = sign * start
    short = (width < _SHORT) & (width * (near.abs() + width) < 8.0 * _SHORT)
    for chosen, moments in (
        (short, _short_moments),
        ((nearest.abs() > _EXPONENTIAL) & ~short, _exponential_moments),
    ):
        if bool(chosen.any()):
            offset, spread = moments(near[chosen], width[chosen])
            measured = start[chosen] + sign[chosen] * offset
            if moments is _exponential_moments:  # the mean cancels later than the variance does
                measured = torch.where(near[chosen] < 1e4, mean[chosen], measured)
            mean = mean.masked_scatter(chosen, measured)
            variance = variance.masked_scatter(chosen, spread)
    scale = log_scale.exp()
    mean = torch.minimum(torch.maximum(loc + scale * mean, low), high)
    return mean.to(dtype), (variance.clamp_min(0.0) * scale.square()).to(dtype)


def _short_moments(near: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a density ``exp(-near t - t^2 / 2)`` on [0, width], by quadrature."""
    t = width.unsqueeze(-1) * torch.as_tensor(_FINE_NODES, device=width.device)  # (n, n_nodes)
    density = torch.exp(-t * (near.unsqueeze(-1) + 0.5 * t))
    density = density * torch.as_tensor(_FINE_WEIGHTS, device=width.device)
    density = density / density.sum(-1, keepdim=True)
    mean = (density * t).sum(-1)
    return mean, (density * (t - mean.unsqueeze(-1)).square()).sum(-1)


def _exponential_moments(rate: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of an exponential distribution truncated to [0, width]; steep ones only."""
    x = (rate * width).clamp(max=700.0)
    grown = torch.expm1(x)
    mean = torch.where(x < 700.0, 1.0 - x / grown, 1.0)
    variance = torch.where(x < 700.0, 1.0 - x.square() * (grown + 1.0) / grown.square(), 1.0)
    return mean / rate, variance / rate.square()
