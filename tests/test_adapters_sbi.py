"""Posteriors as sbi takes them, against sbi's own tools."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import SINGLE, small

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("sbi", reason="sbi is not installed")
    from sbi.analysis import ActiveSubspace, pairplot
    from sbi.diagnostics import LC2ST, check_sbc, check_tarp, run_sbc, run_tarp
    from sbi.inference.posteriors import EnsemblePosterior, MCMCPosterior
    from sbi.utils import BoxUniform, MultipleIndependent

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san import CalibratedDensity
from sklearn_san.adapters.sbi import EstimatorModule, SANPosterior, limits_of, train_posterior
from sklearn_san.calibration import calibration_report

pytestmark = pytest.mark.filterwarnings("ignore")  # sbi's own
HIGH = torch.tensor([2.0, 1.0])


@pytest.fixture(autouse=True)
def global_state_untouched():
    """As all of sbi, posteriors draw by torch's global seed."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    np.random.set_state(state)


def simulate(theta):
    return theta + 0.4 * torch.randn(theta.shape) * (1.0 + theta[:, :1].abs())


@pytest.fixture(scope="module")
def prior():
    return BoxUniform(-HIGH, HIGH)


@pytest.fixture(scope="module")
def posterior(prior):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = prior.sample((1500,))
        options = {"n_members": 1, "K": 3, "module_shape": (32,), "epochs": 20, "random_state": 0}
        return train_posterior(theta, simulate(theta), prior, **options)


@pytest.fixture
def held_out(prior):
    theta = prior.sample((300,))
    return theta, simulate(theta)


def test_draws_have_the_shapes_of_sbi_and_stay_inside(posterior, prior):
    x = torch.tensor([[0.5, -0.5], [4.0, 4.0], [0.0, 0.0]])
    assert posterior.is_exact
    assert posterior.sample((2, 3), x=x[0]).shape == (2, 3, 2)
    assert posterior.sample((), x=x[0]).shape == (2,)
    draws = posterior.sample_batched((500, 2), x)
    assert draws.shape == (500, 2, 3, 2)
    assert draws.dtype == torch.float32
    assert prior.support.check(draws).all()
    torch.manual_seed(1)
    first = posterior.sample((4,), x=x[0])
    torch.manual_seed(1)
    assert torch.equal(first, posterior.sample((4,), x=x[0]))
    with pytest.raises(ValueError, match="default has not been set"):
        SANPosterior(posterior.estimator, prior).sample((2,))


def test_log_densities_are_those_of_the_estimator(posterior):
    x = torch.tensor([[0.5, -0.5], [1.0, 0.2]])
    theta = torch.tensor([[0.3, 0.1], [-1.0, 0.9], [0.0, 3.0]])
    density = posterior.estimator.predict_density(x.double().numpy())
    expected = density.log_prob(np.repeat(theta.double().numpy()[None], 2, axis=0))
    assert np.isneginf(expected[:, 2]).all()
    found = posterior.log_prob(theta, x=x[:1])
    np.testing.assert_allclose(found, expected[0], rtol=SINGLE)
    batched = posterior.log_prob_batched(theta[:, None].expand(-1, 2, -1), x)
    np.testing.assert_allclose(batched, expected.T, rtol=SINGLE)
    loss = posterior.posterior_estimator.loss(theta[:2], x)
    np.testing.assert_allclose(loss, -np.diagonal(expected[:, :2]), rtol=SINGLE)


def test_gradients_are_those_of_the_estimator(posterior):
    x = torch.tensor([[0.5, -0.5]])
    theta = torch.tensor([[0.3, 0.1], [-1.0, 0.9], [0.0, 3.0]], requires_grad=True)
    (2.0 * posterior.log_prob(theta, x=x, track_gradients=True)[:2].sum()).backward()
    density = posterior.estimator.predict_density(x.numpy())
    expected = 2.0 * density.grad_log_prob(theta.detach().double().numpy()[None, :2])[0]
    np.testing.assert_allclose(theta.grad[:2], expected, rtol=SINGLE, atol=SINGLE)
    assert (theta.grad[2] == 0.0).all()


