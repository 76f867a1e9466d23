"""Components of mixtures compiled, free or inside limits; the reference has the same names.

All are pieces of the loops in `mixtures`, in float64 but for two. A component has a location and a
scale, and bounds of which `HUGE` stands for infinite ones. With ``z = (y - loc) / scale``,
standardised bounds a and b, and c the point of [a, b] next to 0:

    log p(y) = -log scale + log f(z) - log (F(b) - F(a))

where nothing large cancels if exponents are taken relative to that at c. For the logistic, whose
mass is ``F(b) F(-a) (1 - exp(a - b))``, that leaves ``-|z - c|`` and one logarithm.

===========================================  ==============================================
`normal_density`, `logistic_density`         log density with its derivatives
`normal_terms_32`                            the same in float32, where that is enough
`normal_quantiles`, `logistic_quantiles`     quantiles, of which these are kernels
`normal_moments`, `logistic_moments`         mean and variance
`normal_moments_32`                          the same in float32, where that is enough
===========================================  ==============================================
"""

from __future__ import annotations

import math

import numpy as np

from .._constants import LOG_SQRT_2PI
from .jit import kernel, piece
from .special import (
    CENTRAL,
    TAIL_EDGES,
    central_quantile,
    decay,
    exp,
    log,
    log1p,
    near_tail_quantile,
    tails,
)
from .truncated_normal import exponential_moments, mass_and_ends, mass_and_ends_32

_LOGISTIC_VARIANCE = math.pi**2 / 3.0
#: Bounds closer than this, in scales, have draws counted from a bound instead of the location.
_CLOSE = 0.1
_F32 = np.float32
_ZERO_32, _ONE_32, _HALF_32 = _F32(0.0), _F32(1.0), _F32(0.5)
_SQRT_2PI_32 = _F32(math.sqrt(2.0 * math.pi))


@piece
def normal_density(y, loc, scale, bottom, top, bounded):
    """Log density, and its derivatives by y, by the location and by the log of the scale."""
    inverse = 1.0 / scale
    z = (y - loc) * inverse
    if bounded:
        a = (bottom - loc) * inverse
        b = (top - loc) * inverse
        width = (top - bottom) * inverse
        mass, at_low, at_high = mass_and_ends(a, b, width)
        centre = min(max(loc, bottom), top)
        exponent = -((y - centre) * inverse) * ((0.5 * (y + centre) - loc) * inverse)
        log_density = exponent - log(max(mass * scale, 1e-300))
        share = 1.0 / mass
        at_low = at_low * share
        at_high = at_high * share
        by_loc = (z + at_high - at_low) * inverse
        # An infinite bound has no density, so its moment is nothing
        moment_low = a * at_low if at_low > 0.0 else 0.0
        moment_high = b * at_high if at_high > 0.0 else 0.0
        by_log_scale = z * z - 1.0 + moment_high - moment_low
    else:
        log_density = -0.5 * z * z - log(scale) - LOG_SQRT_2PI
        by_loc = z * inverse
        by_log_scale = z * z - 1.0
    return log_density, -z * inverse, by_loc, by_log_scale


@piece
def normal_terms_32(y, loc, scale, bottom, top, bounded):
    """Exponent and norm of the density ``exp(exponent) / norm`` in float32, and its derivatives.

    These are those of `normal_density`; the last number is the size of terms that cancel in them.
    """
    inverse = _ONE_32 / scale
    z = (y - loc) * inverse
    if bounded:
        a = (bottom - loc) * inverse
        b = (top - loc) * inverse
        mass, at_low, at_high = mass_and_ends_32(a, b, (top - bottom) * inverse)
        centre = min(max(loc, bottom), top)
        exponent = -_HALF_32 * ((y - centre) * inverse) * (z + (centre - loc) * inverse)
        norm = mass * scale
        share = _ONE_32 / mass
        at_low = at_low * share
        at_high = at_high * share
        moment_low, moment_high = a * at_low, b * at_high
        by_loc = (z + at_high - at_low) * inverse
        by_log_scale = z * z - _ONE_32 + moment_high - moment_low
        largest = abs(moment_low) + abs(moment_high)
    else:
        exponent = -_HALF_32 * z * z
        norm = _SQRT_2PI_32 * scale
        by_loc = z * inverse
        by_log_scale = z * z - _ONE_32
        largest = _ZERO_32
    return exponent, norm, -z * inverse, by_loc, by_log_scale, largest


