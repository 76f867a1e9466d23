"""Priors, simulators, rounds and checks of observations, on problems with exact posteriors."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
from conftest import small
from joblib import parallel_config
from scipy import stats

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.exceptions import FailedSimulationsWarning
from sklearn_san.simulation import (
    Posterior,
    Prior,
    Rounds,
    check_observation,
    draw_simulations,
    fit_simulator,
    fitting,
    infer,
)
from sklearn_san.simulation.posterior import one_row
from sklearn_san.simulation.regions import Region

NOISE = 0.5
BOX = {"a": (-1.0, 1.0), "b": (0.0, 2.0)}


def simulate(theta, random_state, noise=NOISE):
    """Parameters with Gaussian noise: under a normal prior the posterior is normal."""
    return theta + noise * random_state.normal(size=theta.shape)


def normal_posterior(x, noise=NOISE):
    """Under a standard normal prior."""
    shrink = 1.0 / (1.0 + noise**2)
    return stats.norm(shrink * x, noise * np.sqrt(shrink))


class ExactDensity:
    """The exact posterior of one row in place of a learned one."""

    one_dimensional, n_outputs, output_names = False, 2, ["y0", "y1"]
    limits = np.array([[-np.inf, np.inf]] * 2)

    def __init__(self, x):
        self.posterior = normal_posterior(x[0])

    def sample(self, n, random_state):
        random = np.random.RandomState(random_state) if np.isscalar(random_state) else random_state
        return self.posterior.rvs((n, 2), random_state=random)[None]

    def log_prob(self, theta):
        return self.posterior.logpdf(theta).sum(axis=-1)


class Exact:
    """Estimator whose density is the exact posterior."""

    def predict_density(self, X):
        return ExactDensity(X)

    def novelty_score(self, X):
        return np.ones(len(X))


@pytest.fixture(scope="module")
def npe():
    """Fitted to the normal problem; not to be changed."""
    prior = [stats.norm(0, 1)] * 2
    est = small(K=1, epochs=20, linear_base=True)
    return fit_simulator(est, prior, simulate, 2000, random_state=0)


# Priors


@pytest.mark.parametrize(
    ("prior", "limits"),
    [
        ((0, 2), [[0, 2]]),
        (stats.norm(0, 1), [[-np.inf, np.inf]]),
        (stats.expon(), [[0, np.inf]]),
        (stats.multivariate_normal([0, 1]), [[-np.inf, np.inf]] * 2),
        ([(0, 1), stats.gamma(2), stats.multivariate_normal([0, 0])], None),
        (np.array([[0, 1], [2, 4]]), [[0, 1], [2, 4]]),
        (BOX, [[-1, 1], [0, 2]]),
    ],
)
def test_forms_of_priors(prior, limits):
    made = Prior(prior)
    theta = made.sample(2000, np.random.default_rng(0))
    assert theta.shape == (2000, made.n_parameters)
    assert made.contains(theta).all()
    assert np.isfinite(made.log_prob(theta)).all()
    if limits is not None:
        np.testing.assert_array_equal(made.limits, limits)
    again = made.sample(2000, np.random.default_rng(0))
    np.testing.assert_array_equal(theta, again)


def test_log_density_of_a_prior_is_that_of_its_parts():
    prior = Prior({"u": (0, 4), "g": stats.norm(1, 2)})
    theta = np.array([[1.0, 0.0], [5.0, 0.0]])
    expected = [-np.log(4.0) + stats.norm.logpdf(0, 1, 2), -np.inf]
    np.testing.assert_allclose(prior.log_prob(theta), expected)
    assert prior.names == ["u", "g"]
    assert prior.contains(theta).tolist() == [True, False]


def test_prior_of_a_function():
    def draw(n, random_state):
        return random_state.uniform(size=(n, 3)) ** 2

    prior = Prior(draw, limits=(0, 1), names=["a", "b", "c"])
    assert prior.n_parameters == 3
    assert prior.limits.tolist() == [[0, 1]] * 3
    assert not prior.has_density
    with pytest.raises(NotImplementedError, match=r"give Prior\(function, log_prob"):
        prior.log_prob(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"limits \[0.0, 0.5\]; widen them"):
        Prior(draw, limits=(0, 0.5)).sample(100, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (3, "prior must be limits, distributions"),
        ([], "prior must be limits, distributions"),
        ((1, 0), r"prior = \(1, 0\): limits of a uniform prior must be finite"),
        ((0, np.inf), "must be finite"),
        ([(0, 1), "x"], r"prior\[1\] must be a pair of limits or a frozen distribution"),
        ([stats.norm], r"prior\[0\] must be a pair of limits or a frozen distribution"),
        (lambda n, r: np.zeros(n), r"returned an array of shape \(2,\); it must be \(2, n_par"),
        (lambda n, r: np.zeros((3, 2)), r"returned an array of shape \(3, 2\)"),
    ],
)
def test_priors_that_are_none(prior, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Prior(prior)


def test_a_prior_must_draw_numbers():
    prior = Prior(lambda n, r: np.full((n, 1), np.nan))
    with pytest.raises(ValueError, match=r"drew theta = \[nan\]"):
        prior.sample(2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="names has 1 entries, but the prior 2"):
        Prior([(0, 1), (0, 1)], names=["a"])
    with pytest.raises(ValueError, match="log_prob and limits go with a function"):
        Prior((0, 1), limits=(0, 1))


# Simulations


def test_simulations_do_not_depend_on_the_number_of_workers():
    one = draw_simulations(BOX, simulate, 250, batch_size=100, random_state=0)
    with parallel_config(backend="threading"):  # processes take seconds to start
        two = draw_simulations(BOX, simulate, 250, batch_size=100, n_jobs=2, random_state=0)
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.theta, two.theta)
    assert [len(theta) for _, theta in one] == [100, 100, 50]
    assert len(np.unique(one.theta[:, 0])) == 250


CALLS = {"left": 0}  # a global name: what it holds does not tell one simulator from another


def counted(theta, random_state):
    """Like `simulate`, until it is killed."""
    if not CALLS["left"]:
        raise KeyboardInterrupt
    CALLS["left"] -= 1
    return simulate(theta, random_state)


def test_a_run_that_was_killed_goes_on(tmp_path):
    options = {"batch_size": 100, "cache_dir": tmp_path}
    whole = draw_simulations(BOX, simulate, 450, batch_size=100, random_state=3)
    CALLS["left"] = 3
    with pytest.raises(KeyboardInterrupt):
        draw_simulations(BOX, counted, 450, **options, random_state=3)
    (tmp_path / "batch-000001.json").unlink()  # killed while it was written
    CALLS["left"] = 3
    found = draw_simulations(BOX, counted, 450, **options, random_state=3)
    np.testing.assert_array_equal(found.x, whole.x)
    np.testing.assert_array_equal(found.theta, whole.theta)
    CALLS["left"] = 2  # the last batch, which was half as large, and one more
    more = draw_simulations(BOX, counted, 600, **options)
    np.testing.assert_array_equal(more.x[:400], whole.x[:400])
    assert isinstance(found.batches[0].theta, np.memmap)
    about = json.loads((tmp_path / "simulations.json").read_text())
    assert (about["n_rows"], about["n_failed"], about["seed"]) == (600, 0, 3)


@pytest.mark.parametrize(
    ("changed", "called"),
    [
        ({"prior": {"a": (-1.0, 1.0), "b": (0.0, 2.1)}}, "prior"),
        ({"simulate": partial(simulate, noise=0.6)}, "simulator"),
        ({"simulate": lambda theta, random_state: theta}, "simulator"),
        ({"batch_size": 60}, "batch_size"),
        ({"random_state": 1}, "random_state"),
        ({"allow_missing": True}, "allow_missing"),
    ],
)
def test_a_folder_holds_one_run(tmp_path, changed, called):
    given = {
        "prior": BOX,
        "simulate": simulate,
        "n_simulations": 100,
        "batch_size": 50,
        "random_state": 0,
        "cache_dir": tmp_path,
    }
    draw_simulations(**given)
    with pytest.raises(ValueError, match=f"another run, whose {called} is not the same; give"):
        draw_simulations(**(given | changed))


def test_constants_in_closures_tell_simulators_apart(tmp_path):
    def make(noise):
        return lambda theta, random_state: theta + noise

    draw_simulations(BOX, make(0.1), 10, cache_dir=tmp_path, random_state=0)
    draw_simulations(BOX, make(0.1), 10, cache_dir=tmp_path, random_state=0)
    with pytest.raises(ValueError, match="whose simulator is not the same"):
        draw_simulations(BOX, make(0.2), 10, cache_dir=tmp_path, random_state=0)
    (tmp_path / "simulations.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        draw_simulations(BOX, make(0.1), 10, cache_dir=tmp_path, random_state=0)


def fragile(theta, random_state):
    """Raises for some rows, and has no finite answer for others."""
    if (theta[:, 0] > 0.9).any():
        raise RuntimeError("too hot")
    return np.where(theta[:, 1:] < 0.2, np.nan, simulate(theta, random_state))


@pytest.mark.parametrize("cached", [False, True])
def test_failed_simulations_are_counted_and_left_out(tmp_path, cached):
    folder = tmp_path if cached else None
    with pytest.warns(FailedSimulationsWarning, match=r"of 300 simulations failed .* theta = \["):
        pairs = draw_simulations(
            BOX, fragile, 300, batch_size=100, random_state=0, cache_dir=folder
        )
    theta = pairs.failed_theta
    assert pairs.n_failed == len(theta) > 10
    assert ((theta[:, 0] > 0.9) | (theta[:, 1] < 0.2)).all()
    assert pairs.n_rows == 300 - pairs.n_failed == len(pairs.x) == len(pairs.theta)
    assert np.isfinite(pairs.x).all()
    assert ((pairs.theta[:, 0] <= 0.9) & (pairs.theta[:, 1] >= 0.2)).all()
    np.testing.assert_allclose(np.corrcoef(pairs.x[:, 0], pairs.theta[:, 0])[0, 1], 0.74, atol=0.1)
    if cached:
        about = json.loads((tmp_path / "simulations.json").read_text())
        assert about["n_failed"] == pairs.n_failed
        assert about["first_failure"] == pairs.message


def broken(theta, random_state):
    raise RuntimeError("no such file")


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (broken, r"All of the first 100 simulations failed, the first one with RuntimeError\('no"),
        (lambda theta: theta, "called as simulate"),
        (lambda theta, r: np.full(theta.shape, np.inf), "values that are not finite at theta"),
        (lambda theta, r: theta[1:], r"shape \(99, 2\) and dtype float64 for 100 rows of theta"),
        (lambda theta, r: theta[:, 0], r"shape \(100,\) and dtype float64 for 100 rows"),
        (lambda theta, r: {"x": theta[1:]}, r"simulate returned 'x' of shape \(99, 2\)"),
        (lambda theta, r: theta[:, : 1 + (theta[0, 0] > 0)], r"rows of shape \(\d,\), but"),
    ],
)
def test_simulators_that_cannot_be_used(simulator, message):
    with pytest.raises(ValueError, match=message):
        draw_simulations(BOX, simulator, 1000, batch_size=100, random_state=0)


def test_missing_values_are_data_if_so_wanted():
    def gaps(theta, random_state):
        x = simulate(theta, random_state)
        x[theta[:, 0] > 0, 0] = np.nan
        x[theta[:, 0] > 0.9] = np.nan
        return x

    with pytest.warns(FailedSimulationsWarning):
        pairs = draw_simulations(BOX, gaps, 500, allow_missing=True, random_state=0)
    assert (pairs.failed_theta[:, 0] > 0.9).all()
    assert pairs.n_failed == (np.concatenate([pairs.theta, pairs.failed_theta])[:, 0] > 0.9).sum()
    np.testing.assert_array_equal(np.isnan(pairs.x[:, 0]), pairs.theta[:, 0] > 0)


class Recorder(SANConditionalDensityEstimator):
    """Remembers what it was given to fit."""

    def fit(self, X, y=None, **others):
        self.given_ = (X, y, others)
        return self


@pytest.mark.parametrize("n_in_memory", [100, 1000])
@pytest.mark.parametrize("cached", [False, True])
def test_data_of_any_shape_reach_the_estimator_untouched(
    tmp_path, monkeypatch, n_in_memory, cached
):
    def images(theta, random_state):
        image = np.ones((len(theta), 3, 4), dtype=np.float32) * theta[:, :1, None]
        return {
            "image": image.astype(np.float32),
            "count": np.arange(2 * len(theta)).reshape(-1, 2),
        }

    monkeypatch.setattr(fitting, "IN_MEMORY", n_in_memory)
    folder = tmp_path if cached else None
    est = fit_simulator(
        Recorder(), BOX, images, 300, batch_size=100, cache_dir=folder, random_state=0
    )
    X, y, _ = est.given_
    if n_in_memory == 1000:
        assert (X["image"].shape, X["image"].dtype) == ((300, 3, 4), np.float32)
        assert (X["count"].shape, X["count"].dtype.kind, y.shape) == ((300, 2), "i", (300, 2))
    else:
        assert y is None
        assert [(x["image"].shape, theta.shape) for x, theta in X] == 3 * [((100, 3, 4), (100, 2))]


# Fits


def test_the_prior_gives_limits_and_names(npe):
    est = fit_simulator(small(epochs=1), BOX, simulate, 200, random_state=0)
    assert est.output_names_ == ["a", "b"]
    assert est.limits_.tolist() == [[-1, 1], [0, 2]]
    assert est.n_features_in_ == 2
    assert not np.isfinite(npe.limits_).any()
    own = small(epochs=1, limits={"b": (0, 3)})
    assert fit_simulator(own, BOX, simulate, 200).limits_.tolist() == [[-np.inf, np.inf], [0, 3]]
    assert not hasattr(own, "network_")


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (small(limits=[[-1, 1], [0, 1]]), r"limits of output 1 \(b\), \[0.0, 1.0\], are inside"),
        (small(limits={"c": (0, 1)}), "c"),
        (small(output_names=["u", "v"]), r"output_names \['u', 'v'\] are not the names"),
        (3, "must be a SANConditionalDensityEstimator, got int"),
    ],
)
def test_estimators_that_contradict_the_prior(estimator, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit_simulator(estimator, BOX, simulate, 100)


def test_npe_finds_the_exact_posterior(npe):
    x_o = np.array([0.7, -1.2])
    posterior, exact = Posterior(npe, x_o, [stats.norm(0, 1)] * 2), normal_posterior(x_o)
    theta = exact.rvs((4000, 2), random_state=np.random.RandomState(0))
    loss = exact.logpdf(theta).sum(axis=1).mean() - posterior.log_prob(theta).mean()
    assert loss < 0.05
    draws = posterior.sample(4000, random_state=0)
    np.testing.assert_allclose(draws.mean(axis=0), exact.mean(), atol=0.1)
    np.testing.assert_allclose(draws.std(axis=0), exact.std(), rtol=0.1)
    assert posterior.mass == 1.0


def test_many_rows_are_read_in_blocks(monkeypatch, tmp_path):
    whole = fit_simulator(small(epochs=2), BOX, simulate, 700, random_state=0)
    monkeypatch.setattr(fitting, "IN_MEMORY", 500)
    parts = fit_simulator(small(epochs=2), BOX, simulate, 700, cache_dir=tmp_path, random_state=0)
    np.testing.assert_allclose(whole.loss_curve_, parts.loss_curve_, rtol=1e-6)


def test_fresh_rows_are_new_in_every_pass():
    passes = []

    def cheap(theta, random_state):
        passes.append(theta[:3, 0].copy())
        return theta + random_state.normal(size=theta.shape)

    est = small(epochs=2, module_shape=(4,), batch_size=4096)
    fit_simulator(est, BOX, cheap, 100_001, fresh=True, batch_size=100_001, random_state=0)
    first = np.concatenate([one[:3] for one in passes])
    assert len(passes) >= 4  # to validate on, to learn scales, two epochs
    assert len(np.unique(first)) == len(first)
    with pytest.raises(ValueError, match="n_simulations must be an integer of at least 100001"):
        fit_simulator(est, BOX, cheap, 1000, fresh=True)
    with pytest.raises(ValueError, match="leave cache_dir out"):
        fit_simulator(est, BOX, cheap, 200_000, fresh=True, cache_dir="x")


# Posteriors and rounds


def test_a_posterior_ends_where_the_prior_ends(npe):
    box = [(-0.5, 0.5), (-3.0, 3.0)]
    posterior = Posterior(npe, [0.7, -1.2], box)  # the estimator has no limits
    draws = posterior.sample(500, random_state=0)
    assert (abs(draws[:, 0]) <= 0.5).all()
    assert posterior.mass < 0.7
    axes = np.linspace(-0.5, 0.5, 101), np.linspace(-3, 3, 201)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = np.exp(posterior.log_prob(grid.reshape(-1, 2))).reshape(101, 201)
    integral = np.trapezoid(np.trapezoid(density, axes[1]), axes[0])
    np.testing.assert_allclose(integral, 1.0, atol=0.03)
    assert posterior.log_prob([[0.6, 0.0]])[0] == -np.inf
    np.testing.assert_array_equal(draws, posterior.sample(500, random_state=0))
    with pytest.raises(ValueError, match="draws are inside the prior"):
        Posterior(npe, [0.7, -1.2], [(90, 91), (90, 91)]).sample(10)
    with pytest.raises(ValueError, match="prior has 1 parameters, but the estimator 2"):
        Posterior(npe, [0.7, -1.2], (0, 1))
    with pytest.raises(ValueError, match=r"theta must have shape \(n, 2\), got \(2,\)"):
        posterior.log_prob([0.0, 0.0])


def test_an_observation_is_one_row(npe):
    assert one_row([1.0, 2.0]).shape == one_row([[1.0, 2.0]]).shape == (1, 2)
    assert one_row(np.ones((4, 5)), like=np.ones((9, 4, 5))).shape == (1, 4, 5)
    with pytest.raises(ValueError, match=r"one observation, .*, got shape \(2, 2\)"):
        Posterior(npe, np.ones((2, 2)))
    with pytest.raises(ValueError, match="3 features"):
        Posterior(npe, np.ones(3))
    with pytest.raises(ValueError, match=r"of shape \(2,\), as simulated data are; got shape \(3"):
        infer(np.ones(3), small(), BOX, simulate, n_simulations_per_round=100)
    with pytest.raises(ValueError, match=r"x_o has \['a'\], but simulations \['b'\]"):
        one_row({"a": [1.0]}, like={"b": np.ones((2, 1))})


@pytest.mark.parametrize("low_acceptance", [0.0, 1.0])  # rejection alone, resampling alone
def test_regions_hold_the_truncated_prior(monkeypatch, low_acceptance):
    monkeypatch.setattr("sklearn_san.simulation.regions.LOW_ACCEPTANCE", low_acceptance)
    if low_acceptance:
        monkeypatch.setattr("sklearn_san.simulation.regions.MOST_OF_PRIOR", 0)
    random = np.random.default_rng(0)
    x_o = np.array([0.5, 0.0])
    region = Region(ExactDensity(x_o[None]), Prior([stats.norm(0, 1)] * 2), 1e-2, random)
    theta, acceptance = region.draw(4000, random)
    exact = stats.norm(0, 1).rvs((200_000, 2), random_state=1)
    inside = region.contains(exact)
    assert region.contains(theta).all()
    assert 0.0 < acceptance <= 1.0
    np.testing.assert_allclose(region.volume(random), inside.mean(), rtol=0.05)
    for j in range(2):  # false alarms: 1 in 1000
        assert stats.ks_2samp(theta[:, j], exact[inside][:, j]).pvalue > 1e-3


def test_regions_without_a_density_of_the_prior(monkeypatch):
    prior = Prior(lambda n, r: r.normal(size=(n, 2)) + 50.0)
    region = Region(ExactDensity(np.zeros((1, 2))), prior, 1e-2, np.random.default_rng(0))
    monkeypatch.setattr("sklearn_san.simulation.regions.HOPELESS", 30_000)
    with pytest.raises(ValueError, match="draws of the prior is in the region of x_o"):
        region.draw(10, np.random.default_rng(0))


def test_rounds_zoom_in_on_the_posterior(tmp_path):
    noise, x_o = 0.03, np.array([0.2, 1.0])
    sharp = partial(simulate, noise=noise)
    options = {
        "n_simulations_per_round": 400,
        "rounds": 2,
        "epsilon": 1e-3,
        "random_state": 0,
        "cache_dir": tmp_path,
    }
    est = small(epochs=20, K=2)
    posterior = infer(x_o, est, BOX, sharp, **options)
    first, last = posterior.rounds
    assert (first.acceptance, first.n_simulations, first.n_failed) == (1.0, 400, 0)
    assert last.volume < first.volume < 0.2
    np.testing.assert_allclose(last.acceptance, first.volume, rtol=0.2)
    assert 0.8 < first.coverage <= 0.98
    assert np.isnan(last.coverage)
    draws = posterior.sample(2000, random_state=0)
    np.testing.assert_allclose(draws.mean(axis=0), x_o, atol=noise / 2)
    np.testing.assert_allclose(draws.std(axis=0), noise, rtol=0.35)
    assert str(posterior.rounds).count("\n") == 3
    assert posterior.rounds.to_frame().shape == (2, 5)
    assert repr(posterior) == "Posterior(['a', 'b'], rounds=2)"
    # once more from the folder, where nothing is left to simulate
    with np.load(tmp_path / "round-02" / "proposals.npz") as kept:
        theta = kept["theta"]
    again = infer(x_o, est, BOX, sharp, **options)
    np.testing.assert_array_equal(draws, again.sample(2000, random_state=0))
    np.testing.assert_array_equal(np.load(tmp_path / "round-02" / "batch-000000.theta.npy"), theta)
    with pytest.raises(ValueError, match="another run, whose x_o, estimator, epsilon or n_sim"):
        infer(x_o + 0.1, est, BOX, sharp, **options)


def test_rounds_end_when_the_region_is_stable():
    wide = partial(simulate, noise=3.0)  # tells next to nothing
    posterior = infer(
        [0.0, 1.0],
        small(),
        BOX,
        wide,
        n_simulations_per_round=200,
        rounds=5,
        epsilon=1e-3,
        random_state=0,
    )
    assert len(posterior.rounds) == 2
    assert str(Rounds()) == "Rounds()"


# Observations


def test_the_predictive_check_raises_few_false_alarms():
    random = np.random.default_rng(0)
    theta = random.normal(size=(200, 2))
    found = [
        check_observation(Exact(), x, simulate, n_draws=60, random_state=i)
        for i, x in enumerate(simulate(theta, random))
    ]
    pvalues = np.array([one.predictive_pvalue for one in found])
    assert stats.kstest(pvalues, "uniform", alternative="greater").pvalue > 1e-3
    assert 0.3 < pvalues.mean() < 0.7
    each = np.concatenate([one.pvalues for one in found])
    assert (each < 0.05).mean() < 0.05  # cautious, since the posterior has seen x_o


def test_false_alarms_and_power_of_the_whole_check(npe):
    random = np.random.default_rng(1)
    theta = random.normal(size=(60, 2))
    good = simulate(theta, random)
    alarms = [
        check_observation(npe, x, simulate, n_draws=200, random_state=i).pvalue < 0.05
        for i, x in enumerate(good)
    ]
    assert np.mean(alarms) < 0.15  # binomial of 0.05: more than that once in 3000 times
    strange = check_observation(npe, [9.0, -9.0], simulate, n_draws=200, random_state=0)
    assert strange.pvalue < 0.02
    assert strange.novelty < 0.02


def test_a_simulator_that_is_too_quiet_is_found_out():
    """Two measurements of each parameter, which differ by more than the simulator allows."""

    def twice(theta, random_state):
        return np.hstack([simulate(theta, random_state), simulate(theta, random_state)])

    class Mean(Exact):
        def predict_density(self, X):
            return ExactDensity((X[:, :2] + X[:, 2:]) / 2)

    check = check_observation(
        Mean(), [2.0, 0.0, -2.0, 0.0], twice, n_draws=400, random_state=0,
        statistics={"difference": lambda x: x[:, 0] - x[:, 2], "sum": lambda x: x.sum(axis=1)},
    )  # fmt: skip
    assert check.statistic_names == ("difference", "sum")
    assert check.pvalues[0] < 0.01 < check.pvalues[1]
    assert check.predictive_pvalue < 0.01
    assert check.pvalue == 2 * check.predictive_pvalue
    assert check.to_frame().loc["difference", "observed"] == 4.0
    assert str(check).splitlines()[3].startswith("| difference")
    assert repr(check).startswith("ObservationCheck(pvalue=")


def test_checks_of_checks(npe):
    check = check_observation(npe, [0.1, 0.2], simulate, n_draws=50, random_state=0)
    again = check_observation(Posterior(npe, [0.1, 0.2]), [[0.1, 0.2]], simulate, n_draws=50,
                              random_state=0)  # fmt: skip
    assert check.statistic_names == ("x0", "x1")
    np.testing.assert_array_equal(check.replicated, again.replicated)
    with pytest.raises(TypeError, match="statistics must be a function"):
        check_observation(npe, [0.1, 0.2], simulate, statistics=3)
    with pytest.raises(ValueError, match=r"returned shape .* that are not finite"):
        check_observation(npe, [0.1, 0.2], simulate, statistics=lambda x: x * np.nan)
    with pytest.raises(ValueError, match=r"returned shape .* it must be"):
        check_observation(npe, [0.1, 0.2], simulate, statistics=lambda x: x[..., None, None])
    with pytest.raises(ValueError, match=r"as simulated data are; got shape \(2,\)"):
        check_observation(npe, [0.1, 0.2], lambda theta, r: theta[:, :1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedSimulationsWarning)
        with pytest.raises(ValueError, match="leaves too few to compare with"):
            check_observation(
                npe,
                [0.1, 0.2],
                lambda theta, r: np.where(r.uniform(size=(len(theta), 1)) < 0.9, np.nan, theta),
                n_draws=100,
                random_state=0,
            )


def test_the_picture_of_a_check(npe):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from sklearn_san.plotting import PredictiveDisplay

    check = check_observation(npe, [0.1, 0.2], simulate, n_draws=50, random_state=0)
    display = check.plot()
    assert [line.get_xdata()[0] for line in display.lines_] == [0.1, 0.2]
    assert display.axes_[1].get_xlabel() == "x1"
    some = PredictiveDisplay.from_predictions(np.zeros((9, 3)), [0, 1, 2], max_panels=2)
    assert len(some.axes_) == 2
    with pytest.raises(ValueError, match=r"observed \(n_statistics,\), got \(9, 3\) and \(2,\)"):
        PredictiveDisplay.from_predictions(np.zeros((9, 3)), [0, 1])
    with pytest.raises(ValueError, match="pvalues has shape"):
        PredictiveDisplay.from_predictions(np.zeros((9, 3)), [0, 1, 2], pvalues=[0.1])
    with pytest.raises(ValueError, match="statistic_names has 1 entries for 3"):
        PredictiveDisplay.from_predictions(np.zeros((9, 3)), [0, 1, 2], statistic_names=["a"])
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_simulations_per_round": 1}, "n_simulations_per_round must be an integer of at least"),
        ({"rounds": 0}, "rounds must be an integer of at least 1"),
        ({"epsilon": 0.7}, "epsilon must be"),
        ({"tol": -1.0}, "tol must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_arguments_of_infer(options, message):
    with pytest.raises(ValueError, match=message):
        infer([0.0, 0.0], small(), BOX, simulate, **({"n_simulations_per_round": 100} | options))


def test_a_simulator_is_a_function():
    with pytest.raises(TypeError, match="simulate must be a function"):
        draw_simulations(BOX, 3, 10)
