"""Compiled log density of Gaussian mixtures, free or inside limits, with its gradient.

One pass per value, in float64 inside, instead of some fifty passes over arrays; for float32 on the
CPU, where training spends its time. The formulas are those of `_normal`. Values are handled in
blocks of `LANES`, so that the compiler turns the innermost loops into vector instructions; that is
why exp, log and erfcx are written out as polynomials without branches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic
from scipy.special import erfcx as _scipy_erfcx
from scipy.special import ndtri, ndtri_exp
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: Values per block: two vectors of eight float64.
LANES = 16
_HUGE = 1e30  # stands for an infinite bound
_NARROW = 0.05

_SCALAR: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_LOG2E = 1.0 / math.log(2.0)
_LN2_HIGH = 6.93147180369123816490e-01  # 32 bits; the rest below
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


def _erfcx_polynomial(degree: int = 20) -> np.ndarray:
    """Coefficients in ``t = (x - 2) / (x + 2)`` of ``(1 + 2 x) erfcx(x)`` for x >= 0."""
    t = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    x = 2.0 * (1.0 + t) / (1.0 - t)
    chebyshev = np.polynomial.chebyshev.chebfit(t, (1.0 + 2.0 * x) * _scipy_erfcx(x), degree)
    return np.polynomial.chebyshev.cheb2poly(chebyshev)


def _fit(function: Any, low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients of a polynomial in ``t``, -1 to 1 on [low, high], that interpolates."""
    t = np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    values = function(0.5 * (low + high) + 0.5 * (high - low) * t)
    chebyshev = np.polynomial.chebyshev.chebfit(t, values, degree)
    return tuple(np.polynomial.chebyshev.cheb2poly(chebyshev).tolist())


_ERFCX = tuple(_erfcx_polynomial().tolist())
# Normal quantiles: by q^2 in the middle, where q = p - 0.5; by sqrt(-log p) in the tail
_CENTRAL = 0.425
_MIDDLE = _fit(lambda s: ndtri(0.5 + np.sqrt(s)) / np.sqrt(s), 0.0, _CENTRAL**2, 14)
_TAIL_EDGES = (1.6, 4.0, 27.0)
_NEAR_TAIL = _fit(lambda r: ndtri_exp(-r * r), _TAIL_EDGES[0], _TAIL_EDGES[1], 14)
_FAR_TAIL = _fit(lambda r: ndtri_exp(-r * r) / r, _TAIL_EDGES[1], _TAIL_EDGES[2], 20)
_GAUSS = tuple(np.polynomial.legendre.leggauss(3)[0] * 0.5 + 0.5)
_GAUSS_WEIGHTS = tuple(np.polynomial.legendre.leggauss(3)[1] * 0.5)


