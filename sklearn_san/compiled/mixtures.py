"""Mixtures compiled, free or inside limits: log density with gradient, draws, moments.

One pass per value instead of some fifty passes over arrays, in float64 but for log densities and
moments of Gaussians that are not extreme. The reference is `likelihoods.mixtures`. Values are
handled in blocks of `LANES`, so that the compiler turns the innermost loops into vector
instructions.
Components are normal; those of the twins are logistic.
"""

from __future__ import annotations

import math

import numpy as np

from .._constants import MAX_RAW_SCALE
from .components import (
    logistic_density,
    logistic_moments,
    logistic_quantiles,
)
from .components import (
    normal_density as component_density,
)
from .components import (
    normal_moments as component_moments,
)
from .components import (
    normal_moments_32 as moments_32,
)
from .components import (
    normal_quantiles as component_quantiles,
)
from .components import (
    normal_terms_32 as terms_32,
)
from .jit import kernel, twin
from .products import transpose
from .special import exp, exp_32, log, log_32
from .truncated_normal import HUGE, truncated_quantile

#: Values per block: two vectors of eight float64, or one of float32.
LANES = 16
#: Values that go through the steps of draws, and of log densities and moments in float32, together.
WIDE = 64
#: What float32 is good for: norms of components, by which densities are divided, and terms of
#: gradients that may cancel.
#: Those of moments, in units of these, cancel in narrow supports.
_ROUGH = np.float32(2000.0)
_LEAST_NORM, _MOST_NORM, _AMPLIFIED = np.float32(1e-12), np.float32(1e6), np.float32(300.0)
_HUGE_32, _LEAST_32, _MAX_RAW_SCALE_32 = (
    np.float32(1e8),
    np.float32(-60.0),
    np.float32(MAX_RAW_SCALE),
)
_ZERO_32, _ONE_32, _LOWEST_32 = np.float32(0.0), np.float32(1.0), np.float32(-np.inf)


@kernel
def _load(raw, start, count, block):
    """Parameters (3 K, n) of some rows, the last of them again in lanes without a row.

    Compilers would scatter them number by number.
    """
    transpose(raw[start : start + count], block[:, :count])
    for k in range(len(block)):
        for j in range(count, block.shape[1]):
            block[k, j] = block[k, count - 1]


@kernel(reorder_sums=True)
def _is_any(flags):
    """Whether any of some numbers, 0 or positive, is positive."""
    total = _ZERO_32
    for j in range(len(flags)):
        total += flags[j]
    return total > _ZERO_32


