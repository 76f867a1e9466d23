"""The network compiled: training gradient, log density and draws in tiles that fit the cache.

For float32 on the CPU, SiLU activations and mixtures of Gaussians, free or truncated: the defaults.
`_network` is the reference that this must match, and does everything else. A tile of rows goes
through all blocks while it stays in the cache; products are BLAS calls on tiles small enough to run
on one thread, and threads work on different members or rows.

Parameters of one member are one flat vector in the order of ``SAN.parameters()``; `Plan` says where
each layer's are, and where its activations lie in the scratch memory of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ._fused import _as_bits32, _as_float32, _draw, _mixture, _moments

#: Largest number of multiplications that OpenBLAS leaves to one thread.
_ONE_THREAD = 64**3
_EPSILON = 1e-5  # of the layer normalisation
# Columns of `Plan.layers`
_IN, _OUT, _WEIGHT, _BIAS, _GAIN, _SHIFT, _INPUT, _NORMAL, _SLOPE, _RSTD, _RESULT = range(11)

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_EXACT = {"fastmath": {"contract"}} | _OPTIONS
_SUMS = {"fastmath": {"contract", "reassoc", "nsz"}} | _OPTIONS

_F32 = np.float32
_LOG2E = _F32(1.0 / math.log(2.0))
_LN2_HIGH, _LN2_LOW = _F32(0.693359375), _F32(-2.12194440e-4)
_ROUND = _F32(12582912.0)  # 1.5 * 2^23: adding it rounds to an integer
_ONE, _HALF, _LARGE = _F32(1.0), _F32(0.5), _F32(87.0)
_C2, _C3, _C4, _C5, _C6 = (_F32(1.0 / math.factorial(k)) for k in range(2, 7))


class Plan(NamedTuple):
    """Sizes and places of everything in a network of one member."""

    layers: np.ndarray  # (n_layers, 11)
    starts: np.ndarray  # (n_blocks + 1,): first layer of each block; its last one is the heads
    based: np.ndarray  # outputs whose residual is an input of later blocks
    bounded: np.ndarray  # whether each output is truncated
    log_floor: np.ndarray  # of the scales of each output
    n_features: int
    n_sequence: int
    n_params: int  # raw parameters of each output
    n_values: int  # length of the parameter vector
    n_scratch: int  # floats per row of a tile
    tile: int


def make_plan(
    n_features: int,
    n_sequence: int,
    shapes: Sequence[Sequence[int]],
    based: Sequence[int],
    bounded: Sequence[bool],
    log_floor: Sequence[float],
    n_params: int,
    layer_norm: bool,
) -> Plan:
    """Plan of a network without encoder; `shapes` are the hidden widths of each block."""
    layers, starts, at, scratch = [], [0], 0, 0

    def reserve(n: int) -> int:
        nonlocal scratch
        scratch += n
        return scratch - n

    for d, shape in enumerate(shapes):
        n_in = n_features + (n_sequence if d else 0) + d + sum(j < d for j in based)
        last = d == len(shapes) - 1
        widths = [n_in, *shape, (0 if last else n_sequence) + n_params]
        rows = np.full((len(widths) - 1, 11), -1, dtype=np.int64)
        for layer, (wide_in, wide_out) in enumerate(pairwise(widths)):
            rows[layer, [_IN, _OUT]] = wide_in, wide_out
        hidden, heads = rows[:-1], rows[-1:]
        for row in hidden:
            row[_WEIGHT], row[_BIAS] = at, at + row[_IN] * row[_OUT]
            at = row[_BIAS] + row[_OUT]
        if layer_norm:
            for row in hidden:
                row[_GAIN], row[_SHIFT] = at, at + row[_OUT]
                at += 2 * row[_OUT]
        for row in heads:
            row[_WEIGHT], row[_BIAS] = at, at + row[_IN] * row[_OUT]
            at = row[_BIAS] + row[_OUT]
        for row in rows:
            row[_INPUT] = reserve(row[_IN])
        for row in hidden:
            row[_NORMAL], row[_SLOPE], row[_RSTD] = (
                reserve(row[_OUT]), reserve(row[_OUT]), reserve(1)
            )  # fmt: skip
        heads[0, _RESULT] = reserve(heads[0, _OUT])
        layers.append(rows)
        starts.append(starts[-1] + len(rows))
    table = np.concatenate(layers)
    largest = int((table[:, _IN] * table[:, _OUT]).max())
    tile = min(max(_ONE_THREAD // largest // 8 * 8, 8), 64)
    return Plan(
        table,
        np.array(starts),
        np.array(based, dtype=np.int64),
        np.array(bounded, dtype=np.bool_),
        np.array(log_floor, dtype=np.float64),
        n_features,
        n_sequence,
        n_params,
        at,
        scratch,
        tile,
    )


@njit(inline="always", **_EXACT)
def _sigmoid(u):
    """Logistic function to float32's accuracy."""
    x = min(max(-u, -_LARGE), _LARGE)
    shifted = x * _LOG2E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + _ONE
    p = p * r + _ONE
    grown = p * _as_float32((_as_bits32(shifted) + np.int32(127)) << np.int32(23))
    return _ONE / (_ONE + grown)


