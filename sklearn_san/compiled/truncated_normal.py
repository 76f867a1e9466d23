"""The truncated normal distribution compiled; the reference has the same names and symbols."""

from __future__ import annotations

import math

import numpy as np

from .jit import kernel, piece
from .special import SQRT_HALF, erfcx, erfcx_32, exp, exp_32, ndtri

HUGE = 1e30  # stands for an infinite bound
SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
#: Below this width times distance the tail integral is done by quadrature.
_NARROW = 0.05
_GAUSS = tuple(np.polynomial.legendre.leggauss(3)[0] * 0.5 + 0.5)
_GAUSS_WEIGHTS = tuple(np.polynomial.legendre.leggauss(3)[1] * 0.5)

# In float32
_F32 = np.float32
_ZERO_32, _ONE_32, _TWO_32 = _F32(0.0), _F32(1.0), _F32(2.0)
_HALF_32, _THIRD_32, _QUARTER_32, _FIFTH_32, _SIXTH_32 = (_F32(1.0 / k) for k in range(2, 7))
_SQRT_HALF_32, _SQRT_HALF_PI_32 = _F32(SQRT_HALF), _F32(SQRT_HALF_PI)
_LEAST_32, _FAR_32, _TINY_32 = _F32(-60.0), _F32(1e6), _F32(1e-30)
_GAUSS_32, _WEIGHTS_32 = (tuple(_F32(v) for v in one) for one in (_GAUSS, _GAUSS_WEIGHTS))


@piece
def exp_small(h):
    """``exp(-h)`` for 0 <= h < 0.05, to 3e-10."""
    return 1.0 - h * (1.0 - h * (0.5 - h * (1.0 / 6.0 - h * (1.0 / 24.0 - h / 120.0))))


@piece
def mass_and_ends(a, b, width):
    """Mass M of `log_scaled_mass`, and ``exp(-(t^2 - c^2) / 2)`` at t = a and t = b."""
    flip = b < 0.0
    near = -b if flip else a
    far = -a if flip else b
    inside = near <= 0.0
    distance = abs(near)
    at_near = exp(-0.5 * near * near if inside else 0.0)
    at_far = exp(-0.5 * far * far if inside else -width * (near + 0.5 * width))
    left = at_near * erfcx(distance * SQRT_HALF)
    right = at_far * erfcx(far * SQRT_HALF)
    wide = SQRT_HALF_PI * ((2.0 - left if inside else left) - right)
    # Close together: three-point quadrature of exp(-(t^2 - c^2) / 2) from the nearer bound on
    offset = 0.5 * near * near if inside else 0.0
    t0, t1, t2 = _GAUSS[0] * width, _GAUSS[1] * width, _GAUSS[2] * width
    steep = width * (max(near, 0.0) + width)
    narrow = width * (
        _GAUSS_WEIGHTS[0] * exp_small(min(max(t0 * (near + 0.5 * t0) + offset, 0.0), _NARROW))
        + _GAUSS_WEIGHTS[1] * exp_small(min(max(t1 * (near + 0.5 * t1) + offset, 0.0), _NARROW))
        + _GAUSS_WEIGHTS[2] * exp_small(min(max(t2 * (near + 0.5 * t2) + offset, 0.0), _NARROW))
    )
    use_narrow = steep < (1e-4 if inside else _NARROW)
    mass = narrow if use_narrow else wide
    at_low = at_far if flip else at_near
    at_high = at_near if flip else at_far
    return max(mass, 1e-300), at_low, at_high


@piece
def exp_small_32(h):
    """``exp(-h)`` for 0 <= h <= 0.25, to float32's accuracy."""
    p = _ONE_32 - h * _SIXTH_32
    p = _ONE_32 - h * _FIFTH_32 * p
    p = _ONE_32 - h * _QUARTER_32 * p
    p = _ONE_32 - h * _THIRD_32 * p
    p = _ONE_32 - h * _HALF_32 * p
    return _ONE_32 - h * p


