"""Marginal distributions compiled: quantiles, cdf and density of means of conditionals.

With conditionals at S points, which stand for draws of the outputs before d,

    F(y_d | x) = 1/S sum_s F(y_d | y_<d^(s), x)

is the cdf of one mixture of S K components, or of one histogram. A component that limits a and b
cut off, in standardised units, has mass M and, with c the point of [a, b] next to 0, tails

    W (E(z) R(|z|) - E(b) R(b)),   E(z) = exp((c^2 - z^2) / 2),   W = w exp(-c^2 / 2) / M

in which nothing under- or overflows; R is Mills' ratio, and where z lies on the other side of the
location the tail is the rest. Sums over components are in float32, where they are many and none of
them is far outside of the limits, and in float64 otherwise.

================  ==========================================================================
`quantiles`       of several levels for every row and output
`cdfs`            of one output, at values of each row
`log_densities`   of one output, at values of each row or on a grid
================  ==========================================================================

The reference is `_engine.Engine`, which does the same with any family.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._constants import LOG_SQRT_2PI, MAX_RAW_SCALE
from . import families
from .interval import heights_of
from .jit import kernel, piece, twin
from .special import SQRT_HALF, erfcx, erfcx_32, exp, exp_32, log, ndtri
from .truncated_normal import HUGE

#: Rows of a table of components: W; what the tails on both sides of the location sum to; location,
#: inverse scale; what is added to the exponent.
_WEIGHT, _FULL, _LOC, _INVERSE, _OFFSET = range(5)
#: Scales are at most this many times the distance of the limits, and locations at most this many
#: scales outside of them; what is beyond has the same slope at the limit.
_WIDE = 1e3
#: Components beyond which sums may be in float32, and levels for which they may.
_MANY, _LEAST_LEVEL = 128, 1e-12
#: Components of less weight are left out, in units of the smallest tail that is asked for: they
#: change it by 1e-5 of itself at most.
_NEGLIGIBLE = 1e-5
#: Spread from which on its square may have been too large for single precision.
_LARGEST_SPREAD = 1e15
#: Scales beyond which nothing is left of a component, in single precision.
_FURTHEST = np.float32(1e4)
#: A last step is taken from this close, in standard normal units: its error is of third order.
_CLOSE = 1e-3

_SQRT_2PI = math.sqrt(2.0 * math.pi)
_IS_LOGISTIC = False
_F32 = _REAL = np.float32  # what `_DOUBLE` replaces is float64 in twins

_ZERO, _HALF, _ONE = _F32(0.0), _F32(0.5), _F32(1.0)
_LEAST_MASS = _F32(1e-30)
_SQRT_HALF_32, _DENSITY_32 = _F32(SQRT_HALF), _F32(1.0 / _SQRT_2PI)


@piece
def _normal_32(z, offset):
    """Tail beyond z on its side, density and its slope, all times ``exp(offset)``."""
    grown = exp_32(offset - _HALF * z * z)
    density = grown * _DENSITY_32
    return _HALF * grown * erfcx_32(abs(z) * _SQRT_HALF_32), density, -z * density


@piece
def _normal_64(z, offset):
    grown = exp(offset - 0.5 * z * z)
    density = grown * (1.0 / _SQRT_2PI)
    return 0.5 * grown * erfcx(abs(z) * SQRT_HALF), density, -z * density


@piece
def _normal_far(z, offset):
    """As `_normal_32`, for limits that may be further out than that has numbers."""
    return _normal_32(min(max(z, -_FURTHEST), _FURTHEST), offset)


@piece
def _logistic_32(z, offset):
    distance = abs(z)
    far = exp_32(-distance)
    share = _ONE / (_ONE + far)
    tail = exp_32(offset - distance) * share
    density = tail * share
    slope = density * (_ONE - far) * share
    return tail, density, slope if z < _ZERO else -slope


@piece
def _logistic_64(z, offset):
    distance = abs(z)
    far = exp(-distance)
    share = 1.0 / (1.0 + far)
    tail = exp(offset - distance) * share
    density = tail * share
    slope = density * (1.0 - far) * share
    return tail, density, slope if z < 0.0 else -slope


@kernel(reorder_sums=True)
def _tail_32(table, n, y, upper):
    """Mass above or below y, density and its slope, of the first n components of a table."""
    weight, full, loc = table[_WEIGHT], table[_FULL], table[_LOC]
    inverse, offset = table[_INVERSE], table[_OFFSET]
    side = _ONE if upper else -_ONE
    mass, total, rise = _ZERO, _ZERO, _ZERO
    for k in range(n):
        z = (y - loc[k]) * inverse[k]
        tail, density, slope = _normal_32(z, offset[k])
        tail *= weight[k]
        mass += tail if z * side > _ZERO else full[k] - tail
        height = weight[k] * inverse[k]
        total += height * density
        rise += height * inverse[k] * slope
    return np.float64(mass), np.float64(total), np.float64(rise)


_DOUBLE: dict[str, Any] = {"_REAL": np.float64, "_ZERO": 0.0, "_ONE": 1.0, "_LEAST_MASS": 1e-300}
_tail_64 = twin(_tail_32, "_tail_64", reorder_sums=True, _normal_32=_normal_64, **_DOUBLE)
_logistic_tail_32 = twin(_tail_32, "_logistic_tail_32", reorder_sums=True, _normal_32=_logistic_32)
_logistic_tail_64 = twin(
    _tail_32, "_logistic_tail_64", reorder_sums=True, _normal_32=_logistic_64, **_DOUBLE
)


@kernel
def _tail(double, single, n, in_single, is_logistic, y, upper):
    if is_logistic:
        if in_single:
            return _logistic_tail_32(single, n, np.float32(y), upper)
        return _logistic_tail_64(double, n, y, upper)
    if in_single:
        return _tail_32(single, n, np.float32(y), upper)
    return _tail_64(double, n, y, upper)


@kernel(reorder_sums=True)
def _height_32(table, n, y):
    """Density at y of the first n components, of which `_FULL` holds weight over scale."""
    height, loc, inverse, offset = table[_FULL], table[_LOC], table[_INVERSE], table[_OFFSET]
    total = _ZERO
    for k in range(n):
        _, density, _ = _normal_32((y - loc[k]) * inverse[k], offset[k])
        total += height[k] * density
    return np.float64(total)


_logistic_height_32 = twin(
    _height_32, "_logistic_height_32", reorder_sums=True, _normal_32=_logistic_32
)


@kernel(reorder_sums=True)
def _log_height(table, n, is_logistic, exponent, y):
    """Log density at y, of components of which `_FULL` holds the log of weight over scale."""
    log_height, loc, inverse, offset = table[_FULL], table[_LOC], table[_INVERSE], table[_OFFSET]
    largest, total = -np.inf, 0.0
    for k in range(n):
        z = (y - loc[k]) * inverse[k]
        exponent[k] = log_height[k] + offset[k] - (abs(z) if is_logistic else 0.5 * z * z)
    for k in range(n):
        largest = max(largest, exponent[k])
    if is_logistic:
        for k in range(n):
            share = 1.0 / (1.0 + exp(-abs((y - loc[k]) * inverse[k])))
            total += exp(exponent[k] - largest) * share * share
    else:
        for k in range(n):
            total += exp(exponent[k] - largest)
        largest -= LOG_SQRT_2PI
    return largest + math.log(total)


@kernel
def _weigh_32(raws, locations, first, step, n_points, d, K, least, table):
    """Components of more weight than `least` in a table; how many.

    Of output d, at every `step`-th of `n_points` pairs from `first` on. Raw scales are in the place
    of inverse ones, locations in units of the residual in that of offsets; what is added to them
    is counted from that of the first pair.
    """
    flat, n_own, n = table[_FULL], (n_points + step - 1) // step, 0
    largest, share = np.empty(n_own, table.dtype), np.zeros(n_own, table.dtype)
    for i in range(n_own):
        for k in range(K):
            flat[k * n_own + i] = raws[first + i * step, d, k]
    for i in range(n_own):
        largest[i] = flat[i]
    for k in range(1, K):
        for i in range(n_own):
            largest[i] = max(largest[i], flat[k * n_own + i])
    for k in range(K):
        for i in range(n_own):
            value = exp_32(flat[k * n_own + i] - largest[i])
            flat[k * n_own + i] = value
            share[i] += value
    for i in range(n_own):
        share[i] = _ONE / (share[i] * _REAL(n_own))
    least = _REAL(least / n_own)
    for i in range(n_own):
        pair = first + i * step
        location = _REAL(locations[pair, d] - locations[first, d])
        for k in range(K):  # written in any case, so that nothing has to be guessed
            w = flat[k * n_own + i] * share[i]
            table[_WEIGHT, n] = w
            table[_LOC, n] = location
            table[_OFFSET, n] = raws[pair, d, K + k]
            table[_INVERSE, n] = raws[pair, d, 2 * K + k]
            n += 1 if w >= least else 0
    return n


@kernel(reorder_sums=True)
def _place_32(table, n, scale, floor):
    """Locations and inverse scales of components, from what `_weigh_32` left; mean and spread."""
    weight, full, loc = table[_WEIGHT], table[_FULL], table[_LOC]
    inverse, offset = table[_INVERSE], table[_OFFSET]
    mean, square = _ZERO, _ZERO
    for k in range(n):
        loc[k] += scale * offset[k]
        own = scale * (floor + exp_32(min(inverse[k], _REAL(MAX_RAW_SCALE))))
        full[k] = weight[k]
        inverse[k] = _ONE / own
        offset[k] = own * own
        mean += weight[k] * loc[k]
    for k in range(n):
        distance = loc[k] - mean
        square += weight[k] * (distance * distance + offset[k])
        offset[k] = _ZERO
    return np.float64(mean), math.sqrt(np.float64(square))


@kernel(reorder_sums=True)
def _cut_32(table, n, low, high):
    """Cut components off at limits: what is outside on both sides, and how many are extreme."""
    weight, full, loc = table[_WEIGHT], table[_FULL], table[_LOC]
    inverse, offset = table[_INVERSE], table[_OFFSET]
    widest = _REAL(_WIDE) * (high - low)
    below, above, extreme = _ZERO, _ZERO, _ZERO
    for k in range(n):
        s = _ONE / inverse[k]
        nearest = min(max(loc[k], low), high)
        out = nearest - loc[k]
        own = min(s, widest)
        if _IS_LOGISTIC:  # whose slope grows no further
            steepest = _REAL(2.0) * s if own < s else _REAL(HUGE)
            out = min(max(out, -steepest), steepest)
        out *= (own / s) * (own / s)
        far = abs(out) / own
        if not _IS_LOGISTIC:
            shrink = min(_REAL(_WIDE) / max(far, _ONE), _ONE)
            own *= shrink
            out *= shrink * shrink
            far = abs(out) / own
        exponent = far if _IS_LOGISTIC else _REAL(0.5) * far * far
        loc[k] = nearest - out
        inverse[k] = _ONE / own
        offset[k] = exponent
        at_low, _, _ = _normal_far((low - loc[k]) / own, exponent)
        at_high, _, _ = _normal_far((high - loc[k]) / own, exponent)
        # The tails on both sides of the location add up to `rest`, those outside are left out
        is_above, is_below = out > _ZERO, out < _ZERO  # where the limits are
        rest = at_low if is_above else (at_high if is_below else _ONE)
        left = _ZERO if is_above else at_low
        right = _ZERO if is_below else at_high
        mass = max(rest - left - right, _LEAST_MASS)
        w = weight[k] / mass
        extreme += _ONE if (rest > _REAL(30.0) * mass or exponent > _REAL(30.0)) else _ZERO
        weight[k] = w
        full[k] = w * rest
        below += w * left
        above += w * right
    return np.float64(below), np.float64(above), np.float64(extreme)


_weigh_64 = twin(_weigh_32, "_weigh_64", exp_32=exp, **_DOUBLE)
_place_64 = twin(_place_32, "_place_64", reorder_sums=True, exp_32=exp, **_DOUBLE)
_cut_64 = twin(_cut_32, "_cut_64", reorder_sums=True, _normal_far=_normal_64, **_DOUBLE)
_logistic_cut_32 = twin(
    _cut_32, "_logistic_cut_32", reorder_sums=True, _normal_far=_logistic_32, _IS_LOGISTIC=True
)
_logistic_cut_64 = twin(
    _cut_32, "_logistic_cut_64", reorder_sums=True, _normal_far=_logistic_64, _IS_LOGISTIC=True,
    **_DOUBLE,
)  # fmt: skip


@kernel
def _collect_32(plan, target, raws, locations, first, step, n_points, d, least, table):
    """Components of the conditionals of output d of a row, about an origin, in a table.

    Returns their number, the origin, a spread, what they have below and above the limits, and
    whether sums must be in float64.
    """
    K, is_logistic = plan.n_raw[d] // 3, plan.family[d] == families.LOGISTICS
    scale, floor = _REAL(target.base[d, -1]), _REAL(math.exp(plan.log_floor[d]))
    start = locations[first, d]
    n = _weigh_32(raws, locations, first, step, n_points, d, K, least, table)
    mean, spread = _place_32(table, n, scale, floor)
    below, above, extreme = 0.0, 0.0, 0.0
    if plan.bounded[d]:
        low = max(target.limits[d, 0], -HUGE) - start
        high = min(target.limits[d, 1], HUGE) - start
        if is_logistic:
            below, above, extreme = _logistic_cut_32(table, n, _REAL(low), _REAL(high))
        else:
            below, above, extreme = _cut_32(table, n, _REAL(low), _REAL(high))
        mean = min(max(mean, low), high)
        spread = min(spread, high - low)
    loc, mean = table[_LOC], np.float64(_REAL(mean))
    for k in range(n):
        loc[k] -= _REAL(mean)
    return n, start + mean, spread, below, above, extreme > 0.0


_collect_64 = twin(
    _collect_32, "_collect_64", _weigh_32=_weigh_64, _place_32=_place_64, _cut_32=_cut_64,
    _logistic_cut_32=_logistic_cut_64, **_DOUBLE,
)  # fmt: skip


@kernel
def _bracket(table, n, is_logistic, level, limits):
    """Values between which a quantile lies.

    Beyond its location, or the limit next to it, no cut component reaches further than a free one
    of which that half alone is left.
    """
    h, g = 0.5 * (1.0 - level), 0.5 * level
    up = math.log((1.0 - h) / h) if is_logistic else -ndtri(h, 1.0 - h)
    down = math.log((1.0 - g) / g) if is_logistic else -ndtri(g, 1.0 - g)
    low, high = np.inf, -np.inf
    loc, inverse = table[_LOC], table[_INVERSE]
    for k in range(n):
        s = 1.0 / np.float64(inverse[k])
        nearest = min(max(np.float64(loc[k]), limits[0]), limits[1])
        low = min(low, nearest - s * down)
        high = max(high, nearest + s * up)
    return max(low, limits[0]), min(high, limits[1])


@kernel
def _solve(double, single, n, in_single, is_logistic, level, outside, limits, start, spread):
    """Quantile of the first n components of a table.

    Halley's method on the standard normal score of the smaller tail, which is linear in y for a
    normal, inside a bracket that shrinks; bisection where a step leaves it.
    """
    upper = level > 0.5
    goal = 1.0 - level if upper else level
    score = ndtri(goal, 1.0 - goal)
    low, high = limits
    is_bracketed = False
    y = min(max(start, low), high)
    resolution = 1e-7 if in_single else 1e-15
    for _ in range(200):
        mass, density, slope = _tail(double, single, n, in_single, is_logistic, y, upper)
        mass -= outside
        if (mass > goal) == upper:
            low = y
        else:
            high = y
        step, is_last, is_safe = 0.0, False, False
        if mass > 0.0 and mass < 1.0 and density > 0.0:
            own = ndtri(mass, 1.0 - mass)
            rate = density * _SQRT_2PI * math.exp(0.5 * own * own)
            rate = -rate if upper else rate
            newton = (score - own) / rate
            bend = 1.0 + 0.5 * newton * (slope / density + own * rate)
            step = newton / min(max(bend, 0.5), 2.0)
            is_safe = abs(step) < 4.0 * spread
            is_last = abs(score - own) < _CLOSE and abs(bend - 1.0) < 0.05
        following = y + step
        if is_last:
            return min(max(following, low), high)
        if not is_safe or not (following > low and following < high):
            if not is_bracketed:
                if in_single:
                    bottom, top = _bracket(single, n, is_logistic, level, limits)
                else:
                    bottom, top = _bracket(double, n, is_logistic, level, limits)
                low, high = max(low, bottom), min(high, top)
                is_bracketed = True
            following = 0.5 * (low + high)
        if is_bracketed and high - low <= resolution * max(abs(low), abs(high)):
            return following
        y = following
    return y


@kernel
def _draw_quantile(drawn, level, score):
    """Quantile of sorted draws, carried on as that of a normal beyond the outermost ones."""
    n, middle = len(drawn), drawn[len(drawn) // 2]
    place = level * n - 0.5
    if place < 0.0:
        outermost = ndtri(0.5 / n, 1.0 - 0.5 / n)
        return middle + (drawn[0] - middle) * score / outermost
    if place > n - 1.0:
        outermost = -ndtri(0.5 / n, 1.0 - 0.5 / n)
        return middle + (drawn[n - 1] - middle) * score / outermost
    i = min(int(place), n - 2)
    return drawn[i] + (place - i) * (drawn[i + 1] - drawn[i])


@kernel
def _mean_heights(raws, first, step, n_points, d, n_raw, interpolated, heights, mean):
    """Mean of normalised heights, (n_raw,); the mean histogram's bins have mass 1 in all."""
    mean[:] = 0.0
    for i in range(0, n_points, step):
        total = heights_of(raws[first + i, d, :n_raw], interpolated, heights) * n_points / step
        for j in range(n_raw):
            mean[j] += heights[j] / total


