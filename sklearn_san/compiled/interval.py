"""Histograms between two limits compiled: log density with gradient, draws, moments.

The reference is `likelihoods.interval.Softmax`. Its density is linear between its values at the
edges of the bins, both from one raw parameter where it is not `interpolated`. Heights are
``exp(raw - max(raw))``, in float64.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import kernel
from .special import exp

_EPS = float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)


@kernel(reorder_sums=True)
def heights_of(raw, interpolated, heights):
    """Fill `heights` for one row `raw` (n_params,); the sum of the heights of its bins."""
    largest = raw[0]
    for j in range(len(raw)):
        largest = max(largest, raw[j])
    for j in range(len(raw)):
        heights[j] = exp(np.float64(raw[j]) - largest)
    total = 0.0
    for j in range(len(raw)):
        total += heights[j]
    if interpolated:
        total -= 0.5 * (heights[0] + heights[len(raw) - 1])
    return total


@kernel
def log_prob(raw, y, low, high, interpolated, out, gradient, by_y, with_gradient):
    """Log density `out` (n,), its gradient by `raw` (n, n_params), its derivative `by_y` (n,)."""
    n, n_params = raw.shape
    atoms = n_params - 1 if interpolated else n_params
    heights = np.empty(n_params)
    for i in range(n):
        total = heights_of(raw[i], interpolated, heights)
        bottom, top = np.float64(low[i]), np.float64(high[i])
        width = max(top - bottom, _EPS * max(abs(bottom), abs(top)), _TINY)
        position = min(max((y[i] - bottom) / width, 0.0), 1.0) * atoms
        k = min(int(position), atoms - 1)
        after = position - k if interpolated else 0.0  # weight of the height at the upper edge
        last = k + 1 if interpolated else k
        before = (1.0 - after) * heights[k]
        after *= heights[last]
        height = max(before + after, 1e-300)
        out[i] = math.log(height) - math.log(total) + math.log(atoms / width)
        if with_gradient:
            by_y[i] = (heights[last] - heights[k]) / height * (atoms / width)
            for j in range(n_params):
                gradient[i, j] = -heights[j] / total
            if interpolated:
                gradient[i, 0] *= np.float32(0.5)
                gradient[i, n_params - 1] *= np.float32(0.5)
            gradient[i, k] += before / height
            gradient[i, last] += after / height


@kernel
def draw(raw, noise, interpolated, low, high, out):
    """Draws `out` (n,) with raw parameters (n, n_params), from one uniform number each."""
    n, n_params = raw.shape
    atoms = n_params - 1 if interpolated else n_params
    step = 1 if interpolated else 0
    heights = np.empty(n_params)
    for i in range(n):
        mass = noise[i] * heights_of(raw[i], interpolated, heights)
        k = 0
        inside = 0.5 * (heights[0] + heights[step])
        while mass >= inside and k < atoms - 1:
            mass -= inside
            k += 1
            inside = 0.5 * (heights[k] + heights[k + step])
        # (left + (right - left) t / 2) t = mass, by the root that is stable for equal heights
        left, right = heights[k], heights[k + step]
        root = math.sqrt(max(left * left + 2.0 * (right - left) * mass, 0.0))
        t = min(max(2.0 * mass / max(left + root, 1e-300), 0.0), 1.0)
        value = low[i] + (k + t) / atoms * (high[i] - low[i])
        out[i] = min(max(value, low[i]), high[i])


@kernel
def moments(raw, interpolated, low, high, mean, variance):
    """Mean and variance (n,) with raw parameters (n, n_params)."""
    n, n_params = raw.shape
    atoms = n_params - 1 if interpolated else n_params
    step = 1 if interpolated else 0
    heights = np.empty(n_params)
    for i in range(n):
        total = heights_of(raw[i], interpolated, heights)
        first, second = 0.0, 0.0
        # Integrals of x and x^2 over each bin, x from the middle in units of bins
        for k in range(atoms):
            left, right = heights[k] / total, heights[k + step] / total
            start = k - 0.5 * atoms
            zeroth = 0.5 * (left + right)
            linear = left / 6.0 + right / 3.0
            first += start * zeroth + linear
            second += start * start * zeroth + 2.0 * start * linear + left / 12.0 + right / 4.0
        unit = (high[i] - low[i]) / atoms
        mean[i] = 0.5 * (low[i] + high[i]) + unit * first
        variance[i] = unit * unit * max(second - first * first, 0.0)