@piece
def mass_and_ends_32(a, b, width):
    """`mass_and_ends` in float32, to 2e-6; with the quadrature up to where that is needed."""
    flip = b < _ZERO_32
    near = -b if flip else a
    far = -a if flip else b
    inside = near <= _ZERO_32
    distance = abs(near)
    first = -_HALF_32 * near * near if inside else _ZERO_32
    second = -_HALF_32 * far * far if inside else -width * (near + _HALF_32 * width)
    at_near, at_far = exp_32(max(first, _LEAST_32)), exp_32(max(second, _LEAST_32))
    left = at_near * erfcx_32(min(distance * _SQRT_HALF_32, _FAR_32))
    right = at_far * erfcx_32(min(far * _SQRT_HALF_32, _FAR_32))
    wide = _SQRT_HALF_PI_32 * ((_TWO_32 - left if inside else left) - right)
    offset = _HALF_32 * near * near if inside else _ZERO_32
    t0, t1, t2 = _GAUSS_32[0] * width, _GAUSS_32[1] * width, _GAUSS_32[2] * width
    steep = width * (max(near, _ZERO_32) + width)
    h0 = min(max(t0 * (near + _HALF_32 * t0) + offset, _ZERO_32), _QUARTER_32)
    h1 = min(max(t1 * (near + _HALF_32 * t1) + offset, _ZERO_32), _QUARTER_32)
    h2 = min(max(t2 * (near + _HALF_32 * t2) + offset, _ZERO_32), _QUARTER_32)
    narrow = width * (
        _WEIGHTS_32[0] * exp_small_32(h0)
        + _WEIGHTS_32[1] * exp_small_32(h1)
        + _WEIGHTS_32[2] * exp_small_32(h2)
    )
    mass = narrow if steep < _QUARTER_32 else wide
    at_low = at_far if flip else at_near
    at_high = at_near if flip else at_far
    return max(mass, _TINY_32), at_low, at_high


@kernel
def tail_offset(u, rest, near, width):
    """As `_tail_offset`: quantile of a normal on [near, near + width], less `near`."""
    start = math.log(erfcx(near * SQRT_HALF))
    far = 0.0
    if width < HUGE:
        steep = math.log(erfcx((near + width) * SQRT_HALF)) - start
        far = math.exp(steep - width * (near + 0.5 * width))
    target = -math.log1p(u * (far - 1.0)) if u < 0.5 else -math.log(rest + u * far)
    t = 2.0 * target / (math.sqrt(near * near + 2.0 * target) + near)
    for _ in range(3):
        scaled = erfcx((near + t) * SQRT_HALF)
        value = t * (near + 0.5 * t) - math.log(scaled) + start - target
        t = max(t - value * SQRT_HALF_PI * scaled, 0.0)
    return t


@kernel
def truncated_quantile(u, loc, scale, low, high):
    """Value at the probability u of a normal truncated to [low, high]."""
    a, b = (low - loc) / scale, (high - loc) / scale
    mirror = a + b > 0.0
    left, right = (-b, -a) if mirror else (a, b)
    u, rest = (1.0 - u, u) if mirror else (u, 1.0 - u)
    if right < -1.0:
        inward = scale * tail_offset(rest, u, -right, (high - low) / scale)
        y = low + inward if mirror else high - inward
    else:
        below = 0.5 * math.erfc(-left * SQRT_HALF)
        mass = 0.5 * math.erfc(-right * SQRT_HALF) - below
        z = ndtri(below + u * mass, 0.5 * math.erfc(right * SQRT_HALF) + rest * mass)
        y = loc - scale * z if mirror else loc + scale * z
    return min(max(y, low), high)


@piece
def exponential_moments(rate, width):
    """Mean and variance of a density ``exp(-rate t)`` on [0, width]."""
    steep = max(rate * width, 1e-3)
    left = exp(-steep)
    share = width / (1.0 - left)
    flat = rate * width < 1e-3
    mean = 0.5 * width - rate * width * width / 12.0 if flat else width / steep - share * left
    variance = (width / steep) ** 2 - share * share * left
    return mean, width * width / 12.0 if flat else variance
