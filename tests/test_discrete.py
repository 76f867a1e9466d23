"""Families with probabilities: sums, distribution functions, draws, gradients."""

import numpy as np
import pytest
import torch
from scipy import stats

from sklearn_san.likelihoods import (
    Categorical,
    Inflated,
    MixtureOfGaussians,
    Ordinal,
    Support,
    TruncatedMixtureOfGaussians,
)

INF = float("inf")
COUNTS = Support(torch.tensor(0.0).double(), torch.tensor(INF).double())
BOX = Support(torch.tensor(0.0).double(), torch.tensor(3.0).double())
LINE = Support(torch.tensor(-INF).double(), torch.tensor(INF).double())

# family, support, all values that have any probability to speak of
CASES = {
    "categorical": (Categorical(n_classes=4), None, np.arange(4.0)),
    "ordinal": (Ordinal(K=3), LINE, np.arange(-2000.0, 2000.0)),
    "ordinal, counts": (Ordinal(K=3), COUNTS, np.arange(0.0, 2000.0)),
    "ordinal, box": (Ordinal(K=3), BOX, np.arange(4.0)),
    "ordinal, halves": (Ordinal(K=2, spacing=0.5, offset=0.25), LINE,
                        np.arange(-400.0, 400.0) / 2 + 0.25),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    family, support, values = CASES[request.param]
    generator = torch.Generator().manual_seed(2)
    raw = 1.5 * torch.randn((4, family.n_params), generator=generator, dtype=torch.float64)
    return family, raw, support, torch.from_numpy(values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_to_one(case, dtype):
    family, raw, support, values = case
    if support is not None:
        support = Support(support.low.to(dtype), support.high.to(dtype))
    log_prob = family.log_prob(raw.unsqueeze(1).to(dtype), values.to(dtype), support)
    assert (log_prob <= 0).all()
    tolerance = 1e-6 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(log_prob.double().exp().sum(-1), 1.0, atol=tolerance)


def test_cdf_adds_up_the_probabilities(case):
    family, raw, support, values = case
    probability = family.log_prob(raw.unsqueeze(1), values, support).exp()
    cdf = family.cdf(raw.unsqueeze(1), values, support)
    np.testing.assert_allclose(cdf, probability.cumsum(-1), atol=1e-6)


def test_icdf_is_the_first_value_that_reaches_the_probability(case):
    family, raw, support, values = case
    u = torch.linspace(0.001, 0.999, 301, dtype=torch.float64)
    y = family.icdf(raw.unsqueeze(1), u, support)
    cdf = family.cdf(raw.unsqueeze(1), values, support)
    first = (cdf.unsqueeze(1) < u.unsqueeze(-1) - 1e-9).sum(-1)
    np.testing.assert_allclose(y, values[first.clamp(max=len(values) - 1)])
    assert (y.diff() >= 0).all()


def test_draws_have_these_probabilities(case):
    # Chi-square at 1e-5 for 4 rows x 5 cases: false alarms 2e-4
    family, raw, support, values = case
    n = 100_000
    generator = torch.Generator().manual_seed(4)
    noise = torch.rand((4, n, family.n_noise), generator=generator, dtype=torch.float64)
    draws = family.sample(raw.unsqueeze(1), noise.clamp(1e-12, 1 - 1e-12), support)
    probability = family.log_prob(raw.unsqueeze(1), values, support).exp()
    for i in range(4):
        counts = np.array([(draws[i] == v).sum() for v in values[probability[i] * n > 10]])
        expected = probability[i][probability[i] * n > 10].numpy() * n
        counts = np.append(counts, n - counts.sum())
        expected = np.append(expected, n - expected.sum() + 1e-9)
        keep = expected > 5
        statistic = ((counts[keep] - expected[keep]) ** 2 / expected[keep]).sum()
        assert stats.chi2.sf(statistic, keep.sum() - 1) > 1e-5


def test_moments_agree_with_sums(case):
    family, raw, support, values = case
    probability = family.log_prob(raw.unsqueeze(1), values, support).exp()
    mean = (probability * values).sum(-1)
    variance = (probability * (values - mean[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(family.mean(raw, support), mean, atol=1e-4)
    np.testing.assert_allclose(family.variance(raw, support), variance, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite(case, dtype):
    family, raw, support, values = case
    raw = (100.0 * raw).to(dtype).requires_grad_(True)
    if support is not None:
        support = Support(support.low.to(dtype), support.high.to(dtype))
    log_prob = family.log_prob(raw, values[[0, 1, 2, -1]].to(dtype), support)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(raw.grad).all()


def test_ordinal_agrees_with_scipy():
    raw = torch.tensor([0.0, 2.3, 0.4], dtype=torch.float64)
    family = Ordinal(K=1)
    scale = family._continuous.components(raw)[1][1].exp().item()
    k = np.arange(-5.0, 10.0)
    exact = np.log(np.diff(stats.logistic.cdf(np.arange(-5.5, 10.0), 2.3, scale)))
    ours = family.log_prob(raw, torch.from_numpy(k), LINE)
    np.testing.assert_allclose(ours, exact, rtol=1e-10)
    assert ours.shape == (15,)


INFLATED = {
    "low": (Inflated(TruncatedMixtureOfGaussians(K=2), at="low"), BOX, 0.0),
    "high": (Inflated(TruncatedMixtureOfGaussians(K=2), at="high"), BOX, 3.0),
    "inside": (Inflated(MixtureOfGaussians(K=2), at=0.5), None, 0.5),
}


@pytest.mark.parametrize("name", INFLATED)
def test_inflated_density_and_mass_make_one(name):
    family, support, point = INFLATED[name]
    raw = torch.linspace(-1.0, 0.5, family.n_params, dtype=torch.float64)
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(400))
    low, high = (0.0, 3.0) if support else (-9.0, 9.0)
    y = low + (high - low) * 0.5 * (nodes + 1.0)
    density = (family.log_prob(raw, y, support).exp() * weights).sum() * 0.5 * (high - low)
    at_point = torch.tensor(point, dtype=torch.float64)
    mass = family.log_prob(raw, at_point, support).exp()
    assert family.is_mass(at_point, support)
    assert not family.is_mass(y, support).any()
    assert (density + mass).item() == pytest.approx(1.0, abs=1e-6)

    u = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    values = family.icdf(raw, u, support)
    assert (values.diff() >= 0).all()
    assert (values == point).double().mean().item() == pytest.approx(mass.item(), abs=0.01)
    smooth = values != point
    np.testing.assert_allclose(family.cdf(raw, values, support)[smooth], u[smooth], atol=1e-7)

    noise = torch.rand((200_000, 3), generator=torch.Generator().manual_seed(0)).double()
    draws = family.sample(raw, noise.clamp(1e-6, 1 - 1e-6), support)
    # standard error 0.001
    assert (draws == point).double().mean().item() == pytest.approx(mass.item(), abs=0.006)
    assert draws.mean().item() == pytest.approx(family.mean(raw, support).item(), abs=0.02)
    assert draws.var().item() == pytest.approx(family.variance(raw, support).item(), rel=0.03)


def test_inflated_starts_from_the_share_at_the_point():
    y = np.concatenate([np.zeros(300), np.linspace(0.5, 2.0, 700)])
    family = Inflated(TruncatedMixtureOfGaussians(K=2), at="low")
    raw = torch.from_numpy(family.initial_raw(y, None, BOX))
    assert raw[0].sigmoid().item() == pytest.approx(0.3)
    assert family.mean(raw, BOX).item() == pytest.approx(y.mean(), abs=0.05)


def test_labels_start_from_their_frequencies():
    raw = Categorical(n_classes=3).guess_raw(np.array([0.0, 0, 0, 1]))
    np.testing.assert_allclose(np.exp(raw), np.array([3.5, 1.5, 0.5]) / 5.5)


def test_resolve_moves_special_values_into_network_units():
    ordinal = Ordinal().resolve(K=4, unit=2.0, origin=10.0)
    assert ordinal.get_params() == {"K": 4, "spacing": 0.5, "offset": -5.0}
    inflated = Inflated(MixtureOfGaussians(), at=10.0).resolve(K=4, unit=2.0, origin=10.0)
    assert inflated.at == 0.0
    assert inflated.base.K == 4
    assert Categorical().resolve(K=1, unit=1.0, n_classes=7).n_classes == 7
    assert Categorical(7).resolve(K=1, unit=1.0, n_classes=7).n_classes == 7
    with pytest.raises(ValueError, match=r"\(n_classes=5\).* there are 2; leave n_classes out"):
        Categorical(5).resolve(K=1, unit=1.0, n_classes=2)
    with pytest.raises(ValueError, match="needs n_classes"):
        _ = Categorical().n_params


def test_a_discrete_draw_has_no_gradient():
    raw = torch.zeros(3, requires_grad=True)
    assert not Categorical(n_classes=3).rsample(raw, torch.tensor([0.5])).requires_grad