@kernel
def log_prob(raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient):
    """Log density `out` (n,), its gradient by `raw` (n, 3 K) and its derivative `by_y` (n,).

    In float32, good to 8 units of rounding of ``1 + |log density|``, the gradient to 200. Rows with
    a component for which that would not be so are done again in float64.
    """
    n, n_params = raw.shape
    K = n_params // 3
    f32 = np.float32
    floor = f32(math.exp(log_floor))
    memory = np.empty((8 + 10 * K, WIDE), f32)  # at once: each piece would take 0.1 us
    value, bottom, top, extreme = memory[0], memory[1], memory[2], memory[3]
    largest_logit, largest, total, weight_total = memory[4], memory[5], memory[6], memory[7]
    block, own = memory[8 : 8 + 3 * K], memory[8 + 3 * K :]
    logit, weight, responsibility, norm = (
        own[:K],
        own[K : 2 * K],
        own[2 * K : 3 * K],
        own[3 * K : 4 * K],
    )
    by_loc, by_scale, by_value = own[4 * K : 5 * K], own[5 * K : 6 * K], own[6 * K :]
    bottom[:], top[:] = _ZERO_32, _ZERO_32
    for start in range(0, n, WIDE):
        count = min(WIDE, n - start)
        for j in range(WIDE):
            i = start + min(j, count - 1)
            value[j] = y[i]
            if bounded:
                bottom[j] = max(low[i], -_HUGE_32)
                top[j] = min(high[i], _HUGE_32)
        _load(raw, start, count, block)
        for j in range(WIDE):
            largest_logit[j] = _LOWEST_32
            largest[j] = _LOWEST_32
            total[j] = _ZERO_32
            weight_total[j] = _ZERO_32
            extreme[j] = _ZERO_32
        for k in range(K):
            for j in range(WIDE):
                logit[k, j] = block[k, j]
                largest_logit[j] = max(largest_logit[j], block[k, j])
        for k in range(K):
            for j in range(WIDE):
                grown = exp_32(min(block[2 * K + k, j], _MAX_RAW_SCALE_32))
                scale = floor + grown
                exponent, size, density_by_y, density_by_loc, density_by_scale, amplified = (
                    terms_32(value[j], block[K + k, j], scale, bottom[j], top[j], bounded)
                )
                responsibility[k, j] = logit[k, j] + exponent
                norm[k, j] = size
                by_value[k, j] = density_by_y
                by_loc[k, j] = density_by_loc
                by_scale[k, j] = density_by_scale * (grown / scale)
                is_good = size > _LEAST_NORM and size < _MOST_NORM and amplified < _AMPLIFIED
                extreme[j] += _ZERO_32 if is_good else _ONE_32
                largest[j] = max(largest[j], responsibility[k, j])
        for k in range(K):
            for j in range(WIDE):
                w = exp_32(max(logit[k, j] - largest_logit[j], _LEAST_32))
                weight[k, j] = w
                weight_total[j] += w
                p = exp_32(max(responsibility[k, j] - largest[j], _LEAST_32)) / norm[k, j]
                responsibility[k, j] = p  # not normalised
                total[j] += p
        for j in range(WIDE):
            value[j] = log_32(total[j] / weight_total[j]) + (largest[j] - largest_logit[j])
        for j in range(count):
            out[start + j] = value[j]
        if with_gradient:
            for j in range(WIDE):
                total[j] = _ONE_32 / total[j]
            for j in range(WIDE):
                weight_total[j] = _ONE_32 / weight_total[j]
                value[j] = _ZERO_32
            for k in range(K):
                for j in range(WIDE):
                    responsibility[k, j] *= total[j]
            for k in range(K):
                for j in range(WIDE):
                    block[k, j] = responsibility[k, j] - weight[k, j] * weight_total[j]
                for j in range(WIDE):
                    block[K + k, j] = by_loc[k, j] * responsibility[k, j]
                for j in range(WIDE):
                    block[2 * K + k, j] = by_scale[k, j] * responsibility[k, j]
                for j in range(WIDE):
                    value[j] += by_value[k, j] * responsibility[k, j]
            for j in range(count):
                by_y[start + j] = value[j]
            transpose(block[:, :count], gradient[start : start + count, :n_params])
        if _is_any(extreme):
            exact, exact_by_y = np.empty(LANES, f32), np.empty(LANES, f32)
            exact_gradient = np.empty((LANES, n_params), f32)
            for first in range(0, count, LANES):
                stop = min(first + LANES, count)
                if _is_any(extreme[first:stop]):
                    some = slice(start + first, start + stop)
                    log_prob_64(
                        raw[some], y[some], low[some], high[some], bounded, log_floor, exact,
                        exact_gradient, exact_by_y, with_gradient,
                    )  # fmt: skip
                    for j in range(first, stop):
                        if extreme[j] > _ZERO_32:
                            out[start + j] = exact[j - first]
                            if with_gradient:
                                by_y[start + j] = exact_by_y[j - first]
                                gradient[start + j, :n_params] = exact_gradient[j - first]


