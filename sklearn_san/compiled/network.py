"""The network compiled: training gradient, log density and draws in tiles that fit the cache.

`_network` is the reference that this must match. A tile of rows goes through all blocks while it
stays in the cache; threads work on different members or rows.

Parameters of one member are one flat vector in the order of ``SAN.parameters()``; `Plan` says where
each layer's are, and where its activations lie in the scratch memory of a tile. For a gradient all
of them are kept; otherwise blocks share their memory, a quarter of it, and keep their heads alone.

=============  =============================================================================
`Plan`         sizes and places of everything
`Rows`         rows to score
`score`        log density of rows, with the gradient of a weighted loss
`score_in`     the same in the memory of a `Room`, which serves many times
`draw_rows`    draws as a function of uniform noise, some outputs known or not
`centre`       what parameters must go through where no gradient is wanted
`kernels_for`  `score` and `draw_rows`, or their twins where an output is no mixture of Gaussians
=============  =============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import families, mixtures
from .activations import (
    SILU,
    activate,
    activate_with_slope,
    normalise,
    normalise_backward,
    normalise_silu,
    silu_of_centred,
)
from .jit import kernel, piece, twin
from .products import add_product, affine, multiply, transpose

#: Rows that go through the network together.
TILE = 128
#: Columns of `Plan.layers`: widths; places of the parameters; places in the scratch memory
(_IN, _OUT, _WEIGHT, _BIAS, _GAIN, _SHIFT, _INPUT, _NORMAL, _SLOPE, _RSTD, _RESULT) = range(11)
_F32 = np.float32


class Plan(NamedTuple):
    """Sizes and places of everything in a network of one member."""

    layers: np.ndarray  # (n_layers, 11): those of the encoder, then of each block
    starts: np.ndarray  # (n_outputs + 1,): first layer of each block; its last one is the heads
    based: np.ndarray  # (n_based,): outputs whose residual is an input of later blocks
    n_raw: np.ndarray  # (n_outputs,): raw parameters
    family: np.ndarray  # (n_outputs,): numbers of `families`
    bounded: np.ndarray  # (n_outputs,): whether the output has limits
    log_floor: np.ndarray  # (n_outputs,): of the scales
    n_features: int
    n_context: int  # features and their encoding
    n_sequence: int
    n_noise: int  # uniform numbers of each output, 1 or 2
    activation: int
    widest: int  # of all layers
    largest: int  # number of weights of a layer
    n_values: int  # length of the parameter vector
    n_scratch: int  # floats per row of a tile
    tile: int


class Rows(NamedTuple):
    """Rows to score, float32 and contiguous; bounds are those of residuals."""

    x: np.ndarray  # (n_rows, n_features)
    y: np.ndarray  # (n_rows, n_outputs)
    r: np.ndarray  # (n_rows, n_outputs)
    low: np.ndarray  # (n_rows, n_outputs)
    high: np.ndarray  # (n_rows, n_outputs)
    n_observed: np.ndarray  # (n_rows,): outputs that have a value, the first ones; int64


class Target(NamedTuple):
    """From residuals to scaled outputs, float64."""

    base: np.ndarray  # (n_outputs, n_features + n_outputs + 2): weights, intercepts, scales
    limits: np.ndarray  # (n_outputs, 2)


class Known(NamedTuple):
    """Outputs that are not drawn."""

    values: np.ndarray  # (n_rows or 1, n_outputs), float64
    is_known: np.ndarray  # (n_outputs,)


class Draws(NamedTuple):
    """What `draw_rows` fills, a row for each pair of row and draw.

    Of no more outputs than `out` has columns.
    """

    out: np.ndarray  # (n_pairs, n_outputs), float32
    mean: np.ndarray  # (n_pairs, n_outputs) or empty: of each output given those before it
    variance: np.ndarray
    log_weight: np.ndarray  # (n_pairs,) or empty: log density of the known outputs
    log_prob: np.ndarray  # (n_pairs,) or empty: log density of all outputs
    raw: np.ndarray  # (n_pairs, n_outputs, largest n_raw) or empty: raw parameters, float32
    location: np.ndarray  # (n_pairs, n_outputs) or empty: of each output


class _Scratch(NamedTuple):
    """Memory of a tile, float32."""

    work: np.ndarray  # activations, by layer
    product: np.ndarray
    ones: np.ndarray
    zeros: np.ndarray
    spare: np.ndarray  # for a transposed weight, another product, or means of rows
    by_out: np.ndarray  # gradients
    by_even: np.ndarray  # by the inputs of layers of even and odd number
    by_odd: np.ndarray
    by_sequence: np.ndarray
    by_encoded: np.ndarray
    by_raw: np.ndarray  # (n_outputs, tile, largest number of raw parameters)


def make_plan(
    n_features: int,
    n_sequence: int,
    encoder_shape: Sequence[int],
    shapes: Sequence[Sequence[int]],
    n_raw: Sequence[int],
    *,
    based: Sequence[int],
    family: Sequence[int],
    bounded: Sequence[bool],
    log_floor: Sequence[float],
    n_noise: int,
    activation: int,
    layer_norm: bool,
    for_gradient: bool,
) -> Plan:
    """Plan of a network; `shapes` are the hidden widths of each block."""
    layers = _Layers(for_gradient=for_gradient)
    n_context = n_features + (encoder_shape[-1] if encoder_shape else 0)
    layers.add([n_features, *encoder_shape], heads=0, layer_norm=False)
    starts = [len(encoder_shape)]
    for d, shape in enumerate(shapes):
        n_in = n_context + (n_sequence if d else 0) + d + sum(j < d for j in based)
        last = d == len(shapes) - 1
        layers.add([n_in, *shape], heads=n_raw[d] + (0 if last else n_sequence),
                   layer_norm=layer_norm)  # fmt: skip
        starts.append(len(layers.rows))
    table = layers.table()
    largest = int((table[:, _IN] * table[:, _OUT]).max())
    return Plan(
        layers=table,
        starts=np.array(starts, dtype=np.int64),
        based=np.array(based, dtype=np.int64),
        n_raw=np.array(n_raw, dtype=np.int64),
        family=np.array(family, dtype=np.int64),
        bounded=np.array(bounded, dtype=np.bool_),
        log_floor=np.array(log_floor, dtype=np.float64),
        n_features=n_features,
        n_context=n_context,
        n_sequence=n_sequence,
        n_noise=n_noise,
        activation=activation,
        widest=int(table[:, [_IN, _OUT]].max()),
        largest=largest,
        n_values=layers.n_values,
        n_scratch=layers.n_kept + layers.n_shared,
        tile=TILE,
    )


class _Layers:
    """Rows of `Plan.layers`, and how much memory they need, in floats per row of a tile.

    For a gradient everything is kept. Otherwise blocks use the same memory, but for their heads.
    """

    def __init__(self, *, for_gradient: bool) -> None:
        self.rows: list[list[int]] = []
        self.for_gradient = for_gradient
        self.n_values = self.n_kept = self.n_shared = self.n_used = 0
        self.kept: list[tuple[list[int], int]] = []  # places counted from the end of what is shared

    def add(self, widths: list[int], *, heads: int, layer_norm: bool) -> None:
        """Hidden layers of these widths, then the heads if there are any."""
        hidden = [self._layer(*pair) for pair in pairwise(widths)]
        if layer_norm:
            for row in hidden:
                row[_GAIN], row[_SHIFT] = self._values(row[_OUT]), self._values(row[_OUT])
        rows = [*hidden, self._layer(widths[-1], heads)] if heads else hidden
        self.n_used = 0
        for row in rows:
            self._place(row, _INPUT, row[_IN])
        for row in hidden:
            self._place(row, _NORMAL, row[_OUT])
            self._place(row, _RSTD, 1)
            if self.for_gradient:
                self._place(row, _SLOPE, row[_OUT])
        if rows:
            self._place(rows[-1], _RESULT, rows[-1][_OUT], is_kept=True)
        self.rows += rows

    def table(self) -> np.ndarray:
        """The rows, once all are there."""
        for row, column in self.kept:
            row[column] += self.n_shared
        for row, following in pairwise(self.rows):
            if row[_RESULT] < 0:
                row[_RESULT] = following[_INPUT]
        return np.array(self.rows, dtype=np.int64)

    def _layer(self, n_in: int, n_out: int) -> list[int]:
        row = [-1] * 11
        row[_IN], row[_OUT] = n_in, n_out
        row[_WEIGHT], row[_BIAS] = self._values(n_in * n_out), self._values(n_out)
        return row

    def _values(self, n: int) -> int:
        self.n_values += n
        return self.n_values - n

    def _place(self, row: list[int], column: int, n: int, *, is_kept: bool = False) -> None:
        if is_kept or self.for_gradient:
            row[column] = self.n_kept
            self.n_kept += n
            self.kept.append((row, column))
        else:
            row[column] = self.n_used
            self.n_used += n
            self.n_shared = max(self.n_shared, self.n_used)


@kernel
def _make_scratch(plan, with_gradient):
    n_outputs, tile = len(plan.n_raw), plan.tile
    n_wide = tile * plan.widest
    n_backward = n_wide if with_gradient else 0
    n_encoded = plan.n_context - plan.n_features
    return _Scratch(
        np.empty(plan.n_scratch * tile, dtype=np.float32),
        np.empty(n_wide, dtype=np.float32),
        np.ones(plan.widest, dtype=np.float32),
        np.zeros(plan.widest, dtype=np.float32),
        np.empty(max(plan.largest if with_gradient else 0, n_wide), dtype=np.float32),
        np.empty(n_backward, dtype=np.float32),
        np.empty(n_backward, dtype=np.float32),
        np.empty(n_backward, dtype=np.float32),
        np.empty(tile * max(plan.n_sequence, 1), dtype=np.float32),
        np.zeros(tile * max(n_encoded, 1), dtype=np.float32),
        np.empty((n_outputs, tile, plan.n_raw.max()), dtype=np.float32),
    )


@piece
def _part(work, offset, tile, n_rows, width):
    """Matrix of a tile in the scratch memory."""
    start = offset * tile
    return work[start : start + n_rows * width].reshape(n_rows, width)


@piece
def _matrix(values, offset, n_in, n_out):
    return values[offset : offset + n_in * n_out].reshape(n_in, n_out)


@kernel(borrows=True)
def centre(values, plan):
    """Take their means over a layer's outputs from weights and biases, in place.

    Layer norm would take that of every row. Where no gradient is wanted, rows are as if it were 0.
    """
    for k in range(len(plan.layers)):
        layer = plan.layers[k]
        if layer[_GAIN] < 0:
            continue
        n_in, n_out = layer[_IN], layer[_OUT]
        weight, bias = _matrix(values, layer[_WEIGHT], n_in, n_out), _bias(values, plan, k)
        for i in range(n_in + 1):
            row = weight[i] if i < n_in else bias
            total = 0.0
            for j in range(n_out):
                total += row[j]
            mean = _F32(total / n_out)
            for j in range(n_out):
                row[j] -= mean


@piece
def _bias(values, plan, k):
    start = plan.layers[k, _BIAS]
    return values[start : start + plan.layers[k, _OUT]]


@kernel(borrows=True)
def _finish_layer(values, plan, k, n_rows, product, scratch, with_slope):
    """Normalisation and activation of hidden layer k, given its product with the bias."""
    layer, work, tile = plan.layers[k], scratch.work, plan.tile
    n_out = layer[_OUT]
    out = _part(work, layer[_RESULT], tile, n_rows, n_out)
    gain, shift, normal = scratch.ones[:n_out], scratch.zeros[:n_out], product
    if layer[_GAIN] >= 0:
        gain = values[layer[_GAIN] : layer[_GAIN] + n_out]
        shift = values[layer[_SHIFT] : layer[_SHIFT] + n_out]
        rstd = work[layer[_RSTD] * tile : layer[_RSTD] * tile + n_rows]
        if plan.activation == SILU and not with_slope:
            silu_of_centred(product, gain, shift, rstd, out)
            return
        normal = _part(work, layer[_NORMAL], tile, n_rows, n_out)
        if plan.activation == SILU:
            slope = _part(work, layer[_SLOPE], tile, n_rows, n_out)
            normalise_silu(product, gain, shift, scratch.spare, normal, rstd, out, slope)
            return
        normalise(product, scratch.spare, normal, rstd)
    if with_slope:
        slope = _part(work, layer[_SLOPE], tile, n_rows, n_out)
        activate_with_slope(plan.activation, normal, gain, shift, out, slope)
    else:
        activate(plan.activation, normal, gain, shift, out)


@piece
def _run_layer(values, plan, k, n_rows, scratch, with_slope):
    """Hidden layer k from its input to its result, in the scratch memory."""
    n_in, n_out = plan.layers[k, _IN], plan.layers[k, _OUT]
    h = _part(scratch.work, plan.layers[k, _INPUT], plan.tile, n_rows, n_in)
    p = scratch.product[: n_rows * n_out].reshape(n_rows, n_out)
    affine(h, _matrix(values, plan.layers[k, _WEIGHT], n_in, n_out), _bias(values, plan, k), p)
    _finish_layer(values, plan, k, n_rows, p, scratch, with_slope)


@kernel(borrows=True)
def _encode(values, plan, context, n_rows, scratch, with_slope):
    """Fill the columns of `context` behind the features."""
    n_layers = plan.starts[0]
    if n_layers == 0:
        return
    n_features = plan.n_features
    h = _part(scratch.work, plan.layers[0, _INPUT], plan.tile, n_rows, n_features)
    for i in range(n_rows):
        for j in range(n_features):
            h[i, j] = context[i, j]
    for k in range(n_layers):
        _run_layer(values, plan, k, n_rows, scratch, with_slope)
    n_encoded = plan.n_context - n_features
    encoded = _part(scratch.work, plan.layers[n_layers - 1, _RESULT], plan.tile, n_rows, n_encoded)
    for i in range(n_rows):
        for j in range(n_encoded):
            context[i, n_features + j] = encoded[i, j]


@kernel(borrows=True)
def _assemble(inputs, plan, d, n_rows, scratch, y, r):
    """Write sequence features, earlier targets and residuals into the last columns."""
    if d == 0:
        return
    heads = plan.starts[d] - 1  # of the block before
    width = plan.layers[heads, _OUT]
    sequence = _part(scratch.work, plan.layers[heads, _RESULT], plan.tile, n_rows, width)
    n_sequence, based, column = plan.n_sequence, plan.based, plan.n_context
    for i in range(n_rows):
        for j in range(n_sequence):
            inputs[i, column + j] = max(sequence[i, j], _F32(0.0))
        c = column + n_sequence
        for j in range(d):
            inputs[i, c + j] = y[i, j]
        c += d
        for b in range(len(based)):
            if based[b] < d:
                inputs[i, c] = r[i, based[b]]
                c += 1


@kernel(borrows=True)
def _forward(values, plan, n_rows, context, y, r, scratch, with_slope):
    """Take a tile through all blocks, given the true targets."""
    work, tile, layers = scratch.work, plan.tile, plan.layers
    for d in range(len(plan.n_raw)):
        first, heads = plan.starts[d], plan.starts[d + 1] - 1
        inputs = _part(work, layers[first, _INPUT], tile, n_rows, layers[first, _IN])
        for i in range(n_rows):
            for j in range(plan.n_context):
                inputs[i, j] = context[i, j]
        _assemble(inputs, plan, d, n_rows, scratch, y, r)
        for k in range(first, heads):
            _run_layer(values, plan, k, n_rows, scratch, with_slope)
        n_in, n_out = layers[heads, _IN], layers[heads, _OUT]
        h = _part(work, layers[heads, _INPUT], tile, n_rows, n_in)
        out = _part(work, layers[heads, _RESULT], tile, n_rows, n_out)
        weight = _matrix(values, layers[heads, _WEIGHT], n_in, n_out)
        affine(h, weight, _bias(values, plan, heads), out)


@kernel(borrows=True)
def _add_parameters(plan, k, n_rows, g, gradient, scratch):
    """Add the gradient by weights and bias of layer k, given that by its product.

    Where there is layer norm, that by the bias is there already.
    """
    n_in, n_out = plan.layers[k, _IN], plan.layers[k, _OUT]
    h = _part(scratch.work, plan.layers[k, _INPUT], plan.tile, n_rows, n_in)
    add_product(h.T, g, _matrix(gradient, plan.layers[k, _WEIGHT], n_in, n_out))
    if plan.layers[k, _GAIN] >= 0:
        return
    bias = _bias(gradient, plan, k)
    for i in range(n_rows):
        for j in range(n_out):
            bias[j] += g[i, j]


@kernel(borrows=True)
def _through_activation(values, plan, k, n_rows, g, gradient, scratch):
    """Turn the gradient `g` by the result of hidden layer k into that by its product, in place."""
    layer, work, tile = plan.layers[k], scratch.work, plan.tile
    n_out = layer[_OUT]
    slope = _part(work, layer[_SLOPE], tile, n_rows, n_out)
    if layer[_GAIN] >= 0:
        normalise_backward(
            g,
            slope,
            _part(work, layer[_NORMAL], tile, n_rows, n_out),
            work[layer[_RSTD] * tile : layer[_RSTD] * tile + n_rows],
            values[layer[_GAIN] : layer[_GAIN] + n_out],
            gradient[layer[_GAIN] : layer[_GAIN] + n_out],
            gradient[layer[_SHIFT] : layer[_SHIFT] + n_out],
            _bias(gradient, plan, k),
        )
        return
    for i in range(n_rows):
        for j in range(n_out):
            g[i, j] *= slope[i, j]


@piece
def _across(values, plan, k, start, stop, scratch):
    """Weights of the inputs `start` to `stop` of layer k, transposed."""
    n_in, n_out = plan.layers[k, _IN], plan.layers[k, _OUT]
    across = scratch.spare[: (stop - start) * n_out].reshape(n_out, stop - start)
    transpose(_matrix(values, plan.layers[k, _WEIGHT], n_in, n_out)[start:stop], across)
    return across


@piece
def _below(values, plan, k, n_rows, g, scratch):
    """Gradient by the input of layer k, given that by its product, in memory of its own."""
    n_in = plan.layers[k, _IN]
    to = scratch.by_even if k % 2 == 0 else scratch.by_odd
    below = to[: n_rows * n_in].reshape(n_rows, n_in)
    multiply(g, _across(values, plan, k, 0, n_in, scratch), below)
    return below


@piece
def _by_heads(plan, d, n_rows, scratch):
    """Gradient by the heads of block d, given those by its raw parameters and sequence features."""
    heads, n_raw = plan.starts[d + 1] - 1, plan.n_raw[d]
    n_out = plan.layers[heads, _OUT]
    n_own = n_out - n_raw  # sequence features
    by_sequence, by_raw = scratch.by_sequence, scratch.by_raw[d]
    g = scratch.by_out[: n_rows * n_out].reshape(n_rows, n_out)
    out = _part(scratch.work, plan.layers[heads, _RESULT], plan.tile, n_rows, n_out)
    for i in range(n_rows):
        for j in range(n_own):
            g[i, j] = by_sequence[i * n_own + j] if out[i, j] > _F32(0.0) else _F32(0.0)
        for j in range(n_raw):
            g[i, n_own + j] = by_raw[i, j]
    return g


@kernel(borrows=True)
def _backward(values, gradient, plan, n_rows, scratch):
    """Add a tile's gradient by the parameters, given `by_raw` in `scratch`."""
    n_features, n_context, n_sequence = plan.n_features, plan.n_context, plan.n_sequence
    n_encoded = n_context - n_features
    by_sequence, by_encoded = scratch.by_sequence, scratch.by_encoded
    by_encoded[:] = _F32(0.0)
    for d in range(len(plan.n_raw) - 1, -1, -1):
        first, heads = plan.starts[d], plan.starts[d + 1] - 1
        g = _by_heads(plan, d, n_rows, scratch)
        for k in range(heads, first - 1, -1):
            if k < heads:
                _through_activation(values, plan, k, n_rows, g, gradient, scratch)
            _add_parameters(plan, k, n_rows, g, gradient, scratch)
            if k > first:
                g = _below(values, plan, k, n_rows, g, scratch)
        if n_encoded > 0:
            below = by_encoded[: n_rows * n_encoded].reshape(n_rows, n_encoded)
            add_product(g, _across(values, plan, first, n_features, n_context, scratch), below)
        if d > 0:
            below = by_sequence[: n_rows * n_sequence].reshape(n_rows, n_sequence)
            end = n_context + n_sequence
            multiply(g, _across(values, plan, first, n_context, end, scratch), below)
    g = by_encoded[: n_rows * n_encoded].reshape(n_rows, n_encoded)
    for k in range(plan.starts[0] - 1, -1, -1):  # the encoder
        _through_activation(values, plan, k, n_rows, g, gradient, scratch)
        _add_parameters(plan, k, n_rows, g, gradient, scratch)
        if k > 0:
            g = _below(values, plan, k, n_rows, g, scratch)


