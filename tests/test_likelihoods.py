"""One table of cases; every property on every family."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from sklearn_san.likelihoods import (
    LIKELIHOODS,
    MixtureOfGaussians,
    Support,
    TruncatedMixtureOfGaussians,
)

INF = float("inf")

# family, bounds of the support
CASES = {
    "mog": (MixtureOfGaussians(K=3), None),
    "mog, one component": (MixtureOfGaussians(K=1), None),
    "truncated_mog": (TruncatedMixtureOfGaussians(K=3), (-1.0, 2.0)),
    "truncated_mog, half line": (TruncatedMixtureOfGaussians(K=3), (-0.5, INF)),
    "truncated_mog, no limits": (TruncatedMixtureOfGaussians(K=2), (-INF, INF)),
}
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=CASES)
def case(request):
    """Family, raw parameters (4, n_params) and support, all in float64."""
    family, bounds = CASES[request.param]
    generator = torch.Generator().manual_seed(1)
    raw = torch.randn((4, family.n_params), generator=generator, dtype=torch.float64)
    raw[:, -family.K :] -= 1.0  # log scales
    support = None
    if bounds is not None:
        low, high = (torch.tensor(b, dtype=torch.float64) for b in bounds)
        support = Support(low, high)
    return family, raw, support


def cast(raw, support, dtype):
    if support is not None:
        support = Support(support.low.to(dtype), support.high.to(dtype))
    return raw.to(dtype), support


def interior(family, raw, support, n=200):
    """Values (4, n) that cover the density."""
    u = torch.linspace(1e-3, 1.0 - 1e-3, n, dtype=raw.dtype)
    return family.icdf(raw.unsqueeze(1), u, support)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integrates_to_one(case, dtype):
    family, raw, support = case
    ends = torch.tensor([1e-13, 1.0 - 1e-13], dtype=torch.float64)
    low, high = family.icdf(raw.unsqueeze(1), ends, support).T
    raw, support = cast(raw, support, dtype)
    nodes, weights = np.polynomial.legendre.leggauss(1500)
    nodes, weights = (torch.from_numpy(v) for v in (nodes, weights))
    y = low[:, None] + (high - low)[:, None] * 0.5 * (nodes + 1.0)  # (4, n_nodes)
    density = family.log_prob(raw.unsqueeze(1), y.to(dtype), support).exp().double()
    integral = (density * weights).sum(-1) * 0.5 * (high - low)
    np.testing.assert_allclose(integral, 1.0, atol=1e-6)


def test_derivative_of_cdf_is_density(case):
    family, raw, support = case
    y = interior(family, raw, support).requires_grad_(True)
    family.cdf(raw.unsqueeze(1), y, support).sum().backward()
    density = family.log_prob(raw.unsqueeze(1), y.detach(), support).exp()
    np.testing.assert_allclose(y.grad, density, rtol=1e-8, atol=1e-12)


def test_icdf_inverts_cdf_into_the_tails(case):
    family, raw, support = case
    tail = torch.logspace(-12, -1, 40, dtype=torch.float64)
    u = torch.cat([tail, torch.linspace(0.1, 0.9, 40, dtype=torch.float64), 1.0 - tail.flip(0)])
    y = family.icdf(raw.unsqueeze(1), u, support)
    assert (y.diff() >= 0).all()
    back = family.cdf(raw.unsqueeze(1), y, support)
    np.testing.assert_allclose(back, u.expand_as(back), rtol=1e-8, atol=2e-16)
    again = family.icdf(raw.unsqueeze(1), back.clamp(1e-12, 1 - 1e-12), support)
    np.testing.assert_allclose(again, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_million_draws_follow_the_cdf(case, dtype):
    # Kolmogorov-Smirnov at 1e-5 per row; 4 rows x 5 cases x 2 dtypes: false alarms 4e-4.
    family, raw, support = case
    generator = torch.Generator().manual_seed(3)
    n = 250_000
    noise = torch.rand((4, n, family.n_noise), generator=generator, dtype=dtype)
    noise = noise.clamp(1e-7, 1.0 - 1e-7)
    low_raw, low_support = cast(raw, support, dtype)
    draws = family.sample(low_raw.unsqueeze(1), noise, low_support).double()
    if support is not None:
        assert (draws >= support.low.to(dtype)).all()
        assert (draws <= support.high.to(dtype)).all()
    u = family.cdf(raw.unsqueeze(1), draws, support)
    for row in u.numpy():
        assert stats.kstest(row, "uniform").pvalue > 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_far_from_the_mode(case, dtype):
    family, raw, support = case
    raw, support = cast(raw, support, dtype)
    raw[:, family.K : 2 * family.K] = 1000.0  # every location a thousand scales away
    raw[:, 2 * family.K :] = 0.0
    raw = raw.clone().requires_grad_(True)
    y = torch.zeros(4, dtype=dtype)
    log_prob = family.log_prob(raw, y, support)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(raw.grad).all()


def test_log_prob_agrees_with_scipy(case):
    family, raw, support = case
    log_weights, loc, log_scale = (t.numpy() for t in family.components(raw))
    scale = np.exp(log_scale)
    low, high = (-INF, INF) if support is None else (b.item() for b in support)
    y = interior(family, raw, support).numpy()
    for i in range(4):
        parts = stats.truncnorm.logpdf(
            y[i][:, None],
            (low - loc[i]) / scale[i],
            (high - loc[i]) / scale[i],
            loc[i],
            scale[i],
        )
        exact = np.logaddexp.reduce(log_weights[i] + parts, axis=-1)
        ours = family.log_prob(raw[i], torch.from_numpy(y[i]), support)
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-12)


def test_moments_agree_with_quadrature(case):
    family, raw, support = case
    ends = torch.tensor([1e-13, 1.0 - 1e-13], dtype=torch.float64)
    low, high = family.icdf(raw.unsqueeze(1), ends, support).T
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(1500))
    y = low[:, None] + (high - low)[:, None] * 0.5 * (nodes + 1.0)
    mass = family.log_prob(raw.unsqueeze(1), y, support).exp() * weights
    mass = mass * 0.5 * (high - low)[:, None]
    mean = (mass * y).sum(-1)
    variance = (mass * (y - mean[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(family.mean(raw, support), mean, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(family.variance(raw, support), variance, rtol=1e-6)


def test_rsample_gradient_is_that_of_the_icdf(case):
    family, raw, support = case
    generator = torch.Generator().manual_seed(5)
    noise = torch.rand((4, family.n_noise), generator=generator, dtype=torch.float64)
    raw = raw.requires_grad_(True)
    y = family.rsample(raw, noise, support)
    (gradient,) = torch.autograd.grad(y.sum(), raw)
    with torch.no_grad():
        u = family.cdf(raw, y, support)
        step = 1e-5
        for j in range(family.n_params):
            shift = torch.zeros_like(raw)
            shift[:, j] = step
            up, down = (family.icdf(raw + s * shift, u, support) for s in (1, -1))
            np.testing.assert_allclose(
                gradient[:, j], (up - down) / (2 * step), rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 1, 3)])
def test_any_batch_shape(case, shape):
    family, raw, support = case
    raw = raw[0].expand(*shape, -1)
    y = torch.full(shape, 0.3, dtype=torch.float64)
    assert family.log_prob(raw, y, support).shape == shape
    assert family.cdf(raw, y, support).shape == shape
    assert family.icdf(raw, y, support).shape == shape
    assert family.mean(raw, support).shape == shape
    noise = torch.full((*shape, family.n_noise), 0.4, dtype=torch.float64)
    assert family.sample(raw, noise, support).shape == shape


def test_initial_parameters_resemble_the_data(case):
    family, _, support = case
    y = stats.truncnorm(-1.0, 2.0).rvs(20_000, random_state=0)
    if support is not None:
        y = np.clip(y, support.low.item(), support.high.item())
    twice = np.concatenate([y, [100.0]])  # a row without weight does not count
    raw = torch.from_numpy(family.initial_raw(twice, np.append(np.ones(len(y)), 0.0), support))
    assert raw.shape == (family.n_params,)
    assert family.mean(raw, support).item() == pytest.approx(y.mean(), abs=0.05)
    assert family.variance(raw, support).item() == pytest.approx(y.var(), rel=0.1)


def test_families_are_scikit_learn_objects():
    family = MixtureOfGaussians(K=4, min_scale=0.1)
    assert repr(family) == "MixtureOfGaussians(K=4, min_scale=0.1)"
    assert clone(family).get_params() == family.get_params()
    assert set(LIKELIHOODS) == {"mog", "truncated_mog"}


def test_resolve_fills_in_defaults_and_units():
    assert MixtureOfGaussians().resolve(K=7, unit=2.0).K == 7
    assert MixtureOfGaussians(K=2).resolve(K=7, unit=2.0).K == 2
    assert MixtureOfGaussians(min_scale=0.5).resolve(K=7, unit=2.0).min_scale == 0.25


def test_min_scale_is_a_floor():
    family = MixtureOfGaussians(K=1, min_scale=0.1)
    raw = torch.tensor([0.0, 0.0, -50.0])
    peak = family.log_prob(raw, torch.tensor(0.0)).exp().item()
    assert peak == pytest.approx(1 / (0.1 * np.sqrt(2 * np.pi)), rel=1e-5)


def test_a_family_without_K_or_support_says_so():
    with pytest.raises(ValueError, match="MixtureOfGaussians needs K"):
        _ = MixtureOfGaussians().n_params
    with pytest.raises(ValueError, match="needs a support, got None"):
        TruncatedMixtureOfGaussians(K=1).log_prob(torch.zeros(3), torch.zeros(()))
