"""Layer normalisation and activations compiled; the reference is `_network.LayerNorm` and torch."""

from __future__ import annotations

import math

import numpy as np

from .._constants import LAYER_NORM_EPSILON
from .jit import kernel, piece
from .special import SQRT_HALF, sigmoid

#: Activations that the kernels know; a plan has the place of one in this list.
ACTIVATIONS = ("silu", "relu", "elu", "tanh", "gelu")
_SILU, _RELU, _ELU, _TANH, _GELU = range(len(ACTIVATIONS))

_F32 = np.float32
_ZERO, _ONE, _TWO, _HALF = _F32(0.0), _F32(1.0), _F32(2.0), _F32(0.5)
_INVERSE_SQRT_2PI = _F32(1.0 / math.sqrt(2.0 * math.pi))


@kernel(reorder_sums=True)
def normalise(h, bias, normal, rstd):
    """Rows of h + bias with mean 0 and variance 1, and the factors that made it so."""
    n_rows, width = h.shape
    for i in range(n_rows):
        total = _ZERO
        for j in range(width):
            total += h[i, j] + bias[j]
        mean = total / _F32(width)
        square = _ZERO
        for j in range(width):
            distance = h[i, j] + bias[j] - mean
            square += distance * distance
        scale = _ONE / np.sqrt(square / _F32(width) + _F32(LAYER_NORM_EPSILON))
        rstd[i] = scale
        for j in range(width):
            normal[i, j] = (h[i, j] + bias[j] - mean) * scale


@kernel(reorder_sums=True)
def normalise_backward(g, slope, normal, rstd, gain, g_gain, g_shift):
    """Gradient `g` by the activations, in place, to that by the layer's product."""
    n_rows, width = g.shape
    for i in range(n_rows):
        total, aligned = _ZERO, _ZERO
        for j in range(width):
            by_u = g[i, j] * slope[i, j]
            g_shift[j] += by_u
            g_gain[j] += by_u * normal[i, j]
            by_normal = by_u * gain[j]
            g[i, j] = by_normal
            total += by_normal
            aligned += by_normal * normal[i, j]
        total /= _F32(width)
        aligned /= _F32(width)
        for j in range(width):
            g[i, j] = (g[i, j] - total - normal[i, j] * aligned) * rstd[i]


@piece
def _other(kind, u):
    """Value and slope at u of what is not the default activation."""
    if kind == _RELU:
        value, slope = max(u, _ZERO), _ONE if u > _ZERO else _ZERO
    elif kind == _ELU:
        grown = _F32(math.exp(min(u, _ZERO)))
        value, slope = (u, _ONE) if u > _ZERO else (_F32(math.expm1(min(u, _ZERO))), grown)
    elif kind == _TANH:
        value = _F32(math.tanh(u))
        slope = _ONE - value * value
    else:
        below = _HALF * (_ONE + _F32(math.erf(u * _F32(SQRT_HALF))))
        value = u * below
        slope = below + u * _INVERSE_SQRT_2PI * _F32(math.exp(-_HALF * u * u))
    return value, slope


@kernel
def activate(kind, normal, gain, shift, out):
    """Activation of gain * normal + shift."""
    n_rows, width = normal.shape
    if kind == _SILU:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                out[i, j] = u * sigmoid(u)
    else:
        for i in range(n_rows):
            for j in range(width):
                out[i, j] = _other(kind, gain[j] * normal[i, j] + shift[j])[0]


@kernel
def activate_with_slope(kind, normal, gain, shift, out, slope):
    """The same, with the derivative by u."""
    n_rows, width = normal.shape
    if kind == _SILU:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                s = sigmoid(u)
                out[i, j] = u * s
                slope[i, j] = s + u * s * (_ONE - s)
    else:
        for i in range(n_rows):
            for j in range(width):
                u = gain[j] * normal[i, j] + shift[j]
                out[i, j], slope[i, j] = _other(kind, u)
