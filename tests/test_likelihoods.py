"""One table of cases; every property on every family."""

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from sklearn_san.likelihoods import (
    LIKELIHOODS,
    Gaussian,
    Laplace,
    MixtureOfBetas,
    MixtureOfGaussians,
    MixtureOfLogistics,
    MixtureOfStudentT,
    Softmax,
    Spline,
    Support,
    TruncatedMixtureOfGaussians,
    TruncatedMixtureOfLogistics,
    TruncatedMixtureOfStudentT,
    make_likelihood,
)
from sklearn_san.likelihoods.distribution_functions import (
    student_t_icdf,
    student_t_log_cdf,
    student_t_log_icdf,
)

INF = float("inf")

# family, bounds of the support
CASES = {
    "gaussian": (Gaussian(), None),
    "laplace": (Laplace(), None),
    "mog": (MixtureOfGaussians(K=3), None),
    "mog, one component": (MixtureOfGaussians(K=1), None),
    "molog": (MixtureOfLogistics(K=3), None),
    "most": (MixtureOfStudentT(K=3), None),
    "spline": (Spline(bins=6), None),
    "truncated_mog": (TruncatedMixtureOfGaussians(K=3), (-1.0, 2.0)),
    "truncated_mog, half line": (TruncatedMixtureOfGaussians(K=3), (-0.5, INF)),
    "truncated_mog, no limits": (TruncatedMixtureOfGaussians(K=2), (-INF, INF)),
    "truncated_molog": (TruncatedMixtureOfLogistics(K=3), (-1.0, 2.0)),
    "truncated_molog, half line": (TruncatedMixtureOfLogistics(K=3), (-INF, 1.0)),
    "truncated_most": (TruncatedMixtureOfStudentT(K=3), (-1.0, 2.0)),
    "truncated_most, half line": (TruncatedMixtureOfStudentT(K=2), (-0.5, INF)),
    "mob": (MixtureOfBetas(K=3), (0.0, 1.0)),
    "softmax": (Softmax(atoms=7), (-1.0, 2.0)),
    "softmax, interpolated": (Softmax(atoms=7, interpolate=True), (-1.0, 2.0)),
}


def scale_columns(family):
    """Columns of the raw parameters that are log scales."""
    if hasattr(family, "K"):
        return slice(2 * family.K, 3 * family.K)
    return slice(1, 2)


DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=CASES)
def case(request):
    """Family, raw parameters (4, n_params) and support, all in float64."""
    family, bounds = CASES[request.param]
    generator = torch.Generator().manual_seed(1)
    raw = torch.randn((4, family.n_params), generator=generator, dtype=torch.float64)
    if hasattr(family, "min_scale"):
        raw[:, scale_columns(family)] -= 1.0
    if "most" in request.param:
        raw[:, 3 * family.K :] = 2.5 + 0.3 * raw[:, 3 * family.K :]  # about thirteen df
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


def kinks(family, raw, support):
    """Points (4, n) at which the density is not smooth."""
    if isinstance(family, Laplace):
        return raw[:, :1]
    if isinstance(family, Spline):
        loc, log_scale, (x, _, _) = family._knots(raw)
        return loc[:, None] + log_scale.exp()[:, None] * x
    if isinstance(family, Softmax):
        edges = torch.linspace(0.0, 1.0, family.atoms + 1, dtype=raw.dtype)
        return (support.low + (support.high - support.low) * edges).expand(4, -1)
    return raw[:, :0]