def test_the_map_is_the_mode(posterior):
    x = torch.tensor([0.5, -0.5])
    best = posterior.set_default_x(x).map()
    assert best.shape == (1, 2)
    mode = posterior.estimator.predict_density(x.numpy()[None]).mode()
    np.testing.assert_allclose(best, mode, rtol=SINGLE)
    assert (posterior.log_prob(best) >= posterior.log_prob(posterior.sample((500,)))).all()


def test_another_prior_is_that_of_its_simulations(posterior, prior):
    class Tilted(BoxUniform):
        """Density in proportion to exp(theta_0)."""

        def log_prob(self, value):
            tilt = value[..., 0] - np.log(np.sinh(2.0) / 2.0)
            return super().log_prob(value) + tilt

    tilted = SANPosterior(posterior.estimator, Tilted(-HIGH, HIGH), trained_with=prior)
    x = torch.tensor([[0.5, -0.5]])
    axes = [np.linspace(-h, h, 201) for h in HIGH.numpy()]
    grid = torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    area = np.prod([a[1] - a[0] for a in axes])
    density = np.exp(tilted.log_prob(grid.float(), x=x)).reshape(201, 201)
    total = np.trapezoid(np.trapezoid(density, axes[1]), axes[0])
    assert abs(total - 1.0) < 0.02  # 8,192 candidates, and edges where the prior is 0
    mean = (density.reshape(-1, 1) * grid).sum(0) * area
    draws = tilted.sample((4000,), x=x)
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.05)  # four standard errors
    assert draws[:, 0].mean() > posterior.sample((4000,), x=x)[:, 0].mean() + 0.1
    theta = torch.tensor([[0.3, 0.1]], requires_grad=True)
    plain = theta.detach().clone().requires_grad_(True)
    tilted.log_prob(theta, x=x, track_gradients=True).sum().backward()
    posterior.log_prob(plain, x=x, track_gradients=True).sum().backward()
    np.testing.assert_allclose(theta.grad - plain.grad, [[1.0, 0.0]], atol=SINGLE)


def test_calibration_agrees_with_that_of_this_package(posterior, held_out):
    theta, x = held_out
    ranks, dap = run_sbc(theta, x, posterior, num_posterior_samples=200, show_progress_bar=False)
    checks = check_sbc(ranks, theta, dap, num_posterior_samples=200)
    ecp, alpha = run_tarp(theta, x, posterior, num_posterior_samples=200, show_progress_bar=False)
    atc, p_tarp = check_tarp(ecp, alpha)
    options = {"diagnostics": ("ranks", "tarp"), "n_draws": 200, "random_state": 0}
    report = calibration_report(posterior.estimator, x.numpy(), theta.numpy(), **options)
    # Both find a model that is right so
    assert min(checks["ks_pvals"]) > 0.001
    assert min(report.pvalues["ranks"], report.pvalues["tarp"], p_tarp) > 0.001
    assert abs(atc) < 0.1 * len(alpha)
    # and one that is wrong wrong: theta is of other rows
    wrong = theta.clamp(-0.5, 0.5)
    ranks, dap = run_sbc(wrong, x, posterior, num_posterior_samples=200, show_progress_bar=False)
    assert min(check_sbc(ranks, wrong, dap, num_posterior_samples=200)["ks_pvals"]) < 0.001
    report = calibration_report(posterior.estimator, x.numpy(), wrong.numpy(), **options)
    assert report.pvalues["ranks"] < 0.001


def test_ranks_are_those_of_this_package(posterior, held_out):
    theta, x = (values[:100] for values in held_out)
    ranks, _ = run_sbc(theta, x, posterior, num_posterior_samples=1000, show_progress_bar=False)
    density = posterior.estimator.predict_density(x.numpy())
    for j in range(2):
        cdf = density.marginal_cdf(j, theta[:, j].numpy())
        # Five standard errors of a share of 1,000 draws, and those of 256 points
        np.testing.assert_allclose(ranks[:, j] / 1000, cdf, atol=0.08 + 0.03 * j)


def test_local_classifier_test(posterior, held_out):
    theta, x = held_out
    draws = posterior.sample_batched((1,), x)[0]
    test = LC2ST(theta, x, draws, classifier="mlp", num_trials_null=10)
    test.train_on_observed_data()
    test.train_under_null_hypothesis()
    star = torch.tensor([[0.0, 0.0]])
    p_value = test.p_value(theta_o=posterior.sample((200,), x=star), x_o=star)
    assert p_value > 0.0