@intrinsic
def _as_float(typingctx: Any, bits: Any) -> Any:
    """Float64 with the given bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


@intrinsic
def _as_float32(typingctx: Any, bits: Any) -> Any:
    """Float32 with the given bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def _as_bits32(typingctx: Any, value: Any) -> Any:
    """Bits of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def _as_bits(typingctx: Any, value: Any) -> Any:
    """Bits of a float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _exp(x):
    """Exponential to 1e-12; 0 below -700."""
    x = min(max(x, -700.0), 700.0)
    n = math.floor(x * _LOG2E + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    # 2^n by the exponent bits: adding 1.5 * 2^52 leaves the integer n in the low bits.
    bits = _as_bits(n + 6755399441055744.0) + 1023
    return p * _as_float(bits << 52)


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _log(x):
    """Natural logarithm of a positive, normal number to 1e-12."""
    bits = _as_bits(x)
    exponent = (bits >> 52) - 1023
    m = _as_float((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)  # in [1, 2)
    large = m > 1.4142135623730951
    m = 0.5 * m if large else m
    # Integers below 2^51 become floats by their bits, which has a vector instruction everywhere.
    e = _as_float(exponent + 0x4338000000000000) - 6755399441055744.0
    e = e + 1.0 if large else e
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = 2.0 / 15.0
    p = p * q + 2.0 / 13.0
    p = p * q + 2.0 / 11.0
    p = p * q + 2.0 / 9.0
    p = p * q + 2.0 / 7.0
    p = p * q + 2.0 / 5.0
    p = p * q + 2.0 / 3.0
    p = p * q + 2.0
    return e * 0.6931471805599453 + s * p


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _erfcx(x):
    """Scaled complementary error function for x >= 0, to 1e-11."""
    t = (x - 2.0) / (x + 2.0)
    p = _ERFCX[20]
    p = p * t + _ERFCX[19]
    p = p * t + _ERFCX[18]
    p = p * t + _ERFCX[17]
    p = p * t + _ERFCX[16]
    p = p * t + _ERFCX[15]
    p = p * t + _ERFCX[14]
    p = p * t + _ERFCX[13]
    p = p * t + _ERFCX[12]
    p = p * t + _ERFCX[11]
    p = p * t + _ERFCX[10]
    p = p * t + _ERFCX[9]
    p = p * t + _ERFCX[8]
    p = p * t + _ERFCX[7]
    p = p * t + _ERFCX[6]
    p = p * t + _ERFCX[5]
    p = p * t + _ERFCX[4]
    p = p * t + _ERFCX[3]
    p = p * t + _ERFCX[2]
    p = p * t + _ERFCX[1]
    p = p * t + _ERFCX[0]
    return p / (1.0 + 2.0 * x)


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _exp_small(h):
    """``exp(-h)`` for 0 <= h < 0.05, to 3e-10."""
    return 1.0 - h * (1.0 - h * (0.5 - h * (1.0 / 6.0 - h * (1.0 / 24.0 - h / 120.0))))


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _mass(a, b, width):
    """Mass M of `_normal.log_scaled_mass`, and ``exp(-(t^2 - c^2) / 2)`` at t = a and t = b."""
    flip = b < 0.0
    near = -b if flip else a
    far = -a if flip else b
    inside = near <= 0.0
    distance = abs(near)
    at_near = _exp(-0.5 * near * near if inside else 0.0)
    at_far = _exp(-0.5 * far * far if inside else -width * (near + 0.5 * width))
    left = at_near * _erfcx(distance * _SQRT_HALF)
    right = at_far * _erfcx(far * _SQRT_HALF)
    wide = _SQRT_HALF_PI * ((2.0 - left if inside else left) - right)
    # Close together: three-point quadrature, from the bound nearest to the mode
    start = max(near, 0.0)
    t0, t1, t2 = _GAUSS[0] * width, _GAUSS[1] * width, _GAUSS[2] * width
    steep = width * (start + width)
    narrow = width * (
        _GAUSS_WEIGHTS[0] * _exp_small(min(t0 * (start + 0.5 * t0), _NARROW))
        + _GAUSS_WEIGHTS[1] * _exp_small(min(t1 * (start + 0.5 * t1), _NARROW))
        + _GAUSS_WEIGHTS[2] * _exp_small(min(t2 * (start + 0.5 * t2), _NARROW))
    )
    use_narrow = steep < (1e-4 if inside else _NARROW)
    mass = narrow if use_narrow else wide
    at_low = at_far if flip else at_near
    at_high = at_near if flip else at_far
    return max(mass, 1e-300), at_low, at_high


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _mixture(raw, y, low, high, bounded, log_floor, out, gradient, slope, with_gradient):
    """Log density `out` (n,), its gradient by `raw` (n, 3 K) and its slope in `y` (n,)."""
    n, n_params = raw.shape
    K = n_params // 3
    floor = math.exp(log_floor)
    value, bottom, top = np.empty(LANES), np.zeros(LANES), np.zeros(LANES)
    largest_logit, largest = np.empty(LANES), np.empty(LANES)
    total, weight_total, drift = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    logit, loc, raw_scale = np.empty((K, LANES)), np.empty((K, LANES)), np.empty((K, LANES))
    log_density, by_loc = np.empty((K, LANES)), np.empty((K, LANES))
    by_scale = np.empty((K, LANES))
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            value[j] = y[i]
            if bounded:
                bottom[j] = max(low[i], -_HUGE)
                top[j] = min(high[i], _HUGE)
            for k in range(K):
                logit[k, j] = raw[i, k]
                loc[k, j] = raw[i, K + k]
                raw_scale[k, j] = raw[i, 2 * K + k]
        for j in range(LANES):
            largest_logit[j] = -np.inf
            largest[j] = -np.inf
            total[j] = 0.0
            weight_total[j] = 0.0
            drift[j] = 0.0
        for k in range(K):
            for j in range(LANES):
                largest_logit[j] = max(largest_logit[j], logit[k, j])
        for k in range(K):
            for j in range(LANES):
                weight_total[j] += _exp(logit[k, j] - largest_logit[j])
        for k in range(K):
            for j in range(LANES):
                grown = _exp(min(raw_scale[k, j], 60.0))
                scale = floor + grown
                inverse = 1.0 / scale
                # d log(scale) / d raw
                share = grown * inverse if raw_scale[k, j] < 60.0 else 0.0
                m = loc[k, j]
                z = (value[j] - m) * inverse
                if bounded:
                    a = (bottom[j] - m) * inverse
                    b = (top[j] - m) * inverse
                    width = (top[j] - bottom[j]) * inverse
                    mass, at_low, at_high = _mass(a, b, width)
                    centre = min(max(m, bottom[j]), top[j])
                    exponent = -((value[j] - centre) * inverse) * (
                        (0.5 * (value[j] + centre) - m) * inverse
                    )
                    norm = mass * scale
                    log_density[k, j] = logit[k, j] + exponent - _log(max(norm, 1e-300))
                    at_low = at_low / mass
                    at_high = at_high / mass
                    by_loc[k, j] = (z + at_high - at_low) * inverse
                    # An infinite bound has no density, so its moment is nothing
                    moment_low = a * at_low if at_low > 0.0 else 0.0
                    moment_high = b * at_high if at_high > 0.0 else 0.0
                    by_scale[k, j] = (z * z - 1.0 + moment_high - moment_low) * share
                else:
                    log_density[k, j] = logit[k, j] - 0.5 * z * z - _log(scale) - _LOG_SQRT_2PI
                    by_loc[k, j] = z * inverse
                    by_scale[k, j] = (z * z - 1.0) * share
        for k in range(K):
            for j in range(LANES):
                largest[j] = max(largest[j], log_density[k, j])
        for k in range(K):
            for j in range(LANES):
                p = _exp(log_density[k, j] - largest[j])
                log_density[k, j] = p  # from here on unnormalised responsibilities
                total[j] += p
        for j in range(count):
            out[start + j] = largest[j] + _log(total[j]) - _log(weight_total[j]) - largest_logit[j]
        if not with_gradient:
            continue
        for k in range(K):
            for j in range(LANES):
                responsibility = log_density[k, j] / total[j]
                weight = _exp(logit[k, j] - largest_logit[j]) / weight_total[j]
                logit[k, j] = responsibility - weight
                by_loc[k, j] *= responsibility
                by_scale[k, j] *= responsibility
                grown = _exp(min(raw_scale[k, j], 60.0))
                inverse = 1.0 / (floor + grown)
                drift[j] -= responsibility * (value[j] - loc[k, j]) * inverse * inverse
        for j in range(count):
            i = start + j
            slope[i] = drift[j]
            for k in range(K):
                gradient[i, k] = logit[k, j]
                gradient[i, K + k] = by_loc[k, j]
                gradient[i, 2 * K + k] = by_scale[k, j]
    return None


class _MixtureLogProb(Function):
    @staticmethod
    def forward(
        ctx: Any,
        raw: Tensor,
        y: Tensor,
        low: Tensor | None,
        high: Tensor | None,
        log_floor: float,
    ) -> Tensor:
        shape = y.shape
        flat = raw.reshape(-1, raw.shape[-1])
        arrays = [flat.numpy(), y.reshape(-1).numpy()]
        bounded = low is not None and high is not None
        for bound in (low, high):
            values = y if bound is None else bound
            arrays.append(values.reshape(-1).numpy())
        out = torch.empty_like(y, memory_format=torch.contiguous_format)
        slope, gradient = torch.empty_like(out), torch.empty_like(flat)
        _mixture(
            *arrays, bounded, log_floor,
            out.view(-1).numpy(), gradient.numpy(), slope.view(-1).numpy(), True,
        )  # fmt: skip
        ctx.save_for_backward(gradient, slope)
        ctx.raw_shape = raw.shape
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gradient, slope = ctx.saved_tensors
        by_raw = (gradient * grad.reshape(-1, 1)).view(ctx.raw_shape)
        by_y = grad * slope.view(grad.shape) if ctx.needs_input_grad[1] else None
        return by_raw, by_y, None, None, None


def mixture_log_prob(
    raw: Tensor, y: Tensor, low: Tensor | None, high: Tensor | None, log_floor: float
) -> Tensor:
    """Log density of a mixture of Gaussians at y (...), given raw (..., 3 K).

    Parameters
    ----------
    raw : Tensor of shape (..., 3 K)
        Logits, locations and log scales above the floor.
    y : Tensor of shape (...)
    low, high : Tensor or None
        Bounds that broadcast to y, if the components are truncated.
    log_floor : float
        Log of the smallest scale.
    """
    shape = torch.broadcast_shapes(raw.shape[:-1], y.shape)
    raw, y = raw.expand(*shape, -1), y.expand(shape)
    if low is not None and high is not None:
        low, high = low.expand(shape), high.expand(shape)
    return _MixtureLogProb.apply(raw, y, low, high, log_floor)


@njit(**_SCALAR)
def _polynomial(coefficients, t):
    p = 0.0
    for c in coefficients[::-1]:
        p = p * t + c
    return p


@njit(**_SCALAR)
def _ndtri(p):
    """Quantile of the standard normal, to 1e-9."""
    q = p - 0.5
    if abs(q) <= _CENTRAL:
        return q * _polynomial(_MIDDLE, 2.0 * q * q / _CENTRAL**2 - 1.0)
    tail = max(min(p, 1.0 - p), 1e-300)
    r = math.sqrt(-math.log(tail))
    if r < _TAIL_EDGES[1]:
        middle = 0.5 * (_TAIL_EDGES[0] + _TAIL_EDGES[1])
        z = _polynomial(_NEAR_TAIL, (r - middle) / (_TAIL_EDGES[1] - middle))
    else:
        middle = 0.5 * (_TAIL_EDGES[1] + _TAIL_EDGES[2])
        z = r * _polynomial(_FAR_TAIL, (r - middle) / (_TAIL_EDGES[2] - middle))
    return z if q < 0.0 else -z


@njit(**_SCALAR)
def _tail_offset(u, near, width):
    """As `_normal._tail_offset`: quantile of a normal on [near, near + width], less `near`."""
    start = math.log(_erfcx(near * _SQRT_HALF))
    far = 0.0
    if width < _HUGE:
        steep = math.log(_erfcx((near + width) * _SQRT_HALF)) - start
        far = math.exp(steep - width * (near + 0.5 * width))
    target = -math.log1p(u * (far - 1.0))
    t = 2.0 * target / (math.sqrt(near * near + 2.0 * target) + near)
    for _ in range(3):
        scaled = _erfcx((near + t) * _SQRT_HALF)
        value = t * (near + 0.5 * t) - math.log(scaled) + start - target
        t = max(t - value * _SQRT_HALF_PI * scaled, 0.0)
    return t


@njit(**_SCALAR)
def _truncated_quantile(u, loc, scale, low, high):
    """Value at the probability u of a normal truncated to [low, high]."""
    a, b = (low - loc) / scale, (high - loc) / scale
    mirror = a + b > 0.0
    left, right = (-b, -a) if mirror else (a, b)
    if mirror:
        u = 1.0 - u
    if right < -1.0:
        inward = scale * _tail_offset(1.0 - u, -right, (high - low) / scale)
        y = low + inward if mirror else high - inward
    else:
        below = 0.5 * math.erfc(-left * _SQRT_HALF)
        above = 0.5 * math.erfc(-right * _SQRT_HALF)
        z = _ndtri(below + u * (above - below))
        y = loc - scale * z if mirror else loc + scale * z
    return min(max(y, low), high)


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _middle(q):
    """Quantile of the standard normal at ``0.5 + q`` for `q` up to `_CENTRAL`."""
    t = q * q * (2.0 / _CENTRAL**2) - 1.0
    p = 0.0
    for i in range(len(_MIDDLE)):
        p = p * t + _MIDDLE[len(_MIDDLE) - 1 - i]
    return q * p


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _near_tail(r):
    """Quantile of the standard normal at ``exp(-r^2)``, for r between the first `_TAIL_EDGES`."""
    middle = 0.5 * (_TAIL_EDGES[0] + _TAIL_EDGES[1])
    t = (r - middle) * (1.0 / (_TAIL_EDGES[1] - middle))
    p = 0.0
    for i in range(len(_NEAR_TAIL)):
        p = p * t + _NEAR_TAIL[len(_NEAR_TAIL) - 1 - i]
    return p


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _upper_tail(x):
    """Probability of a standard normal above x."""
    distance = abs(x) * _SQRT_HALF
    tail = 0.5 * _exp(-0.5 * x * x) * _erfcx(distance)
    return tail if x >= 0.0 else 1.0 - tail


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _draw(raw, noise_component, noise_value, bounded, floor, low, high, out):
    """Draws `out` (n,) of mixtures with raw parameters (n, 3 K), from two uniform numbers each.

    What is common goes through vector instructions; components whose support lies in their tail,
    and draws beyond 5 scales, are then done one by one.
    """
    n, n_params = raw.shape
    K = n_params // 3
    weight = np.empty((K, LANES))
    largest, total, threshold = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    cumulative = np.empty(LANES)
    chosen = np.empty(LANES, dtype=np.int64)
    loc, scale, u = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    bottom, top = np.full(LANES, -_HUGE), np.full(LANES, _HUGE)
    z, rare = np.empty(LANES), np.empty(LANES)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            for k in range(K):
                weight[k, j] = raw[i, k]
            threshold[j] = noise_component[i]
            u[j] = noise_value[i]
            if bounded:
                bottom[j] = max(low[i], -_HUGE)
                top[j] = min(high[i], _HUGE)
        for j in range(LANES):
            largest[j] = weight[0, j]
            total[j] = 0.0
            cumulative[j] = 0.0
            chosen[j] = 0
        for k in range(1, K):
            for j in range(LANES):
                largest[j] = max(largest[j], weight[k, j])
        for k in range(K):
            for j in range(LANES):
                weight[k, j] = _exp(weight[k, j] - largest[j])
                total[j] += weight[k, j]
        for j in range(LANES):
            threshold[j] *= total[j]
        for k in range(K - 1):
            for j in range(LANES):
                cumulative[j] += weight[k, j]
                chosen[j] += 1 if threshold[j] >= cumulative[j] else 0
        for j in range(LANES):
            i = start + min(j, count - 1)
            loc[j] = raw[i, K + chosen[j]]
            scale[j] = raw[i, 2 * K + chosen[j]]
        for j in range(LANES):
            scale[j] = floor + _exp(min(scale[j], 60.0))
        for j in range(LANES):
            inverse = 1.0 / scale[j]
            a, b = (bottom[j] - loc[j]) * inverse, (top[j] - loc[j]) * inverse
            # Whichever side keeps more digits: the mirror image has its mass below zero
            mirror = a + b > 0.0
            left, right = (-b if mirror else a), (-a if mirror else b)
            v = 1.0 - u[j] if mirror else u[j]
            below, above = _upper_tail(-left), _upper_tail(-right)
            p = below + v * (above - below)
            q = p - 0.5
            r = math.sqrt(-_log(max(min(p, 1.0 - p), 1e-300)))
            near = _near_tail(r)
            tail = near if q < 0.0 else -near
            central = abs(q) <= _CENTRAL
            value = _middle(q) if central else tail
            z[j] = -value if mirror else value
            rare[j] = 1.0 if right < -1.0 or (r > _TAIL_EDGES[1] and not central) else 0.0
        for j in range(count):
            y = loc[j] + scale[j] * z[j]
            if rare[j] > 0.0:
                y = _truncated_quantile(u[j], loc[j], scale[j], bottom[j], top[j])
            out[start + j] = min(max(y, bottom[j]), top[j])


@njit(inline="always", error_model="numpy", fastmath={"contract"})
def _truncated_exponential(rate, width):
    """Mean and variance of a density ``exp(-rate t)`` on [0, width]."""
    steep = max(rate * width, 1e-3)
    left = _exp(-steep)
    share = width / (1.0 - left)
    flat = rate * width < 1e-3
    mean = 0.5 * width - rate * width * width / 12.0 if flat else width / steep - share * left
    variance = (width / steep) ** 2 - share * share * left
    return mean, width * width / 12.0 if flat else variance


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _moments(raw, bounded, floor, low, high, mean, variance):
    """Mean and variance (n,) of mixtures with raw parameters (n, 3 K)."""
    n, n_params = raw.shape
    K = n_params // 3
    weight = np.empty((K, LANES))
    largest, total = np.empty(LANES), np.empty(LANES)
    first, second = np.empty(LANES), np.empty(LANES)
    loc, scale = np.empty(LANES), np.empty(LANES)
    bottom, top = np.full(LANES, -_HUGE), np.full(LANES, _HUGE)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            for k in range(K):
                weight[k, j] = raw[i, k]
            if bounded:
                bottom[j] = max(low[i], -_HUGE)
                top[j] = min(high[i], _HUGE)
            largest[j] = -np.inf
            total[j] = 0.0
            first[j] = 0.0
            second[j] = 0.0
        for k in range(K):
            for j in range(LANES):
                largest[j] = max(largest[j], weight[k, j])
        for k in range(K):
            for j in range(LANES):
                i = start + min(j, count - 1)
                loc[j] = raw[i, K + k]
                scale[j] = raw[i, 2 * K + k]
            for j in range(LANES):
                w = _exp(weight[k, j] - largest[j])
                total[j] += w
                s = floor + _exp(min(scale[j], 60.0))
                m, square = loc[j], s * s
                if bounded:
                    inverse = 1.0 / s
                    a, b = (bottom[j] - m) * inverse, (top[j] - m) * inverse
                    width = (top[j] - bottom[j]) * inverse
                    mass, at_low, at_high = _mass(a, b, width)
                    at_low, at_high = at_low / mass, at_high / mass
                    z = at_low - at_high
                    moment_low = a * at_low if at_low > 0.0 else 0.0
                    moment_high = b * at_high if at_high > 0.0 else 0.0
                    square_z = 1.0 + moment_low - moment_high - z * z
                    # Where that cancels: narrow, or far in the tail
                    below = b < 0.0
                    near = -b if below else a
                    is_far = near > 50.0
                    middle = abs(0.5 * (a + b))
                    rate = near + 1.0 / near if is_far else middle
                    offset, spread = _truncated_exponential(rate, width)
                    if is_far or width < 0.05:
                        towards = -1.0 if (below or (a + b) < 0.0) else 1.0
                        edge = a if towards > 0.0 else b
                        z = edge + towards * offset
                        square_z = spread
                    m = min(max(m + s * z, bottom[j]), top[j])
                    square *= max(square_z, 0.0)
                first[j] += w * m
                second[j] += w * (square + m * m)
        for j in range(count):
            centre = first[j] / total[j]
            mean[start + j] = centre
            variance[start + j] = max(second[j] / total[j] - centre * centre, 0.0)
