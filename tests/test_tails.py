"""Tails of draws: beyond five standard deviations they agree with the density on both sides."""

import math
from contextlib import nullcontext

import mpmath
import numpy as np
import pytest
import torch
from conftest import small
from scipy.special import ndtri
from scipy.stats import binom, kstest
from sklearn.frozen import FrozenEstimator

from sklearn_san import _conditioning, _keyed_noise, density
from sklearn_san._engines import without_kernels
from sklearn_san._network import uniform
from sklearn_san.compiled import components, mixtures, truncated_normal
from sklearn_san.datasets import make_bimodal
from sklearn_san.likelihoods import MixtureOfGaussians, Support
from sklearn_san.likelihoods.components import Logistic, Truncated, TruncatedNormal
from sklearn_san.recalibration import CalibratedDensity

#: Probability of each tail in which `in_the_tails` puts all numbers, below the 3e-8 where single
#: precision ends.
TAIL = 1e-8
#: False alarms of each statistical test here.
ALPHA = 1e-5
BOUNDS = [(-math.inf, math.inf), (-7.5, math.inf), (-math.inf, 7.5), (-7.0, 9.0), (-9.0, 7.0),
          (-1.0, 2.0), (1.5, math.inf), (-4.0, -1.5), (3.0, 40.0)]  # fmt: skip


def exact_quantile(kernel, u, low, high):
    """From the probabilities below and above it, which mpmath knows to any number of digits."""
    with mpmath.workdps(60):
        cdf = mpmath.ncdf if kernel == "normal" else lambda z: 1 / (1 + mpmath.exp(-z))
        below, above = cdf(mpmath.mpf(low)), cdf(mpmath.mpf(high))
        p = below + mpmath.mpf(u) * (above - below)
        if kernel == "logistic":
            return float(mpmath.log(p / (1 - p)))
        return ndtri(float(p)) if p < 0.5 else -ndtri(float(1 - p))


def compiled_quantile(kernel, u, low, high):
    low, high = np.clip([low, high], -1e30, 1e30)
    quantiles = getattr(components, f"{kernel}_quantiles")
    z, rare = np.empty((2, 1))
    one = [np.array([value]) for value in (u, 0.0, 1.0, low, high)]
    quantiles(*one, z, rare, np.empty((7, 1)))
    return truncated_normal.truncated_quantile(u, 0.0, 1.0, low, high) if rare[0] else z[0]


def torch_quantile(kernel, u, low, high):
    u, low, high, zero = torch.tensor([u, low, high, 0.0], dtype=torch.float64)
    one = TruncatedNormal() if kernel == "normal" else Truncated(Logistic())
    return one.icdf(u, (zero, zero), Support(low, high)).item()


