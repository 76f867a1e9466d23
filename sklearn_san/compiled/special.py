"""Elementary functions as polynomials without branches, which compilers turn into vector code.

Accuracies are stated per function and tested against scipy; in the reference, torch has them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from scipy.special import erfcx as _scipy_erfcx
from scipy.special import ndtri as _scipy_ndtri
from scipy.special import ndtri_exp

from .jit import kernel, piece

SQRT_HALF = math.sqrt(0.5)
_LOG2E = 1.0 / math.log(2.0)
_LN2_HIGH = 6.93147180369123816490e-01  # 32 bits; the rest below
_LN2_LOW = 1.90821492927058770002e-10

# In float32
_F32 = np.float32
_LOG2E_32 = _F32(1.0 / math.log(2.0))
_LN2_HIGH_32, _LN2_LOW_32 = _F32(0.693359375), _F32(-2.12194440e-4)
_ROUND_32 = _F32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
_ONE_32, _LARGE_32 = _F32(1.0), _F32(87.0)
_HALF_32, _TWO_32, _SQRT_TWO_32 = _F32(0.5), _F32(2.0), _F32(math.sqrt(2.0))
_LN2_32, _LEAST_32 = _F32(math.log(2.0)), _F32(-80.0)
_S3, _S5, _S7, _S9 = (_F32(2.0 / k) for k in (3, 5, 7, 9))
_C2, _C3, _C4, _C5, _C6 = (_F32(1.0 / math.factorial(k)) for k in range(2, 7))


def fit_erfcx(degree: int = 20) -> np.ndarray:
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


_ERFCX = tuple(fit_erfcx().tolist())
_ERFCX_32 = tuple(_F32(c) for c in fit_erfcx(10))
# Normal quantiles: by q^2 in the middle, where q = p - 0.5; by sqrt(-log p) in the tail
CENTRAL = 0.425
_MIDDLE = _fit(lambda s: _scipy_ndtri(0.5 + np.sqrt(s)) / np.sqrt(s), 0.0, CENTRAL**2, 14)
TAIL_EDGES = (1.6, 4.0, 27.0)
_NEAR_TAIL = _fit(lambda r: ndtri_exp(-r * r), TAIL_EDGES[0], TAIL_EDGES[1], 14)
_FAR_TAIL = _fit(lambda r: ndtri_exp(-r * r) / r, TAIL_EDGES[1], TAIL_EDGES[2], 20)


@intrinsic
def as_float(typingctx: Any, bits: Any) -> Any:
    """Float64 with the given bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


@intrinsic
def as_float32(typingctx: Any, bits: Any) -> Any:
    """Float32 with the given bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@intrinsic
def as_bits32(typingctx: Any, value: Any) -> Any:
    """Bits of a float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), codegen


@intrinsic
def as_bits(typingctx: Any, value: Any) -> Any:
    """Bits of a float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@piece
def exp(x):
    """Exponential to 1e-12; 0 below -700."""
    x = min(max(x, -700.0), 700.0)
    n = math.floor(x * _LOG2E + 0.5)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    first = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6.0))
    second = (1.0 / 24.0 + r * (1.0 / 120.0)) + r2 * (1.0 / 720.0 + r * (1.0 / 5040.0))
    third = (1.0 / 40320.0 + r * (1.0 / 362880.0)) + r2 * (1.0 / 3628800.0 + r * (1.0 / 39916800.0))
    p = first + r4 * (second + r4 * third)
    # 2^n by the exponent bits: adding 1.5 * 2^52 leaves the integer n in the low bits.
    bits = as_bits(n + 6755399441055744.0) + 1023
    return p * as_float(bits << 52)


@piece
def log(x):
    """Natural logarithm of a positive, normal number to 1e-12."""
    bits = as_bits(x)
    exponent = (bits >> 52) - 1023
    m = as_float((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)  # in [1, 2)
    large = m > 1.4142135623730951
    m = 0.5 * m if large else m
    # Integers below 2^51 become floats by their bits, which has a vector instruction everywhere.
    e = as_float(exponent + 0x4338000000000000) - 6755399441055744.0
    e = e + 1.0 if large else e
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    q2 = q * q
    low = (2.0 + q * (2.0 / 3.0)) + q2 * (2.0 / 5.0 + q * (2.0 / 7.0))
    high = (2.0 / 9.0 + q * (2.0 / 11.0)) + q2 * (2.0 / 13.0 + q * (2.0 / 15.0))
    p = low + q2 * q2 * high
    return e * 0.6931471805599453 + s * p


@piece
def log1p(t):
    """``log(1 + t)`` for t >= 0 to 1e-12, small ones as well."""
    grown = 1.0 + t
    counted = grown - 1.0
    return log(grown) * (t / counted) if counted > 0.0 else t


@piece
def decay(x):
    """``1 - exp(-x)`` to 1e-11 and ``exp(-x)``, for x >= 0."""
    left = exp(-x)
    h = min(x, 0.1)
    p = 1.0 / 5040.0
    p = 1.0 / 720.0 - h * p
    p = 1.0 / 120.0 - h * p
    p = 1.0 / 24.0 - h * p
    p = 1.0 / 6.0 - h * p
    p = 0.5 - h * p
    p = 1.0 - h * p
    return h * p if x < 0.1 else 1.0 - left, left


@piece
def erfcx(x):
    """Scaled complementary error function for x >= 0, to 1e-11."""
    slope = 1.0 + 2.0 * x
    inverse = 1.0 / ((x + 2.0) * slope)  # one division for both quotients
    t = (x - 2.0) * slope * inverse
    t2 = t * t
    t4 = t2 * t2
    p0 = (_ERFCX[0] + t * _ERFCX[1]) + t2 * (_ERFCX[2] + t * _ERFCX[3])
    p1 = (_ERFCX[4] + t * _ERFCX[5]) + t2 * (_ERFCX[6] + t * _ERFCX[7])
    p2 = (_ERFCX[8] + t * _ERFCX[9]) + t2 * (_ERFCX[10] + t * _ERFCX[11])
    p3 = (_ERFCX[12] + t * _ERFCX[13]) + t2 * (_ERFCX[14] + t * _ERFCX[15])
    p4 = (_ERFCX[16] + t * _ERFCX[17]) + t2 * (_ERFCX[18] + t * _ERFCX[19])
    p = (p0 + t4 * p1) + t4 * t4 * ((p2 + t4 * p3) + t4 * t4 * (p4 + t4 * _ERFCX[20]))
    return p * (x + 2.0) * inverse


@piece
def sigmoid(u):
    """Logistic function to float32's accuracy."""
    x = min(max(-u, -_LARGE_32), _LARGE_32)
    shifted = x * _LOG2E_32 + _ROUND_32
    n = shifted - _ROUND_32
    r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
    r2 = r * r
    p = (_ONE_32 + r) + r2 * ((_C2 + r * _C3) + r2 * ((_C4 + r * _C5) + r2 * _C6))
    grown = p * as_float32((as_bits32(shifted) + np.int32(127)) << np.int32(23))
    return _ONE_32 / (_ONE_32 + grown)


