"""The compiled mixtures and their pieces against torch in float64, function by function."""

import math
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import erfcx, expit, ndtr, ndtri

from sklearn_san import _linear_base
from sklearn_san.compiled import components, mixtures, special, truncated_normal
from sklearn_san.likelihoods import (
    MixtureOfGaussians,
    MixtureOfLogistics,
    Support,
    TruncatedMixtureOfGaussians,
    TruncatedMixtureOfLogistics,
)
from sklearn_san.likelihoods.truncated_normal import truncated_normal_icdf, truncated_normal_moments

EPS = float(np.finfo(np.float32).eps)
BOUNDS = {
    "none": None,
    "both": (-1.0, 1.0),
    "low": (-1.0, math.inf),
    "high": (-math.inf, 1.0),
    "infinite": (-math.inf, math.inf),
    "close": (-1e-4, 1e-4),
    "far": (-3e4, 5e4),
}
#: Kernels, and the free and the truncated family
KINDS = {
    "normal": (mixtures.log_prob, mixtures.draw, MixtureOfGaussians, TruncatedMixtureOfGaussians),
    "logistic": (
        mixtures.logistic_log_prob,
        mixtures.logistic_draw,
        MixtureOfLogistics,
        TruncatedMixtureOfLogistics,
    ),
}


def nothing_of_heads():
    """Where all raw parameters are there, draws need no inputs and weights of heads."""
    nothing = np.empty((0, 0), dtype=np.float32)
    return nothing, nothing, np.empty(0, dtype=np.float32)