# Of mixtures of Gaussians, which are all that most networks need; see `kernels_for`.
@piece
def _log_prob(family, raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient):
    mixtures.log_prob(raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient)


@piece
def _draw(
    family, raw, hidden, across, bias, noise_first, noise_last, bounded, floor, low, high, out
):  # fmt: skip
    mixtures.draw(
        raw, hidden, across, bias, noise_first, noise_last, bounded, floor, low, high, out
    )


@piece
def _moments(family, raw, bounded, floor, low, high, drawn, mean, variance):
    mixtures.moments(raw, bounded, floor, low, high, mean, variance)


class Room(NamedTuple):
    """Memory for what happens to a tile of rows."""

    scratch: _Scratch
    context: np.ndarray  # (tile, n_context)
    y: np.ndarray  # (tile, n_outputs)
    r: np.ndarray
    low: np.ndarray  # (tile,)
    high: np.ndarray
    target: np.ndarray
    density: np.ndarray
    by_y: np.ndarray


@kernel
def make_room(plan, with_gradient):
    """Room for `score_in`."""
    n_outputs, tile = len(plan.n_raw), plan.tile
    return Room(
        _make_scratch(plan, with_gradient),
        np.empty((tile, plan.n_context), dtype=np.float32),
        np.empty((tile, n_outputs), dtype=np.float32),
        np.empty((tile, n_outputs), dtype=np.float32),
        np.empty(tile, dtype=np.float32),
        np.empty(tile, dtype=np.float32),
        np.empty(tile, dtype=np.float32),
        np.empty(tile, dtype=np.float32),
        np.empty(tile, dtype=np.float32),
    )


