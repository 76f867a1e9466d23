"""Steps of the training compiled; the reference are `_training.Objective` and `_optimizer`.

=============  =============================================================================
`orthogonal`   orthogonal factor of a QR decomposition
`adamw`        one step of the optimiser
`train`        several steps of one member: gradients and the optimiser
`train_for`    that, or its twin where an output is no mixture of Gaussians
=============  =============================================================================
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .._constants import BASES_EVERY, MEAN_SHARE, STATISTICS_DECAY, STATISTICS_EVERY
from .jit import kernel, piece, twin
from .network import Plan, _matrix, kernels_for, make_room, score, score_in, score_in_any
from .products import add_product, multiply, transpose

_F32 = np.float32
_ZERO, _ONE = _F32(0.0), _F32(1.0)
#: Columns that are reflected one by one, before the rest of the matrix is by products.
PANEL = 4


class _Numbers(NamedTuple):
    """Of one step of AdamW, float32."""

    keep_mean: float
    take_mean: float
    keep_square: float
    take_square: float
    by_mean: float
    by_gradient: float
    unbias: float
    epsilon: float
    shrink: float
    size: float


@kernel(reorder_sums=True)
def clip_factor(gradient, max_norm):
    """Factor that brings the norm of the gradient down to `max_norm`."""
    total = 0.0
    for i in range(len(gradient)):
        total += np.float64(gradient[i]) * np.float64(gradient[i])
    return min(1.0, max_norm / (math.sqrt(total) + 1e-6))


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


@piece
def _copy(a, out):
    for i in range(len(a)):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j]


@piece
def _turn(g, bases, left, right, memory):
    """Bring a matrix to the bases, in place."""
    n_in, n_out = g.shape
    other = _matrix(memory[1], 0, n_in, n_out)
    if left >= 0:
        multiply(_matrix(bases, left, n_in, n_in).T, g, other)
    else:
        _copy(g, other)
    if right >= 0:
        multiply(other, _matrix(bases, right, n_out, n_out), g)
    else:
        _copy(other, g)


@piece
def _turn_back(g, bases, left, right, memory):
    """The inverse of `_turn`."""
    n_in, n_out = g.shape
    other = _matrix(memory[1], 0, n_in, n_out)
    if left >= 0:
        multiply(_matrix(bases, left, n_in, n_in), g, other)
    else:
        _copy(g, other)
    if right >= 0:
        across = _matrix(memory[0], 0, n_out, n_out)
        transpose(_matrix(bases, right, n_out, n_out), across)
        multiply(other, across, g)
    else:
        _copy(other, g)


@piece
def _direction(gradient, mean, square, numbers):
    """Take the gradient into its moments; it is then where AdamW goes, in place."""
    for i in range(len(gradient)):
        g = gradient[i]
        mean[i] = numbers.keep_mean * mean[i] + numbers.take_mean * g
        square[i] = numbers.keep_square * square[i] + numbers.take_square * g * g
        push = numbers.by_mean * mean[i] + numbers.by_gradient * g
        gradient[i] = push / (np.sqrt(square[i]) * numbers.unbias + numbers.epsilon)


@piece
def _move(values, direction, numbers):
    for i in range(len(values)):
        values[i] = numbers.shrink * values[i] - numbers.size * direction[i]


@kernel(borrows=True)
def _move_all(values, gradient, mean, square, bases, matrices, memory, numbers):
    """A step of AdamW, matrix by matrix, each of which stays in the cache all the way."""
    done = 0
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        stop = start + n_in * n_out
        before, own = slice(done, start), slice(start, stop)
        _direction(gradient[before], mean[before], square[before], numbers)
        _move(values[before], gradient[before], numbers)
        g = _matrix(gradient, start, n_in, n_out)
        _turn(g, bases, left, right, memory)
        _direction(gradient[own], mean[own], square[own], numbers)
        _turn_back(g, bases, left, right, memory)
        _move(values[own], gradient[own], numbers)
        done = stop
    _direction(gradient[done:], mean[done:], square[done:], numbers)
    _move(values[done:], gradient[done:], numbers)


@kernel(reorder_sums=True)
def _reflect(panel, factor):
    """Householder vectors of the columns of a matrix, which are the rows of `panel` (b, m).

    In place. With ``V = panel.T``, the product of the reflections is ``I - V @ factor @ V.T``.
    """
    b, m = panel.shape
    for j in range(b):
        v = panel[j]
        beyond = 0.0  # squared length of what is to vanish; of tiny numbers it needs float64
        for i in range(j + 1, m):
            beyond += np.float64(v[i]) * np.float64(v[i])
        head = np.float64(v[j])
        rate, inverse = _ZERO, _ZERO  # with nothing to reflect
        if beyond > 0.0:
            length = math.sqrt(head * head + beyond)
            length = -length if head > 0.0 else length
            rate, inverse = _F32((length - head) / length), 1.0 / (head - length)
        for i in range(j):
            v[i] = _ZERO
        v[j] = _ONE
        for i in range(j + 1, m):
            v[i] = _F32(v[i] * inverse)
        for other in range(j + 1, b):
            row, total = panel[other], _ZERO
            for i in range(j, m):
                total += v[i] * row[i]
            total *= rate
            for i in range(j, m):
                row[i] -= total * v[i]
        factor[j, :] = _ZERO
        factor[j, j] = rate
        for other in range(j):
            total = _ZERO
            for i in range(j, m):
                total += panel[other, i] * v[i]
            for i in range(other + 1):
                factor[i, j] -= rate * factor[i, other] * total


@kernel
def orthogonal(a, out, memory):
    """Orthogonal factor (n, n) of the QR decomposition of a (n, n), which is overwritten.

    By Householder's reflections, so that it is orthogonal whatever the rank of a. `memory` is of
    shape (2 * n + 2 * PANEL, n).
    """
    n = len(a)
    vectors, factors, turned = memory[:n], memory[n : 2 * n], memory[2 * n :]
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        b = stop - start
        panel, factor = vectors[start:stop, start:], factors[start:stop, :b]
        transpose(a[start:, start:stop], panel)
        _reflect(panel, factor)
        if stop < n:
            rest = a[start:, stop:]
            first, second = turned[:b, stop:], turned[PANEL : PANEL + b, stop:]
            multiply(panel, rest, first)
            multiply(factor.T, first, second)
            _subtract(panel, second, rest)
    out[:] = _ZERO
    for i in range(n):
        out[i, i] = _ONE
    for k in range((n - 1) // PANEL, -1, -1):
        start = k * PANEL
        stop = min(start + PANEL, n)
        b = stop - start
        panel, rest = vectors[start:stop, start:], out[start:, start:]
        first, second = turned[:b, start:], turned[PANEL : PANEL + b, start:]
        multiply(panel, rest, first)
        multiply(factors[start:stop, :b], first, second)
        _subtract(panel, second, rest)


@kernel
def _subtract(panel, turned, out):
    for i in range(len(turned)):
        for j in range(turned.shape[1]):
            turned[i, j] = -turned[i, j]
    add_product(panel.T, turned, out)


@kernel
def _new_bases(mean, statistics, bases, matrices, longest):
    """Bring bases nearer to the eigenvectors of the statistics, and the mean gradient along."""
    memory = np.empty((3, longest * longest), dtype=np.float32)
    own = np.empty((2 * longest + 2 * PANEL) * longest, dtype=np.float32)
    for k in range(len(matrices)):
        start, n_in, n_out, left, right = matrices[k]
        g, other = _matrix(mean, start, n_in, n_out), _matrix(memory[0], 0, n_in, n_out)
        for place, n in ((left, n_in), (right, n_out)):
            if place < 0:
                continue
            statistic, basis = _matrix(statistics, place, n, n), _matrix(bases, place, n, n)
            a, new = _matrix(memory[1], 0, n, n), _matrix(memory[2], 0, n, n)
            # What is not finite belongs to a member whose epoch will be undone
            for i in range(n):
                for j in range(n):
                    new[i, j] = statistic[i, j] if np.isfinite(statistic[i, j]) else _ZERO
            multiply(new, basis, a)
            orthogonal(a, new, _matrix(own, 0, 2 * n + 2 * PANEL, n))
            multiply(basis.T, new, a)
            if place == left:
                multiply(a.T, g, other)
            else:
                multiply(g, a, other)
            g[:] = other
            basis[:] = new


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
    if factor < _ONE:
        for i in range(len(gradient)):
            gradient[i] *= factor
    if n_steps % STATISTICS_EVERY == 0:
        _observe(gradient, statistics, matrices, memory)
    beta1, beta2 = settings.beta1, settings.beta2
    numbers = _Numbers(
        _F32(beta1), _F32(1.0 - beta1), _F32(beta2), _F32(1.0 - beta2),
        _F32(MEAN_SHARE / (1.0 - beta1**n_steps)), _F32(1.0 - MEAN_SHARE),
        _F32(1.0 / math.sqrt(1.0 - beta2**n_steps)), _F32(settings.epsilon),
        _F32(1.0 - rate * settings.decay), _F32(rate),
    )  # fmt: skip
    _move_all(values, gradient, mean, square, bases, matrices, memory, numbers)
    if n_steps % BASES_EVERY == 0:
        _new_bases(mean, statistics, bases, matrices, longest)


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
    with_gradient = size > 0  # True; as a literal it would have kernels compiled again
    room = make_room(plan, with_gradient)
    for k in range(len(rates)):
        start, stop = k * size, min((k + 1) * size, len(index))
        score_in(
            room, values, gradient, plan, rows, index[start:stop], share[start:stop],
            log_prob[start:stop], with_gradient,
        )  # fmt: skip
        adamw(
            values, gradient, mean, square, statistics, bases, matrices, settings, rates[k],
            n_steps + k + 1,
        )  # fmt: skip


_train_any = twin(train, "train_any", score_in=score_in_any)


def train_for(plan: Plan) -> Any:
    """`train` for the families of a plan."""
    return train if kernels_for(plan)[0] is score else _train_any
