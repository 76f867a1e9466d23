"""The simulators of the benchmarks against direct calculations; draws of their posteriors."""

from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import expit
from scipy.stats import binom, kstest, lognorm, multivariate_normal

FOLDER = Path(__file__).parents[1] / "benchmarks"
NAMES = [
    "gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture", "two_moons", "slcp", "sir",
    "lotka_volterra", "bernoulli_glm",
]  # fmt: skip
CLOSED_FORM = NAMES[:4]


@pytest.fixture(autouse=True)
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def known(name):
    from simulators import SIMULATORS

    return SIMULATORS[name]()


def pairs(name, n, seed=0):
    simulator, random = known(name), np.random.default_rng(seed)
    theta = simulator.prior.sample(n, random)
    return simulator, theta, simulator.simulate(theta, random)


def test_the_names_are_those_of_the_tasks():
    from simulators import SIMULATORS
    from tasks import TASKS, is_simulator

    assert list(SIMULATORS) == NAMES
    assert {f"{name}-{n}k" for name in NAMES for n in (1, 10, 100)} == set(
        filter(is_simulator, TASKS)
    )


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_one_row_of_data_for_all_parameters(name):
    n_data = {"gaussian_mixture": 2, "two_moons": 2, "slcp": 8, "lotka_volterra": 20}
    simulator, theta, x = pairs(name, 6)
    assert x.shape == (6, n_data.get(name, 10))
    by_pairs = simulator.log_likelihood(theta, x)
    assert np.isfinite(by_pairs).all()
    of_first = simulator.log_likelihood(theta, x[0])
    assert of_first.shape == (6,)
    assert of_first[0] == by_pairs[0]