@njit(**_SUMS)
def _normalise(h, bias, normal, rstd):
    """Rows of h + bias with mean 0 and variance 1."""
    n_rows, width = h.shape
    for i in range(n_rows):
        total = _F32(0.0)
        for j in range(width):
            total += h[i, j] + bias[j]
        mean = total / _F32(width)
        square = _F32(0.0)
        for j in range(width):
            distance = h[i, j] + bias[j] - mean
            square += distance * distance
        scale = _ONE / np.sqrt(square / _F32(width) + _F32(_EPSILON))
        rstd[i] = scale
        for j in range(width):
            normal[i, j] = (h[i, j] + bias[j] - mean) * scale


@njit(**_EXACT)
def _activate(normal, gain, shift, out):
    """SiLU of gain * normal + shift."""
    n_rows, width = normal.shape
    for i in range(n_rows):
        for j in range(width):
            u = gain[j] * normal[i, j] + shift[j]
            out[i, j] = u * _sigmoid(u)


@njit(**_EXACT)
def _activate_with_slope(normal, gain, shift, out, slope):
    """The same, with the derivative by u."""
    n_rows, width = normal.shape
    for i in range(n_rows):
        for j in range(width):
            u = gain[j] * normal[i, j] + shift[j]
            s = _sigmoid(u)
            out[i, j] = u * s
            slope[i, j] = s + u * s * (_ONE - s)


@njit(**_SUMS)
def _normalise_backward(g, slope, normal, rstd, gain, g_gain, g_shift):
    """Gradient `g` by the activations, in place, to that by the layer's product."""
    n_rows, width = g.shape
    for i in range(n_rows):
        total, aligned = _F32(0.0), _F32(0.0)
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


@njit(**_EXACT)
def _part(work, offset, tile, n_rows, width):
    """Matrix of a tile in the scratch memory."""
    start = offset * tile
    return work[start : start + n_rows * width].reshape(n_rows, width)


@njit(**_EXACT)
def _matrix(values, offset, n_in, n_out):
    return values[offset : offset + n_in * n_out].reshape(n_in, n_out)


@njit(**_EXACT)
def _hidden(values, layer, work, tile, n_rows, ones, zeros, product, with_slope, following):
    """One hidden layer of a tile; the result is the input of the layer `following`."""
    n_out = layer[_OUT]
    out = _part(work, following[_INPUT], tile, n_rows, n_out)
    bias = values[layer[_BIAS] : layer[_BIAS] + n_out]
    gain, shift = ones[:n_out], bias
    normal = product
    if layer[_GAIN] >= 0:
        gain = values[layer[_GAIN] : layer[_GAIN] + n_out]
        shift = values[layer[_SHIFT] : layer[_SHIFT] + n_out]
        normal = _part(work, layer[_NORMAL], tile, n_rows, n_out)
        rstd = work[layer[_RSTD] * tile : layer[_RSTD] * tile + n_rows]
        _normalise(product, bias, normal, rstd)
    if with_slope:
        slope = _part(work, layer[_SLOPE], tile, n_rows, n_out)
        _activate_with_slope(normal, gain, shift, out, slope)
    else:
        _activate(normal, gain, shift, out)


@njit(**_EXACT)
def _assemble(inputs, column, sequence, n_sequence, y, r, based, d):
    """Write sequence features, earlier targets and residuals into the columns from `column` on."""
    for i in range(len(inputs)):
        c = column
        if d > 0:
            for j in range(n_sequence):
                inputs[i, c + j] = max(sequence[i, j], _F32(0.0))
            c += n_sequence
        for j in range(d):
            inputs[i, c + j] = y[i, j]
        c += d
        for j in based:
            if j < d:
                inputs[i, c] = r[i, j]
                c += 1