def problem(bounds, n, *, spread=3.0, K=5, kind="normal"):
    generator = torch.Generator().manual_seed(0)
    raw = spread * torch.randn((n, 3 * K), generator=generator)
    y = torch.randn(n, generator=generator)
    support = None
    if bounds is not None:
        support = Support(*(torch.tensor(b) for b in bounds))
        low, high = (max(min(b, 3.0), -3.0) for b in bounds)
        y = low + (high - low) * torch.rand(n, generator=generator)
        y[0], y[1] = low, high
    family = KINDS[kind][2 if support is None else 3](K=K, min_scale=1e-4)
    return family, raw, y, support


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@pytest.mark.parametrize(("n", "spread"), [(5, 1.0), (1000, 3.0), (1000, 30.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_equal_those_of_torch_in_float64(bounds, n, spread, kind):
    family, raw, y, support = problem(bounds, n, spread=spread, kind=kind)
    log_prob = KINDS[kind][0]
    low, high = (b.astype(np.float32) for b in columns(support, n))
    own = np.empty(n, dtype=np.float32)
    gradient = np.empty(raw.shape, dtype=np.float32)
    arguments = (raw.numpy(), y.numpy(), low, high, support is not None)
    log_floor = math.log(family.min_scale)
    by_y = np.empty(n, dtype=np.float32)
    log_prob(*arguments, log_floor, own, gradient, by_y, True)
    raw64, y64 = raw.double().requires_grad_(), y.double().requires_grad_()
    support64 = None if support is None else Support(*(b.double() for b in support))
    exact = family.log_prob(raw64, y64, support64)
    by_raw, exact_by_y = (g.numpy() for g in torch.autograd.grad(exact.sum(), (raw64, y64)))
    # The logistic is rounded to float32 once, the normal at each step where nothing large cancels
    rounding = 16 * EPS if kind == "normal" else 4 * EPS
    np.testing.assert_allclose(own, exact.detach(), rtol=rounding, atol=rounding)
    # Differences of moments at the bounds and of z cancel by some thousand, for the normal here as
    # in the reference, for the logistic in the reference alone
    assert (np.abs(gradient - by_raw) / np.abs(by_raw).clip(1.0)).max() < 2e3 * EPS
    assert (np.abs(by_y - exact_by_y) / np.abs(exact_by_y).clip(1.0)).max() < 2e3 * EPS
    alone = np.empty(n, dtype=np.float32)
    log_prob(*arguments, log_floor, alone, gradient, by_y, False)
    np.testing.assert_array_equal(alone, own)


def test_where_single_precision_is_enough_it_is_used():
    family, raw, y, support = problem(BOUNDS["both"], 64, spread=0.5)
    low, high = (b.astype(np.float32) for b in columns(support, 64))
    raw[::7, 5] = -1e4  # of one component in each of these rows the support is its far tail
    results = []
    for kernel in (mixtures.log_prob, mixtures.log_prob_64):
        out, gradient = np.empty(64, dtype=np.float32), np.empty(raw.shape, dtype=np.float32)
        arguments = raw.numpy(), y.numpy(), low, high, True, math.log(family.min_scale)
        kernel(*arguments, out, gradient, np.empty_like(out), True)
        results.append(gradient)
    # Each row for itself, whatever is beside it
    is_double = (results[0] == results[1]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(is_double), np.arange(0, 64, 7))


def test_elementary_functions_in_single_precision():
    x = np.linspace(-80.0, 60.0, 2001, dtype=np.float32)
    exact = np.exp(x.astype(float))
    # Without fused products the argument is rounded once more
    allowed = (4.0 + np.abs(x)) * EPS * exact
    assert (np.abs([special.exp_32(v) for v in x] - exact) <= allowed).all()
    x = np.geomspace(1e-37, 1e38, 2001, dtype=np.float32)
    exact = np.log(x.astype(float))
    np.testing.assert_allclose([special.log_32(v) for v in x], exact, rtol=4 * EPS, atol=EPS)
    x = np.append(np.float32(0.0), np.geomspace(1e-8, 1e6, 2001, dtype=np.float32))
    exact = erfcx(x.astype(float))
    np.testing.assert_allclose([special.erfcx_32(v) for v in x], exact, rtol=8 * EPS)
    h = np.linspace(0.0, 0.25, 201, dtype=np.float32)
    own = [truncated_normal.exp_small_32(v) for v in h]
    np.testing.assert_allclose(own, np.exp(-h.astype(float)), rtol=4 * EPS)


@pytest.mark.parametrize("near", [-8.0, -1.0, -0.3, 0.0, 0.2, 1.0, 5.0, 17.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_masses_in_single_precision(near, mirrored):
    near = np.float32(near)
    for width in np.geomspace(1e-4, 1e3, 200, dtype=np.float32):
        far = near + width
        bounds = (-far, -near) if mirrored else (near, far)
        own = truncated_normal.mass_and_ends_32(*bounds, width)
        exact = truncated_normal.mass_and_ends(*(float(b) for b in bounds), float(width))
        # The far end's exponent is rounded relative to itself; `near + width` loses digits of width
        np.testing.assert_allclose(own[0], exact[0], rtol=20 * EPS)
        np.testing.assert_allclose(own[1:], exact[1:], rtol=200 * EPS, atol=1e-12)


def test_elementary_functions():
    x = np.linspace(-650.0, 650.0, 2001)
    np.testing.assert_allclose([special.exp(v) for v in x], np.exp(x), rtol=1e-12)
    x = np.geomspace(1e-300, 1e300, 2001)
    np.testing.assert_allclose([special.log(v) for v in x], np.log(x), rtol=1e-12, atol=1e-12)
    p = np.concatenate([np.geomspace(1e-290, 0.5, 2001), 1.0 - np.geomspace(1e-14, 0.5, 2001)])
    np.testing.assert_allclose(
        [special.ndtri(v, 1.0 - v) for v in p], ndtri(p), rtol=3e-8, atol=1e-9
    )
    x = np.concatenate([[0.0], np.geomspace(1e-8, 1e12, 2001)])
    np.testing.assert_allclose([special.erfcx(v) for v in x], erfcx(x), rtol=1e-10)
    x = np.linspace(-80.0, 80.0, 2001, dtype=np.float32)
    np.testing.assert_allclose(
        [special.sigmoid(v) for v in x], expit(x.astype(float)), rtol=8 * EPS
    )
    x = np.concatenate([[0.0], np.geomspace(1e-300, 1e300, 2001)])
    np.testing.assert_allclose([special.log1p(v) for v in x], np.log1p(x), rtol=1e-12)
    x = np.concatenate([[0.0], np.geomspace(1e-300, 600.0, 2001)])
    share, left = np.transpose([special.decay(v) for v in x])
    np.testing.assert_allclose(share, -np.expm1(-x), rtol=1e-11)
    np.testing.assert_allclose(left, np.exp(-x), rtol=1e-12)
    h = np.linspace(0.0, 0.05, 201)
    np.testing.assert_allclose([truncated_normal.exp_small(v) for v in h], np.exp(-h), rtol=1e-9)
    x = np.linspace(-35.0, 35.0, 2001)
    np.testing.assert_allclose(
        [special.tails(v) for v in x], np.stack([ndtr(x), ndtr(-x)], 1), rtol=1e-9
    )


@pytest.mark.parametrize("loc", [-1e6, -40.0, -3.0, 0.1, 2.0, 60.0, 1e6])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-1.0, math.inf), (-math.inf, 0.3)])
def test_truncated_quantiles(loc, low, high):
    u = np.array([1e-7, 1e-3, 0.2, 0.5, 0.9, 1.0 - 1e-6])
    for scale in (1e-3, 1.0, 50.0):
        own = [truncated_normal.truncated_quantile(v, loc, scale, low, high) for v in u]
        exact = truncated_normal_icdf(
            *(torch.tensor(v, dtype=torch.float64) for v in (u, loc, math.log(scale), low, high))
        )
        unit = min(scale, high - low)
        np.testing.assert_allclose(own, exact, rtol=1e-6, atol=1e-6 * unit)


def columns(support, n):
    """Bounds as the kernels take them, (n,) each."""
    low, high = (-math.inf, math.inf) if support is None else support
    return [np.broadcast_to(np.asarray(b, dtype=np.float64), (n,)).copy() for b in (low, high)]


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@pytest.mark.parametrize(("n", "spread"), [(5, 1.0), (1000, 2.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_draws(bounds, n, spread, kind):
    family, raw, _, support = problem(bounds, n, spread=spread, kind=kind)
    random = np.random.default_rng(0)
    noise = np.stack([random.uniform(size=n), random.uniform(size=n)])
    # Both tails as well: the place inside a component runs to 1e-12
    noise[1, : n // 4] = np.geomspace(1e-12, 1e-2, n // 4)
    noise[1, n // 4 : n // 2] = 1.0 - np.geomspace(1e-12, 1e-2, n // 2 - n // 4)
    low, high = columns(support, n)
    own = np.empty(n)
    floor = math.exp(math.log(family.min_scale))
    draw, heads = KINDS[kind][1], nothing_of_heads()
    draw(raw.numpy(), *heads, *noise, support is not None, floor, low, high, own)
    support64 = None if support is None else Support(*(b.double() for b in support))
    exact = family.sample(raw.double(), torch.from_numpy(noise.T.copy()), support64).numpy()
    _, (_, log_scale) = family.components(raw.double())
    unit = np.minimum(log_scale.exp().amax(-1).numpy(), high - low)
    # Probabilities are good to 1e-10, which bounds that share little mass amplify
    scale = log_scale.exp().amax(-1).numpy()
    wrong = np.abs(own - exact) > 1e-6 * np.maximum(unit, np.abs(exact)) + 1e-8 * scale
    assert wrong.mean() <= 1e-3
    assert ((own >= low) & (own <= high)).all()


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_moments(bounds, spread):
    n = 500
    family, raw, _, support = problem(bounds, n, spread=spread)
    raw[:50, 5:10] *= 30.0  # locations far outside the bounds
    low, high = columns(support, n)
    mean, variance = np.empty(n), np.empty(n)
    arguments = (raw.numpy(), support is not None, family.min_scale, low, high)
    mixtures.moments_64(*arguments, mean, variance)
    support64 = None if support is None else Support(*(b.double() for b in support))
    exact_mean = family.mean(raw.double(), support64).numpy()
    exact_variance = family.variance(raw.double(), support64).numpy()
    unit = np.sqrt(exact_variance)
    assert (np.abs(mean - exact_mean) < 1e-3 * unit + 1e-9 * np.abs(exact_mean)).all()
    np.testing.assert_allclose(variance, exact_variance, rtol=5e-3)
    # Almost everywhere far better: only far tails are approximated
    assert np.median(np.abs(mean - exact_mean) / unit) < 1e-8
    assert np.median(np.abs(variance / exact_variance - 1.0)) < 1e-7
    # In float32 terms may cancel by some thousand
    single_mean, single_variance = np.empty(n), np.empty(n)
    mixtures.moments(*arguments, single_mean, single_variance)
    unit = np.maximum(np.sqrt(variance), np.abs(mean))
    error = np.abs(single_mean - mean) / unit
    assert error.max() < 2e3 * EPS
    assert np.median(error) < 4 * EPS
    error = np.abs(single_variance / variance - 1.0)
    assert error.max() < 4e3 * EPS
    assert np.median(error) < 40 * EPS


def test_moments_are_in_float64_where_single_precision_is_not_enough():
    _, raw, _, support = problem(BOUNDS["both"], 64, spread=0.5)
    low, high = columns(support, 64)
    raw[::7, 5] = -1e4  # of one component in each of these rows the support is its far tail
    high[3] = low[3] + 1e-6  # whose width float32 does not see
    low[5], high[5] = 1e6 + low[5], 1e6 + high[5]
    results = []
    for kernel in (mixtures.moments, mixtures.moments_64):
        mean, variance = np.empty(64), np.empty(64)
        kernel(raw.numpy(), True, 1e-4, low, high, mean, variance)
        results.append(variance)
    # Each row for itself, whatever is beside it
    is_double = np.flatnonzero(results[0] == results[1])
    np.testing.assert_array_equal(is_double, [0, 3, 5, *range(7, 64, 7)])


@pytest.mark.parametrize("distance", [0.0, 3.0, 30.0, 49.0, 51.0, 300.0, 1e4])
@pytest.mark.parametrize("width", [1e-6, 1e-3, 0.04, 0.06, 1.0, math.inf])
def test_moments_of_one_component_in_every_regime(distance, width):
    raw = np.array([[0.0, -distance, 0.0]], dtype=np.float32)
    low, high = np.zeros(1), np.full(1, width)
    mean, variance = np.empty(1), np.empty(1)
    mixtures.moments(raw, True, 1e-30, low, high, mean, variance)
    exact = truncated_normal_moments(
        *(torch.tensor(v, dtype=torch.float64) for v in (-distance, 0.0, 0.0, width))
    )
    np.testing.assert_allclose(mean, exact[0], rtol=2e-3)
    np.testing.assert_allclose(variance, exact[1], rtol=5e-3)


def test_moments_of_free_logistics():
    n = 500
    family, raw, _, _ = problem(None, n, kind="logistic")
    low, high = columns(None, n)
    mean, variance = np.empty(n), np.empty(n)
    arguments = (raw.numpy(), False, family.min_scale, low, high, mean, variance)
    mixtures.logistic_mixture_moments(*arguments)
    exact_mean, exact_variance = (f(raw.double()).numpy() for f in (family.mean, family.variance))
    assert (np.abs(mean - exact_mean) < 1e-9 * np.sqrt(exact_variance)).all()
    np.testing.assert_allclose(variance, exact_variance, rtol=1e-9)


@pytest.mark.parametrize("low", [-1e4, -600.0, -30.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("width", [1e-30, 1e-6, 1e-3, 0.05, 0.2, 3.0, 500.0, math.inf])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_truncated_logistic_in_every_regime(low, width, mirrored):
    bounds = (-low - width, -low) if mirrored else (low, low + width)
    with mpmath.workdps(4500):  # tails of exp(-1e4) beside 1
        below, above = (1 / (1 + mpmath.exp(-mpmath.mpf(b))) for b in bounds)
        levels = np.array([2.0**-40, 1e-3, 0.3, 0.5, 0.9, 1.0 - 2.0**-40])
        loc, scale, y, rare = np.repeat([[0.0], [1.0], [0.0], [0.0]], len(levels), axis=1)
        low, high = np.repeat(np.clip(bounds, -1e30, 1e30)[:, None], len(levels), axis=1)
        components.logistic_quantiles(levels, loc, scale, low, high, y, rare, np.empty((7, 6)))
        for u, value in zip(levels, y, strict=True):
            p = below + u * (above - below)
            exact = float(mpmath.log(p / (1 - p)))
            assert abs(value - exact) <= 1e-9 * max(abs(exact), min(width, 1.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "n_hidden"), [(1, 3), (200, 33)])
def test_draws_of_the_chosen_components_alone(kind, n, n_hidden):
    draw, K, random = KINDS[kind][1], 5, np.random.default_rng(0)
    hidden = random.normal(size=(n, n_hidden)).astype(np.float32)
    weight = random.normal(size=(n_hidden, 3 * K)).astype(np.float32) / np.float32(n_hidden**0.5)
    bias = random.normal(size=3 * K).astype(np.float32)
    raw = hidden @ weight + bias
    noise, bounds = random.random((2, n)), (np.full(n, -2.0), np.full(n, 2.5))
    nothing, whole, own = np.empty((0, n_hidden), np.float32), np.empty(n), np.empty(n)
    draw(raw, hidden, nothing, bias[K:], *noise, True, 1e-3, *bounds, whole)
    across = weight[:, K:].T.copy()
    raw[:, K:] = np.nan  # not looked at
    draw(raw, hidden, across, bias[K:], *noise, True, 1e-3, *bounds, own)
    # Locations and log scales of size 1 are sums of as many terms, in another order
    np.testing.assert_allclose(own, whole, rtol=0.0, atol=50 * n_hidden * EPS)
    assert np.ptp(whole) > 1.0 or n == 1


@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
def test_starting_densities_are_those_of_torch(bounds):
    random = np.random.default_rng(0)
    y = np.where(random.random(700) < 0.4, random.normal(-0.5, 0.1, 700), random.normal(size=700))
    support, kind = None, MixtureOfGaussians
    if bounds is not None:
        y = np.clip(y, *bounds)
        support = Support(*(torch.full((700,), b, dtype=torch.float64) for b in bounds))
        kind = TruncatedMixtureOfGaussians
    family = kind(K=4, min_scale=1e-4)
    score = partial(_linear_base._score, math.log(1e-4))
    raw, values = random.normal(size=12), torch.from_numpy(y)
    mean, slope = score(raw, values, support)
    exact, exact_slope = family._mean_log_prob(raw, values, support)
    assert mean == pytest.approx(exact, rel=1e-10)
    # Terms of size of the inverse of the width of the bounds cancel
    np.testing.assert_allclose(slope, exact_slope, rtol=1e-6, atol=1e-9)