@kernel
def _histogram_quantile(heights, interpolated, level, low, high):
    step = 1 if interpolated else 0
    atoms = len(heights) - step
    upper = level > 0.5
    mass = 1.0 - level if upper else level
    for j in range(atoms):
        k = atoms - 1 - j if upper else j
        near = heights[k + step] if upper else heights[k]
        far = heights[k] if upper else heights[k + step]
        inside = 0.5 * (near + far)
        if mass < inside or j == atoms - 1:
            root = math.sqrt(max(near * near + 2.0 * (far - near) * mass, 0.0))
            t = min(max(2.0 * mass / max(near + root, 1e-300), 0.0), 1.0)
            width = (high - low) * (j + t) / atoms
            return high - width if upper else low + width
        mass -= inside
    return high


@kernel
def _histogram_at(heights, interpolated, y, low, high):
    """Cdf and density."""
    step = 1 if interpolated else 0
    atoms = len(heights) - step
    place = min(max((y - low) / (high - low), 0.0), 1.0) * atoms
    k = min(int(place), atoms - 1)
    below = 0.0
    for j in range(k):
        below += 0.5 * (heights[j] + heights[j + step])
    t, left, right = place - k, heights[k], heights[k + step]
    height = left + (right - left) * t
    return below + (left + 0.5 * (right - left) * t) * t, height * atoms / (high - low)