@kernel
def score(values, gradient, plan, rows, index, weight, log_prob, with_gradient):
    """`score_in` in room of its own."""
    room = make_room(plan, with_gradient)
    score_in(room, values, gradient, plan, rows, index, weight, log_prob, with_gradient)


@kernel
def score_in(room, values, gradient, plan, rows, index, weight, log_prob, with_gradient):
    """Log densities of the rows `index` (n,), of the residuals, into `log_prob` (n,), float64.

    With their weights, `gradient` is overwritten by that of ``-sum(weight * log_prob)``. Without,
    `values` are those of `centre`.
    """
    n_outputs, tile = len(plan.n_raw), plan.tile
    # Fields are read outside of the loops: each reading counts a reference
    scratch, context, y, r = room.scratch, room.context, room.y, room.r
    low, high, target, density, by_y = room.low, room.high, room.target, room.density, room.by_y
    x_rows, y_rows, r_rows, n_observed = rows.x, rows.y, rows.r, rows.n_observed
    low_rows, high_rows, n_features = rows.low, rows.high, plan.n_features
    if with_gradient:
        gradient[:] = _F32(0.0)
    for start in range(0, len(index), tile):
        n_rows = min(tile, len(index) - start)
        for i in range(n_rows):
            row = index[start + i]
            for j in range(n_features):
                context[i, j] = x_rows[row, j]
            for j in range(n_outputs):
                y[i, j] = y_rows[row, j]
                r[i, j] = r_rows[row, j]
            log_prob[start + i] = 0.0
        _encode(values, plan, context, n_rows, scratch, with_gradient)
        _forward(values, plan, n_rows, context, y, r, scratch, with_gradient)
        for d in range(n_outputs):
            n_raw, bounded = plan.n_raw[d], plan.bounded[d]
            raw = _raw_of_tile(plan, d, n_rows, scratch)
            for i in range(n_rows):
                row = index[start + i]
                target[i] = r[i, d]
                if bounded:
                    low[i] = low_rows[row, d]
                    high[i] = high_rows[row, d]
                    target[i] = min(max(target[i], low[i]), high[i])
            by_raw = scratch.by_raw[d]
            _log_prob(
                plan.family[d], raw, target[:n_rows], low, high, bounded, plan.log_floor[d],
                density, by_raw, by_y, with_gradient,
            )  # fmt: skip
            for i in range(n_rows):
                is_observed = d < n_observed[index[start + i]]
                log_prob[start + i] += density[i] if is_observed else 0.0
                if with_gradient:
                    factor = -weight[start + i] if is_observed else _F32(0.0)
                    for j in range(n_raw):
                        by_raw[i, j] *= factor
        if with_gradient:
            _backward(values, gradient, plan, n_rows, scratch)


