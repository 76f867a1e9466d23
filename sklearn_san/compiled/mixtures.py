"""Mixtures of Gaussians compiled, free or inside limits: log density with gradient, draws, moments.

One pass per value, in float64 inside, instead of some fifty passes over arrays. The reference is
`likelihoods.mixtures`. Values are handled in blocks of `LANES`, so that the compiler turns the
innermost loops into vector instructions.
"""

from __future__ import annotations

import math

import numpy as np

from .._constants import LOG_SQRT_2PI, MAX_RAW_SCALE
from .jit import kernel
from .special import (
    CENTRAL,
    TAIL_EDGES,
    central_quantile,
    exp,
    log,
    near_tail_quantile,
    upper_tail,
)
from .truncated_normal import HUGE, exponential_moments, mass_and_ends, truncated_quantile

#: Values per block: two vectors of eight float64.
LANES = 16


@kernel
def log_prob(raw, y, low, high, bounded, log_floor, out, gradient, slope, with_gradient):
    """Log density `out` (n,), its gradient by `raw` (n, 3 K) and its slope in `y` (n,)."""
    n, n_params = raw.shape
    K = n_params // 3
    floor = math.exp(log_floor)
    value, bottom, top = np.empty(LANES), np.zeros(LANES), np.zeros(LANES)
    largest_logit, largest = np.empty(LANES), np.empty(LANES)
    total, weight_total, drift = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    logit, loc, raw_scale = np.empty((K, LANES)), np.empty((K, LANES)), np.empty((K, LANES))
    log_density, by_loc = np.empty((K, LANES)), np.empty((K, LANES))
    by_scale = np.empty((K, LANES))
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
            drift[j] = 0.0
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
                inverse = 1.0 / scale
                # d log(scale) / d raw
                share = grown * inverse if raw_scale[k, j] < MAX_RAW_SCALE else 0.0
                m = loc[k, j]
                z = (value[j] - m) * inverse
                if bounded:
                    a = (bottom[j] - m) * inverse
                    b = (top[j] - m) * inverse
                    width = (top[j] - bottom[j]) * inverse
                    mass, at_low, at_high = mass_and_ends(a, b, width)
                    centre = min(max(m, bottom[j]), top[j])
                    exponent = -((value[j] - centre) * inverse) * (
                        (0.5 * (value[j] + centre) - m) * inverse
                    )
                    norm = mass * scale
                    log_density[k, j] = logit[k, j] + exponent - log(max(norm, 1e-300))
                    at_low = at_low / mass
                    at_high = at_high / mass
                    by_loc[k, j] = (z + at_high - at_low) * inverse
                    # An infinite bound has no density, so its moment is nothing
                    moment_low = a * at_low if at_low > 0.0 else 0.0
                    moment_high = b * at_high if at_high > 0.0 else 0.0
                    by_scale[k, j] = (z * z - 1.0 + moment_high - moment_low) * share
                else:
                    log_density[k, j] = logit[k, j] - 0.5 * z * z - log(scale) - LOG_SQRT_2PI
                    by_loc[k, j] = z * inverse
                    by_scale[k, j] = (z * z - 1.0) * share
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
                grown = exp(min(raw_scale[k, j], MAX_RAW_SCALE))
                inverse = 1.0 / (floor + grown)
                drift[j] -= responsibility * (value[j] - loc[k, j]) * inverse * inverse
        for j in range(count):
            i = start + j
            slope[i] = drift[j]
            for k in range(K):
                gradient[i, k] = logit[k, j]
                gradient[i, K + k] = by_loc[k, j]
                gradient[i, 2 * K + k] = by_scale[k, j]
    return None


