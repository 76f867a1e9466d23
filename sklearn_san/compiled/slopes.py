"""The slope of log p(y | x) by y compiled; the reference is torch's autograd in `_engine`.

A tile of points goes forward through all blocks as for training, then backward to what the blocks
see of y: the earlier targets and residuals themselves, and the sequence features. With the residual
``r_d = (y_d - m_d) / s_d``, whose location m_d depends on the outputs before it, and bounds that
move with the location, the density of output d depends on m_d as it does on a common shift of all
its components in the other direction, so that bounds need no derivatives of their own:

    d log p_d / d m_d = sum_k (d log p_d / d loc_k) / s_d

==============  ============================================================================
`slope_rows`    log density of points under one member, and its slope by y
`slopes_for`    that, or its twin where an output is no mixture of Gaussians
==============  ============================================================================
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import families
from .jit import kernel, piece, twin
from .network import (
    _F32,
    _IN,
    Plan,
    _across,
    _below,
    _by_heads,
    _encode,
    _forward,
    _log_prob,
    _make_scratch,
    _raw_of_tile,
    _through_activation,
)
from .products import multiply


@kernel
def _gather_points(plan, target, x, y, points, context, y32, r, low, high):
    """Contexts, targets, residuals and their bounds of some points, in float32.

    What is missing is 0.
    """
    n_features, n_outputs = plan.n_features, len(plan.n_raw)
    values = np.empty(n_outputs)
    for i in range(len(points)):
        point = points[i]
        for j in range(n_features):
            context[i, j] = x[point, j]
        for d in range(n_outputs):
            values[d] = 0.0 if math.isnan(y[point, d]) else y[point, d]
            y32[i, d] = values[d]
            base, scale = target.base[d], target.base[d, -1]
            location = base[-2]
            for j in range(n_features):
                location += base[j] * x[point, j]
            for j in range(d):
                location += base[n_features + j] * values[j]
            r[i, d] = (values[d] - location) / scale
            low[d, i] = (target.limits[d, 0] - location) / scale
            high[d, i] = (target.limits[d, 1] - location) / scale
            r[i, d] = min(max(r[i, d], low[d, i]), high[d, i])


@piece
def _through_block(values, plan, d, n_rows, unused, scratch):
    """From gradients by the raw parameters and sequence features of block d to its inputs.

    Of the inputs, (n_rows, n_behind) are those behind the context.
    """
    first, heads = plan.starts[d], plan.starts[d + 1] - 1
    g = _by_heads(plan, d, n_rows, scratch)
    for k in range(heads, first, -1):
        g = _below(values, plan, k, n_rows, g, scratch)
        _through_activation(values, plan, k - 1, n_rows, g, unused, scratch)
    n_in = plan.layers[first, _IN]
    n_behind = n_in - plan.n_context
    below = scratch.product[: n_rows * n_behind].reshape(n_rows, n_behind)
    multiply(g, _across(values, plan, first, plan.n_context, n_in, scratch), below)
    return below


@kernel
def slope_rows(values, plan, target, x, y, points, log_prob, slope):
    """Log density (n,) at y (n, n_outputs) given x (n, n_features), and its slope by y.

    For the places `points` of these arrays alone. x is float32, all else float64, in scaled units.
    Missing values, the last ones of a point, are nan; their slope is 0.
    """
    n_outputs, tile = len(plan.n_raw), plan.tile
    with_gradient = tile > 0  # True; as a literal it would have callees compiled again
    scratch = _make_scratch(plan, with_gradient)
    unused = np.zeros(plan.n_values, dtype=np.float32)  # gradient by gains and shifts
    context = np.empty((tile, plan.n_context), dtype=np.float32)
    y32 = np.empty((tile, n_outputs), dtype=np.float32)
    r = np.empty((tile, n_outputs), dtype=np.float32)
    low = np.empty((n_outputs, tile), dtype=np.float32)
    high = np.empty((n_outputs, tile), dtype=np.float32)
    residual, density = np.empty(tile, dtype=np.float32), np.empty(tile, dtype=np.float32)
    by_y = np.empty(tile, dtype=np.float32)
    by_r = np.empty((tile, n_outputs))  # through the blocks behind
    # Fields are read outside of the loops: each reading counts a reference
    n_sequence, based, by_sequence, base = (
        plan.n_sequence, plan.based, scratch.by_sequence, target.base,
    )  # fmt: skip
    first_y = plan.n_features  # column of the base
    for start in range(0, len(points), tile):
        own = points[start : start + tile]
        n = len(own)
        _gather_points(plan, target, x, y, own, context, y32, r, low, high)
        _encode(values, plan, context, n, scratch, with_gradient)
        _forward(values, plan, n, context, y32, r, scratch, with_gradient)
        by_r[:] = 0.0
        for i in range(n):
            log_prob[own[i]] = 0.0
            slope[own[i]] = 0.0
        for d in range(n_outputs - 1, -1, -1):
            n_raw, scale, by_raw = plan.n_raw[d], base[d, -1], scratch.by_raw[d]
            for i in range(n):
                residual[i] = r[i, d]
            _log_prob(
                plan.family[d], _raw_of_tile(plan, d, n, scratch), residual[:n], low[d], high[d],
                plan.bounded[d], plan.log_floor[d], density, by_raw, by_y, with_gradient,
            )  # fmt: skip
            n_locs = n_raw // 3 if plan.family[d] < families.HISTOGRAM else 0
            for i in range(n):
                point = own[i]
                if math.isnan(y[point, d]):
                    by_raw[i, :n_raw] = _F32(0.0)
                    continue
                log_prob[point] += density[i] - math.log(scale)
                slope[point, d] += (by_r[i, d] + by_y[i]) / scale
                by_location = -by_r[i, d]
                for k in range(n_locs):
                    by_location += by_raw[i, n_locs + k]
                by_location /= scale
                for j in range(d):
                    slope[point, j] += base[d, first_y + j] * by_location
            if d == 0:
                continue  # the first block sees x alone
            below = _through_block(values, plan, d, n, unused, scratch)
            for i in range(n):
                for j in range(n_sequence):
                    by_sequence[i * n_sequence + j] = below[i, j]
            for i in range(n):
                for j in range(d):
                    slope[own[i], j] += below[i, n_sequence + j]
                c = n_sequence + d
                for b in range(len(based)):
                    if based[b] < d:
                        by_r[i, based[b]] += below[i, c]
                        c += 1


_slope_rows_any = twin(slope_rows, "slope_rows_any", _log_prob=families.log_prob)


def slopes_for(plan: Plan) -> Any:
    """`slope_rows` for the families of a plan."""
    return slope_rows if (plan.family == families.GAUSSIANS).all() else _slope_rows_any
