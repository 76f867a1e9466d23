"""One step of the optimiser compiled; the reference is `_training._Weights.step`."""

from __future__ import annotations

import math

import numpy as np

from .._constants import ADAM_BETAS, ADAM_EPSILON
from .jit import kernel

_F32 = np.float32
_BETA1, _BETA2 = ADAM_BETAS


@kernel(reorder_sums=True)
def clip_factor(gradient, max_norm):
    """Factor that brings the norm of the gradient down to `max_norm`."""
    total = 0.0
    for i in range(len(gradient)):
        total += np.float64(gradient[i]) * np.float64(gradient[i])
    return min(1.0, max_norm / (math.sqrt(total) + 1e-6))


@kernel
def adamw(values, gradient, mean, square, max_norm, rate, decay, n_steps):
    """Step number `n_steps` of AdamW, in place, with the gradient clipped to `max_norm`."""
    factor, shrink = _F32(clip_factor(gradient, max_norm)), _F32(1.0 - rate * decay)
    b1, c1, b2, c2 = _F32(_BETA1), _F32(1.0 - _BETA1), _F32(_BETA2), _F32(1.0 - _BETA2)
    size = _F32(rate / (1.0 - _BETA1**n_steps))
    unbias = _F32(1.0 / math.sqrt(1.0 - _BETA2**n_steps))
    epsilon = _F32(ADAM_EPSILON)
    for i in range(len(values)):
        g = factor * gradient[i]
        mean[i] = b1 * mean[i] + c1 * g
        square[i] = b2 * square[i] + c2 * g * g
        values[i] = shrink * values[i] - size * mean[i] / (np.sqrt(square[i]) * unbias + epsilon)