@kernel
def normal_quantiles(u, loc, scale, bottom, top, out, rare, memory):
    """Values at the probabilities u (n,), and where `truncated_quantile` has to be asked instead.

    That is so, and `rare` is 1, where the support lies in the tail, and beyond 5 scales. In steps,
    each for all values, since a CPU finds no other value behind all steps of one. `memory` has room
    for (7, n).
    """
    left, right, below, p, rest = memory[0], memory[1], memory[2], memory[3], memory[4]
    sign, r = memory[5], memory[6]
    for j in range(len(u)):
        inverse = 1.0 / scale[j]
        a, b = (bottom[j] - loc[j]) * inverse, (top[j] - loc[j]) * inverse
        # Whichever side keeps more digits: the mirror image has its mass below zero
        mirror = a + b > 0.0
        left[j], right[j] = (-b if mirror else a), (-a if mirror else b)
        # 1 - u has only the digits that u left it, so that either tail is counted from its own side
        p[j], rest[j] = (1.0 - u[j] if mirror else u[j]), (u[j] if mirror else 1.0 - u[j])
        sign[j] = -1.0 if mirror else 1.0
    for j in range(len(u)):
        below[j], _ = tails(left[j])
    for j in range(len(u)):
        not_above, above = tails(right[j])
        mass = not_above - below[j]
        p[j] = below[j] + p[j] * mass
        rest[j] = above + rest[j] * mass
    for j in range(len(u)):
        r[j] = math.sqrt(-log(max(min(p[j], rest[j]), 1e-300)))
    for j in range(len(u)):
        q = p[j] - 0.5
        near = near_tail_quantile(r[j])
        central = abs(q) <= CENTRAL
        tail = near if q < 0.0 else -near
        z = sign[j] * (central_quantile(q) if central else tail)
        out[j] = loc[j] + scale[j] * z
        rare[j] = 1.0 if right[j] < -1.0 or (r[j] > TAIL_EDGES[1] and not central) else 0.0


@piece
def normal_moments(loc, scale, bottom, top, bounded):
    """Mean and variance."""
    mean, variance = loc, scale * scale
    if bounded:
        inverse = 1.0 / scale
        a, b = (bottom - loc) * inverse, (top - loc) * inverse
        width = (top - bottom) * inverse
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
        mean = min(max(loc + scale * z, bottom), top)
        variance *= max(square_z, 0.0)
    return mean, variance


@piece
def normal_moments_32(loc, scale, bottom, top, bounded):
    """Mean and variance in float32.

    Then the sizes of terms that cancel in the mean and in the variance, and the mass inside the
    bounds as by `mass_and_ends_32`.
    """
    square = scale * scale
    mean, variance, shift, terms, mass = loc, square, _ZERO_32, _ZERO_32, _ONE_32
    if bounded:
        inverse = _ONE_32 / scale
        a, b = (bottom - loc) * inverse, (top - loc) * inverse
        mass, at_low, at_high = mass_and_ends_32(a, b, (top - bottom) * inverse)
        share = _ONE_32 / mass
        at_low = at_low * share
        at_high = at_high * share
        moment_low, moment_high = a * at_low, b * at_high
        z = at_low - at_high
        mean = min(max(loc + scale * z, bottom), top)
        variance = square * max(_ONE_32 + moment_low - moment_high - z * z, _ZERO_32)
        shift = scale * (at_low + at_high)
        terms = square * (abs(moment_low) + abs(moment_high) + z * z)
        terms += scale * (at_low * abs(bottom) + at_high * abs(top))  # bounds are rounded
    return mean, variance, shift, terms, mass