def quadrature(family, raw, support):
    """Nodes and weights (4, n) that integrate over all but 2e-13 of the probability."""
    tail = torch.logspace(-13, -2, 60, dtype=torch.float64)
    u = torch.cat([tail, torch.linspace(0.01, 0.99, 100).double()[1:-1], 1.0 - tail.flip(0)])
    ends = family.icdf(raw.unsqueeze(1), u, support)
    inner = kinks(family, raw, support)
    inner = torch.minimum(torch.maximum(inner, ends[:, :1]), ends[:, -1:])
    ends = torch.cat([ends, inner], 1).sort(1).values
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(12))
    width = ends.diff(dim=1).unsqueeze(-1)
    y = ends[:, :-1, None] + width * 0.5 * (nodes + 1.0)
    return y.flatten(1), (0.5 * width * weights).flatten(1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_integrates_to_one(case, dtype):
    family, raw, support = case
    y, weights = quadrature(family, raw, support)
    raw, support = cast(raw, support, dtype)
    density = family.log_prob(raw.unsqueeze(1), y.to(dtype), support).exp().double()
    tolerance = 1e-6 + 100 * torch.finfo(dtype).eps  # of the quadrature, and of rounding
    np.testing.assert_allclose((density * weights).sum(-1), 1.0, atol=tolerance)


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
    np.testing.assert_allclose(back, u.expand_as(back), rtol=1e-8, atol=4e-16)
    again = family.icdf(raw.unsqueeze(1), back.clamp(1e-12, 1 - 1e-12), support)
    # Near 1 the probability itself has only four digits of its distance from 1
    np.testing.assert_allclose(again, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_follow_the_cdf(case, dtype):
    # Kolmogorov-Smirnov at 1e-5 per row; 4 rows x 17 cases x 2 dtypes: false alarms 1.4e-3.
    family, raw, support = case
    generator = torch.Generator().manual_seed(3)
    n = 60_000
    noise = torch.rand((4, n, family.n_noise), generator=generator, dtype=dtype)
    noise = noise.clamp(1e-7, 1.0 - 1e-7)
    low_raw, low_support = cast(raw, support, dtype)
    draws = family.sample(low_raw.unsqueeze(1), noise, low_support).double()
    u = family.cdf(raw.unsqueeze(1), draws, support)
    for row in u.numpy():
        assert stats.kstest(row, "uniform").pvalue > 1e-5
    if support is None:
        return
    assert (draws >= support.low.to(dtype)).all()
    assert (draws <= support.high.to(dtype)).all()
    # What would leave the bounds is moved to them in the end. No more draws are there than round
    # to them: at most one more than five standard errors allow.
    for bound, inwards in ((support.low, 1.0), (support.high, -1.0)):
        cell = 4 * torch.finfo(dtype).eps * bound.abs().clamp(max=1e3).clamp_min(1.0)
        mass = family.cdf(raw, (bound + inwards * cell).expand(4), support)
        expected = n * (mass if inwards > 0 else 1.0 - mass)
        found = (draws == bound.to(dtype)).sum(1)
        assert (found <= expected + 5 * expected.sqrt() + 1).all()


def test_gradients_of_the_log_density_agree_with_finite_differences(case):
    family, raw, support = case
    y = family.icdf(raw, torch.tensor([0.05, 0.35, 0.65, 0.95], dtype=torch.float64), support)
    raw = raw.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda raw: family.log_prob(raw, y, support), raw)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_far_from_the_mode(case, dtype):
    family, raw, support = case
    raw, support = cast(raw, support, dtype)
    raw = raw.clone()
    y = torch.tensor([-1000.0, 1000.0, -1e5, 1e5], dtype=dtype)
    if support is not None:
        y = torch.minimum(torch.maximum(y, support.low), support.high)
        if hasattr(family, "min_scale"):  # every location a thousand scales away
            raw[:, family.K : 2 * family.K] = torch.tensor([[1e3], [-1e3], [1e3], [-1e3]])
            raw[:, 2 * family.K : 3 * family.K] = 0.0
    raw = raw.requires_grad_(True)
    log_prob = family.log_prob(raw, y, support)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(raw.grad).all()


def exact_log_prob(family, raw, y, support):
    """Log density by scipy, for one row of raw parameters."""
    if isinstance(family, (Gaussian, Laplace)):
        law = stats.norm if isinstance(family, Gaussian) else stats.laplace
        loc, log_scale = (t.numpy() for t in family.theta(raw))
        return law.logpdf(y, loc, np.exp(log_scale))
    if isinstance(family, Softmax):
        low, high = (b.item() for b in support)
        probability = raw.softmax(-1).numpy()
        edges = np.linspace(low, high, family.atoms + 1)
        if family.interpolate:
            area = np.trapezoid(probability, edges)
            return np.log(np.interp(y, edges, probability / area))
        return stats.rv_histogram((probability, edges), density=False).logpdf(y)
    if isinstance(family, MixtureOfBetas):
        low, high = (b.item() for b in support)
        log_weights, a, b = (t.numpy() for t in family.components(raw))
        parts = stats.beta.logpdf(y[:, None], a, b, low, high - low)
        return np.logaddexp.reduce(log_weights + parts, axis=-1)
    log_weights, (loc, log_scale, *extra) = family.components(raw)
    log_weights, loc, scale = log_weights.numpy(), loc.numpy(), log_scale.exp().numpy()
    extra = [e.numpy() for e in extra]
    name = type(family).__name__
    law = stats.t if "Student" in name else stats.logistic if "Logistic" in name else stats.norm
    parts = law.logpdf(y[:, None], *extra, loc, scale)
    if support is not None:
        low, high = (b.item() for b in support)
        mass = law.cdf(high, *extra, loc, scale) - law.cdf(low, *extra, loc, scale)
        upper = law.sf(low, *extra, loc, scale) - law.sf(high, *extra, loc, scale)
        parts = parts - np.log(np.where(loc > low, mass, upper))
    return np.logaddexp.reduce(log_weights + parts, axis=-1)


def test_log_prob_agrees_with_scipy(case):
    family, raw, support = case
    if isinstance(family, Spline):
        pytest.skip("scipy has no such distribution; its density is checked against its cdf")
    y = interior(family, raw, support)
    for i in range(4):
        exact = exact_log_prob(family, raw[i], y[i].numpy(), support)
        ours = family.log_prob(raw[i], y[i], support)
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-11)