@kernel
def quantiles(plan, target, draws, n_points, first_step, levels, only, out):
    """Quantiles (n_rows, n_levels, n_outputs) in scaled units, of the output `only` or, if -1, all.

    `draws` have the raw parameters of `n_points` of each row; of the first output those of every
    `first_step`-th are looked at.
    """
    raws, locations, values = draws.raw, draws.location, draws.out
    n_rows, n_outputs, largest, least = len(out), locations.shape[1], raws.shape[2], 0.5
    double = np.empty((5, n_points * largest))
    single = np.empty((5, n_points * largest), dtype=np.float32)
    heights, mean, drawn = np.empty(largest), np.empty(largest), np.empty(n_points)
    for level in levels:
        least = min(least, min(level, 1.0 - level))
    for d in range(n_outputs):
        if only >= 0 and d != only:
            continue
        step = first_step if d == 0 else 1
        n_raw, family, bounded = plan.n_raw[d], plan.family[d], plan.bounded[d]
        low, high = target.limits[d, 0], target.limits[d, 1]
        is_logistic = family == families.LOGISTICS
        interpolated = family == families.INTERPOLATED_HISTOGRAM
        for row in range(n_rows):
            first = row * n_points
            if family >= families.HISTOGRAM:
                own = mean[:n_raw]
                _mean_heights(raws, first, step, n_points, d, n_raw, interpolated, heights, own)
                for i in range(len(levels)):
                    out[row, i, d] = _histogram_quantile(own, interpolated, levels[i], low, high)
                continue
            negligible = _NEGLIGIBLE * least * 3.0 / n_raw
            most = (n_points + step - 1) // step * n_raw // 3
            in_single = least >= _LEAST_LEVEL and most >= _MANY
            if in_single:
                n, origin, spread, below, above, extreme = _collect_32(
                    plan, target, raws, locations, first, step, n_points, d, negligible, single
                )
                in_single = n >= _MANY and not extreme and spread < _LARGEST_SPREAD
            if not in_single:
                n, origin, spread, below, above, extreme = _collect_64(
                    plan, target, raws, locations, first, step, n_points, d, negligible, double
                )
            limits = (-np.inf, np.inf)
            if bounded:
                limits = (low - origin, high - origin)
            has_drawn = step == 1 and n_points >= 16
            if has_drawn:
                for i in range(n_points):
                    drawn[i] = values[first + i, d] - origin
                drawn.sort()
            for i in range(len(levels)):
                score = ndtri(levels[i], 1.0 - levels[i])
                start = spread * score
                if has_drawn:
                    start = _draw_quantile(drawn, levels[i], score)
                outside = above if levels[i] > 0.5 else below
                y = origin + _solve(
                    double, single, n, in_single, is_logistic, levels[i], outside, limits, start,
                    spread,
                )  # fmt: skip
                out[row, i, d] = min(max(y, low), high) if bounded else y


