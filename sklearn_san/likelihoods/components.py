"""Components of mixtures: location-scale distributions, and their truncation.

A kernel is the shape of a component, and stateless. `theta` holds the parameters of the components,
each ``(..., K)``: location, log scale, and whatever else the kernel needs. With
``z = (y - location) / scale``,

    log p(y) = log f(z) - log scale,     truncated:  ... - log (F(b) - F(a))

for standardised bounds a and b. All kernels are symmetric about 0, so upper tails are computed as
lower tails.

=====================  ====================================================================
`Kernel`               the interface
`Standard`             a kernel on the whole line, from its standard distribution
`Normal`, `Laplace`    no further parameter
`Logistic`
`StudentT`             degrees of freedom, learned
`Truncated`            any kernel inside bounds
`TruncatedNormal`      the same for the normal, in closed form to the last digit
=====================  ====================================================================
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .._constants import LOG_SQRT_2PI
from .base import Support, require
from .distribution_functions import (
    student_t_cdf,
    student_t_icdf,
    student_t_log_cdf,
    student_t_log_icdf,
)
from .truncated_normal import (
    normal_cdf,
    truncated_normal_cdf,
    truncated_normal_icdf,
    truncated_normal_log_prob,
    truncated_normal_moments,
)

Theta = tuple[Tensor, ...]
_LOG_HALF = math.log(0.5)
#: Standardised bounds closer than this are integrated by the midpoint rule.
_NARROW = 1e-4


class Kernel(ABC):
    """A location-scale distribution; `extra` are its parameters beyond location and scale."""

    n_extra = 0

    def extra(self, raw: Tensor) -> Theta:
        """Further parameters from their raw values, ``(..., n_extra * K)``."""
        return ()

    def initial_extra(self, K: int) -> np.ndarray:
        """Raw values, (n_extra * K,), from which training starts."""
        return np.zeros(0)

    @abstractmethod
    def log_prob(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        """Log density of y under each component."""

    @abstractmethod
    def cdf(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        """Cumulative distribution of each component."""

    @abstractmethod
    def icdf(self, u: Tensor, theta: Theta, support: Support | None) -> Tensor:
        """Quantile of each component."""

    @abstractmethod
    def moments(self, theta: Theta, support: Support | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of each component."""


