"""Recalibration and conformal sets, on densities whose faults are known."""

import numpy as np
import pytest
from conftest import small
from scipy.integrate import quad
from scipy.special import ndtri
from scipy.stats import binom, norm
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator

from sklearn_san import CalibratedDensity
from sklearn_san.calibration.recalibrated import density_deficit
from sklearn_san.recalibration import ScoreMap, fit_score_map


class LinearGaussian(BaseEstimator):
    """p(y_d | x) normal around x, with deviations `scale` and a shift; needs no fit."""

    def __init__(self, scale=1.0, shift=0.0, n_outputs=2):
        self.scale, self.shift, self.n_outputs = scale, shift, n_outputs

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict_density(self, X):
        return NormalDensity(np.asarray(X)[:, :1] + self.shift, self.scale, self.n_outputs)


class NormalDensity:
    def __init__(self, centre, scale, n_outputs):
        self.centre, self.scale, self.n_outputs = centre, scale, n_outputs
        self.output_names = [f"y{d}" for d in range(n_outputs)]
        self.limits = np.tile([-np.inf, np.inf], (n_outputs, 1))

    def __len__(self):
        return len(self.centre)

    def __getitem__(self, rows):
        return NormalDensity(self.centre[rows], self.scale, self.n_outputs)

    def log_prob(self, y):
        centre = self.centre if y.ndim == 2 else self.centre[:, None]
        return norm.logpdf(y, centre, self.scale).sum(-1)

    def cdf(self, y):
        return norm.cdf(y, self.centre, self.scale)

    def inverse_cdf(self, u):
        return self.centre + self.scale * ndtri(u)

    def quantile(self, levels):
        values = self.centre[:, None] + self.scale * ndtri(np.asarray(levels))[None, :, None]
        return np.repeat(values, self.n_outputs, axis=2)

    def sample(self, n_draws, random_state=None):
        random = np.random.default_rng(random_state)
        shape = (len(self), n_draws, self.n_outputs)
        return self.centre[:, None] + self.scale * random.normal(size=shape)


def data(n, seed, n_outputs=2):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 1))
    return X, X + random.normal(size=(n, n_outputs))


def calibrated(n=500, seed=0, **faults):
    frozen = FrozenEstimator(LinearGaussian(**faults).fit(*data(5, 0)))
    return CalibratedDensity(frozen).fit(*data(n, seed, faults.get("n_outputs", 2)))


@pytest.mark.parametrize(
    "faults", [{"scale": 0.5}, {"scale": 2.0}, {"shift": 0.7}, {"scale": 0.7, "shift": -0.5}]
)
def test_recalibration_mends_a_faulty_model(faults):
    X, y = data(4000, 1)
    exact = LinearGaussian().predict_density(X).log_prob(y).mean()
    faulty = LinearGaussian(**faults).predict_density(X).log_prob(y).mean()
    mended = calibrated(2000, **faults).score(X, y)
    assert faulty < exact - 0.2
    assert mended == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("seed", range(10))
def test_recalibration_leaves_a_good_model_alone(seed):
    X, y = data(4000, 100)
    exact = LinearGaussian().predict_density(X).log_prob(y).mean()
    assert calibrated(500, seed).score(X, y) > exact - 0.01


def test_the_recalibrated_density_integrates_to_one_and_draws_follow_it():
    density = calibrated(scale=0.5, shift=0.4, n_outputs=1).predict_density(np.array([[0.3]]))
    p = lambda v: np.exp(density.log_prob(np.array([[v]]))[0])  # noqa: E731
    # Coordinates resolve 8 deviations of the estimator's density, 4 of the recalibrated one
    assert quad(p, -8.0, 9.0, limit=300)[0] == pytest.approx(1.0, abs=1e-4)
    mean = quad(lambda v: v * p(v), -8.0, 9.0, limit=300)[0]
    draws = density.sample(40_000, random_state=0)[0, :, 0]
    assert draws.mean() == pytest.approx(mean, abs=5 * draws.std() / 200)
    assert density.mean()[0, 0] == pytest.approx(mean, abs=0.01)
    assert density.std()[0, 0] == pytest.approx(draws.std(), abs=0.03)
    u = np.array([[0.1], [0.5], [0.93]])
    three = density[[0, 0, 0]]
    np.testing.assert_allclose(three.cdf(three.inverse_cdf(u)), u, atol=1e-9)
    low, high = density.interval(0.8)[0, :, 0]
    assert quad(p, low, high, limit=300)[0] == pytest.approx(0.8, abs=0.005)
    several = density.log_prob(np.array([[[0.1], [0.2]]]))
    one_by_one = [density.log_prob(np.array([[v]]))[0] for v in (0.1, 0.2)]
    np.testing.assert_allclose(several[0], one_by_one)


def test_score_maps():
    mixture = ScoreMap(np.array([0.3, 0.7]), np.array([-1.0, 0.5]), np.array([0.5, 1.2]))
    u = np.linspace(0.001, 0.999, 50)
    np.testing.assert_allclose(mixture.cdf(mixture.quantile(u)), u, atol=1e-12)
    s = np.linspace(-3.0, 3.0, 7)
    step = 1e-6
    slope = (mixture.cdf(s + step) - mixture.cdf(s - step)) / (2 * step)
    np.testing.assert_allclose(mixture.log_ratio(s), np.log(slope / norm.pdf(s)), atol=1e-6)
    score = np.random.default_rng(0).normal(size=3000)
    assert len(fit_score_map(score).loc) == 1
    bimodal = np.concatenate([score[:1500] * 0.3 - 1.0, score[1500:] * 0.3 + 1.0])
    assert len(fit_score_map(bimodal).loc) >= 2