@pytest.mark.parametrize("name", NAMES)
def test_priors_in_their_free_coordinates(name):
    """Numerical derivatives give the change of volume."""
    prior, random = known(name).prior, np.random.default_rng(0)
    theta = prior.sample(50, random)
    z = prior.to_free(theta)
    np.testing.assert_allclose(prior.from_free(z), theta, rtol=1e-9)
    step = 1e-5
    slope = (prior.from_free(z + step) - prior.from_free(z - step)) / (2 * step)
    np.testing.assert_allclose(
        prior.log_prob_free(z), prior.log_prob(theta) + np.log(slope).sum(axis=1), atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_limits_hold_what_the_prior_draws(name):
    prior = known(name).prior
    theta = prior.sample(1000, np.random.default_rng(0))
    assert np.isfinite(prior.log_prob(theta)).all()
    if prior.limits is not None:
        low, high = prior.limits.T
        assert ((theta > low) & (theta < high)).all()


@pytest.mark.parametrize("name", ["gaussian_linear", "bernoulli_glm"])
def test_gaussian_priors(name):
    prior = known(name).prior
    theta = prior.sample(3, np.random.default_rng(0))
    exact = multivariate_normal(cov=prior.factor @ prior.factor.T).logpdf(theta)
    np.testing.assert_allclose(prior.log_prob(theta), exact, rtol=1e-10)


def test_the_prior_of_the_filter_is_smooth():
    """White noise is a matrix times the filter: second differences, and a pull to zero."""
    prior = known("bernoulli_glm").prior
    theta = prior.sample(100_000, np.random.default_rng(0))
    offset, f = theta[:, 0], theta[:, 1:].T
    assert offset.var() == pytest.approx(2.0, rel=0.03)
    white = [(1 + np.sqrt(i / 9)) * f[i] for i in range(9)]
    for i in range(1, 9):
        white[i] = white[i] - 2 * f[i - 1] + (f[i - 2] if i > 1 else 0.0)
    # Five standard errors of 1e5 draws are 0.022 for a variance and 0.016 for a correlation
    np.testing.assert_allclose(np.cov(white), np.eye(9), atol=0.025)


@pytest.mark.parametrize(("name", "n_cells"), [("gaussian_mixture", 500), ("two_moons", 1500)])
def test_posteriors_of_two_parameters_by_quadrature(name, n_cells):
    """The closed form is likelihood times prior by its sum over a grid of the box."""
    simulator, theta, x = pairs(name, 3, seed=3)
    low, high = simulator.prior.limits[0]
    width = (high - low) / n_cells
    grid = low + (np.arange(n_cells) + 0.5) * width
    cells = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    for one, row in zip(theta, x, strict=True):
        evidence = np.exp(simulator.log_likelihood(cells, row)).sum() * width**2
        exact = simulator.log_likelihood(one, row) - np.log(evidence)
        closed = simulator.log_posterior(one[None], row[None])[0]
        assert closed == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("name", CLOSED_FORM[:2])
def test_posteriors_of_independent_parameters_by_quadrature(name):
    simulator, theta, x = pairs(name, 3)
    grid = np.linspace(-1.0, 1.0, 20_001) * (1.0 if name.endswith("uniform") else 3.0)
    prior = np.exp(-0.5 * grid**2 / 0.1) if name == "gaussian_linear" else np.ones_like(grid)
    for one, row in zip(theta, x, strict=True):
        exact = 0.0
        for value, of_data in zip(one, row, strict=True):
            density = prior * np.exp(-0.5 * (of_data - grid) ** 2 / 0.1)
            exact += np.log(np.interp(value, grid, density) / np.trapezoid(density, grid))
        closed = simulator.log_posterior(one[None], row[None])[0]
        assert closed == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_true_parameters_have_uniform_ranks_in_posteriors(name):
    simulator, theta, x = pairs(name, 150)
    random = np.random.default_rng(1)
    for one in range(theta.shape[1])[:2]:
        ranks = [
            (simulator.sample_posterior(row, 200, random)[:, one] < t[one]).mean()
            for t, row in zip(theta, x, strict=True)
        ]
        assert kstest(ranks, "uniform").pvalue > 1e-4


def test_draws_of_two_moons_lie_on_both():
    simulator = known("two_moons")
    draws = simulator.sample_posterior(np.zeros(2), 4000, np.random.default_rng(0))
    assert np.mean(draws.sum(axis=1) > 0.0) == pytest.approx(0.5, abs=0.04)  # five errors
    noise = simulator._displacement(draws) - [simulator.shift, 0.0]
    radius = np.hypot(*noise.T)
    assert radius.mean() == pytest.approx(0.1, abs=0.001)
    assert radius.std() == pytest.approx(0.01, rel=0.06)


def test_slcp_is_four_points_of_a_gaussian_and_blind_to_signs():
    simulator, theta, x = pairs("slcp", 20)
    for one, row, value in zip(theta, x, simulator.log_likelihood(theta, x), strict=True):
        a, b, r = one[2] ** 2, one[3] ** 2, np.tanh(one[4])
        covariance = [[a * a, r * a * b], [r * a * b, b * b]]
        points = multivariate_normal(one[:2], covariance, allow_singular=True).logpdf
        if min(a, b) > 0.05 and abs(r) < 0.99:  # scipy takes others to be singular
            assert value == pytest.approx(points(row.reshape(4, 2)).sum(), rel=1e-8)
    flipped = theta * [1, 1, -1, 1, 1]
    np.testing.assert_array_equal(
        simulator.log_likelihood(flipped, x), simulator.log_likelihood(theta, x)
    )
    z = simulator.coordinates(theta)
    np.testing.assert_allclose(z, simulator.coordinates(flipped * [1, 1, 1, -1, 1]))
    again = simulator.parameters(z, np.random.default_rng(0))
    np.testing.assert_allclose(abs(again), abs(theta), atol=1e-9)
    np.testing.assert_allclose(again[:, [0, 1, 4]], theta[:, [0, 1, 4]], atol=1e-9)


def test_slcp_simulates_what_its_likelihood_says():
    simulator, random = known("slcp"), np.random.default_rng(0)
    one = np.array([0.5, -1.0, 1.2, -0.8, 0.6])
    points = simulator.simulate(np.tile(one, (20_000, 1)), random).reshape(-1, 2)
    a, b, r = 1.44, 0.64, np.tanh(0.6)
    # 80,000 points: five standard errors of a covariance are below 0.06
    np.testing.assert_allclose(
        np.cov(points.T), [[a * a, r * a * b], [r * a * b, b * b]], atol=0.06
    )
    np.testing.assert_allclose(points.mean(axis=0), one[:2], atol=0.03)


def test_an_epidemic_keeps_its_population():
    simulator, theta, x = pairs("sir", 50)
    shares = simulator.solve(theta)
    np.testing.assert_allclose(shares.sum(axis=2), 1.0, atol=1e-4)  # that of the integration
    assert (np.diff(shares[..., 0]) <= 0.0).all()
    assert (np.diff(shares[..., 2]) >= 0.0).all()
    assert x.max() <= 1000
    exact = binom.logpmf(x, 1000, shares[..., 1]).sum(axis=1)
    np.testing.assert_allclose(simulator.log_likelihood(theta, x), exact, rtol=1e-8, atol=1e-8)


def test_an_epidemic_against_an_adaptive_integration():
    simulator, theta, _ = pairs("sir", 4)
    for (infection, recovery), shares in zip(theta, simulator.solve(theta), strict=True):

        def derivative(_, state, infection=infection, recovery=recovery):
            new = infection * state[0] * state[1]
            return [-new, new - recovery * state[1], recovery * state[1]]

        exact = solve_ivp(
            derivative, (0.0, 153.0), [1 - 1e-6, 1e-6, 0.0], "DOP853",
            t_eval=17.0 * np.arange(10), rtol=1e-10, atol=1e-14,
        ).y.T  # fmt: skip
        np.testing.assert_allclose(shares, exact, rtol=1e-4, atol=1e-5)


def test_prey_and_predators_against_an_adaptive_integration():
    simulator, theta, x = pairs("lotka_volterra", 200)
    log_counts = simulator.solve(theta)
    wildest = np.argsort(log_counts.max(axis=(1, 2)))[-3:]
    for i in wildest:
        birth, eaten, death, fed = theta[i]

        def derivative(_, state, birth=birth, eaten=eaten, death=death, fed=fed):
            prey, predators = np.exp(state)
            return [birth - eaten * predators, fed * prey - death]

        exact = solve_ivp(
            derivative, (0.0, 19.0), np.log([30.0, 1.0]), "LSODA",
            t_eval=2.1 * np.arange(10), rtol=1e-9, atol=1e-9,
        ).y.T  # fmt: skip
        np.testing.assert_allclose(log_counts[i], exact, atol=1e-4)
    counts = np.exp(np.concatenate([log_counts[..., 0], log_counts[..., 1]], axis=1))
    exact = lognorm(0.1, scale=counts).logpdf(x).sum(axis=1)
    np.testing.assert_allclose(simulator.log_likelihood(theta, x), exact, rtol=1e-9)


def test_an_integration_that_is_too_rough_is_repeated():
    from simulators import integrate

    rates = np.array([[1.0], [30.0]])
    path = integrate(lambda y, k: -k * y, np.ones(1), rates, 1.0, 3, n_steps=1)
    np.testing.assert_allclose(path[..., 0], np.exp(-rates * np.arange(3)), atol=1e-5)


def test_spikes_and_their_likelihood():
    simulator, random = known("bernoulli_glm"), np.random.default_rng(0)
    theta = simulator.prior.sample(1, random)
    many = simulator.simulate(np.tile(theta, (20_000, 1)), random)
    rate = expit(simulator.design @ theta[0])
    error = np.sqrt((rate * (1 - rate)) @ simulator.design**2 / 20_000)
    assert (abs(many.mean(axis=0) - rate @ simulator.design) < 5 * error).all()
    spikes = random.uniform(size=100) < rate
    others = simulator.prior.sample(5, random)
    direct = binom.logpmf(spikes, 1, expit(others @ simulator.design.T)).sum(axis=1)
    np.testing.assert_allclose(
        simulator.log_likelihood(others, spikes @ simulator.design), direct, rtol=1e-9
    )
    assert (simulator.design[5, 1:4] == 0.0).all()  # nothing before the first bin
    np.testing.assert_array_equal(simulator.design[20, 2:], simulator.design[21, 1:-1])


def test_the_student_mixture_is_normalised():
    from references import StudentMixture

    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(0, 1, (300, 2)), random.normal(6, 2, (300, 2))])
    mixture = StudentMixture(points, 2, 0)
    draws = mixture.sample(20_000, random)
    box = (draws > -2.0).all(axis=1) & (draws < 8.0).all(axis=1)
    uniform = random.uniform(-2.0, 8.0, (100_000, 2))
    mass = 100.0 * np.exp(mixture.log_prob(uniform)).mean()
    assert mass == pytest.approx(box.mean(), abs=0.03)