@pytest.mark.parametrize("quantile", [compiled_quantile, torch_quantile])
@pytest.mark.parametrize("kernel", ["normal", "logistic"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("u", [2.0**-53, 1e-12, 1e-8, 0.3, 1.0 - 1e-8, 1.0 - 1e-12, 1.0 - 2.0**-53])
def test_quantiles_of_components_in_both_tails(quantile, kernel, bounds, u):
    # Compiled by polynomials, whose own accuracy this is
    exact = exact_quantile(kernel, u, *bounds)
    assert quantile(kernel, u, *bounds) == pytest.approx(exact, rel=3e-8, abs=1e-9)


def test_counts_of_uniform_numbers_in_the_tails():
    generator, n = torch.Generator().manual_seed(0), 20_000_000
    u = uniform((n,), generator).numpy()
    assert 0.0 < u.min() < 1e-6
    assert 1.0 - 1e-6 < u.max() < 1.0
    for sigma in (4.0, 5.0):
        for side in (u, 1.0 - u):
            count, expected = (side < ndtri_tail(sigma)).sum(), n * ndtri_tail(sigma)
            assert abs(count - expected) < 5.0 * math.sqrt(expected) + 1.0
    # What single precision would have rounded away is uniform as well
    assert kstest((u[:100_000] * 2.0**24) % 1.0, "uniform").pvalue > ALPHA


def ndtri_tail(sigma):
    return 0.5 * math.erfc(sigma / math.sqrt(2.0))


@pytest.fixture
def in_the_tails(monkeypatch):
    """Have all uniform numbers drawn from the last `TAIL` of both ends."""

    def far(shape, generator):
        u = uniform(shape, generator)
        return torch.where(u < 0.5, 2.0 * TAIL * u, 1.0 - 2.0 * TAIL * (1.0 - u))

    for module in (density, _conditioning, _keyed_noise):
        monkeypatch.setattr(module, "uniform", far)


def check_both_tails(u):
    """That coordinates (n,) are distributed as `in_the_tails` draws them."""
    lower = u < 0.5
    assert 1e-5 < binom.cdf(lower.sum(), len(u), 0.5) < 1.0 - 1e-5
    for tail in (u[lower], 1.0 - u[~lower]):
        assert kstest(tail / TAIL, "uniform").pvalue > ALPHA


@pytest.fixture(scope="module")
def table():
    X, y, _ = make_bimodal(300, random_state=0)
    return X, y


FAMILIES = [("gaussian", None), ("laplace", None), ("mog", None), ("molog", None), ("most", None),
            ("spline", None), ("truncated_mog", 60.0), ("truncated_mog", np.inf),
            ("truncated_molog", 1e3), ("truncated_most", 1e9)]  # fmt: skip


@pytest.mark.parametrize(("likelihood", "limit"), FAMILIES)
@pytest.mark.parametrize("engine", ["default", "torch", "float64"])
def test_draws_of_every_family_reach_into_both_tails(
    in_the_tails, table, likelihood, limit, engine
):
    X, y = table
    options = {"dtype": "float64"} if engine == "float64" else {}
    if limit is not None:
        options["limits"] = [(-limit, limit)]
    with without_kernels():
        est = small(K=1, epochs=1, likelihood=likelihood, **options).fit(X, y[:, 0])
    with without_kernels() if engine == "torch" else nullcontext():
        draws = est.sample(X[:4], 500, random_state=0)
    many = est.predict_density(np.repeat(X[:4], 500, axis=0))
    check_both_tails(many.cdf(draws.ravel()))


@pytest.fixture(scope="module")
def free(table):
    """Two outputs without limits, of one component each."""
    with without_kernels():
        return small(K=1, epochs=1, order=[0, 1]).fit(*table)


def test_draws_given_an_output_reach_into_both_tails(in_the_tails, table, free):
    X, y = (np.repeat(a[:4], 500, axis=0) for a in table)
    given = free.predict_density(X).given({"y0": y[:, 0]})
    check_both_tails(given.cdf(given.sample(1, random_state=0)[:, 0])[:, 1])


def test_recalibrated_draws_reach_into_both_tails(in_the_tails, table, free):
    X, y = table
    calibrated = CalibratedDensity(FrozenEstimator(free)).fit(X, y)
    rows = calibrated.predict_density(np.repeat(X[:4], 250, axis=0))
    check_both_tails(rows.cdf(rows.sample(1, random_state=0)[:, 0])[:, 1])


def test_measurements_reach_into_both_tails(in_the_tails, table, free, monkeypatch):
    X, seen = table[0][:4], []
    jittered = density.ConditionalDensity._jittered

    def spy(self, rows, normal):
        seen.append(normal)
        return jittered(self, rows, normal)

    monkeypatch.setattr(density.ConditionalDensity, "_jittered", spy)
    rows = free.predict_density(X, X_err=np.ones_like(X))
    for candidates in (rows, rows.given({"y0": table[1][:4, 0]})):
        seen.clear()
        candidates.sample(20, random_state=0)
        assert np.abs(np.concatenate([v.ravel() for v in seen])).min() > -ndtri(TAIL)


@pytest.mark.parametrize("u", [1e-12, 1.0 - 1e-12])
def test_sobol_points_become_draws_in_both_tails(table, free, u):
    rows = free.predict_density(table[0][:4])
    back = rows.cdf(rows.inverse_cdf(np.full((4, 2), u)))
    tail = np.minimum(back, 1.0 - back)
    np.testing.assert_allclose(tail, min(u, 1.0 - u), rtol=1e-3)
    assert ((back < 0.5) == (u < 0.5)).all()


def test_components_of_tiny_weight_are_drawn():
    family, n = MixtureOfGaussians(K=3, min_scale=1e-3), 1000
    for position in range(3):
        logits = np.zeros(3)
        logits[position] = -23.0  # a weight of 5e-11
        raw = torch.tensor([*logits, 0.0, 10.0, 20.0, -9.0, -9.0, -9.0])
        p = torch.softmax(raw[:3].double(), 0)
        start = p[:position].sum()
        noise = torch.full((n, 2), 0.5, dtype=torch.float64)
        noise[:, 0] = start + p[position] * (torch.arange(n) + 0.5) / n
        chosen = family.sample(raw.double().expand(n, -1), noise)
        assert ((chosen - 10.0 * position).abs() < 1.0).double().mean() > 0.99
        own, wide = np.empty(n), np.zeros(n)
        rows = np.tile(raw.numpy(), (n, 1))
        heads = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32), np.empty(0, np.float32)
        mixtures.draw(rows, *heads, *noise.numpy().T.copy(), False, 1e-3, wide, wide, own)
        assert (np.abs(own - 10.0 * position) < 1.0).mean() > 0.99