@kernel(borrows=True)
def _spread_rows(rows, local, n, out):
    """Rows for n draws, ``local[i]`` for draw i."""
    for i in range(n):
        one = rows[local[i]]
        for j in range(rows.shape[1]):
            out[i, j] = one[j]


@kernel(borrows=True)
def _take_sequence(inputs, plan, d, n, scratch):
    """Write sequence features of the block before d into the first columns."""
    heads, n_sequence = plan.starts[d] - 1, plan.n_sequence  # of the block before
    width = plan.layers[heads, _OUT]
    sequence = _part(scratch.work, plan.layers[heads, _RESULT], plan.tile, n, width)
    for i in range(n):
        for j in range(n_sequence):
            inputs[i, j] = max(sequence[i, j], _F32(0.0))


@kernel(borrows=True)
def _run_block(values, plan, d, n, n_rows, own, local, inputs, residuals, n_heads, scratch):
    """The first heads of output d for n draws from n_rows rows, in the scratch memory.

    What depends on x alone is computed once per row: `own` (n_rows, n_context) are the contexts,
    and ``local[i]`` says which of them is that of draw i. What blocks see of earlier outputs stays
    where it is: `inputs` (tile, n_sequence + n_outputs) hold sequence features and targets, and
    `residuals` (tile, n_based) those of `Plan.based`.
    """
    work, tile, layers = scratch.work, plan.tile, plan.layers
    with_slope = plan.tile < 0  # False
    first, heads = plan.starts[d], plan.starts[d + 1] - 1
    n_now = n_rows if d == 0 else n  # the first block sees x alone
    for k in range(first, heads):
        if k > first:
            _run_layer(values, plan, k, n_now, scratch, with_slope)
            continue
        n_in, n_out = layers[k, _IN], layers[k, _OUT]
        p = scratch.product[: n_now * n_out].reshape(n_now, n_out)
        weight = _matrix(values, layers[k, _WEIGHT], n_in, n_out)
        if d == 0:
            affine(own[:n_rows], weight, _bias(values, plan, k), p)
        else:
            _take_sequence(inputs, plan, d, n, scratch)
            shared = scratch.spare[: n_rows * n_out].reshape(n_rows, n_out)
            affine(own[:n_rows], weight[: plan.n_context], _bias(values, plan, k), shared)
            h, behind = inputs[:n, : plan.n_sequence + d], plan.n_context + plan.n_sequence + d
            if n_rows == 1:
                affine(h, weight[plan.n_context : behind], shared[0], p)
            else:
                _spread_rows(shared, local, n, p)
                add_product(h, weight[plan.n_context : behind], p)
            add_product(residuals[:n, : n_in - behind], weight[behind:], p)
        _finish_layer(values, plan, k, n_now, p, scratch, with_slope)
    n_in, n_out = layers[heads, _IN], layers[heads, _OUT]
    h = _part(work, layers[heads, _INPUT], tile, n_now, n_in)
    result = _part(work, layers[heads, _RESULT], tile, n, n_out)
    weight = _matrix(values, layers[heads, _WEIGHT], n_in, n_out)
    if d > 0:
        affine(h, weight[:, :n_heads], _bias(values, plan, heads), result[:, :n_heads])
    else:
        p = scratch.product[: n_now * n_out].reshape(n_now, n_out)
        affine(h, weight, _bias(values, plan, heads), p)
        _spread_rows(p, local, n, result)