@kernel
def draw(raw, noise_component, noise_value, bounded, floor, low, high, out):
    """Draws `out` (n,) of mixtures with raw parameters (n, 3 K), from two uniform numbers each.

    What is common goes through vector instructions; components whose support lies in their tail,
    and draws beyond 5 scales, are then done one by one.
    """
    n, n_params = raw.shape
    K = n_params // 3
    weight = np.empty((K, LANES))
    largest, total, threshold = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    cumulative = np.empty(LANES)
    chosen = np.empty(LANES, dtype=np.int64)
    loc, scale, u = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    bottom, top = np.full(LANES, -HUGE), np.full(LANES, HUGE)
    z, rare = np.empty(LANES), np.empty(LANES)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            for k in range(K):
                weight[k, j] = raw[i, k]
            threshold[j] = noise_component[i]
            u[j] = noise_value[i]
            if bounded:
                bottom[j] = max(low[i], -HUGE)
                top[j] = min(high[i], HUGE)
        for j in range(LANES):
            largest[j] = weight[0, j]
            total[j] = 0.0
            cumulative[j] = 0.0
            chosen[j] = 0
        for k in range(1, K):
            for j in range(LANES):
                largest[j] = max(largest[j], weight[k, j])
        for k in range(K):
            for j in range(LANES):
                weight[k, j] = exp(weight[k, j] - largest[j])
                total[j] += weight[k, j]
        for j in range(LANES):
            threshold[j] *= total[j]
        for k in range(K - 1):
            for j in range(LANES):
                cumulative[j] += weight[k, j]
                chosen[j] += 1 if threshold[j] >= cumulative[j] else 0
        for j in range(LANES):
            i = start + min(j, count - 1)
            loc[j] = raw[i, K + chosen[j]]
            scale[j] = raw[i, 2 * K + chosen[j]]
        for j in range(LANES):
            scale[j] = floor + exp(min(scale[j], MAX_RAW_SCALE))
        for j in range(LANES):
            inverse = 1.0 / scale[j]
            a, b = (bottom[j] - loc[j]) * inverse, (top[j] - loc[j]) * inverse
            # Whichever side keeps more digits: the mirror image has its mass below zero
            mirror = a + b > 0.0
            left, right = (-b if mirror else a), (-a if mirror else b)
            v = 1.0 - u[j] if mirror else u[j]
            below, above = upper_tail(-left), upper_tail(-right)
            p = below + v * (above - below)
            q = p - 0.5
            r = math.sqrt(-log(max(min(p, 1.0 - p), 1e-300)))
            near = near_tail_quantile(r)
            tail = near if q < 0.0 else -near
            central = abs(q) <= CENTRAL
            value = central_quantile(q) if central else tail
            z[j] = -value if mirror else value
            rare[j] = 1.0 if right < -1.0 or (r > TAIL_EDGES[1] and not central) else 0.0
        for j in range(count):
            y = loc[j] + scale[j] * z[j]
            if rare[j] > 0.0:
                y = truncated_quantile(u[j], loc[j], scale[j], bottom[j], top[j])
            out[start + j] = min(max(y, bottom[j]), top[j])


@kernel
def moments(raw, bounded, floor, low, high, mean, variance):
    """Mean and variance (n,) of mixtures with raw parameters (n, 3 K)."""
    n, n_params = raw.shape
    K = n_params // 3
    weight = np.empty((K, LANES))
    largest, total = np.empty(LANES), np.empty(LANES)
    first, second = np.empty(LANES), np.empty(LANES)
    loc, scale = np.empty(LANES), np.empty(LANES)
    bottom, top = np.full(LANES, -HUGE), np.full(LANES, HUGE)
    for start in range(0, n, LANES):
        count = min(LANES, n - start)
        for j in range(LANES):
            i = start + min(j, count - 1)
            for k in range(K):
                weight[k, j] = raw[i, k]
            if bounded:
                bottom[j] = max(low[i], -HUGE)
                top[j] = min(high[i], HUGE)
            largest[j] = -np.inf
            total[j] = 0.0
            first[j] = 0.0
            second[j] = 0.0
        for k in range(K):
            for j in range(LANES):
                largest[j] = max(largest[j], weight[k, j])
        for k in range(K):
            for j in range(LANES):
                i = start + min(j, count - 1)
                loc[j] = raw[i, K + k]
                scale[j] = raw[i, 2 * K + k]
            for j in range(LANES):
                w = exp(weight[k, j] - largest[j])
                total[j] += w
                s = floor + exp(min(scale[j], MAX_RAW_SCALE))
                m, square = loc[j], s * s
                if bounded:
                    inverse = 1.0 / s
                    a, b = (bottom[j] - m) * inverse, (top[j] - m) * inverse
                    width = (top[j] - bottom[j]) * inverse
                    mass, at_low, at_high = mass_and_ends(a, b, width)
                    at_low, at_high = at_low / mass, at_high / mass
                    z = at_low - at_high
                    moment_low = a * at_low if at_low > 0.0 else 0.0
                    moment_high = b * at_high if at_high > 0.0 else 0.0
                    square_z = 1.0 + moment_low - moment_high - z * z
                    # Where that cancels: narrow, or far in the tail
                    below = b < 0.0
                    near = -b if below else a
                    is_far = near > 50.0
                    middle = abs(0.5 * (a + b))
                    rate = near + 1.0 / near if is_far else middle
                    offset, spread = exponential_moments(rate, width)
                    if is_far or width < 0.05:
                        towards = -1.0 if (below or (a + b) < 0.0) else 1.0
                        edge = a if towards > 0.0 else b
                        z = edge + towards * offset
                        square_z = spread
                    m = min(max(m + s * z, bottom[j]), top[j])
                    square *= max(square_z, 0.0)
                first[j] += w * m
                second[j] += w * (square + m * m)
        for j in range(count):
            centre = first[j] / total[j]
            mean[start + j] = centre
            variance[start + j] = max(second[j] / total[j] - centre * centre, 0.0)