@kernel
def cdfs(plan, target, draws, n_points, step, d, values, out):
    """Cdf (n_rows, n_values) of output d at values (n_rows, n_values) inside the limits.

    Of the points of each row every `step`-th is looked at.
    """
    raws, locations, largest = draws.raw, draws.location, draws.raw.shape[2]
    double, single = np.empty((5, n_points * largest)), np.empty((5, 1), dtype=np.float32)
    heights, mean = np.empty(largest), np.empty(largest)
    n_raw, family = plan.n_raw[d], plan.family[d]
    low, high = target.limits[d, 0], target.limits[d, 1]
    is_logistic = family == families.LOGISTICS
    interpolated = family == families.INTERPOLATED_HISTOGRAM
    nothing = n_points < 0  # False; as a literal it would have callees compiled again
    for row in range(len(out)):
        first = row * n_points
        if family >= families.HISTOGRAM:
            own = mean[:n_raw]
            _mean_heights(raws, first, step, n_points, d, n_raw, interpolated, heights, own)
            for i in range(values.shape[1]):
                below, _ = _histogram_at(own, interpolated, values[row, i], low, high)
                out[row, i] = min(below, 1.0)
            continue
        n, origin, _, below, _, _ = _collect_64(
            plan, target, raws, locations, first, step, n_points, d, 0.0, double
        )
        for i in range(values.shape[1]):
            y = values[row, i] - origin
            mass, _, _ = _tail(double, single, n, nothing, is_logistic, y, nothing)
            out[row, i] = min(max(mass - below, 0.0), 1.0)


