"""Products of small matrices in registers, against numpy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sklearn_san.compiled.products import HEIGHTS, LANES, add_product, affine, multiply, transpose

EPS = float(np.finfo(np.float32).eps)
#: Heights and widths at which blocks, vectors or their remainders begin and end.
N_ROWS = sorted({1, 2, 3, HEIGHTS[0] - 1, HEIGHTS[0], 2 * HEIGHTS[0] + 3, 64})
N_COLUMNS = sorted({1, LANES - 1, LANES, LANES + 1, 2 * LANES, 2 * LANES + 1, 4 * LANES, 46})
SHAPES = list(itertools.product(N_ROWS, (1, 2, 7, 33), N_COLUMNS))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def matrix(rng, *shape):
    """Inside a larger array, whose other numbers must stay as they are."""
    around = np.full((shape[0] + 2, shape[1]), 7.0, dtype=np.float32)
    inside = around[1:-1]
    inside[:] = rng.standard_normal(shape)
    return around, inside


def bound(a, b):
    """Largest rounding error of a sum of products."""
    return 2.0 * EPS * (1.0 + a.shape[1]) * (np.abs(a) @ np.abs(b)).max()


@pytest.mark.parametrize("is_transposed", [False, True])
def test_products_are_those_of_numpy(rng, is_transposed):
    for n, depth, m in SHAPES:
        first = matrix(rng, *((depth, n) if is_transposed else (n, depth)))[1]
        a, b = (first.T if is_transposed else first), matrix(rng, depth, m)[1]
        exact = a.astype(float) @ b.astype(float)
        around, out = matrix(rng, n, m)
        before = out.copy()
        multiply(a, b, out)
        np.testing.assert_allclose(out, exact, rtol=0, atol=bound(a, b))
        assert (around[[0, -1]] == 7.0).all()
        out[:] = before
        add_product(a, b, out)
        np.testing.assert_allclose(out, before + exact, rtol=0, atol=bound(a, b) + 10 * EPS)
        bias = before[0].copy()
        affine(a, b, bias, out)
        np.testing.assert_allclose(out, bias + exact, rtol=0, atol=bound(a, b) + 10 * EPS)
        assert (around[[0, -1]] == 7.0).all()


def test_rows_may_be_part_of_wider_ones(rng):
    a, b, out = (rng.standard_normal((20, 40)).astype(np.float32) for _ in range(3))
    outside = out[:, 30:].copy()
    multiply(a[:, 5:25], b[:20, 3:33], out[:, :30])
    exact = a[:, 5:25].astype(float) @ b[:20, 3:33].astype(float)
    np.testing.assert_allclose(out[:, :30], exact, rtol=0, atol=bound(a[:, 5:25], b[:20, 3:33]))
    np.testing.assert_array_equal(out[:, 30:], outside)


def test_sum_of_nothing_is_zero():
    a, b, out = np.ones((3, 0), "f"), np.ones((0, 5), "f"), np.ones((3, 5), "f")
    add_product(a, b, out)
    assert (out == 1.0).all()
    multiply(a, b, out)
    assert (out == 0.0).all()
    affine(a, b, np.arange(5, dtype="f"), out)
    np.testing.assert_array_equal(out, np.tile(np.arange(5.0), (3, 1)))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 4), (8, 12), (33, 64), (64, 46), (7, 16)])
def test_transpose(rng, shape):
    a = rng.standard_normal(shape).astype(np.float32)
    around, out = matrix(rng, *shape[::-1])
    transpose(a, out)
    np.testing.assert_array_equal(out, a.T)
    assert (around[[0, -1]] == 7.0).all()