@njit(**_EXACT)
def _forward(values, layers, starts, based, n_features, n_sequence, tile, x, y, r,
             work, product, ones, with_slope):  # fmt: skip
    """Take a tile through all blocks, given the true targets."""
    n_rows = len(x)
    n_outputs = len(starts) - 1
    for d in range(n_outputs):
        first, heads = starts[d], starts[d + 1] - 1
        inputs = _part(work, layers[first, _INPUT], tile, n_rows, layers[first, _IN])
        for i in range(n_rows):
            for j in range(n_features):
                inputs[i, j] = x[i, j]
        before = heads if d == 0 else first - 1  # the heads of the block before
        width = layers[before, _OUT]
        sequence = _part(work, layers[before, _RESULT], tile, n_rows, width)
        _assemble(inputs, n_features, sequence, n_sequence, y, r, based, d)
        for k in range(first, heads):
            n_in, n_out = layers[k, _IN], layers[k, _OUT]
            h = _part(work, layers[k, _INPUT], tile, n_rows, n_in)
            p = product[: n_rows * n_out].reshape(n_rows, n_out)
            np.dot(h, _matrix(values, layers[k, _WEIGHT], n_in, n_out), p)
            _hidden(values, layers[k], work, tile, n_rows, ones, ones, p, with_slope,
                    layers[k + 1])  # fmt: skip
        n_in, n_out = layers[heads, _IN], layers[heads, _OUT]
        h = _part(work, layers[heads, _INPUT], tile, n_rows, n_in)
        out = _part(work, layers[heads, _RESULT], tile, n_rows, n_out)
        np.dot(h, _matrix(values, layers[heads, _WEIGHT], n_in, n_out), out)
        bias = values[layers[heads, _BIAS] : layers[heads, _BIAS] + n_out]
        for i in range(n_rows):
            for j in range(n_out):
                out[i, j] += bias[j]


@njit(**_EXACT)
def _add_product(a, b, at, gradient, scratch):
    """``gradient[at:] += a.T @ b``."""
    n_in, n_out = a.shape[1], b.shape[1]
    result = scratch[: n_in * n_out].reshape(n_in, n_out)
    np.dot(a.T, b, result)
    flat = scratch[: n_in * n_out]
    target = gradient[at : at + n_in * n_out]
    for i in range(n_in * n_out):
        target[i] += flat[i]


@njit(**_EXACT)
def _add_rows(g, target):
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            target[j] += g[i, j]


@njit(**_EXACT)
def _backward(values, gradient, layers, starts, n_features, n_sequence, n_params, tile, n_rows,
              work, by_raw, ones, scratch, by_out, by_h, by_sequence):  # fmt: skip
    """Add a tile's gradient by the parameters; `by_raw` (n_outputs, tile, n_params) is given."""
    n_outputs = len(starts) - 1
    for d in range(n_outputs - 1, -1, -1):
        first, heads = starts[d], starts[d + 1] - 1
        n_in, n_out = layers[heads, _IN], layers[heads, _OUT]
        n_own = n_out - n_params  # sequence features
        g = by_out[: n_rows * n_out].reshape(n_rows, n_out)
        out = _part(work, layers[heads, _RESULT], tile, n_rows, n_out)
        for i in range(n_rows):
            for j in range(n_own):
                g[i, j] = by_sequence[i * n_own + j] if out[i, j] > _F32(0.0) else _F32(0.0)
            for j in range(n_params):
                g[i, n_own + j] = by_raw[d, i, j]
        for k in range(heads, first - 1, -1):
            n_in, n_out = layers[k, _IN], layers[k, _OUT]
            h = _part(work, layers[k, _INPUT], tile, n_rows, n_in)
            weight = _matrix(values, layers[k, _WEIGHT], n_in, n_out)
            if k < heads:
                g = by_h[: n_rows * n_out].reshape(n_rows, n_out)
                slope = _part(work, layers[k, _SLOPE], tile, n_rows, n_out)
                if layers[k, _GAIN] >= 0:
                    _normalise_backward(
                        g,
                        slope,
                        _part(work, layers[k, _NORMAL], tile, n_rows, n_out),
                        work[layers[k, _RSTD] * tile : layers[k, _RSTD] * tile + n_rows],
                        values[layers[k, _GAIN] : layers[k, _GAIN] + n_out],
                        gradient[layers[k, _GAIN] : layers[k, _GAIN] + n_out],
                        gradient[layers[k, _SHIFT] : layers[k, _SHIFT] + n_out],
                    )
                else:
                    for i in range(n_rows):
                        for j in range(n_out):
                            g[i, j] *= slope[i, j]
            _add_product(h, g, layers[k, _WEIGHT], gradient, scratch)
            _add_rows(g, gradient[layers[k, _BIAS] : layers[k, _BIAS] + n_out])
            if k > first:
                # `g` may live in `by_h` itself: the product goes by way of `scratch`
                below = scratch[: n_rows * n_in].reshape(n_rows, n_in)
                np.dot(g, weight.T, below)
                by_h[: n_rows * n_in] = scratch[: n_rows * n_in]
            elif d > 0:
                below = by_sequence[: n_rows * n_sequence].reshape(n_rows, n_sequence)
                np.dot(g, weight[n_features : n_features + n_sequence].T, below)