class Standard(Kernel):
    """A kernel on the whole line, in terms of its standard distribution."""

    @abstractmethod
    def log_pdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        """Log density of the standard distribution."""

    @abstractmethod
    def standard_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        """Its cumulative distribution."""

    @abstractmethod
    def log_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        """Log of its cumulative distribution, to full relative accuracy for z < 0."""

    @abstractmethod
    def log_icdf(self, log_p: Tensor, *extra: Tensor) -> Tensor:
        """Inverse of `log_cdf`."""

    @abstractmethod
    def standard_icdf(self, u: Tensor, *extra: Tensor) -> Tensor:
        """Quantile of the standard distribution."""

    @abstractmethod
    def standard_variance(self, *extra: Tensor) -> Tensor | float:
        """Variance of the standard distribution."""

    def log_prob(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        return self.log_pdf((y - loc) * torch.exp(-log_scale), *extra) - log_scale

    def cdf(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        return self.standard_cdf((y - loc) * torch.exp(-log_scale), *extra)

    def icdf(self, u: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        return loc + log_scale.exp() * self.standard_icdf(u, *extra)

    def moments(self, theta: Theta, support: Support | None) -> tuple[Tensor, Tensor]:
        loc, log_scale, *extra = theta
        return loc, (2.0 * log_scale).exp() * self.standard_variance(*extra)


class Normal(Standard):
    """Standard normal."""

    def log_pdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return -0.5 * z.square() - LOG_SQRT_2PI

    def standard_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return normal_cdf(z)

    def log_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return torch.special.log_ndtr(z)

    def standard_icdf(self, u: Tensor, *extra: Tensor) -> Tensor:
        return torch.special.ndtri(u)

    def log_icdf(self, log_p: Tensor, *extra: Tensor) -> Tensor:
        return torch.special.ndtri(log_p.exp())

    def standard_variance(self, *extra: Tensor) -> float:
        return 1.0


class Laplace(Standard):
    """Standard Laplace, density ``exp(-|z|) / 2``."""

    def log_pdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return -z.abs() + _LOG_HALF

    def standard_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        tail = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, tail, 1.0 - tail)

    def log_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        upper = torch.log1p(-0.5 * torch.exp(-z.clamp_min(0.0)))
        return torch.where(z < 0, z + _LOG_HALF, upper)

    def log_icdf(self, log_p: Tensor, *extra: Tensor) -> Tensor:
        upper = -torch.log(-2.0 * torch.expm1(log_p))
        return torch.where(log_p < _LOG_HALF, log_p - _LOG_HALF, upper)

    def standard_icdf(self, u: Tensor, *extra: Tensor) -> Tensor:
        tail = torch.minimum(u, 1.0 - u)
        return torch.where(u < 0.5, 1.0, -1.0) * torch.log(2.0 * tail)

    def standard_variance(self, *extra: Tensor) -> float:
        return 2.0


class Logistic(Standard):
    """Standard logistic."""

    def log_pdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return -z.abs() - 2.0 * functional.softplus(-z.abs())

    def standard_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return torch.sigmoid(z)

    def log_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return functional.logsigmoid(z)

    def log_icdf(self, log_p: Tensor, *extra: Tensor) -> Tensor:
        return log_p - torch.log(-torch.expm1(log_p))

    def standard_icdf(self, u: Tensor, *extra: Tensor) -> Tensor:
        return torch.log(u) - torch.log1p(-u)

    def standard_variance(self, *extra: Tensor) -> float:
        return math.pi**2 / 3.0


class StudentT(Standard):
    """Student's t with learned degrees of freedom ``df = 1 + exp(raw)``, at most about 1,000.

    The mean exists for every component; the variance is infinite for df <= 2.
    """

    n_extra = 1

    def extra(self, raw: Tensor) -> Theta:
        return (1.0 + torch.exp(raw.clamp(-7.0, 7.0)),)

    def initial_extra(self, K: int) -> np.ndarray:
        return np.full(K, math.log(5.0))

    def log_pdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        (df,) = extra
        half = 0.5 * df
        power = half + 0.5
        log_norm = torch.lgamma(power) - torch.lgamma(half) - 0.5 * df.log()
        return log_norm - 0.5 * math.log(math.pi) - power * torch.log1p(z.square() / df)

    def standard_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return student_t_cdf(*torch.broadcast_tensors(z, *extra))

    def log_cdf(self, z: Tensor, *extra: Tensor) -> Tensor:
        return student_t_log_cdf(*torch.broadcast_tensors(z, *extra))

    def standard_icdf(self, u: Tensor, *extra: Tensor) -> Tensor:
        return student_t_icdf(*torch.broadcast_tensors(u, *extra))

    def log_icdf(self, log_p: Tensor, *extra: Tensor) -> Tensor:
        return student_t_log_icdf(*torch.broadcast_tensors(log_p, *extra))

    def standard_variance(self, *extra: Tensor) -> Tensor:
        (df,) = extra
        return torch.where(df > 2.0, df / (df - 2.0).clamp_min(1e-30), torch.inf)


class TruncatedNormal(Kernel):
    """Normal inside bounds; see `truncated_normal` for the numerics."""

    def log_prob(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale = theta
        low, high = require(support)
        return truncated_normal_log_prob(y, loc, log_scale, low, high)

    def cdf(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale = theta
        low, high = require(support)
        return truncated_normal_cdf(y, loc, log_scale, low, high)

    def icdf(self, u: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale = theta
        low, high = require(support)
        return truncated_normal_icdf(u, loc, log_scale, low, high)

    def moments(self, theta: Theta, support: Support | None) -> tuple[Tensor, Tensor]:
        loc, log_scale = theta
        low, high = require(support)
        return truncated_normal_moments(loc, log_scale, low, high)


class Truncated(Kernel):
    """A kernel inside bounds, divided by its mass there in log space."""

    def __init__(self, kernel: Standard):
        self.kernel = kernel
        self.n_extra = kernel.n_extra

    def extra(self, raw: Tensor) -> Theta:
        return self.kernel.extra(raw)

    def initial_extra(self, K: int) -> np.ndarray:
        return self.kernel.initial_extra(K)

    def log_prob(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        low, high = _finite(support)
        inverse = torch.exp(-log_scale)
        a, b = (low - loc) * inverse, (high - loc) * inverse
        log_total = log_mass(self.kernel, a, b, *extra)
        return self.kernel.log_pdf((y - loc) * inverse, *extra) - log_scale - log_total

    def cdf(self, y: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        low, high = _finite(support)
        inverse = torch.exp(-log_scale)
        a, b = (low - loc) * inverse, (high - loc) * inverse
        z = (y - loc) * inverse
        log_total = log_mass(self.kernel, a, b, *extra)
        log_below = log_mass(self.kernel, a, torch.maximum(z, a), *extra)
        return torch.exp((log_below - log_total).clamp(max=0.0))

    def icdf(self, u: Tensor, theta: Theta, support: Support | None) -> Tensor:
        loc, log_scale, *extra = theta
        low, high = require(support)
        u, loc, log_scale, low, high, *extra = torch.broadcast_tensors(
            u, loc, log_scale, low, high, *extra
        )
        scale = log_scale.exp()
        a, b = (low - loc) / scale, (high - loc) / scale
        mirror = a + b > 0
        left, right = torch.where(mirror, -b, a), torch.where(mirror, -a, b)
        u, rest = torch.where(mirror, 1.0 - u, u), torch.where(mirror, u, 1.0 - u)
        log_left, log_right = self.kernel.log_cdf(left, *extra), self.kernel.log_cdf(right, *extra)
        log_below = log_right + torch.log(u + rest * torch.exp(log_left - log_right))
        # In the upper half from above: 1 - u has only the digits that u left it
        beyond = self.kernel.log_cdf(-right, *extra).exp()
        log_above = torch.log(beyond + rest * (log_right.exp() - log_left.exp()))
        z = self.kernel.log_icdf(torch.minimum(log_below, log_above), *extra)
        z = torch.where(log_above < log_below, -z, z)
        # Between bounds that the distribution cannot tell apart it is flat.
        narrow = (right - left) < _NARROW
        z = torch.where(narrow, left + u * (right - left), z)
        z = torch.minimum(torch.maximum(z, left), right)
        y = loc + scale * torch.where(mirror, -z, z)
        return torch.minimum(torch.maximum(y, low), high)

    def moments(self, theta: Theta, support: Support | None) -> tuple[Tensor, Tensor]:
        # Quantiles at the nodes of a double-exponential rule, which takes care of infinite tails.
        t = torch.linspace(-3.6, 3.6, 181, dtype=theta[0].dtype, device=theta[0].device)
        u = 1.0 / (1.0 + torch.exp(-math.pi * torch.sinh(t)))
        weight = u * (1.0 - u) * torch.cosh(t)
        weight = weight / weight.sum()
        tiny = torch.finfo(u.dtype).eps
        wide = tuple(parameter.unsqueeze(-1) for parameter in theta)
        low, high = require(support)
        bounds = Support(low.unsqueeze(-1), high.unsqueeze(-1))
        y = self.icdf(u.clamp(tiny, 1.0 - tiny), wide, bounds)  # (..., K, n_nodes)
        mean = (weight * y).sum(-1)
        return mean, (weight * (y - mean.unsqueeze(-1)).square()).sum(-1)


def _finite(support: Support | None) -> tuple[Tensor, Tensor]:
    """Bounds with 1e30 for infinity, whose product with a vanishing gradient is 0."""
    low, high = require(support)
    return low.clamp(-1e30, 1e30), high.clamp(-1e30, 1e30)


class _LogMass(Function):
    """``log (F(b) - F(a))`` of a kernel; its gradients are the densities at the bounds."""

    @staticmethod
    def forward(ctx: Any, kernel: Standard, a: Tensor, b: Tensor, *extra: Tensor) -> Tensor:
        log_total = _log_mass(kernel, a, b, *extra)
        ctx.kernel = kernel
        ctx.save_for_backward(a, b, log_total, *extra)
        return log_total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        a, b, log_total, *extra = ctx.saved_tensors
        kernel = ctx.kernel

        def density(bound: Tensor) -> Tensor:
            value = torch.exp(kernel.log_pdf(bound.clamp(-1e30, 1e30), *extra) - log_total)
            return torch.where(bound.isinf() | log_total.isinf(), 0.0, value)

        gradients: list[Tensor | None] = [None]
        gradients.append((-grad * density(a)).sum_to_size(a.shape))
        gradients.append((grad * density(b)).sum_to_size(b.shape))
        for i, value in enumerate(extra):  # by central differences in float64
            a64, b64, *more = (t.double() for t in (a, b, *extra))
            step = 1e-5 * more[i]
            up, down = (
                _log_mass(kernel, a64, b64, *more[:i], more[i] + h, *more[i + 1 :])
                for h in (step, -step)
            )
            slope = torch.nan_to_num((up - down) / (2.0 * step), 0.0, 0.0, 0.0)
            gradients.append((grad * slope.to(grad.dtype)).sum_to_size(value.shape))
        return tuple(gradients)


def log_mass(kernel: Standard, a: Tensor, b: Tensor, *extra: Tensor) -> Tensor:
    """``log (F(b) - F(a))``, accurate in both tails and for bounds close together."""
    return _LogMass.apply(kernel, a, b, *extra)


def _log_mass(kernel: Standard, a: Tensor, b: Tensor, *extra: Tensor) -> Tensor:
    mirror = a + b > 0
    left, right = torch.where(mirror, -b, a), torch.where(mirror, -a, b)
    log_left, log_right = kernel.log_cdf(left, *extra), kernel.log_cdf(right, *extra)
    wide = log_right + torch.log(-torch.expm1(log_left - log_right))
    middle = (0.5 * (left + right)).clamp(-1e30, 1e30)
    width = (right - left).clamp_min(torch.finfo(a.dtype).tiny)
    narrow = torch.log(width.clamp(max=1.0)) + kernel.log_pdf(middle, *extra)
    return torch.where(width < _NARROW, narrow, wide)