@kernel
def log_densities(plan, target, draws, n_points, step, d, values, quickly, out):
    """Log density (n_rows, n_values) of output d at values (n_rows or 1, n_values).

    Inside the limits, per scaled unit. With `quickly`, sums over components are in float32 where
    that does no harm.
    """
    raws, locations, largest = draws.raw, draws.location, draws.raw.shape[2]
    double = np.empty((5, n_points * largest))
    single = np.empty((5, n_points * largest), dtype=np.float32)
    heights, mean, exponent = np.empty(largest), np.empty(largest), np.empty(n_points * largest)
    n_raw, family = plan.n_raw[d], plan.family[d]
    low, high = target.limits[d, 0], target.limits[d, 1]
    is_logistic = family == families.LOGISTICS
    interpolated = family == families.INTERPOLATED_HISTOGRAM
    for row in range(len(out)):
        first = row * n_points
        at = values[row % len(values)]
        if family >= families.HISTOGRAM:
            own = mean[:n_raw]
            _mean_heights(raws, first, step, n_points, d, n_raw, interpolated, heights, own)
            for i in range(len(at)):
                _, height = _histogram_at(own, interpolated, at[i], low, high)
                out[row, i] = math.log(max(height, 1e-300))
            continue
        n, origin, _, _, _, extreme = _collect_64(
            plan, target, raws, locations, first, step, n_points, d, 0.0, double
        )
        in_single = quickly and not extreme
        for k in range(n):
            double[_FULL, k] = double[_WEIGHT, k] * double[_INVERSE, k]
        if in_single:
            for r in range(1, 5):
                for k in range(n):
                    single[r, k] = double[r, k]
        for k in range(n):
            double[_FULL, k] = log(max(double[_FULL, k], 1e-300))
        for i in range(len(at)):
            height, y = 0.0, at[i] - origin
            if in_single and is_logistic:
                height = _logistic_height_32(single, n, np.float32(y))
            elif in_single:
                height = _height_32(single, n, np.float32(y))
            if height > 1e-28:
                out[row, i] = math.log(height)
            else:
                out[row, i] = _log_height(double, n, is_logistic, exponent, y)