@piece
def exp_32(x):
    """Exponential of x up to 88 to float32's accuracy, 2e-35 below -80.

    Products with it are then no denormal numbers, which are slow. The order of sums is free.
    """
    x = max(x, _LEAST_32)
    n = np.floor(x * _LOG2E_32 + _HALF_32)
    r = x - n * _LN2_32
    p = _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + _ONE_32
    p = p * r + _ONE_32
    return p * as_float32((np.int32(n) + np.int32(127)) << np.int32(23))


@piece
def log_32(x):
    """Natural logarithm of a positive, normal number to float32's accuracy."""
    bits = as_bits32(x)
    exponent = (bits >> np.int32(23)) - np.int32(127)
    m = as_float32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F800000))  # in [1, 2)
    large = m > _SQRT_TWO_32
    m = _HALF_32 * m if large else m
    e = _F32(exponent)
    e = e + _ONE_32 if large else e
    s = (m - _ONE_32) / (m + _ONE_32)
    q = s * s
    p = _S9
    p = p * q + _S7
    p = p * q + _S5
    p = p * q + _S3
    return e * _LN2_32 + s * (p * q + _TWO_32)


@piece
def erfcx_32(x):
    """Scaled complementary error function for x from 0 to 1e18, to float32's accuracy."""
    near = _ONE_32 + _TWO_32 * x
    inverse = _ONE_32 / ((x + _TWO_32) * near)
    t = (x - _TWO_32) * near * inverse
    p = _ERFCX_32[10]
    p = p * t + _ERFCX_32[9]
    p = p * t + _ERFCX_32[8]
    p = p * t + _ERFCX_32[7]
    p = p * t + _ERFCX_32[6]
    p = p * t + _ERFCX_32[5]
    p = p * t + _ERFCX_32[4]
    p = p * t + _ERFCX_32[3]
    p = p * t + _ERFCX_32[2]
    p = p * t + _ERFCX_32[1]
    p = p * t + _ERFCX_32[0]
    return p * (x + _TWO_32) * inverse


@piece
def central_quantile(q):
    """Quantile of the standard normal at ``0.5 + q`` for `q` up to `CENTRAL`."""
    t = q * q * (2.0 / CENTRAL**2) - 1.0
    p = 0.0
    for i in range(len(_MIDDLE)):
        p = p * t + _MIDDLE[len(_MIDDLE) - 1 - i]
    return q * p


@piece
def near_tail_quantile(r):
    """Quantile of the standard normal at ``exp(-r^2)``, for r between the first `TAIL_EDGES`."""
    middle = 0.5 * (TAIL_EDGES[0] + TAIL_EDGES[1])
    t = (r - middle) * (1.0 / (TAIL_EDGES[1] - middle))
    p = 0.0
    for i in range(len(_NEAR_TAIL)):
        p = p * t + _NEAR_TAIL[len(_NEAR_TAIL) - 1 - i]
    return p


@piece
def tails(x):
    """Probabilities of a standard normal below and above x, each with all its digits."""
    distance = abs(x) * SQRT_HALF
    tail = 0.5 * exp(-0.5 * x * x) * erfcx(distance)
    rest = 1.0 - tail
    return (rest if x >= 0.0 else tail), (tail if x >= 0.0 else rest)


@kernel
def ndtri(p, rest):
    """Quantile of the standard normal at p, with ``rest = 1 - p`` to all its digits; to 1e-9."""
    q = p - 0.5
    if abs(q) <= CENTRAL:
        return central_quantile(q)
    r = math.sqrt(-math.log(max(min(p, rest), 1e-300)))
    z = near_tail_quantile(r)
    if r >= TAIL_EDGES[1]:
        middle = 0.5 * (TAIL_EDGES[1] + TAIL_EDGES[2])
        t = (r - middle) * (1.0 / (TAIL_EDGES[2] - middle))
        z = 0.0
        for i in range(len(_FAR_TAIL)):
            z = z * t + _FAR_TAIL[len(_FAR_TAIL) - 1 - i]
        z = z * r
    return z if q < 0.0 else -z