@njit(**_EXACT)
def _score(values, gradient, layers, starts, based, bounded, log_floor, n_features, n_sequence,
           n_params, tile, n_scratch, x, y, r, low, high, observed, index, weight, log_prob,
           with_gradient):  # fmt: skip
    """Log densities of the rows `index`; with their weights, the gradient of the weighted loss.

    `gradient` is overwritten by that of ``-sum(weight * log_prob)``.
    """
    n_outputs = len(starts) - 1
    widest = 1
    largest = 1
    for k in range(len(layers)):
        widest = max(widest, layers[k, _IN], layers[k, _OUT])
        largest = max(largest, layers[k, _IN] * layers[k, _OUT])
    work = np.zeros(n_scratch * tile, dtype=np.float32)
    product = np.empty(tile * widest, dtype=np.float32)
    scratch = np.empty(max(largest, tile * widest), dtype=np.float32)
    by_out = np.empty(tile * widest, dtype=np.float32)
    by_h = np.empty(tile * widest, dtype=np.float32)
    by_sequence = np.empty(tile * max(n_sequence, 1), dtype=np.float32)
    by_raw = np.empty((n_outputs, tile, n_params), dtype=np.float32)
    ones = np.ones(widest, dtype=np.float32)
    x_tile = np.empty((tile, n_features), dtype=np.float32)
    y_tile = np.empty((tile, n_outputs), dtype=np.float32)
    r_tile = np.empty((tile, n_outputs), dtype=np.float32)
    target = np.empty(tile, dtype=np.float32)
    low_d = np.empty(tile, dtype=np.float32)
    high_d = np.empty(tile, dtype=np.float32)
    density = np.empty(tile, dtype=np.float32)
    slope = np.empty(tile, dtype=np.float32)
    if with_gradient:
        gradient[:] = _F32(0.0)
    for start in range(0, len(index), tile):
        n_rows = min(tile, len(index) - start)
        for i in range(n_rows):
            row = index[start + i]
            for j in range(n_features):
                x_tile[i, j] = x[row, j]
            for j in range(n_outputs):
                y_tile[i, j] = y[row, j]
                r_tile[i, j] = r[row, j]
        _forward(values, layers, starts, based, n_features, n_sequence, tile, x_tile[:n_rows],
                 y_tile, r_tile, work, product, ones, with_gradient)  # fmt: skip
        for i in range(n_rows):
            log_prob[start + i] = 0.0
        for d in range(n_outputs):
            heads = starts[d + 1] - 1
            n_out = layers[heads, _OUT]
            out = _part(work, layers[heads, _RESULT], tile, n_rows, n_out)
            for i in range(n_rows):
                row = index[start + i]
                target[i] = r_tile[i, d]
                if bounded[d]:
                    low_d[i] = low[row, d]
                    high_d[i] = high[row, d]
                    target[i] = min(max(target[i], low_d[i]), high_d[i])
            _mixture(
                out[:, n_out - n_params :], target[:n_rows], low_d, high_d, bounded[d],
                log_floor[d], density, by_raw[d], slope, with_gradient,
            )  # fmt: skip
            for i in range(n_rows):
                is_observed = d < observed[index[start + i]]
                log_prob[start + i] += density[i] if is_observed else 0.0
                if with_gradient:
                    factor = -weight[start + i] if is_observed else _F32(0.0)
                    for j in range(n_params):
                        by_raw[d, i, j] *= factor
        if with_gradient:
            _backward(values, gradient, layers, starts, n_features, n_sequence, n_params, tile,
                      n_rows, work, by_raw, ones, scratch, by_out, by_h,
                      by_sequence)  # fmt: skip