@kernel
def log_prob_64(raw, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient):
    """`log_prob` in float64 throughout."""
    n, n_params = raw.shape
    K = n_params // 3
    floor = math.exp(log_floor)
    value, bottom, top = np.empty(LANES), np.zeros(LANES), np.zeros(LANES)
    largest_logit, largest = np.empty(LANES), np.empty(LANES)
    total, weight_total = np.empty(LANES), np.empty(LANES)
    logit, loc, raw_scale = np.empty((K, LANES)), np.empty((K, LANES)), np.empty((K, LANES))
    log_density, by_loc = np.empty((K, LANES)), np.empty((K, LANES))
    by_scale, by_value = np.empty((K, LANES)), np.empty((K, LANES))
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            value[j] = y[i]
            if bounded:
                bottom[j] = max(low[i], -HUGE)
                top[j] = min(high[i], HUGE)
            for k in range(K):
                logit[k, j] = raw[i, k]
                loc[k, j] = raw[i, K + k]
                raw_scale[k, j] = raw[i, 2 * K + k]
        for j in range(LANES):
            largest_logit[j] = -np.inf
            largest[j] = -np.inf
            total[j] = 0.0
            weight_total[j] = 0.0
        for k in range(K):
            for j in range(LANES):
                largest_logit[j] = max(largest_logit[j], logit[k, j])
        for k in range(K):
            for j in range(LANES):
                weight_total[j] += exp(logit[k, j] - largest_logit[j])
        for k in range(K):
            for j in range(LANES):
                grown = exp(min(raw_scale[k, j], MAX_RAW_SCALE))
                scale = floor + grown
                # d log(scale) / d raw
                share = grown / scale if raw_scale[k, j] < MAX_RAW_SCALE else 0.0
                density, density_by_y, density_by_loc, density_by_scale = component_density(
                    value[j], loc[k, j], scale, bottom[j], top[j], bounded
                )
                log_density[k, j] = logit[k, j] + density
                by_value[k, j] = density_by_y
                by_loc[k, j] = density_by_loc
                by_scale[k, j] = density_by_scale * share
        for k in range(K):
            for j in range(LANES):
                largest[j] = max(largest[j], log_density[k, j])
        for k in range(K):
            for j in range(LANES):
                p = exp(log_density[k, j] - largest[j])
                log_density[k, j] = p  # from here on unnormalised responsibilities
                total[j] += p
        for j in range(count):
            out[start + j] = largest[j] + log(total[j]) - log(weight_total[j]) - largest_logit[j]
        if not with_gradient:
            continue
        for k in range(K):
            for j in range(LANES):
                responsibility = log_density[k, j] / total[j]
                weight = exp(logit[k, j] - largest_logit[j]) / weight_total[j]
                logit[k, j] = responsibility - weight
                by_loc[k, j] *= responsibility
                by_scale[k, j] *= responsibility
                by_value[k, j] *= responsibility
        for j in range(count):
            i = start + j
            by_y[i] = by_value[:, j].sum()
            for k in range(K):
                gradient[i, k] = logit[k, j]
                gradient[i, K + k] = by_loc[k, j]
                gradient[i, 2 * K + k] = by_scale[k, j]


@kernel
def mean_log_prob(raw, y, low, high, bounded, log_floor, slope):
    """Mean log density of values (n,) of one mixture, raw parameters (3 K,), and its `slope`.

    In float64, as all arguments.
    """
    n, n_params = len(y), len(raw)
    rows, gradient = np.empty((n, n_params)), np.empty((n, n_params))
    out, by_y = np.empty(n), np.empty(n)
    for i in range(n):
        for k in range(n_params):
            rows[i, k] = raw[k]
    with_gradient = n > 0  # True; a literal would have the kernel compiled again
    log_prob_64(rows, y, low, high, bounded, log_floor, out, gradient, by_y, with_gradient)
    for k in range(n_params):
        slope[k] = 0.0
    mean = 0.0
    for i in range(n):
        mean += out[i]
        for k in range(n_params):
            slope[k] += gradient[i, k]
    for k in range(n_params):
        slope[k] /= n
    return mean / n


@kernel(reorder_sums=True, borrows=True)
def _parameters_of(chosen, hidden, across, bias, loc, scale):
    """Location and raw scale of one component of each row, from the inputs of the heads."""
    K, n_hidden = len(across) // 2, across.shape[1]
    for i in range(len(hidden)):
        k, row = int(chosen[i]), hidden[i]
        weight_loc, weight_scale = across[k], across[K + k]
        sum_loc, sum_scale = _ZERO_32, _ZERO_32
        for j in range(n_hidden):
            sum_loc += row[j] * weight_loc[j]
            sum_scale += row[j] * weight_scale[j]
        loc[i], scale[i] = bias[k] + sum_loc, bias[K + k] + sum_scale