def test_conformal_sets_cover_what_they_promise():
    # A model with half the true deviation and a shift. Given n held-out rows, the number of 100
    # independent repetitions in which one new row is covered is binomial, with a probability
    # between `level` and `level + 1 / (n + 1)`; the band has a false-alarm rate of 1e-4 a side.
    n, repetitions, levels = 199, 100, (0.5, 0.9, 0.99)
    covered = np.zeros((3, 3), dtype=int)  # level; both intervals and the region
    for seed in range(repetitions):
        model = calibrated(n, seed, scale=0.5, shift=0.3)
        X, y = data(1, 10_000 + seed)
        density = model.predict_density(X)
        for k, level in enumerate(levels):
            interval = density.interval(level, method="conformal")
            covered[k, :2] += ((y >= interval[:, 0]) & (y <= interval[:, 1]))[0]
            covered[k, 2] += density.contains(y, level)[0]
    for level, counts in zip(levels, covered, strict=True):
        low = binom.ppf(1e-4, repetitions, level)
        high = binom.isf(1e-4, repetitions, level + 1 / (n + 1))
        assert ((counts >= low) & (counts <= high)).all(), (level, counts)


def test_too_few_rows_for_a_level_give_everything():
    density = calibrated(20).predict_density(np.zeros((2, 1)))
    assert np.isinf(density.interval(0.99, method="conformal")).all()
    assert np.isfinite(density.interval(0.9, method="conformal")).all()
    assert density.contains(np.full((2, 2), 50.0), 0.99).all()


@pytest.mark.parametrize("cv", [0.3, 2])
def test_a_trained_estimator(bimodal, cv):
    X, y, _ = bimodal
    model = CalibratedDensity(small(limits=[[-4, 4], [-6, 6]]), cv=cv, random_state=0)
    model.fit(X[:500], y[:500])
    assert model.n_calibration_ == (150 if cv == 0.3 else 500)
    assert np.isfinite(model.score(X[500:], y[500:]))
    draws = model.sample(X[:4], 50, random_state=0)
    assert draws.shape == (4, 50, 2)
    assert (np.abs(draws) < [4, 6]).all()
    np.testing.assert_array_equal(draws, model.sample(X[:4], 50, random_state=0))
    for output_type in ("mean", "median", "std"):
        assert model.predict(X[:4], output_type=output_type).shape == (4, 2)
    interval = model.predict(X[:4], output_type="interval", level=0.8)
    np.testing.assert_array_equal(interval, model.predict_density(X[:4]).interval(0.8))
    quantiles = model.predict(X[:4], output_type="quantiles")
    assert quantiles.shape == (4, 3, 2)
    interval = model.predict_density(X[:4]).interval(0.99, method="conformal")
    assert (np.abs(interval) <= [4, 6]).all()
    again = clone(model).fit(X[:500], y[:500])
    assert again.score(X[500:], y[500:]) == model.score(X[500:], y[500:])


def test_one_dimensional_targets(bimodal):
    X, y, _ = bimodal
    model = CalibratedDensity(small(), cv=0.3, random_state=0).fit(X, y[:, 0])
    density = model.predict_density(X[:5])
    assert density.sample(7, random_state=0).shape == (5, 7)
    assert density.log_prob(y[:5, 0]).shape == density.mean().shape == (5,)
    assert density.log_prob(density.sample(7)).shape == (5, 7)
    assert density.interval().shape == density.interval(method="conformal").shape == (5, 2)
    assert density.contains(y[:5, 0]).shape == (5,)


def test_labels_are_refused(bimodal):
    X, y, _ = bimodal
    labels = np.where(y[:, 0] > 0, "a", "b")
    with pytest.raises(ValueError, match="outputs that have a density everywhere"):
        CalibratedDensity(small(), cv=0.3).fit(X, labels)


@pytest.mark.parametrize(
    ("cv", "error", "message"),
    [(1, ValueError, "cv must be an integer of at least 2, got 1"), (1.5, ValueError, "below 1")],
)
def test_ways_of_holding_rows_out(bimodal, cv, error, message):
    X, y, _ = bimodal
    with pytest.raises(error, match=message):
        CalibratedDensity(small(), cv=cv).fit(X, y)


class WithoutQuantiles(NormalDensity):
    def __getitem__(self, rows):
        return WithoutQuantiles(self.centre[rows], self.scale, self.n_outputs)

    def quantile(self, levels):
        raise AssertionError("quantiles are not needed for this")


def test_draws_and_densities_need_no_quantiles():
    density = calibrated(100, n_outputs=1).predict_density(np.zeros((3, 1)))
    density.base = WithoutQuantiles(density.base.centre, 1.0, 1)
    assert density.sample(4, random_state=0).shape == (3, 4, 1)
    assert density.cdf(np.zeros((3, 1))).shape == density.mean().shape == (3, 1)


def test_conformal_regions_do_not_depend_on_neighbours():
    X, y = data(300, 3)
    for density in (
        LinearGaussian(scale=0.7).predict_density(X),
        small(epochs=2, n_members=2).fit(X, y).predict_density(X),
    ):
        whole = density_deficit(density, y, one_dimensional=False)
        alone = density_deficit(density[[290]], y[[290]], one_dimensional=False)
        np.testing.assert_allclose(alone, whole[[290]], rtol=1e-3)