@njit(**_EXACT)
def _sample(values, layers, starts, based, bounded, log_floor, n_features, n_sequence,
            n_params, tile, n_scratch, x, n_columns, noise, base, limits, pairs, group, out, mean,
            variance, with_moments, known, is_known, log_weight):  # fmt: skip
    """Draws for some pairs of row and column, in rising order; see `Sampler`.

    Outputs that are known are not drawn; their log density is added to `log_weight`. No tile
    crosses a multiple of `group`, so that results do not depend on what else is asked for.
    """
    n_outputs = len(starts) - 1
    widest = 1
    for k in range(len(layers)):
        widest = max(widest, layers[k, _IN], layers[k, _OUT])
    work = np.zeros(n_scratch * tile, dtype=np.float32)
    product = np.empty(tile * widest, dtype=np.float32)
    context = np.empty(tile * widest, dtype=np.float32)
    ones = np.ones(widest, dtype=np.float32)
    own = np.empty((tile, n_features), dtype=np.float32)
    local = np.empty(tile, dtype=np.int64)  # place of each pair's row among the tile's rows
    y = np.empty((tile, n_outputs), dtype=np.float32)
    r = np.empty((tile, n_outputs), dtype=np.float32)
    weight_x = base[:, :n_features]
    weight_y = base[:, n_features : n_features + n_outputs]
    intercept, scale = base[:, -2], base[:, -1]
    location, drawn = np.empty(tile), np.empty(tile)
    low, high = np.empty(tile), np.empty(tile)
    noise_component, noise_value = np.empty(tile), np.empty(tile)
    mean_d, variance_d = np.empty(tile), np.empty(tile)
    target32, density = np.empty(tile, dtype=np.float32), np.empty(tile, dtype=np.float32)
    low32, high32 = np.empty(tile, dtype=np.float32), np.empty(tile, dtype=np.float32)
    slope = np.empty(tile, dtype=np.float32)
    nothing = np.empty((tile, n_params), dtype=np.float32)
    start = 0
    while start < len(pairs):
        n = min(tile, len(pairs) - start, group - start % group)
        n_rows, last = 0, -1
        for i in range(n):
            row = pairs[start + i] // n_columns
            if row != last:
                for j in range(n_features):
                    own[n_rows, j] = x[row, j]
                n_rows += 1
                last = row
            local[i] = n_rows - 1
        for d in range(n_outputs):
            first, heads = starts[d], starts[d + 1] - 1
            n_now = n_rows if d == 0 else n  # the first block sees x alone
            for k in range(first, heads):
                n_in, n_out = layers[k, _IN], layers[k, _OUT]
                p = product[: n_now * n_out].reshape(n_now, n_out)
                weight = _matrix(values, layers[k, _WEIGHT], n_in, n_out)
                if k > first:
                    h = _part(work, layers[k, _INPUT], tile, n_now, n_in)
                    np.dot(h, weight, p)
                elif d == 0:
                    np.dot(own[:n_rows], weight, p)
                else:
                    before = layers[first - 1, _OUT]
                    sequence = _part(work, layers[first - 1, _RESULT], tile, n, before)
                    h = _part(work, layers[k, _INPUT], tile, n, n_in - n_features)
                    _assemble(h, 0, sequence, n_sequence, y, r, based, d)
                    np.dot(h, weight[n_features:], p)
                    c = context[: n_rows * n_out].reshape(n_rows, n_out)
                    np.dot(own[:n_rows], weight[:n_features], c)
                    for i in range(n):
                        shared = c[local[i]]
                        for j in range(n_out):
                            p[i, j] += shared[j]
                _hidden(values, layers[k], work, tile, n_now, ones, ones, p, False, layers[k + 1])
            n_in, n_out = layers[heads, _IN], layers[heads, _OUT]
            h = _part(work, layers[heads, _INPUT], tile, n_now, n_in)
            result = _part(work, layers[heads, _RESULT], tile, n, n_out)
            p = product[: n_now * n_out].reshape(n_now, n_out)
            np.dot(h, _matrix(values, layers[heads, _WEIGHT], n_in, n_out), p)
            bias = values[layers[heads, _BIAS] : layers[heads, _BIAS] + n_out]
            is_based = False
            for j in based:
                is_based = is_based or j == d
            for i in range(n):
                row = local[i] if d == 0 else i
                for j in range(n_out):
                    result[i, j] = p[row, j] + bias[j]
                location[i] = intercept[d]
                if is_based:
                    for j in range(n_features):
                        location[i] += weight_x[d, j] * own[local[i], j]
                    for j in range(d):
                        location[i] += weight_y[d, j] * y[i, j]
                low[i] = (limits[d, 0] - location[i]) / scale[d]
                high[i] = (limits[d, 1] - location[i]) / scale[d]
                own_noise = noise[pairs[start + i] % len(noise)]
                noise_component[i] = own_noise[2 * d + 1]
                noise_value[i] = own_noise[2 * d + 2]
            raw, floor = result[:, n_out - n_params :], math.exp(log_floor[d])
            if is_known[d]:
                for i in range(n):
                    value = known[pairs[start + i] // n_columns, d]
                    residual = _F32((value - location[i]) / scale[d])
                    low32[i], high32[i] = low[i], high[i]
                    if bounded[d]:
                        residual = min(max(residual, low32[i]), high32[i])
                    target32[i] = residual
                _mixture(raw, target32[:n], low32, high32, bounded[d], log_floor[d], density,
                         nothing, slope, False)  # fmt: skip
                for i in range(n):
                    pair = pairs[start + i]
                    log_weight[pair] += density[i] - math.log(scale[d])
                    r[i, d] = target32[i]
                    y[i, d] = known[pair // n_columns, d]
                    out[pair, d] = y[i, d]
                continue
            _draw(raw, noise_component, noise_value, bounded[d], floor, low, high, drawn)
            if with_moments:
                _moments(raw, bounded[d], floor, low, high, mean_d, variance_d)
                for i in range(n):
                    mean[pairs[start + i], d] = location[i] + scale[d] * mean_d[i]
                    variance[pairs[start + i], d] = scale[d] * scale[d] * variance_d[i]
            for i in range(n):
                target = location[i] + scale[d] * drawn[i]
                if bounded[d]:
                    target = min(max(target, limits[d, 0]), limits[d, 1])
                r[i, d] = drawn[i]
                y[i, d] = target
                out[pairs[start + i], d] = target
        start += n


@njit(**_SUMS)
def _clipped(gradient, max_norm):
    """Factor that brings the norm of the gradient down to `max_norm`."""
    total = 0.0
    for i in range(len(gradient)):
        total += np.float64(gradient[i]) * np.float64(gradient[i])
    return min(1.0, max_norm / (math.sqrt(total) + 1e-6))


@njit(**_EXACT)
def _adamw(values, gradient, mean, square, factor, rate, decay, beta1, beta2, n_steps):
    """One step of AdamW with gradient ``factor * gradient``; see `Engine.step`."""
    factor, shrink = _F32(factor), _F32(1.0 - rate * decay)
    b1, c1, b2, c2 = _F32(beta1), _F32(1.0 - beta1), _F32(beta2), _F32(1.0 - beta2)
    size = _F32(rate / (1.0 - beta1**n_steps))
    unbias = _F32(1.0 / math.sqrt(1.0 - beta2**n_steps))
    epsilon = _F32(1e-8)
    for i in range(len(values)):
        g = factor * gradient[i]
        mean[i] = b1 * mean[i] + c1 * g
        square[i] = b2 * square[i] + c2 * g * g
        values[i] = shrink * values[i] - size * mean[i] / (np.sqrt(square[i]) * unbias + epsilon)


class Table(NamedTuple):
    """Rows as the kernels want them, all float32 and contiguous; bounds are those of residuals."""

    x: np.ndarray  # (n_rows, n_features)
    y: np.ndarray  # (n_rows, n_outputs)
    r: np.ndarray
    low: np.ndarray
    high: np.ndarray
    observed: np.ndarray  # (n_rows,): outputs that have a value, in order, int64
    constant: np.ndarray  # (n_rows,): what the log densities of the residuals lack


class Engine:
    """Runs the kernels on rows of a table, for several members and on several threads.

    Parameters
    ----------
    plan : Plan
    table : Table or None
        Needed for `log_prob` and `loss`.
    n_threads : int
    """

    def __init__(self, plan: Plan, table: Table | None, n_threads: int):
        self.plan = plan
        self.table = table
        self.n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None

    @property
    def _rows(self) -> Table:
        if self.table is None:
            raise ValueError("This engine was made without rows; it can only draw.")
        return self.table

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run the tasks, some of them in this thread; they release the GIL."""
        if self._pool is None or len(tasks) == 1:
            for task in tasks:
                task()
            return

        waiting = iter(tasks)  # whoever is free takes the next one

        def share() -> None:
            for task in waiting:
                task()

        others = [self._pool.submit(share) for _ in range(min(self.n_threads, len(tasks)) - 1)]
        share()
        for other in others:
            other.result()

    def log_prob(self, values: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Log density of the rows `index` (n_members or 1, n) under every member."""
        n_members = len(values)
        index = np.broadcast_to(index, (n_members, index.shape[1]))
        log_prob = np.empty(index.shape)
        n_parts = -(-self.n_threads // n_members)
        bounds = np.linspace(0, index.shape[1], n_parts + 1).astype(int)
        nothing = np.zeros(1, dtype=np.float32)

        def task(m: int, rows: slice) -> Callable[[], None]:
            chosen = np.ascontiguousarray(index[m, rows])
            return lambda: self._score(
                values[m], nothing, chosen, nothing, log_prob[m, rows], False
            )

        parts = [slice(a, b) for a, b in pairwise(bounds)]
        self.run([task(m, part) for m in range(n_members) for part in parts])
        return log_prob + self._rows.constant[index]

    def loss(
        self,
        values: np.ndarray,
        gradient: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
    ) -> np.ndarray:
        """``-sum(weight * log_prob)`` of the rows `index` (n_members, n), and its gradient."""
        n_members, n_rows = index.shape
        log_prob = np.empty(index.shape)
        n_parts = max(1, min(-(-self.n_threads // n_members), n_rows // 16))
        bounds = np.linspace(0, n_rows, n_parts + 1).astype(int)
        partial = np.empty((n_parts, *values.shape), dtype=np.float32) if n_parts > 1 else None

        def task(m: int, part: int) -> Callable[[], None]:
            rows = slice(bounds[part], bounds[part + 1])
            target = gradient[m] if partial is None else partial[part, m]
            chosen, w = np.ascontiguousarray(index[m, rows]), weight[m, rows]
            return lambda: self._score(values[m], target, chosen, w, log_prob[m, rows], True)

        self.run([task(m, part) for m in range(n_members) for part in range(n_parts)])
        if partial is not None:
            np.sum(partial, axis=0, out=gradient)
        return -(weight * (log_prob + self._rows.constant[index])).sum(axis=1)

    def _score(
        self,
        values: np.ndarray,
        gradient: np.ndarray,
        index: np.ndarray,
        weight: np.ndarray,
        log_prob: np.ndarray,
        with_gradient: bool,
    ) -> None:
        p = self.plan
        _score(
            values, gradient, p.layers, p.starts, p.based, p.bounded, p.log_floor, p.n_features,
            p.n_sequence, p.n_params, p.tile, p.n_scratch, *self._rows[:6], index, weight, log_prob,
            with_gradient,
        )  # fmt: skip

    def step(
        self,
        values: np.ndarray,
        gradient: np.ndarray,
        mean: np.ndarray,
        square: np.ndarray,
        *,
        rate: float,
        decay: float,
        max_norm: float,
        n_steps: int,
    ) -> None:
        """Step number `n_steps` of AdamW [1]_, each member's gradient clipped to `max_norm`.

        References
        ----------
        .. [1] Loshchilov and Hutter (2019), Decoupled weight decay regularization.
        """

        def task(m: int) -> Callable[[], None]:
            def step() -> None:
                factor = _clipped(gradient[m], max_norm)
                _adamw(
                    values[m], gradient[m], mean[m], square[m],
                    factor, rate, decay, 0.9, 0.999, n_steps,
                )  # fmt: skip

            return step

        self.run([task(m) for m in range(len(values))])


class Sampler:
    """Draws from an ensemble as a function of uniform noise.

    Parameters
    ----------
    plan : Plan
    values : ndarray of shape (n_members, n_values)
    base : ndarray of shape (n_outputs, n_features + n_outputs + 2)
        Weights, intercepts and scales of the linear base.
    limits : ndarray of shape (n_outputs, 2)
    n_threads : int
    """

    def __init__(
        self, plan: Plan, values: np.ndarray, base: np.ndarray, limits: np.ndarray, n_threads: int
    ):
        self.plan, self.values, self.base, self.limits = plan, values, base, limits
        self.n_threads = n_threads

    def __call__(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Draws of every row.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_features)
        noise : ndarray of shape (n_rows, n_draws, 1 + 2 * n_outputs)
            The first number chooses the member.

        Returns
        -------
        ndarray of shape (n_rows, n_draws, n_outputs)
        """
        n_rows, n_draws, n_noise = noise.shape
        return self._run(x, noise.reshape(-1, n_noise), n_draws, n_rows * n_draws)[0]

    def at_points(self, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Draws at the same noise for every row, as `with_moments` but without the moments."""
        return self._run(x, noise, len(noise), len(noise) // len(self.values))[0]

    def with_moments(self, x: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
        """Draws at the same noise ``(n_draws, 1 + 2 * n_outputs)`` for every row.

        Also mean and variance of each output given the draws of the outputs before it. Each
        member must have the same number of points. Shapes: ``(n_rows, n_draws, n_outputs)``.
        """
        n_draws = len(noise)
        draws, mean, variance, _ = self._run(
            x, noise, n_draws, n_draws // len(self.values), with_moments=True
        )
        return draws, mean, variance

    def with_known(
        self, x: np.ndarray, noise: np.ndarray, known: np.ndarray, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws of some outputs while others have known values.

        Parameters
        ----------
        x : ndarray of shape (n_rows, n_features)
        noise : ndarray of shape (n_rows * n_draws or n_draws, 1 + 2 * n_outputs)
        known : ndarray of shape (n_rows, n_outputs)
            nan in the columns that are to be drawn.
        chosen : ndarray of shape (n_rows, n_draws)
            Member behind each draw.

        Returns
        -------
        draws : ndarray of shape (n_rows, n_draws, n_outputs)
        log_weight : ndarray of shape (n_rows, n_draws)
            Log density of the known values, each given x and the outputs before it.
        """
        n_draws = chosen.shape[1]
        draws, _, _, log_weight = self._run(
            x, noise, n_draws, chosen.size, known=known, chosen=chosen.ravel()
        )
        return draws, log_weight[..., 0]

    def _run(
        self,
        x: np.ndarray,
        noise: np.ndarray,
        n_draws: int,
        group: int,
        *,
        with_moments: bool = False,
        known: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
    ) -> tuple[np.ndarray, ...]:
        p, n_pairs = self.plan, len(x) * n_draws
        shape = (n_pairs, len(self.limits))
        out = np.empty(shape, dtype=np.float32)
        mean, variance = np.empty((2, *(shape if with_moments else (0, 1))))
        if known is None:
            known = np.full((1, shape[1]), np.nan)
        is_known = ~np.isnan(known[0])
        log_weight = np.zeros(n_pairs if is_known.any() else 0)
        if chosen is None:
            chosen = (noise[:, 0] * len(self.values)).astype(np.intp)
            chosen = np.tile(chosen, n_pairs // len(chosen))

        def task(m: int, pairs: np.ndarray) -> Callable[[], None]:
            return lambda: _sample(
                self.values[m], p.layers, p.starts, p.based, p.bounded, p.log_floor, p.n_features,
                p.n_sequence, p.n_params, p.tile, p.n_scratch, x, n_draws, noise, self.base,
                self.limits, pairs, group, out, mean, variance, with_moments, known, is_known,
                log_weight,
            )  # fmt: skip

        tasks = []
        for m in range(len(self.values)):
            own = np.flatnonzero(chosen == m)
            # Several parts for each thread, of whole tiles and groups, so that all end together
            unit = group if group < len(own) else p.tile
            n_parts = max(1, min(2 * self.n_threads, len(own) // unit))
            bounds = np.linspace(0, len(own) // unit, n_parts + 1).astype(int) * unit
            bounds[-1] = len(own)
            tasks += [task(m, own[a:b]) for a, b in pairwise(bounds) if b > a]
        with Engine(p, None, self.n_threads) as engine:
            engine.run(tasks)
        results = (out, mean, variance, log_weight)
        return tuple(
            result.reshape(len(x), n_draws, -1) if len(result) else result for result in results
        )


@cache
def load_kernels() -> None:
    """Compile the kernels, or read them from disk, so that no call of the user's has to wait."""
    plan = make_plan(1, 1, [(8,), (8,)], [0], [True, True], [-5.0, -5.0], 6, True)
    values = np.zeros((1, plan.n_values), dtype=np.float32)
    column, pair = np.zeros((1, 1), dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
    table = Table(column, pair, pair, pair - 1, pair + 1, np.array([2]), np.zeros(1))
    index, weight = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.float32)
    with Engine(plan, table, 1) as engine:
        moments = np.zeros((3, *values.shape), dtype=np.float32)
        engine.log_prob(values, index)
        engine.loss(values, moments[0], index, weight)
        engine.step(values, *moments, rate=0.0, decay=0.0, max_norm=1.0, n_steps=1)
    base, limits = np.ones((2, 5)), np.array([[-1.0, 1.0]] * 2)
    noise = np.full((1, 1, 5), 0.5, dtype=np.float32)
    Sampler(plan, values, base, limits, 1)(column, noise)
