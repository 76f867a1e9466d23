"""Layer norm with silu in vectors, forward and backward, against numpy in float64."""

import itertools

import numpy as np
import pytest

from sklearn_san._constants import LAYER_NORM_EPSILON
from sklearn_san.compiled.activations import (
    ROWS,
    normalise,
    normalise_backward,
    normalise_silu,
    silu_of_centred,
)
from sklearn_san.compiled.vectors import LANES

EPS = float(np.finfo(np.float32).eps)
#: Numbers at which blocks of rows and vectors of columns begin and end.
SHAPES = list(
    itertools.product(
        (1, ROWS - 1, ROWS, 2 * ROWS + 3, 64), (1, 2, LANES - 1, LANES, LANES + 1, 4 * LANES, 46)
    )
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normals(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def room(*shape):
    """Memory inside a larger array, which must stay as it is, and that array."""
    around = np.full((shape[0] + 2, *shape[1:]), 7.0, dtype=np.float32)
    return around[1:-1], around


def centred(h):
    return (h - h.astype(float).mean(axis=1, keepdims=True)).astype(np.float32)


def exact_norm(h):
    distance = h - h.astype(float).mean(axis=1, keepdims=True)
    rstd = 1.0 / np.sqrt((distance**2).mean(axis=1) + LAYER_NORM_EPSILON)
    return distance * rstd[:, None], rstd


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_forward(rng, n, width):
    h, gain, shift = (normals(rng, *s) for s in ((n, width), (width,), (width,)))
    (normal, a), (rstd, b), (out, c), (slope, d) = (
        room(*s) for s in ((n, width), (n,), (n, width), (n, width))
    )
    exact, exact_rstd = exact_norm(h)
    u = exact * gain + shift
    share = 1.0 / (1.0 + np.exp(-u))
    # Sums over a row may cancel, which rstd undoes
    tolerance = 20 * EPS * (1.0 + exact_rstd.max())
    mean = np.empty(n, dtype=np.float32)
    normalise_silu(h, gain, shift, mean, normal, rstd, out, slope)
    np.testing.assert_allclose(normal, exact, rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(rstd, exact_rstd, rtol=tolerance)
    bound = tolerance * (1.0 + np.abs(gain).max())
    np.testing.assert_allclose(out, u * share, rtol=0.0, atol=bound)
    np.testing.assert_allclose(slope, share + u * share * (1.0 - share), rtol=0.0, atol=bound)
    before = normal.copy(), rstd.copy(), out.copy()
    silu_of_centred(centred(h), gain, shift, rstd, out)
    np.testing.assert_allclose(out, before[2], rtol=0.0, atol=bound)
    normalise(h, mean, normal, rstd)
    np.testing.assert_allclose(normal, before[0], rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(rstd, before[1], rtol=tolerance)
    for around in (a, b, c, d):
        assert (around[[0, -1]] == 7.0).all()


@pytest.mark.parametrize(("n", "width"), SHAPES)
def test_backward(rng, n, width):
    g, slope, gain = normals(rng, n, width), normals(rng, n, width), normals(rng, width)
    normal, rstd = (v.astype(np.float32) for v in exact_norm(normals(rng, n, width)))
    by_gain, by_shift, by_bias = (normals(rng, width) for _ in range(3))
    by_u = g.astype(float) * slope
    by_normal = by_u * gain
    along = (by_normal * normal).mean(axis=1, keepdims=True)
    exact = (by_normal - by_normal.mean(axis=1, keepdims=True) - normal * along) * rstd[:, None]
    exact_gain, exact_shift = by_gain + (by_u * normal).sum(axis=0), by_shift + by_u.sum(axis=0)
    exact_bias = by_bias + exact.sum(axis=0)
    normalise_backward(g, slope, normal, rstd, gain, by_gain, by_shift, by_bias)
    size = (1.0 + np.abs(by_normal).max()) * (1.0 + rstd.max())
    np.testing.assert_allclose(g, exact, rtol=0.0, atol=20 * EPS * size)
    bound = EPS * (2.0 + n) * (1.0 + np.abs(by_u).max() * (1.0 + np.abs(normal).max()))
    np.testing.assert_allclose(by_gain, exact_gain, rtol=0.0, atol=bound)
    np.testing.assert_allclose(by_shift, exact_shift, rtol=0.0, atol=bound)
    np.testing.assert_allclose(by_bias, exact_bias, rtol=0.0, atol=20 * EPS * size * (1.0 + n))


def test_silu_of_what_is_extreme(rng):
    h, nothing = centred(normals(rng, 8, 2 * LANES)), np.zeros(2 * LANES, dtype=np.float32)
    gain, out = np.full(2 * LANES, 1e6, dtype=np.float32), np.empty_like(h)
    rstd = np.empty(8, dtype=np.float32)
    silu_of_centred(h, gain, nothing, rstd, out)
    u = 1e6 * exact_norm(h)[0]
    np.testing.assert_allclose(out, np.maximum(u, 0.0), rtol=20 * EPS, atol=1e-30)
    h[3, 5] = np.nan
    silu_of_centred(h, gain, nothing, rstd, out)
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()