@kernel(borrows=True)
def _turn_heads(values, plan, across):
    """Write weights of locations and scales of mixtures, the last heads, as rows to `across`."""
    for d in range(1, len(across)):
        heads, n_last = plan.starts[d + 1] - 1, _n_last_heads(plan, d)
        n_in, n_out = plan.layers[heads, _IN], plan.layers[heads, _OUT]
        weight = _matrix(values, plan.layers[heads, _WEIGHT], n_in, n_out)
        transpose(weight[:, n_out - n_last :], _matrix(across[d], 0, n_last, n_in))


@piece
def _n_last_heads(plan, d):
    """How many heads of output d a draw needs for one component alone: its location and scale.

    None of the first output, whose heads are computed once per row.
    """
    return plan.n_raw[d] // 3 * 2 if d > 0 and plan.family[d] < families.HISTOGRAM else 0


@piece
def _raw_of_tile(plan, d, n, scratch):
    """Raw parameters of output d for a tile, which are behind the sequence features."""
    heads = plan.starts[d + 1] - 1
    n_out = plan.layers[heads, _OUT]
    result = _part(scratch.work, plan.layers[heads, _RESULT], plan.tile, n, n_out)
    return result[:, n_out - plan.n_raw[d] :]


@kernel(borrows=True)
def _locate(plan, target, d, n, own, local, y, location, low, high):
    """Location of output d for each draw of a tile, and its bounds in units of the residual."""
    n_features, base = plan.n_features, target.base[d]
    intercept, scale = base[-2], base[-1]
    lowest, highest = target.limits[d, 0], target.limits[d, 1]
    is_based = False
    for j in plan.based:
        is_based = is_based or j == d
    for i in range(n):
        location[i] = intercept
        if is_based:
            for j in range(n_features):
                location[i] += base[j] * own[local[i], j]
            for j in range(d):
                location[i] += base[n_features + j] * y[i, j]
        low[i] = (lowest - location[i]) / scale
        high[i] = (highest - location[i]) / scale
    return scale