def test_moments_agree_with_quadrature(case):
    family, raw, support = case
    y, weights = quadrature(family, raw, support)
    mass = family.log_prob(raw.unsqueeze(1), y, support).exp() * weights
    mean = (mass * y).sum(-1)
    variance = (mass * (y - mean[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(family.mean(raw, support), mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(family.variance(raw, support), variance, rtol=1e-5)


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
        y = y[(y > support.low.item()) & (y < support.high.item())]
    twice = np.concatenate([y, [100.0]])  # a row without weight does not count
    raw = torch.from_numpy(family.initial_raw(twice, np.append(np.ones(len(y)), 0.0), support))
    assert raw.shape == (family.n_params,)
    assert family.mean(raw, support).item() == pytest.approx(y.mean(), abs=0.1)
    # One Laplace distribution cannot match this variance, all others can
    tolerance = 0.4 if isinstance(family, Laplace) else 0.1
    assert family.variance(raw, support).item() == pytest.approx(y.var(), rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_truncated_student_t_far_from_its_mode(dtype):
    family = TruncatedMixtureOfStudentT(K=2).resolve(K=2, unit=1.0)
    generator = torch.Generator().manual_seed(0)
    raw = 10.0 * torch.randn((500, family.n_params), generator=generator, dtype=dtype)
    support = Support(*(torch.tensor(bound, dtype=dtype) for bound in (-9.0, 9.0)))
    u = torch.rand(500, generator=generator, dtype=dtype)
    y = family.icdf(raw, u, support)
    for value in (y, family.log_prob(raw, y, support), family.mean(raw, support)):
        assert value.isfinite().all()
    if dtype == torch.float64:
        torch.testing.assert_close(family.cdf(raw, y, support), u, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize("family", [Softmax(atoms=5), MixtureOfBetas(K=2)])
def test_bounds_that_rounding_makes_one(family):
    low, high = torch.tensor([-1e8, -1e8]), torch.tensor([-1e8, -1e8]) + 1.0
    assert (low == high).all()  # in single precision
    raw = torch.zeros((2, family.n_params))
    log_prob = family.log_prob(raw, low, Support(low, high))
    assert (log_prob.isfinite() & (log_prob < 0.0)).all()
    assert family.cdf(raw, low, Support(low, high)).isfinite().all()


def test_tails_of_student_t_agree_with_mpmath():
    t, df = np.meshgrid([-0.5, -6.0, -40.0, -1e3, -1e20, -1e38], [1.001, 3.0, 30.0, 1097.0])
    with mpmath.workdps(60):
        exact = [
            mpmath.log(mpmath.betainc(d / 2, 0.5, 0, d / (d + x**2), regularized=True) / 2)
            for x, d in zip(map(mpmath.mpf, t.ravel()), map(mpmath.mpf, df.ravel()), strict=True)
        ]
    log_p = student_t_log_cdf(torch.from_numpy(t), torch.from_numpy(df))
    np.testing.assert_allclose(log_p.ravel(), np.array(exact, dtype=float), rtol=1e-12)
    back = student_t_log_icdf(log_p, torch.from_numpy(df))
    np.testing.assert_allclose(back, t, rtol=1e-8)


def test_families_are_scikit_learn_objects():
    family = MixtureOfGaussians(K=4, min_scale=0.1)
    assert repr(family) == "MixtureOfGaussians(K=4, min_scale=0.1)"
    assert clone(family).get_params() == family.get_params()
    for name, law in LIKELIHOODS.items():
        assert type(make_likelihood(name)) is law


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


def test_an_interpolated_histogram_has_its_own_height_at_an_edge():
    family, support = (
        Softmax(atoms=2, interpolate=True),
        Support(*torch.tensor([0.0, 1.0]).double()),
    )
    raw = torch.tensor([0.0, 60.0, 0.0], dtype=torch.float64)
    at_limit = family.log_prob(raw, torch.ones((), dtype=torch.float64), support)
    # The middle has all the area, half of a bin on each side
    assert at_limit.item() == pytest.approx(np.log(2.0) - 60.0, rel=1e-12)


@pytest.mark.parametrize("df", [1.001, 3.0, 30.0, 200.0, 1097.0])
@pytest.mark.parametrize("u", [1e-16, 1e-12, 1e-9, 1e-7, 1.0 - 1e-7, 1.0 - 1e-12])
def test_far_quantiles_of_student_t_agree_with_mpmath(u, df):
    t = student_t_icdf(*torch.tensor([u, df], dtype=torch.float64)).item()
    tail = min(u, 1.0 - u)
    with mpmath.workdps(60):
        x, half = df / (df + mpmath.mpf(t) ** 2), mpmath.mpf(df) / 2
        own = mpmath.betainc(half, 0.5, 0, x, regularized=True) / 2
    assert (t < 0.0) == (u < 0.5)
    assert float(own) == pytest.approx(tail, rel=1e-10)