@kernel
def draw(
    raw, hidden, across, bias, noise_component, noise_value, bounded, floor, low, high, out
):  # fmt: skip
    """Draws `out` (n,) of mixtures with raw parameters (n, 3 K), from two uniform numbers each.

    What is common goes through vector instructions, step by step; components whose support lies in
    their tail, and draws beyond 5 scales, are then done one by one.
    Of the raw parameters only logits are read if `across` (2 K, n_hidden) has rows. Locations and
    scales of the chosen components are then ``hidden @ across.T + bias``, of which one row needs
    two numbers.
    """
    n, n_params = raw.shape
    K = n_params // 3
    n_logits = min(-(-K // 4) * 4, n_params)  # transposed in squares of four
    weight, largest = np.empty((n_logits, WIDE), np.float32), np.empty(WIDE, np.float32)
    memory = np.empty((18, WIDE))
    total, threshold, cumulative, chosen, loc = (
        memory[0],
        memory[1],
        memory[2],
        memory[3],
        memory[4],
    )
    scale, u, bottom, top, place = memory[5], memory[6], memory[7], memory[8], memory[9]
    rare, spare = memory[10], memory[11:]
    bottom[:], top[:] = -HUGE, HUGE
    for start in range(0, n, WIDE):
        count = min(WIDE, n - start)
        rows = raw[start : start + count]
        transpose(rows[:, :n_logits], weight[:, :count])
        for j in range(count):
            threshold[j], u[j] = noise_component[start + j], noise_value[start + j]
        if bounded:
            for j in range(count):
                bottom[j], top[j] = max(low[start + j], -HUGE), min(high[start + j], HUGE)
        for j in range(count, WIDE):  # the last row again
            threshold[j], u[j] = threshold[count - 1], u[count - 1]
            bottom[j], top[j] = bottom[count - 1], top[count - 1]
            for k in range(K):
                weight[k, j] = weight[k, count - 1]
        for j in range(WIDE):
            largest[j] = weight[0, j]
            total[j] = 0.0
            cumulative[j] = 0.0
            chosen[j] = 0.0
        for k in range(1, K):
            for j in range(WIDE):
                largest[j] = max(largest[j], weight[k, j])
        # Weights in float32, whose small ones keep their digits; sums of them would not
        for k in range(K):
            for j in range(WIDE):
                weight[k, j] = exp_32(weight[k, j] - largest[j])
            for j in range(WIDE):
                total[j] += weight[k, j]
        for j in range(WIDE):
            threshold[j] *= total[j]
        for k in range(K - 1):
            for j in range(WIDE):
                cumulative[j] += weight[k, j]
                chosen[j] += 1.0 if threshold[j] >= cumulative[j] else 0.0
        if len(across) > 0:
            _parameters_of(chosen, hidden[start : start + count], across, bias, loc, scale)
            for j in range(count, WIDE):
                loc[j], scale[j] = loc[count - 1], scale[count - 1]
        else:
            for j in range(WIDE):
                i, k = min(j, count - 1), int(chosen[j])
                loc[j], scale[j] = rows[i, K + k], rows[i, 2 * K + k]
        for j in range(WIDE):
            scale[j] = floor + exp(min(scale[j], MAX_RAW_SCALE))
        component_quantiles(u, loc, scale, bottom, top, place, rare, spare)
        for j in range(count):
            y = place[j]
            if rare[j] > 0.0:
                y = truncated_quantile(u[j], loc[j], scale[j], bottom[j], top[j])
            out[start + j] = min(max(y, bottom[j]), top[j])


@kernel
def moments(raw, bounded, floor, low, high, mean, variance):
    """Mean and variance (n,) of mixtures with raw parameters (n, 3 K).

    In float32, good to some hundred units of rounding of the variance and of the larger one of mean
    and standard deviation. Rows for which that would not be so are done again in float64.
    """
    n, n_params = raw.shape
    K = n_params // 3
    f32 = np.float32
    floor_32 = f32(floor)
    block = np.empty((n_params, WIDE), f32)
    largest, total, centre = np.empty(WIDE, f32), np.empty(WIDE, f32), np.empty(WIDE, f32)
    spread, rough, rough_square = np.empty(WIDE, f32), np.empty(WIDE, f32), np.empty(WIDE, f32)
    bottom, top, extreme = np.zeros(WIDE, f32), np.zeros(WIDE, f32), np.empty(WIDE, f32)
    exact_mean, exact_variance = np.empty(LANES), np.empty(LANES)
    for start in range(0, n, WIDE):
        count = min(WIDE, n - start)
        _load(raw, start, count, block)
        for j in range(WIDE):
            i = start + min(j, count - 1)
            if bounded:
                bottom[j] = max(f32(low[i]), -_HUGE_32)
                top[j] = min(f32(high[i]), _HUGE_32)
            largest[j] = _LOWEST_32
            total[j] = _ZERO_32
            centre[j] = _ZERO_32
            spread[j] = _ZERO_32
            rough[j] = _ZERO_32
            rough_square[j] = _ZERO_32
            extreme[j] = _ZERO_32
        for k in range(K):
            for j in range(WIDE):
                largest[j] = max(largest[j], block[k, j])
        for k in range(K):  # from here on weights, means and variances of components
            for j in range(WIDE):
                w = exp_32(max(block[k, j] - largest[j], _LEAST_32))
                scale = floor_32 + exp_32(min(block[2 * K + k, j], _MAX_RAW_SCALE_32))
                m, square, shift, terms, norm = moments_32(
                    block[K + k, j], scale, bottom[j], top[j], bounded
                )
                block[k, j] = w
                block[K + k, j] = m
                block[2 * K + k, j] = square
                total[j] += w
                centre[j] += w * m
                rough[j] += w * shift
                rough_square[j] += w * terms
                is_good = norm > _LEAST_NORM and scale < _HUGE_32
                extreme[j] += _ZERO_32 if is_good else _ONE_32
        for j in range(WIDE):
            centre[j] /= total[j]
        for k in range(K):
            for j in range(WIDE):
                distance = block[K + k, j] - centre[j]
                spread[j] += block[k, j] * (block[2 * K + k, j] + distance * distance)
        for j in range(WIDE):
            inverse = _ONE_32 / total[j]
            spread[j] *= inverse
            shift = rough[j] * inverse
            is_good = (
                rough_square[j] * inverse < _ROUGH * spread[j]
                and shift * shift < _ROUGH * _ROUGH * spread[j]
            )  # not so for nan
            extreme[j] += _ZERO_32 if is_good else _ONE_32
        for j in range(count):
            mean[start + j] = centre[j]
        for j in range(count):
            variance[start + j] = spread[j]
        if _is_any(extreme):
            for first in range(0, count, LANES):
                stop = min(first + LANES, count)
                if _is_any(extreme[first:stop]):
                    some = slice(start + first, start + stop)
                    moments_64(
                        raw[some], bounded, floor, low[some], high[some], exact_mean, exact_variance
                    )
                    for j in range(first, stop):
                        if extreme[j] > _ZERO_32:
                            mean[start + j] = exact_mean[j - first]
                            variance[start + j] = exact_variance[j - first]


@kernel
def moments_64(raw, bounded, floor, low, high, mean, variance):
    """`moments` in float64 throughout."""
    n, n_params = raw.shape
    K = n_params // 3
    weight, block = np.empty((K, LANES)), np.empty((n_params, LANES), dtype=np.float32)
    largest, total = np.empty(LANES), np.empty(LANES)
    first, second = np.empty(LANES), np.empty(LANES)
    loc, scale = np.empty(LANES), np.empty(LANES)
    bottom, top = np.full(LANES, -HUGE), np.full(LANES, HUGE)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            if bounded:
                bottom[j] = max(low[i], -HUGE)
                top[j] = min(high[i], HUGE)
            largest[j] = -np.inf
            total[j] = 0.0
            first[j] = 0.0
            second[j] = 0.0
        _load(raw, start, count, block)
        for k in range(K):
            for j in range(LANES):
                weight[k, j] = block[k, j]
                largest[j] = max(largest[j], weight[k, j])
        for k in range(K):
            for j in range(LANES):
                loc[j] = block[K + k, j]
                scale[j] = block[2 * K + k, j]
            for j in range(LANES):
                w = exp(weight[k, j] - largest[j])
                total[j] += w
                s = floor + exp(min(scale[j], MAX_RAW_SCALE))
                m, square = component_moments(loc[j], s, bottom[j], top[j], bounded)
                first[j] += w * m
                second[j] += w * (square + m * m)
        for j in range(count):
            centre = first[j] / total[j]
            mean[start + j] = centre
            variance[start + j] = max(second[j] / total[j] - centre * centre, 0.0)


logistic_log_prob = twin(log_prob_64, "logistic_log_prob", component_density=logistic_density)
logistic_draw = twin(draw, "logistic_draw", component_quantiles=logistic_quantiles)
#: Of free mixtures alone
logistic_mixture_moments = twin(
    moments_64, "logistic_mixture_moments", component_moments=logistic_moments
)