@kernel(borrows=True)
def _keep_residual(plan, d, residual, n, residuals):
    """Keep the residuals (n,) of output d, if later blocks see them."""
    for b in range(len(plan.based)):
        if plan.based[b] == d:
            for i in range(n):
                residuals[i, b] = residual[i]


@kernel(borrows=True)
def _gather(plan, x, n_columns, pairs, own, local):
    """Features of the rows of some pairs, each row once, and which of them each pair has."""
    n_rows, last, n_features = 0, -1, plan.n_features
    for i in range(len(pairs)):
        row = pairs[i] // n_columns
        if row != last:
            for j in range(n_features):
                own[n_rows, j] = x[row, j]
            n_rows += 1
            last = row
        local[i] = n_rows - 1
    return n_rows


@kernel
def draw_rows(values, plan, target, x, n_columns, noise, pairs, group, with_moments, known, draws):
    """Draws of one member for some pairs ``row * n_columns + column``, in rising order.

    `values` are those of `centre`. Noise is (n or n_pairs, 1 + n_outputs * n_noise), repeated,
    float64, in whose tails there is room for those of the densities; its first column chose the
    member.
    Outputs that are known are not drawn; their log density is added to ``draws.log_weight``, and
    that of all outputs to ``draws.log_prob`` if it has room. No tile crosses a multiple of `group`,
    so that results do not depend on what else is asked for.
    """
    n_outputs, tile = draws.out.shape[1], plan.tile
    with_gradient = plan.tile < 0  # False; as a literal it would have callees compiled again
    scratch = _make_scratch(plan, with_gradient)
    own = np.empty((tile, plan.n_context), dtype=np.float32)
    local = np.empty(tile, dtype=np.int64)  # place of each pair's row among the tile's rows
    noise_row = np.empty(tile, dtype=np.int64)
    inputs = np.empty((tile, plan.n_sequence + n_outputs), dtype=np.float32)
    y = inputs[:, plan.n_sequence :]
    residuals = np.empty((tile, len(plan.based)), dtype=np.float32)
    location, drawn, low, high = np.empty(tile), np.empty(tile), np.empty(tile), np.empty(tile)
    chooses, places, mean, variance = np.empty(tile), np.empty(tile), np.empty(tile), np.empty(tile)
    low32, high32 = np.empty(tile, dtype=np.float32), np.empty(tile, dtype=np.float32)
    residual, density = np.empty(tile, dtype=np.float32), np.empty(tile, dtype=np.float32)
    by_y = np.empty(tile, dtype=np.float32)
    # Fields are read outside of the loops: each reading counts a reference
    out, log_weight, known_values = draws.out, draws.log_weight, known.values
    means, variances, n_noise = draws.mean, draws.variance, plan.n_noise
    log_prob, with_density = draws.log_prob, len(draws.log_prob) > 0
    raws, locations, with_raw = draws.raw, draws.location, len(draws.location) > 0
    across = np.empty((n_outputs, plan.largest), dtype=np.float32)
    _turn_heads(values, plan, across)
    with_all = with_moments or with_density or with_raw
    start = 0
    while start < len(pairs):
        n = min(tile, len(pairs) - start, group - start % group)
        n_rows = _gather(plan, x, n_columns, pairs[start : start + n], own, local)
        _encode(values, plan, own, n_rows, scratch, with_gradient)
        for i in range(n):
            noise_row[i] = pairs[start + i] % len(noise)
        for d in range(n_outputs):
            heads, n_last = plan.starts[d + 1] - 1, _n_last_heads(plan, d)
            n_in, n_out = plan.layers[heads, _IN], plan.layers[heads, _OUT]
            n_heads = n_out if with_all or known.is_known[d] else n_out - n_last
            _run_block(values, plan, d, n, n_rows, own, local, inputs, residuals, n_heads, scratch)
            raw = _raw_of_tile(plan, d, n, scratch)
            scale = _locate(plan, target, d, n, own, local, y, location, low, high)
            bounded, floor = plan.bounded[d], math.exp(plan.log_floor[d])
            if with_raw:
                for i in range(n):
                    pair = pairs[start + i]
                    locations[pair, d] = location[i]
                    for j in range(raw.shape[1]):
                        raws[pair, d, j] = raw[i, j]
            if known.is_known[d]:
                for i in range(n):
                    value = known_values[pairs[start + i] // n_columns, d]
                    residual[i] = (value - location[i]) / scale
                    low32[i], high32[i] = low[i], high[i]
                    if bounded:
                        residual[i] = min(max(residual[i], low32[i]), high32[i])
                    y[i, d] = value
                    out[pairs[start + i], d] = value
                _keep_residual(plan, d, residual, n, residuals)
                _log_prob(
                    plan.family[d], raw, residual[:n], low32, high32, bounded, plan.log_floor[d],
                    density, scratch.by_raw[d], by_y, with_gradient,
                )  # fmt: skip
                for i in range(n):
                    log_weight[pairs[start + i]] += density[i] - math.log(scale)
                    if with_density:
                        log_prob[pairs[start + i]] += density[i] - math.log(scale)
                continue
            for i in range(n):
                chooses[i] = noise[noise_row[i], n_noise * d + 1]
                places[i] = noise[noise_row[i], n_noise * (d + 1)]
            hidden = _part(scratch.work, plan.layers[heads, _INPUT], tile, n, n_in)
            bias = _bias(values, plan, heads)[n_out - n_last :]
            _draw(
                plan.family[d], raw, hidden, _matrix(across[d], 0, n_last, n_in), bias, chooses,
                places, bounded, floor, low, high, drawn,
            )  # fmt: skip
            if with_moments:
                _moments(plan.family[d], raw, bounded, floor, low, high, drawn, mean, variance)
                for i in range(n):
                    pair = pairs[start + i]
                    means[pair, d] = location[i] + scale * mean[i]
                    variances[pair, d] = scale * scale * variance[i]
            if with_density:
                for i in range(n):
                    residual[i], low32[i], high32[i] = drawn[i], low[i], high[i]
                _log_prob(
                    plan.family[d], raw, residual[:n], low32, high32, bounded, plan.log_floor[d],
                    density, scratch.by_raw[d], by_y, with_gradient,
                )  # fmt: skip
                for i in range(n):
                    log_prob[pairs[start + i]] += density[i] - math.log(scale)
            lowest, highest = target.limits[d, 0], target.limits[d, 1]
            for i in range(n):
                value = location[i] + scale * drawn[i]
                if bounded:
                    value = min(max(value, lowest), highest)
                y[i, d] = value
                out[pairs[start + i], d] = value
            _keep_residual(plan, d, drawn, n, residuals)
        start += n


score_in_any = twin(score_in, "score_in_any", _log_prob=families.log_prob)
score_any = twin(score, "score_any", score_in=score_in_any)
_draw_rows_any = twin(
    draw_rows,
    "draw_rows_any",
    _log_prob=families.log_prob,
    _draw=families.draw,
    _moments=families.moments,
)


def kernels_for(plan: Plan) -> tuple[Any, Any]:
    """`score` and `draw_rows` for the families of a plan.

    Most networks need no more than mixtures of Gaussians, and do not wait for the rest.
    """
    if (plan.family == families.GAUSSIANS).all():
        return score, draw_rows
    return score_any, _draw_rows_any