@piece
def logistic_density(y, loc, scale, bottom, top, bounded):
    """Log density, and its derivatives by y, by the location and by the log of the scale."""
    inverse = 1.0 / scale
    z = (y - loc) * inverse
    at_z = exp(-abs(z))
    tail_z = at_z / (1.0 + at_z)  # probability beyond z
    rise = 1.0 - 2.0 * tail_z  # F(z) - F(-z)
    rise = -rise if z < 0.0 else rise
    if bounded:
        a, b = (bottom - loc) * inverse, (top - loc) * inverse
        at_a, at_b = exp(-abs(a)), exp(-abs(b))
        width = (top - bottom) * inverse
        share, left = decay(width)
        share = max(share, 1e-300)
        above, below = a > 0.0, b < 0.0  # where the support is
        centre = min(max(loc, bottom), top)
        from_centre = (y - centre) * inverse
        ratio = (1.0 + at_a) / (1.0 + at_b)
        norm = (1.0 + at_z) * (1.0 + at_z) * share * scale
        log_density = log((1.0 + at_a) * (1.0 + at_b) / norm) - abs(from_centre)
        # Density at the bounds over the mass, f(a) / M and f(b) / M
        density_a = (1.0 if above else (left if below else at_a)) / (ratio * share)
        density_b = (left if above else (1.0 if below else at_b)) * ratio / share
        # 2 F(z) - F(a) - F(b), by the smaller tails
        tail_a, tail_b = at_a / (1.0 + at_a), at_b / (1.0 + at_b)
        outside = 2.0 * tail_z - tail_a - tail_b
        slope = -outside if above else (outside if below else rise + tail_b - tail_a)
        by_loc = slope * inverse
        by_log_scale = from_centre * rise + (centre - loc) * inverse * slope - 1.0
        by_log_scale += (top - centre) * inverse * density_b
        by_log_scale -= (bottom - centre) * inverse * density_a
    else:
        log_density = -abs(z) - log((1.0 + at_z) * (1.0 + at_z) * scale)
        by_loc = rise * inverse
        by_log_scale = z * rise - 1.0
    return log_density, -rise * inverse, by_loc, by_log_scale


@piece
def _logistic_quantile(u, loc, scale, bottom, top):
    """Value at the probability u.

    ``exp(z - a) = 1 + p ratio share / ((1 - p) + p ratio left)``
    """
    inverse = 1.0 / scale
    a, b = (bottom - loc) * inverse, (top - loc) * inverse
    mirror = a + b < 0.0  # so that a is the bound nearer to 0
    a, b = (-b if mirror else a), (-a if mirror else b)
    p, rest = (1.0 - u if mirror else u), (u if mirror else 1.0 - u)
    share, left = decay((top - bottom) * inverse)
    close = a > 0.0 or b - a < _CLOSE
    at_a, at_b = exp(-abs(a)), exp(-b)
    # Counted from the bound a, where exp(-a) does not overflow
    grown = 1.0 / max(at_a, 0.5) if a < 0.0 else at_a
    odds = p * (1.0 + grown) / (1.0 + at_b)
    offset = log1p(odds * share / (rest + odds * left))
    # Counted from the location, with both factors times exp(a)
    odds = p * (1.0 + at_a) / (1.0 + at_b)
    z = log(max(at_a + odds * share / (rest + odds * at_b), 1e-300))
    start = (top if mirror else bottom) if close else loc
    distance = offset if close else z
    return start + scale * (-distance if mirror else distance)


@kernel
def logistic_quantiles(u, loc, scale, bottom, top, out, rare, memory):
    """As `normal_quantiles`; nothing is rare."""
    for j in range(len(u)):
        out[j] = _logistic_quantile(u[j], loc[j], scale[j], bottom[j], top[j])
        rare[j] = 0.0


@piece
def logistic_moments(loc, scale, bottom, top, bounded):
    """Mean and variance of a free one."""
    return loc, scale * scale * _LOGISTIC_VARIANCE