def test_resampling_keeps_proportions():
    from references import resample

    log_weight = np.log([1.0, 0.0 + 1e-300, 3.0, 6.0])
    counts = np.bincount(resample(log_weight, 1000, np.random.default_rng(0)), minlength=4)
    np.testing.assert_allclose(counts, [100, 0, 300, 600], atol=1)


@pytest.mark.parametrize("name", ["gaussian_linear", "gaussian_mixture"])
def test_sampled_posteriors_are_those_in_closed_form(name):
    from references import sample_posterior

    simulator, _, x = pairs(name, 1)
    random = np.random.default_rng(0)
    draws, share, repeated = sample_posterior(simulator, x[0], 2000, 2, random, n_points=4000)
    exact = simulator.sample_posterior(x[0], 2000, random)
    assert share > 0.3
    assert repeated < 0.02
    for own, true in zip(draws.T, exact.T, strict=True):
        assert kstest(own, true).pvalue > 1e-4


def test_all_four_modes_are_drawn():
    from references import observations, sample_posterior

    simulator = known("slcp")
    _, x = observations(simulator)
    random = np.random.default_rng(0)
    draws, *_ = sample_posterior(
        simulator, x[0], 1000, 5, random, n_points=3000, n_refinements=1, points_per_draw=3
    )
    shares = np.histogram2d(draws[:, 2], draws[:, 3], bins=[[-3, 0, 3]] * 2)[0] / 1000
    np.testing.assert_allclose(shares, 0.25, atol=0.07)  # five errors


def test_references_in_closed_form_and_those_to_be_made(monkeypatch, tmp_path):
    import references

    monkeypatch.setattr(references, "FOLDER", tmp_path)
    x, draws = references.reference("gaussian_mixture")
    assert (x.shape, draws.shape) == ((10, 2), (10, 10_000, 2))
    assert references.reference("slcp") is None
    np.savez(tmp_path / "slcp.npz", x=np.ones(3), draws=np.zeros(2))
    assert references.reference("slcp")[1].shape == (2,)


def test_normal_scores_of_ranks():
    from references import normal_scores

    draws = np.random.default_rng(0).normal(size=(20_000, 2))
    np.testing.assert_allclose(normal_scores(np.array([0.0, 1.5]), draws), [0.0, 1.5], atol=0.05)
