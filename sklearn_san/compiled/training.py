"""Steps of the training compiled; the reference are `_training.Objective` and `_optimizer`.

=============  =============================================================================
`adamw`        one step of the optimiser
`train`        several steps of one member: gradients and the optimiser
`train_for`    that, or its twin where an output is no mixture of Gaussians
=============  =============================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._constants import STATISTICS_DECAY, STATISTICS_EVERY
from .jit import kernel, twin
from .network import Plan, kernels_for, score, score_any
from .products import multiply, transpose

_F32 = np.float32


@kernel(reorder_sums=True)
def clip_factor(gradient, max_norm):
    """Factor that brings the norm of the gradient down to `max_norm`."""
    total = 0.0
    for i in range(len(gradient)):
        total += np.float64(gradient[i]) * np.float64(gradient[i])
    return min(1.0, max_norm / (math.sqrt(total) + 1e-6))


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
        for place, n in ((left, n_in), (right, n_out)):
            if place >= 0:
                product = _matrix(memory[1], 0, n, n)
                if place == left:
                    across = _matrix(memory[0], 0, n_out, n_in)
                    transpose(g, across)
                    multiply(g, across, product)
                else:
                    multiply(g.T, g, product)
                statistic = _matrix(statistics, place, n, n)
                for i in range(n):
                    for j in range(n):
                        statistic[i, j] = keep * statistic[i, j] + take * product[i, j]


@kernel
def _turn(vector, bases, matrices, memory):
    """Bring matrices in `vector` to the bases."""
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        g, other = _matrix(vector, start, n_in, n_out), _matrix(memory[1], 0, n_in, n_out)
        if left >= 0:
            multiply(_matrix(bases, left, n_in, n_in).T, g, other)
        else:
            other[:] = g
        if right >= 0:
            multiply(other, _matrix(bases, right, n_out, n_out), g)
        else:
            g[:] = other


@kernel
def _turn_back(vector, bases, matrices, memory):
    """The inverse of `_turn`."""
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        g, other = _matrix(vector, start, n_in, n_out), _matrix(memory[1], 0, n_in, n_out)
        if left >= 0:
            multiply(_matrix(bases, left, n_in, n_in), g, other)
        else:
            other[:] = g
        if right >= 0:
            across = _matrix(memory[0], 0, n_out, n_out)
            transpose(_matrix(bases, right, n_out, n_out), across)
            multiply(other, across, g)
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
    _turn(gradient, bases, matrices, memory)
    beta1, beta2 = settings.beta1, settings.beta2
    b1, c1, b2, c2 = _F32(beta1), _F32(1.0 - beta1), _F32(beta2), _F32(1.0 - beta2)
    unbias, epsilon = _F32(1.0 / math.sqrt(1.0 - beta2**n_steps)), _F32(settings.epsilon)
    for i in range(len(values)):
        g = gradient[i]
        mean[i] = b1 * mean[i] + c1 * g
        square[i] = b2 * square[i] + c2 * g * g
        gradient[i] = mean[i] / (np.sqrt(square[i]) * unbias + epsilon)
    _turn_back(gradient, bases, matrices, memory)
    shrink = _F32(1.0 - rate * settings.decay)
    size = _F32(rate / (1.0 - beta1**n_steps))
    for i in range(len(values)):
        values[i] = shrink * values[i] - size * gradient[i]


@kernel
def train(
    values,
    gradient,
    mean,
    square,
    statistics,
    bases,
    matrices,
    settings,
    plan,
    rows,
    index,
    share,
    size,
    rates,
    n_steps,
    log_prob,
):
    """As many steps as there are `rates`, with batches of `size` rows, after `n_steps` of them.

    The rows `index` (n,) have weights `share` (n,) in the loss of their batch; their log densities
    before the step of their batch go to `log_prob` (n,).
    """
    with_gradient = size > 0  # True; as a literal it would have `score` compiled again
    for k in range(len(rates)):
        start, stop = k * size, min((k + 1) * size, len(index))
        score(
            values, gradient, plan, rows, index[start:stop], share[start:stop],
            log_prob[start:stop], with_gradient,
        )  # fmt: skip
        adamw(
            values, gradient, mean, square, statistics, bases, matrices, settings, rates[k],
            n_steps + k + 1,
        )  # fmt: skip


_train_any = twin(train, "train_any", score=score_any)


def train_for(plan: Plan) -> Any:
    """`train` for the families of a plan."""
    return train if kernels_for(plan)[0] is score else _train_any
