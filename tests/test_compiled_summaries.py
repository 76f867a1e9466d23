"""Compiled marginal distributions against the reference in torch, and their parts against scipy.

``EPS`` is the spacing of float32 near 1, in which networks compute and many components are summed.
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr, ndtri
from scipy.stats import logistic, norm, truncnorm
from test_compiled_network import CASES, CPU, EPS, OTHER_FAMILIES, make_network

from sklearn_san._engine import Engine
from sklearn_san._model import quasi_random_points
from sklearn_san.compiled import summaries
from sklearn_san.compiled.engine import CompiledEngine

LEVELS = np.array([1e-6, 1e-3, 0.05, 0.3, 0.5, 0.8, 0.99, 1.0 - 1e-6])
KINDS = {
    "normal": (norm, summaries._tail_32, summaries._tail_64),
    "logistic": (logistic, summaries._logistic_tail_32, summaries._logistic_tail_64),
}


def engines(case, n_points=64):
    """Engines that draw the same: in both, points choose the middle of a component's share."""
    network = make_network(**CASES[case])
    x = torch.randn((9, 2), generator=torch.Generator().manual_seed(1)).numpy()
    points = quasi_random_points(network, n_points)
    return CompiledEngine(network, CPU), Engine(network, CPU), x, points


def free_table(n, *, spread=0.3, seed=0):
    random = np.random.default_rng(seed)
    weight = random.dirichlet(np.ones(n))
    scale = spread * np.exp(random.normal(size=n))
    return np.stack([weight, weight, random.normal(size=n), 1.0 / scale, np.zeros(n)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("y", [-8.0, -1.0, 0.2, 3.0, 9.0])
def test_tails_of_free_components(kind, upper, y):
    distribution, single, double = KINDS[kind]
    table = free_table(200)
    weight, _, loc, inverse, _ = table
    z = (y - loc) * inverse
    mass = (distribution.sf if upper else distribution.cdf)(z)
    density = distribution.pdf(z) * inverse
    by_z = -z if kind == "normal" else -np.tanh(0.5 * z)
    expected = [(weight * part).sum() for part in (mass, density, density * by_z * inverse)]
    # The slope is a difference of both sides
    size = [*expected[:2], (weight * density * np.abs(by_z) * inverse).sum()]
    for own, exact, unit in zip(double(table, 200, y, upper), expected, size, strict=True):
        assert abs(own - exact) <= 1e-10 * unit + 1e-300
    # In float32 exponents of some hundred keep five digits
    arguments = table.astype(np.float32), 200, np.float32(y), upper
    for own, exact, unit in zip(single(*arguments), expected, size, strict=True):
        assert abs(own - exact) <= 1e3 * EPS * unit + 1e-30


@pytest.mark.parametrize(
    ("loc", "scale", "low", "high"),
    [
        (0.0, 1.0, -1.0, 2.0),
        (0.0, 1.0, -np.inf, 0.5),
        (0.0, 0.1, 1.0, 3.0),  # 10 scales outside
        (5.0, 0.1, -1.0, 1.0),  # 40 scales outside, on the other side
        (0.3, 50.0, -1.0, 1.0),  # nearly uniform
        (200.0, 20.0, -1.0, 1.0),  # nearly exponential
        (0.1, 1e9, -1.0, 1.0),
    ],
)
def test_quantiles_of_one_cut_component(loc, scale, low, high):
    table = np.array([[1.0], [1.0], [loc], [1.0 / scale], [0.0]])
    bounds = max(low, -1e30), min(high, 1e30)
    below, above, _ = summaries._cut_64(table, 1, *bounds)
    exact = truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale)
    single = table.astype(np.float32)
    for u in LEVELS:
        outside = above if u > 0.5 else below
        arguments = False, u, outside, (low, high), max(min(loc, high), low), scale
        own = summaries._solve(table, single, 1, False, *arguments)
        if scale < 1e6:
            expected = exact.ppf(u)
        else:
            expected = low + u * (high - low)
        # A width of a thousandth of a scale at least, which leaves eight digits
        assert own == pytest.approx(expected, rel=1e-6, abs=1e-6 * (min(scale, bounds[1] - low)))


@pytest.mark.parametrize("n", [3, 500])
@pytest.mark.parametrize("gap", [0.0, 50.0])
def test_quantiles_invert_the_cdf(n, gap):
    # Two clumps far apart leave a flat cdf between them
    table = free_table(n)
    table[2, ::2] += gap
    single, is_many = table.astype(np.float32), n >= summaries._MANY
    for u in LEVELS:
        own = summaries._solve(
            table, single, n, is_many, False, u, 0.0, (-np.inf, np.inf), 0.0, 1.0
        )
        upper = u > 0.5
        mass, _, _ = summaries._tail_64(table, n, own, upper)
        # A density of 1e3 per unit where y has 1e-7 of the gap
        tolerance = 1e-8 if not is_many else 1e3 * EPS
        assert mass == pytest.approx(1.0 - u if upper else u, rel=tolerance, abs=1e-12)


@pytest.mark.parametrize(
    "case", ["default", "encoder", "many members", "one output", *OTHER_FAMILIES]
)
def test_summaries_equal_those_of_the_reference(case):
    compiled, reference, x, points = engines(case)
    own, exact = (one.summaries_at(x, points, LEVELS) for one in (compiled, reference))
    spread = np.sqrt(exact.variance)
    # Means over points of which a few chose another component; extreme quantiles are those of few
    for mine, theirs in ((own.mean, exact.mean), *zip_levels(own, exact, slice(2, 7))):
        assert (np.abs(mine - theirs) < 0.1 * spread).all()
        assert np.median(np.abs(mine - theirs) / spread) < 1e3 * EPS
    first = np.abs(own.quantiles[..., 0] - exact.quantiles[..., 0])  # for which nothing is drawn
    assert (first < 1e3 * EPS * spread[:, [0]]).all()
    np.testing.assert_allclose(own.variance, exact.variance, rtol=0.05)
    assert np.median(np.abs(own.variance / exact.variance - 1.0)) < 1e3 * EPS
    assert (np.diff(own.quantiles, axis=1) > 0.0).all()
    low, high = compiled.network.limits.double().numpy().T
    assert ((own.quantiles >= low) & (own.quantiles <= high)).all()
    # No row depends on those beside it, to the last bit, nor on what else is asked for
    again = compiled.summaries_at(x[4:5], points, LEVELS)
    np.testing.assert_array_equal(again.quantiles[0], own.quantiles[4])
    np.testing.assert_array_equal(again.mean[0], own.mean[4])
    alone = compiled.summaries_at(x, points, LEVELS, with_moments=False, output=0)
    np.testing.assert_array_equal(alone.quantiles[..., 0], own.quantiles[..., 0])


def zip_levels(own, exact, levels):
    quantiles = (np.moveaxis(one.quantiles, 1, 0)[levels] for one in (own, exact))
    return zip(*quantiles, strict=True)


@pytest.mark.parametrize("case", ["default", "many members", "one output", *OTHER_FAMILIES])
def test_cdf_and_density_at_values(case):
    compiled, reference, x, points = engines(case)
    found = compiled.summaries_at(x, points, LEVELS, with_moments=False).quantiles
    for d in range(compiled.network.n_outputs):
        values = found[..., d]
        cdf, exact = (one.cdf_at(x, points, d, values) for one in (compiled, reference))
        # Quantiles leave out what has a hundred-thousandth of a tail
        tail = np.minimum(LEVELS, 1.0 - LEVELS)
        assert (np.abs(cdf - LEVELS) <= (1e-5 + 1e3 * EPS) * tail + 10 * EPS).all()
        log_prob, expected = (
            one.log_density_at(x, points, d, values) for one in (compiled, reference)
        )
        quick = compiled.log_density_at(x, points, d, values, quickly=True)
        np.testing.assert_allclose(quick, log_prob, atol=1e3 * EPS)
        shared = compiled.log_density_at(x, points, d, values[3:4])
        np.testing.assert_array_equal(shared[3], log_prob[3])
        if d == 0:
            np.testing.assert_allclose(cdf, exact, atol=1e3 * EPS)
            np.testing.assert_allclose(log_prob, expected, atol=1e4 * EPS)
        assert np.median(np.abs(cdf - exact)) < 1e3 * EPS
        assert np.median(np.abs(log_prob - expected)) < 1e4 * EPS


@pytest.mark.parametrize("case", ["default", "truncated logistic", "interpolated histogram"])
def test_features_of_their_own_for_each_point(case):
    compiled, reference, x, points = engines(case, 32)
    random = np.random.default_rng(0)
    noisy = x[:, None] + 0.3 * random.normal(size=(9, len(points), 2)).astype(np.float32)
    own, exact = (one.summaries_at(noisy, points, LEVELS[2:7]) for one in (compiled, reference))
    spread = np.sqrt(exact.variance)[:, None]
    assert (np.abs(own.quantiles - exact.quantiles) < 0.1 * spread).all()
    assert (np.abs(own.quantiles - exact.quantiles) < 1e3 * EPS * spread)[..., 0].all()
    cdf = compiled.cdf_at(noisy, points, 0, exact.quantiles[..., 0])
    np.testing.assert_allclose(cdf, np.tile(LEVELS[2:7], (9, 1)), atol=1e3 * EPS)


def test_few_points_and_many_rows_have_the_same_results():
    compiled, reference, x, points = engines("default", 1)
    many = np.tile(x, (30, 1))
    own = compiled.summaries_at(many, points, LEVELS, with_moments=False, output=0)
    exact = reference.summaries_at(x, points, LEVELS, with_moments=False, output=0)
    np.testing.assert_allclose(
        own.quantiles[:9, :, 0], exact.quantiles[..., 0], rtol=1e3 * EPS, atol=1e3 * EPS
    )
    np.testing.assert_array_equal(own.quantiles[:9, :, 0], own.quantiles[-9:, :, 0])
    assert np.isnan(own.quantiles[..., 1:]).all()


@pytest.mark.parametrize("interpolated", [False, True])
def test_histogram_quantiles(interpolated):
    heights = np.random.default_rng(0).gamma(1.0, size=12)
    heights /= heights.sum() - (0.5 * (heights[0] + heights[-1]) if interpolated else 0.0)
    for u in LEVELS:
        y = summaries._histogram_quantile(heights, interpolated, u, -1.0, 3.0)
        below, density = summaries._histogram_at(heights, interpolated, y, -1.0, 3.0)
        assert below == pytest.approx(u, abs=1e-12)
        step = 1e-6
        ends = [summaries._histogram_at(heights, interpolated, y + e, -1.0, 3.0)[0]
                for e in (-step, step)]  # fmt: skip
        assert density == pytest.approx((ends[1] - ends[0]) / (2.0 * step), rel=1e-4)


def test_starts_of_quantiles_follow_the_draws():
    drawn = np.sort(ndtri((np.arange(400) + 0.5) / 400))
    for u in (1e-6, 0.01, 0.5, 0.9, 1.0 - 1e-4):
        own = summaries._draw_quantile(drawn, u, ndtri(u))
        assert own == pytest.approx(ndtri(u), abs=0.05)
    assert math.isclose(ndtr(summaries._draw_quantile(drawn, 0.3, ndtri(0.3))), 0.3, abs_tol=1e-3)
