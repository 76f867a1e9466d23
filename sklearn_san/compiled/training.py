"""One step of the optimiser compiled; the reference is `_optimizer.Weights.step`."""

from __future__ import annotations

import math

import numpy as np

from .._constants import STATISTICS_DECAY, STATISTICS_EVERY
from .jit import kernel

#: Largest number of multiplications that OpenBLAS leaves to one thread.
_ONE_THREAD = 64**3
_F32 = np.float32


@kernel(reorder_sums=True)
def clip_factor(gradient, max_norm):
    """Factor that brings the norm of the gradient down to `max_norm`."""
    total = 0.0
    for i in range(len(gradient)):
        total += np.float64(gradient[i]) * np.float64(gradient[i])
    return min(1.0, max_norm / (math.sqrt(total) + 1e-6))


@kernel
def _multiply(a, b, out):
    """``out = a @ b`` in this thread; BLAS shares out larger products between threads."""
    n, n_inner = a.shape
    n_columns = b.shape[1]
    if n * n_inner * n_columns <= _ONE_THREAD:
        np.dot(a, b, out)
        return
    whole = n_inner // 4 * 4
    for i in range(n):
        for j in range(n_columns):
            out[i, j] = _F32(0.0)
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            for j in range(n_columns):
                out[i, j] += a0 * b[k, j] + a1 * b[k + 1, j] + a2 * b[k + 2, j] + a3 * b[k + 3, j]
        for k in range(whole, n_inner):
            for j in range(n_columns):
                out[i, j] += a[i, k] * b[k, j]


@kernel
def _transposed(a, memory):
    """Copy of ``a.T`` in `memory`."""
    n, m = a.shape
    out = memory[: n * m].reshape(m, n)
    for j in range(m):
        for i in range(n):
            out[j, i] = a[i, j]
    return out


@kernel
def _matrix(vector, start, n, m):
    return vector[start : start + n * m].reshape(n, m)


@kernel
def _observe(gradient, statistics, matrices, memory):
    """Take the gradient into the statistics."""
    keep, take = _F32(STATISTICS_DECAY), _F32(1.0 - STATISTICS_DECAY)
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        g = _matrix(gradient, start, n_in, n_out)
        turned = _transposed(g, memory[0])
        for place, n in ((left, n_in), (right, n_out)):
            if place >= 0:
                product = _matrix(memory[1], 0, n, n)
                if place == left:
                    _multiply(g, turned, product)
                else:
                    _multiply(turned, g, product)
                statistic = _matrix(statistics, place, n, n)
                for i in range(n):
                    for j in range(n):
                        statistic[i, j] = keep * statistic[i, j] + take * product[i, j]


@kernel
def _turn(vector, bases, matrices, memory, back):
    """Bring matrices in `vector` to the bases, or back."""
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        g, other = _matrix(vector, start, n_in, n_out), _matrix(memory[1], 0, n_in, n_out)
        if left >= 0:
            basis = _matrix(bases, left, n_in, n_in)
            _multiply(basis if back else _transposed(basis, memory[0]), g, other)
        else:
            other[:] = g
        if right >= 0:
            basis = _matrix(bases, right, n_out, n_out)
            _multiply(other, _transposed(basis, memory[0]) if back else basis, g)
        else:
            g[:] = other


@kernel
def adamw(
    values,
    gradient,
    mean,
    square,
    statistics,
    bases,
    matrices,
    settings,
    rate,
    n_steps,
):
    """Step number `n_steps` of AdamW in the bases, in place, with the gradient clipped.

    Parameters
    ----------
    values, gradient, mean, square : ndarray of shape (n_values,)
    statistics, bases : ndarray of shape (n_turned,)
    matrices : ndarray of shape (n_matrices, 5)
        Rows of `_optimizer.Matrix`.
    settings : Settings
        Of `_optimizer`.
    rate : float
    n_steps : int
    """
    longest = 0
    for k in range(len(matrices)):
        longest = max(longest, matrices[k, 1], matrices[k, 2])
    memory = np.empty((2, longest * longest), dtype=np.float32)
    factor = _F32(clip_factor(gradient, settings.max_norm))
    for i in range(len(gradient)):
        gradient[i] *= factor
    if n_steps % STATISTICS_EVERY == 0:
        _observe(gradient, statistics, matrices, memory)
    _turn(gradient, bases, matrices, memory, False)
    beta1, beta2 = settings.beta1, settings.beta2
    b1, c1, b2, c2 = _F32(beta1), _F32(1.0 - beta1), _F32(beta2), _F32(1.0 - beta2)
    unbias, epsilon = _F32(1.0 / math.sqrt(1.0 - beta2**n_steps)), _F32(settings.epsilon)
    for i in range(len(values)):
        g = gradient[i]
        mean[i] = b1 * mean[i] + c1 * g
        square[i] = b2 * square[i] + c2 * g * g
        gradient[i] = mean[i] / (np.sqrt(square[i]) * unbias + epsilon)
    _turn(gradient, bases, matrices, memory, True)
    shrink = _F32(1.0 - rate * settings.decay)
    size = _F32(rate / (1.0 - beta1**n_steps))
    for i in range(len(values)):
        values[i] = shrink * values[i] - size * gradient[i]