def test_samplers_climb_the_gradient(posterior, prior):
    pytest.importorskip("pyro", reason="pyro-ppl is not installed")
    x = torch.tensor([[0.5, -0.5]])
    chain = MCMCPosterior(
        posterior.potential_fn, proposal=prior, theta_transform=posterior.theta_transform,
        method="nuts_pyro", warmup_steps=30, num_chains=1,
    )  # fmt: skip
    draws = chain.sample((150,), x=x, show_progress_bars=False)
    exact = posterior.sample((5000,), x=x)
    np.testing.assert_allclose(draws.mean(0), exact.mean(0), atol=0.35)
    np.testing.assert_allclose(draws.std(0), exact.std(0), atol=0.3)


def test_other_tools_take_it(posterior, prior):
    import matplotlib

    matplotlib.use("Agg")
    posterior.set_default_x(torch.tensor([0.5, -0.5]))
    figure, axes = pairplot(posterior.sample((200,)), limits=[[-2, 2], [-1, 1]])
    assert axes.shape == (2, 2)
    matplotlib.pyplot.close(figure)
    values, _ = ActiveSubspace(posterior).find_directions(
        posterior_log_prob_as_property=True, num_monte_carlo_samples=100
    )
    assert torch.isfinite(values).all()
    pair = EnsemblePosterior([posterior, SANPosterior(posterior.estimator, prior)])
    pair.set_default_x(torch.tensor([0.5, -0.5]))
    assert pair.sample((10,)).shape == (10, 2)


def test_limits_of_priors():
    assert limits_of(BoxUniform(-HIGH, HIGH)).tolist() == [[-2.0, 2.0], [-1.0, 1.0]]
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert limits_of(normal).tolist() == [[-np.inf, np.inf]] * 2
    several = MultipleIndependent(
        [torch.distributions.Gamma(torch.ones(1), torch.ones(1)), BoxUniform(-HIGH, HIGH)]
    )
    assert limits_of(several).tolist() == [[0.0, np.inf], [-2.0, 2.0], [-1.0, 1.0]]
    assert limits_of(torch.distributions.Dirichlet(torch.ones(3))) is None


def test_priors_that_the_limits_do_not_hold_are_rejected(bimodal, prior):
    X, y, _ = bimodal
    free = SANPosterior(small().fit(X, y), prior)
    assert not free.is_exact
    x = torch.zeros(1, 1)
    assert prior.support.check(free.sample((500,), x=x)).all()
    assert free.leakage_correction(x) < 1.0


def test_one_output_and_wrong_shapes(bimodal):
    X, y, _ = bimodal
    prior = BoxUniform(torch.tensor([-5.0]), torch.tensor([5.0]))
    single = SANPosterior(small(limits=[[-5.0, 5.0]]).fit(X, y[:, 0].clip(-4.9, 4.9)), prior)
    draws = single.sample((7,), x=torch.zeros(1, 1)).requires_grad_(True)
    assert draws.shape == (7, 1)
    single.log_prob(draws, x=torch.zeros(1, 1), track_gradients=True).sum().backward()
    assert draws.grad.shape == (7, 1)
    assert isinstance(single.posterior_estimator, EstimatorModule)
    with pytest.raises(ValueError, match=r"got shapes \(3,\) and \(3, 1\)"):
        train_posterior(torch.zeros(3), torch.zeros(3, 1), prior)


def test_pipelines_recalibrated_ones_and_copies(posterior, prior, held_out):
    theta, x = (values.double().numpy() for values in held_out)
    est = posterior.estimator
    chain = make_pipeline(StandardScaler(), clone(est).set_params(epochs=2)).fit(x, theta)
    mended = CalibratedDensity(FrozenEstimator(est)).fit(x, theta)
    for estimator in (chain, mended):
        other = SANPosterior(estimator, prior)
        assert other.is_exact
        assert other.sample((3,), x=torch.zeros(1, 2)).shape == (3, 2)
    again = pickle.loads(pickle.dumps(posterior))
    torch.manual_seed(2)
    draws = posterior.sample((3,), x=torch.zeros(1, 2))
    torch.manual_seed(2)
    assert torch.equal(again.sample((3,), x=torch.zeros(1, 2)), draws)
