"""Diagnostics: right false-alarm rates on exact densities, power on wrong ones, closed forms.

A test of the false-alarm rate draws 400 calibrated data sets and asks for a share of rejections at
the 5 % level inside the binomial range of probability 0.999, so that it fails by chance in one of a
thousand seeds.
"""

import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import small
from scipy import stats

from sklearn_san.calibration import (
    DIAGNOSTICS,
    DrawsDiagnostic,
    bands,
    calibration_report,
    diagnostic,
    hpd,
    hpd_coverage_from_log_prob,
    local,
    local_calibration,
    rank_test_from_draws,
    rosenblatt_test,
    tarp,
    tarp_coverage_from_draws,
    uniformity,
)
from sklearn_san.datasets import make_bimodal

N_REPETITIONS = 400
FACTOR = np.array([[0.5, 0.0], [0.3, 0.4]])


class GaussianDensity:
    """Gaussian of each row; `factor` is that of the covariance."""

    def __init__(self, mean, factor, one_dimensional=False):
        self.mean, self.factor, self.one_dimensional = mean, factor, one_dimensional
        self.output_names = [f"y{j}" for j in range(mean.shape[1])]
        self.largest = 0

    def __len__(self):
        return len(self.mean)

    def __getitem__(self, rows):
        part = GaussianDensity(self.mean[rows], self.factor, self.one_dimensional)
        part.parent = self
        return part

    def sample(self, n_draws, *, random_state):
        noise = random_state.standard_normal((len(self), n_draws, self.mean.shape[1]))
        self.parent.largest = max(self.parent.largest, noise.size)
        draws = self.mean[:, None] + noise @ self.factor.T
        return draws[..., 0] if self.one_dimensional else draws

    def whiten(self, y):
        several = y.ndim == (2 if self.one_dimensional else 3)
        points = np.reshape(y, (len(self), -1, self.mean.shape[1]))
        white = np.linalg.solve(self.factor, (points - self.mean[:, None])[..., None])[..., 0]
        return white if several else white[:, 0]

    def log_prob(self, y):
        return stats.norm.logpdf(self.whiten(y)).sum(-1) - np.log(np.diag(self.factor)).sum()

    def cdf(self, y, *, random_state):
        u = stats.norm.cdf(self.whiten(y))
        return u[:, 0] if self.one_dimensional else u


class Model:
    """Estimator with the mean (sin 2x, x^2) / 2 + shift."""

    def __init__(self, factor=FACTOR, shift=0.0, one_dimensional=False):
        self.factor, self.shift, self.one_dimensional = factor, shift, one_dimensional

    def predict_density(self, X):
        mean = 0.5 * np.stack([np.sin(2.0 * X[:, 0]), X[:, 0] ** 2], axis=1) + self.shift
        mean = mean[:, : len(self.factor)]
        self.density = GaussianDensity(mean, self.factor, self.one_dimensional)
        return self.density


def gaussian_data(n_rows, seed=0):
    random = np.random.default_rng(seed)
    X = random.uniform(-1, 1, size=(n_rows, 2))
    mean = Model().predict_density(X).mean
    return X, mean + random.standard_normal(mean.shape) @ FACTOR.T


def correlated(n_rows, n_draws, seed, scale=1.0):
    """Draws and truth of two correlated outputs, with log densities."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((n_rows, n_draws + 1, 2))
    noise[:, 1:] *= scale
    centre = random.standard_normal((n_rows, 1, 2))
    values = centre + noise @ FACTOR.T
    log_prob = -0.5 * np.square(noise / scale).sum(-1)
    return values[:, 1:], values[:, 0], log_prob


def assert_five_percent(pvalues):
    n = len(pvalues)
    low, high = stats.binom.interval(0.999, n, 0.05)
    assert low <= np.count_nonzero(np.array(pvalues) <= 0.05) <= high


# False alarms


@pytest.mark.parametrize("n_outputs", [1, 4])
def test_false_alarms_of_the_rosenblatt_test(n_outputs):
    random = np.random.default_rng(n_outputs)
    shape = (N_REPETITIONS, 200, n_outputs)
    results = [rosenblatt_test(u) for u in random.uniform(size=shape)]
    assert_five_percent([result.pvalue for result in results])
    assert_five_percent([result.uniformity_pvalue for result in results])
    if n_outputs > 1:
        assert_five_percent([result.independence_pvalue for result in results])
        assert_five_percent([result.dependence_pvalues[2, 1] for result in results])
    assert_five_percent([result.uniformity_pvalues[0] for result in results])


@pytest.fixture(scope="module")
def results_from_draws():
    """Results of the three tests from draws on calibrated data sets."""
    results = []
    for seed in range(N_REPETITIONS):
        draws, y, log_prob = correlated(120, 19, seed)
        results.append(
            (
                rank_test_from_draws(draws, y, n_bins=7, random_state=seed),
                hpd_coverage_from_log_prob(log_prob[:, 1:], log_prob[:, 0], random_state=seed),
                tarp_coverage_from_draws(draws, y, n_references=3, random_state=seed),
            )
        )
    return zip(*results, strict=True)


def test_false_alarms_and_bands_of_tests_from_draws(results_from_draws):
    ranks, hpd, tarp = results_from_draws
    assert_five_percent([result.pvalues[0] for result in ranks])
    assert_five_percent([result.chi2_pvalues[0] for result in ranks])
    assert_five_percent([result.ks_pvalues[0] for result in ranks])
    # Holm's bound for two correlated outputs: it may only be below
    n_alarms = sum(result.pvalue <= 0.05 for result in ranks)
    assert n_alarms <= stats.binom.ppf(0.999, N_REPETITIONS, 0.05)
    assert_five_percent([result.pvalue for result in hpd])
    assert_five_percent([result.pvalue for result in tarp])
    # 0 where a curve, or its middle, leaves the band
    assert_five_percent([1.0 * is_inside(r.ecdf_difference[:, 0], r.ecdf_band) for r in ranks])
    assert_five_percent([1.0 * is_inside(r.coverage[9], r.band[:, 9]) for r in tarp])
    assert all((result.counts.sum(axis=0) == 120).all() for result in ranks)


def is_inside(curve, band):
    return (curve >= band[0] - 1e-12).all() and (curve <= band[1] + 1e-12).all()


def test_binomial_band_is_exact():
    low, high = bands.binomial_band(100, np.array([0.1, 0.9]), 0.95)
    np.testing.assert_allclose(low, stats.binom.ppf(0.025, 100, [0.1, 0.9]))
    np.testing.assert_allclose(high, stats.binom.ppf(0.975, 100, [0.1, 0.9]))


def test_binomial_band_holds_at_least_its_share():
    low, high = bands.binomial_band(100, np.array([0.1, 0.5]), 0.9)
    assert (stats.binom.cdf(high, 100, [0.1, 0.5]) >= 0.95).all()
    assert (stats.binom.cdf(low - 1, 100, [0.1, 0.5]) <= 0.05).all()


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_uniform_band_holds_whole_curves(level):
    edges = np.linspace(0, 1, 101) ** 1.2
    low, high = bands.uniform_band(300, tuple(edges.tolist()), level)
    counts = np.random.default_rng(7).multinomial(300, np.diff(edges), size=4000)
    curves = counts.cumsum(axis=1) / 300 - edges[1:]
    inside = ((curves >= low[1:] - 1e-12) & (curves <= high[1:] + 1e-12)).all(axis=1)
    # Errors of the band's simulations and of these 4000: fails by chance once in 10,000 times
    error = np.sqrt(level * (1 - level) * (1 / bands.N_SIMULATIONS + 1 / 4000))
    assert inside.mean() == pytest.approx(level, abs=3.9 * error)


@pytest.mark.parametrize("distort", [lambda u: u, lambda u: u**1.5], ids=["uniform", "biased"])
def test_false_alarms_of_local_calibration(distort):
    # A bias that is the same everywhere does not count. Columns are independent repetitions.
    linear, trees = [], []
    for seed in range(4):
        random = np.random.default_rng(seed)
        X, u = random.normal(size=(300, 3)), distort(random.uniform(size=(300, 100)))
        scores = uniformity.polynomials(u, 2).reshape(300, -1)
        linear.extend(local.linear_pvalues(X, scores)[:100])
        stream = np.random.RandomState(seed)
        trees.extend(local.forward_pvalues(X, scores, stream, n_trees=20)[:100])
    assert_five_percent(linear)
    assert_five_percent(trees)


def test_regions_are_flagged_at_the_stated_rate():
    random = np.random.default_rng(0)
    values, u = random.uniform(size=300), random.uniform(size=(N_REPETITIONS, 300, 2))
    smallest = []
    for one in u:
        pvalues = [row[-1] for row in local.bin_statistics(one, values, 5, (0.5, 0.9))]
        smallest.append(uniformity.holm(np.array(pvalues)).min())
    low, high = stats.binom.interval(0.999, N_REPETITIONS, 0.05)
    assert low / 3 <= np.count_nonzero(np.array(smallest) <= 0.05) <= high  # conservative


def test_combinations_of_pvalues_are_uniform():
    p = np.random.default_rng(0).uniform(size=(4000, 6))
    combined = [uniformity.combine_independent(row) for row in p]
    low, high = stats.binom.interval(0.999, 4000, 0.05)
    assert low <= np.count_nonzero(np.array(combined) <= 0.05) <= high
    assert uniformity.combine_independent(np.array([0.03])) == pytest.approx(0.03, rel=0.01)
    assert uniformity.combine(np.array([0.2, 0.2])) == pytest.approx(0.2)
    assert uniformity.combine(np.array([1e-12, 1.0])) < 1e-11
    assert uniformity.combine_independent(np.zeros(3)) < 1e-200


# Closed forms


def test_polynomials_are_orthonormal():
    nodes, weights = np.polynomial.legendre.leggauss(10)
    values = uniformity.polynomials(0.5 + 0.5 * nodes, 4)
    weights = 0.5 * weights
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(weights @ values, 0.0, atol=1e-12)


def test_pvalues_agree_with_scipy():
    u = np.random.default_rng(0).uniform(size=(60, 2)) ** 1.3
    expected = [stats.kstest(column, "uniform", method="exact").pvalue for column in u.T]
    np.testing.assert_allclose(uniformity.ks_pvalue(u), expected)
    draws, y, _ = correlated(90, 25, 0)
    result = rank_test_from_draws(draws, y, n_bins=7, random_state=0)
    expected = [stats.chisquare(counts, result.expected).pvalue for counts in result.counts.T]
    np.testing.assert_allclose(result.chi2_pvalues, expected)
    correlation = stats.spearmanr(u[:, 0], u[:, 1]).statistic
    assert rosenblatt_test(u).correlations[0, 1] == pytest.approx(correlation)


def test_holm():
    adjusted = uniformity.holm(np.array([0.04, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(adjusted, [0.09, 0.04, 0.09, 0.5])
    assert uniformity.holm(np.array([0.6, 0.9])).max() == 1.0


def test_linear_pvalues_are_those_of_the_f_test():
    random = np.random.default_rng(0)
    X, score = random.normal(size=(80, 2)), random.normal(size=80)
    ranks = (stats.rankdata(X, axis=0) - 0.5) / 80
    design = np.column_stack([np.ones(80), ranks, ranks**2])
    rest = score - design @ np.linalg.lstsq(design, score)[0]
    explained = ((score - score.mean()) ** 2).sum() - (rest**2).sum()
    f = (explained / 4) / ((rest**2).sum() / 75)
    pvalue = local.linear_pvalues(X, score[:, None])[0]
    assert pvalue == pytest.approx(stats.f.sf(f, 4, 75))
    # Columns that repeat or are constant change nothing; too many for the rows give up.
    wide = np.column_stack([X, X[:, :1], np.ones(80)])
    assert local.linear_pvalues(wide, score[:, None])[0] == pytest.approx(pvalue)
    assert local.linear_pvalues(random.normal(size=(80, 60)), score[:, None])[0] == 1.0


def test_ranks_count_the_draws_below():
    draws, y, _ = correlated(50, 40, 0)
    result = rank_test_from_draws(draws, y, random_state=0)
    np.testing.assert_array_equal(result.ranks, (draws < y[:, None]).sum(axis=1))
    assert ((result.pit * 41 >= result.ranks) & (result.pit * 41 < result.ranks + 1)).all()
    highest = rank_test_from_draws(draws, y + 100.0, random_state=0)
    assert (highest.ranks == 40).all()
    assert highest.counts[-1].tolist() == [50, 50]


def test_the_histogram_expects_what_its_bins_hold():
    draws, y, _ = correlated(50, 9, 0)
    result = rank_test_from_draws(draws, y, n_bins=4, random_state=0)
    np.testing.assert_array_equal(result.bin_edges, [0, 3, 5, 8, 10])
    np.testing.assert_allclose(result.expected, [15, 10, 15, 10])
    assert len(rank_test_from_draws(draws, y, n_bins=20, random_state=0).expected) == 10


def test_ties_are_broken_evenly():
    random = np.random.default_rng(0)
    draws, y = random.poisson(1.0, size=(4000, 30, 1)), random.poisson(1.0, size=(4000, 1))
    assert rank_test_from_draws(draws, y, random_state=0).pvalue > 0.01
    log_prob = stats.poisson.logpmf
    result = hpd_coverage_from_log_prob(
        log_prob(draws[..., 0], 1.0), log_prob(y[:, 0], 1.0), random_state=0
    )
    assert result.pvalue > 0.01
    assert tarp_coverage_from_draws(draws, y, references="rows", random_state=0).pvalue > 0.01
    # All equal: the rank is any
    ranks = rank_test_from_draws(np.zeros((4000, 4, 1)), np.zeros((4000, 1)), random_state=0).ranks
    assert stats.chisquare(np.bincount(ranks[:, 0])).pvalue > 0.01


def test_hpd_coverage_of_a_gaussian_too_narrow():
    random = np.random.default_rng(0)
    y, draws = random.normal(size=20_000), 0.8 * random.normal(size=(20_000, 200))
    log_prob = stats.norm(scale=0.8).logpdf
    result = hpd_coverage_from_log_prob(log_prob(draws), log_prob(y), random_state=0)
    half_width = 0.8 * stats.norm.ppf(0.5 + 0.5 * result.levels)
    exact = stats.norm.cdf(half_width) - stats.norm.cdf(-half_width)
    # three standard errors, and the bias of 200 draws
    np.testing.assert_allclose(result.coverage, exact, atol=0.013)
    assert (result.coverage < result.band[0]).all()


def test_ball_fractions_agree_with_a_double_loop():
    random = np.random.default_rng(0)
    draws, y = random.normal(size=(30, 12, 3)), random.normal(size=(30, 3))
    points, scale = random.normal(size=(30, 2, 3)), np.array([0.5, 1.0, 2.0])
    fractions, stand_ins = tarp.ball_fractions(draws, y, points, scale, np.random.RandomState(0))

    def count(truth, others, point):
        radius = np.linalg.norm((truth - point) / scale)
        return sum(np.linalg.norm((draw - point) / scale) < radius for draw in others)

    for i in range(30):
        for r in range(2):
            assert np.floor(fractions[i, r] * 13) == count(y[i], draws[i], points[i, r])
            for s in range(tarp.N_STAND_INS):
                others = np.delete(draws[i], s, axis=0)
                expected = count(draws[i, s], others, points[i, r])
                assert np.floor(stand_ins[i, s, r] * 12) == expected


def test_chunks_hold_all_rows(monkeypatch):
    draws, y, log_prob = correlated(50, 40, 0)
    whole = rank_test_from_draws(draws, y, random_state=0)
    monkeypatch.setattr(diagnostic, "CHUNK", 7 * 80)
    np.testing.assert_array_equal(rank_test_from_draws(draws, y, random_state=0).ranks, whole.ranks)
    result = hpd_coverage_from_log_prob(log_prob[:, 1:], log_prob[:, 0], random_state=0)
    expected = (log_prob[:, 1:] > log_prob[:, :1]).sum(axis=1)
    np.testing.assert_array_equal(np.floor(result.values * 41), expected)


# Power


def test_ignored_dependence_is_found_though_each_output_is_uniform():
    # The truth has a Gaussian copula; the model is right for each output alone.
    z = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.4], [0.4, 1]], size=1000)
    result = rosenblatt_test(stats.norm.cdf(z), output_names=["a", "b"])
    assert result.uniformity_pvalue > 0.01
    assert result.independence_pvalue < 1e-10
    assert result.pvalue < 1e-10
    assert "| b" in result.summary()


def test_dependence_that_changes_sign_is_found():
    random = np.random.default_rng(0)
    z = random.normal(size=(1000, 2))
    sign = 0.5 * np.sign(random.normal(size=1000))
    z[:, 1] = sign * z[:, 0] + np.sqrt(0.75) * z[:, 1]
    result = rosenblatt_test(stats.norm.cdf(z))
    assert abs(result.correlations[0, 1]) < 0.1
    assert result.independence_pvalue < 1e-5


def test_dependence_does_not_mind_wrong_margins():
    u = np.random.default_rng(0).uniform(size=(300, 3))
    wrong = u ** np.array([1.0, 3.0, 0.2])
    assert rosenblatt_test(wrong).independence_pvalue == rosenblatt_test(u).independence_pvalue
    assert rosenblatt_test(wrong).uniformity_pvalue < 1e-10


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_wrong_widths_are_found_from_draws(scale):
    draws, y, log_prob = correlated(500, 100, 0, scale)
    results = [
        rank_test_from_draws(draws, y, random_state=0),
        hpd_coverage_from_log_prob(log_prob[:, 1:], log_prob[:, 0], random_state=0),
        tarp_coverage_from_draws(draws, y, random_state=0),
    ]
    assert max(result.pvalue for result in results) < 1e-4
    for coverage in results[1:]:
        wrong = (coverage.coverage - coverage.levels)[10:-2]
        assert (np.sign(wrong) == np.sign(scale - 1.0)).all()


def test_references_that_depend_on_x_see_that_a_model_ignores_x():
    random = np.random.default_rng(0)
    x = random.normal(size=(1000, 1))
    y, draws = x + 0.5 * random.normal(size=(1000, 1)), random.normal(size=(1000, 100, 1))
    draws *= np.sqrt(1.25)
    assert tarp_coverage_from_draws(draws, y, references="normal", random_state=0).pvalue > 0.01
    points = x[:, None] + random.normal(size=(1000, 5, 1))
    assert tarp_coverage_from_draws(draws, y, references=points, random_state=0).pvalue < 1e-10


def test_local_calibration_finds_smooth_and_jagged_dependence():
    random = np.random.default_rng(0)
    X, z = random.uniform(-1, 1, size=(1500, 3)), random.normal(size=(1500, 2))
    u = stats.norm.cdf(z + 0.3 * np.column_stack([X[:, 0], np.sign(X[:, 1] * X[:, 2])]))
    result = local_calibration(u, X, random_state=0)
    assert rosenblatt_test(u).uniformity_pvalue > 0.001  # right on average
    assert (result.pvalues < 1e-3).all()
    assert result.linear_pvalues[0, 0] < 1e-4
    assert result.linear_pvalues[1, 0] > 0.001
    assert result.tree_pvalues[1, 0] < 1e-3
    wide = stats.norm.cdf(z * np.exp(0.3 * X[:, :1]))
    assert (local_calibration(wide, X, random_state=0).linear_pvalues[:, 1] < 1e-4).all()


# Regions


def test_regions_hold_what_they_say():
    random = np.random.default_rng(0)
    X, u = random.normal(size=(400, 1)), random.uniform(size=(400, 2))
    result = local_calibration(u, X, n_bins=4, levels=(0.8,), random_state=0)
    assert len(result.regions) == 8
    for region in result.regions:
        upper = np.inf if region.high == X.max() else region.high
        rows = (X[:, 0] >= region.low) & (X[:, 0] < upper)
        v = u[rows, ["y0", "y1"].index(region.output)]
        assert region.n_rows == rows.sum() == 100
        assert region.mean_u == pytest.approx(v.mean())
        assert region.mean_u_error == pytest.approx(1 / np.sqrt(1200))
        assert region.coverage == pytest.approx((((v > 0.1) & (v < 0.9)).mean(),))
        assert region.coverage_error == pytest.approx((0.04,))
    pvalues = [region.pvalue for region in result.worst(8)]
    assert pvalues == sorted(pvalues)


def test_bad_regions_are_flagged():
    random = np.random.default_rng(0)
    X, u = random.uniform(size=(1000, 2)), random.uniform(size=(1000, 1))
    bad = X[:, 1] > 0.9
    u[bad] = 0.5 + 0.4 * (u[bad] - 0.5)  # much too wide there: centred, but never far out
    result = local_calibration(u, X, random_state=0)
    assert [(r.feature, round(r.low, 1)) for r in result.regions if r.flagged] == [("x1", 0.9)]
    assert result.worst(1)[0].flagged
    assert "1 of which are flagged" in result.summary()


def test_what_regions_are_made_of():
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    u = random.uniform(size=(100, 1))
    X = pd.DataFrame({"flux": random.normal(size=100), "band": np.arange(100) % 3})

    def colour(X):
        return X["flux"] - X["band"]

    def features(by):
        regions = local_calibration(u, X, by=by, n_bins=5, random_state=0).regions
        return [region.feature for region in regions]

    assert features(None) == ["flux"] * 5 + ["band"] * 3
    assert features(colour) == ["colour"] * 5
    assert features({"a": colour, "b": np.ones(100)}) == ["a"] * 5 + ["b"]
    assert features(np.arange(100) % 2) == ["by"] * 2
    frame = pd.DataFrame(local_calibration(u, X, random_state=0).regions)
    assert {"mean_u", "coverage", "flagged"} <= set(frame.columns)


# The report


def test_the_report_passes_the_exact_density():
    X, y = gaussian_data(600)
    model = Model()
    report = calibration_report(model, X, y, n_draws=2000, random_state=0)
    assert list(report.pvalues) == list(DIAGNOSTICS)
    assert min(report.pvalues.values()) > 0.01
    assert report.pvalue <= 5 * min(report.pvalues.values())
    assert model.density.largest <= diagnostic.CHUNK < 600 * 2000 * 2
    assert "not rejected" in report.summary()
    assert str(report) == report.summary()
    assert repr(report) == f"CalibrationReport(pvalue={report.pvalue:.3g})"
    assert report.ranks.pit.shape == report.rosenblatt.u.shape == (600, 2)
    assert report.tarp.values.shape == (600, 10)


@pytest.mark.parametrize(
    ("model", "found_by"),
    [
        (Model(0.8 * FACTOR), {"rosenblatt", "ranks", "hpd", "tarp"}),
        (Model(shift=0.1), {"rosenblatt", "ranks"}),
        (Model(np.diag(np.linalg.norm(FACTOR, axis=1))), {"rosenblatt"}),
    ],
    ids=["over-confident", "biased", "no dependence"],
)
def test_the_report_rejects_wrong_densities(model, found_by):
    X, y = gaussian_data(1000)
    report = calibration_report(model, X, y, n_draws=100, random_state=0)
    assert {name for name, p in report.pvalues.items() if p < 0.001} >= found_by
    assert "is rejected" in report.summary()


def test_a_density_that_ignores_x_is_found_by_local_calibration_alone():
    X, y = gaussian_data(1000)
    ranks = (stats.rankdata(y, axis=0) - 0.5) / len(y)
    result = local_calibration(ranks, X, random_state=0)
    assert rosenblatt_test(ranks[:, :1]).pvalue > 0.5
    assert result.pvalue < 1e-10


def test_the_report_is_the_same_whatever_else_is_run():
    X, y = gaussian_data(100)
    full = calibration_report(Model(), X, y, n_draws=20, random_state=3)
    for name in DIAGNOSTICS:
        one = calibration_report(
            Model(), X, y, n_draws=20, diagnostics=[name], random_state=np.random.RandomState(3)
        )
        assert one.pvalues == {name: full.pvalues[name]}
        assert full.summary().count("p = ") == 5
        assert one.summary().count("p = ") == 1
    other = calibration_report(Model(), X, y, n_draws=20, random_state=4)
    assert other.pvalues["tarp"] != full.pvalues["tarp"]


@pytest.mark.parametrize("one_dimensional", [True, False])
def test_a_single_output(one_dimensional):
    X, y = gaussian_data(200)
    model = Model(FACTOR[:1, :1], one_dimensional=one_dimensional)
    y = y[:, 0] if one_dimensional else y[:, :1]
    report = calibration_report(model, X, y, n_draws=50, random_state=0)
    assert min(report.pvalues.values()) > 0.01
    assert np.isnan(report.rosenblatt.independence_pvalue)
    assert report.rosenblatt.pvalue == report.rosenblatt.uniformity_pvalue


def test_the_report_scores_no_more_draws_than_it_needs(monkeypatch):
    X, y = gaussian_data(100)
    scored, log_prob = [], GaussianDensity.log_prob

    def count(self, y):
        scored.append(np.size(y) // 2)
        return log_prob(self, y)

    monkeypatch.setattr(GaussianDensity, "log_prob", count)
    report = calibration_report(Model(), X, y, n_draws=2 * hpd.N_SCORED, random_state=0)
    assert sum(scored) == len(y) * (1 + hpd.N_SCORED)
    assert report.hpd.pvalue > 0.01
    assert len(np.unique(report.hpd.values)) == len(y)  # spread evenly over the steps of ranks


def test_the_report_says_how_far_off_the_intervals_are():
    model = Model(1.3 * FACTOR)  # too wide
    X, y = gaussian_data(4000)
    report = calibration_report(model, X, y, n_draws=50, diagnostics=["rosenblatt", "hpd"])
    half = stats.norm.ppf(0.95)
    first, second, regions = report.effects
    for effect in (first, second):
        expected = 2 * stats.norm.cdf(1.3 * half) - 1
        assert effect.coverage == pytest.approx(expected, abs=4 * effect.error)
        # KL(N(0, 1) || N(0, 1.3^2)) in nats
        exact = np.log(1.3) + 0.5 / 1.3**2 - 0.5
        assert effect.gain == pytest.approx(exact, rel=0.35)
    assert regions.coverage > 0.95
    assert np.isnan(regions.gain)
    text = report.summary()
    assert f"- y0: intervals that say 90 % hold {100 * first.coverage:.1f} +- " in text
    assert f"recalibration would gain about {first.gain:.2g} nats per row" in text
    assert "strongest dependence left: y0 and y1, with a rank correlation of" in text
    worst = max(report.effects, key=lambda effect: abs(effect.coverage - 0.9))
    assert f"what says 90 % holds {100 * worst.coverage:.1f} %" in report.verdict()


def test_the_picture_of_a_report():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    X, y = gaussian_data(300)
    report = calibration_report(Model(), X, y, n_draws=20, random_state=0)
    display = report.plot()
    assert list(display.axes_) == ["effects", "rosenblatt", "ranks", "coverage", "local"]
    shown = display.axes_["effects"].lines[1].get_xdata()
    np.testing.assert_allclose(shown, [100 * effect.coverage for effect in report.effects])
    assert f"p = {report.ranks.pvalue:.2g}" in display.axes_["ranks"].get_title()
    one = calibration_report(Model(), X, y, n_draws=20, diagnostics=["tarp"], random_state=0)
    assert list(one.plot().axes_) == ["effects", "coverage"]
    own = calibration_report(
        Model(), X, y, diagnostics=[lambda *_: SimpleNamespace(pvalue=0.5, summary=str)]
    )
    with pytest.raises(ValueError, match="None of the diagnostics <lambda> can be drawn"):
        own.plot()
    plt.close("all")


def test_nan_from_a_density_is_reported():
    X, y = gaussian_data(30)
    model = Model(np.array([[-1.0, 0.0], [0.0, 1.0]]))
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="nan for 30 of 30 values"):
        calibration_report(model, X, y, n_draws=5, diagnostics=["hpd"], random_state=0)


def test_report_of_a_fitted_estimator(bimodal, fitted):
    X, y, _ = bimodal
    report = calibration_report(fitted, X, y, n_draws=50, random_state=0)
    again = calibration_report(fitted, X, y, n_draws=50, random_state=0)
    assert report.pvalues == again.pvalues
    assert all(0.0 <= p <= 1.0 for p in report.pvalues.values())
    np.testing.assert_array_equal(report.rosenblatt.u, fitted.predict_density(X).cdf(y))


def test_report_with_labels_and_whole_numbers():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, size=300)
    labels = np.where(random.uniform(size=300) < 0.5 + 0.4 * x, "late", "early")
    y = np.column_stack([labels, random.poisson(3.0, size=300)]).astype(object)
    y[:, 1] = y[:, 1].astype(int)
    est = small(likelihood=["categorical", "ordinal"], epochs=15).fit(x[:, None], y)
    report = calibration_report(est, x[:, None], y, n_draws=50, random_state=0)
    assert min(report.pvalues.values()) > 1e-3  # a good fit of its own training rows
    wrong = y[:, 0].copy()
    wrong[:] = "late"
    y[:, 0] = wrong
    report = calibration_report(est, x[:, None], y, n_draws=50, random_state=0)
    assert report.ranks.pvalues[0] < 1e-6


def test_labels_become_their_order():
    targets = diagnostic.NumericTargets(np.array([["b", 2], ["d", 1]], dtype=object))
    np.testing.assert_array_equal(targets.numbers, [[0.0, 2.0], [1.0, 1.0]])
    draws = np.array([["a", 3], ["c", 1], ["d", 0]], dtype=object)
    np.testing.assert_array_equal(targets.encode(draws)[:, 0], [-0.5, 0.5, 1.0])


def of_the_first_output(held_out, random):
    """A diagnostic of one's own: Kolmogorov and Smirnov's test of one output, jittered."""
    assert held_out.truth.shape == held_out.u.shape
    u = np.clip(held_out.u[:, 0] + 1e-12 * random.uniform(size=len(held_out.u)), 0.0, 1.0)
    pvalue = stats.kstest(u, "uniform").pvalue
    return SimpleNamespace(pvalue=pvalue, summary=lambda: f"First output: p = {pvalue:.3g}")


def test_a_function_is_a_diagnostic():
    X, y = gaussian_data(200)
    diagnostics = ["rosenblatt", of_the_first_output]
    report = calibration_report(Model(), X, y, diagnostics=diagnostics, random_state=0)
    own = report.results["of_the_first_output"]
    assert report.pvalues == {
        "rosenblatt": report.rosenblatt.pvalue,
        "of_the_first_output": own.pvalue,
    }
    assert own.pvalue == pytest.approx(report.rosenblatt.ks_pvalues[0], rel=1e-6)
    assert report.summary().endswith(own.summary())
    assert report.ranks is None
    wrong = calibration_report(
        Model(shift=0.5), X, y, diagnostics=[of_the_first_output], random_state=0
    )
    assert wrong.pvalue < 1e-6


def test_a_registered_diagnostic_reads_draws_and_leaves_the_others_alone(monkeypatch):
    def below_zero(held_out, some, random):
        assert some.numbers.shape == (len(some.density), 30, 2)
        return (some.numbers < 0.0).mean(axis=1)

    def test(held_out, random, kept):
        error = np.sqrt(kept * (1.0 - kept) / len(kept)).mean(axis=0)
        z = ((held_out.truth < 0.0).mean(axis=0) - kept.mean(axis=0)) / error
        pvalue = float(np.clip(4.0 * stats.norm.sf(np.abs(z).max()), 0.0, 1.0))
        return SimpleNamespace(pvalue=pvalue, summary=lambda: "Share below 0")

    X, y = gaussian_data(200)
    before = calibration_report(Model(), X, y, n_draws=30, random_state=0)
    monkeypatch.setitem(DIAGNOSTICS, "below_zero", DrawsDiagnostic(below_zero, test))
    monkeypatch.setattr(diagnostic, "CHUNK", 7 * 60)  # some rows at a time
    small = calibration_report(Model(), X, y, n_draws=30, random_state=0)
    assert list(small.pvalues) == [*before.pvalues, "below_zero"]
    assert small.pvalues["below_zero"] > 0.01
    monkeypatch.setattr(diagnostic, "CHUNK", 1_000_000)
    report = calibration_report(Model(), X, y, n_draws=30, random_state=0)
    assert {name: report.pvalues[name] for name in before.pvalues} == before.pvalues
    wrong = calibration_report(
        Model(shift=0.5), X, y, n_draws=30, diagnostics=["below_zero"], random_state=0
    )
    assert wrong.pvalue < 1e-6


def test_the_benchmark_measures_power():
    path = Path(__file__).parents[1] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    shares = benchmark.power(benchmark.without_dependence, 150, 2, 20, 2)
    assert len(shares) == len(DIAGNOSTICS) + 1
    assert shares[0] == 1.0


# What is refused


def test_results_are_frozen():
    result = rosenblatt_test(np.linspace(0, 1, 30))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.pvalue = 0.0


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (np.full((30, 2), 1.5), "u must lie between 0 and 1, got 1.5"),
        (np.full((30, 2), np.nan), "u must lie between 0 and 1, got nan"),
        (np.zeros((5, 2)), "u has 5 rows; at least 20"),
        (np.zeros((30, 2, 2)), r"u must have shape \(n_rows, n_outputs\), got \(30, 2, 2\)"),
    ],
)
def test_bad_coordinates(u, message):
    with pytest.raises(ValueError, match=message):
        rosenblatt_test(u)


@pytest.mark.parametrize(
    ("draws", "y", "message"),
    [
        (np.zeros((30, 4, 2)), np.zeros((30, 3)), r"got shapes \(30, 4, 2\) and \(30, 3\)"),
        (np.zeros((30, 4)), np.zeros((30, 1)), r"got shapes \(30, 4\) and \(30, 1\)"),
        (np.zeros((30, 1, 2)), np.zeros((30, 2)), "draws has 1 draws; at least 2"),
        (np.full((30, 4, 2), np.nan), np.zeros((30, 2)), "draws has 240 values that are nan"),
        (np.zeros((10, 4, 2)), np.zeros((10, 2)), "y has 10 rows; at least 20"),
    ],
)
def test_bad_draws(draws, y, message):
    for test in (rank_test_from_draws, tarp_coverage_from_draws):
        with pytest.raises(ValueError, match=message):
            test(draws, y)


def test_bad_parameters():
    draws, y, _ = correlated(30, 10, 0)
    u, X = np.full((30, 1), 0.5), np.zeros((30, 1))
    with pytest.raises(ValueError, match=r"references must be one of 'uniform', .* got 'far'"):
        tarp_coverage_from_draws(draws, y, references="far")
    with pytest.raises(ValueError, match=r"finite points of shape \(30, n_references, 2\); got an"):
        tarp_coverage_from_draws(draws, y, references=np.zeros((30, 2)))
    with pytest.raises(ValueError, match=r"confidence must be .* got 1.5"):
        rank_test_from_draws(draws, y, confidence=1.5)
    with pytest.raises(ValueError, match="output_names has 1 entries, but there are 2 outputs"):
        rank_test_from_draws(draws, y, output_names=["a"])
    with pytest.raises(ValueError, match="levels must be numbers strictly between 0 and 1"):
        local_calibration(u, X, levels=(0.5, 1.0))
    with pytest.raises(ValueError, match=r"each of the 30 rows; 'by' has shape \(3,\)"):
        local_calibration(u, X, by=[1, 2, 3])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        local_calibration(u, X[:20])


def test_bad_reports():
    X, y = gaussian_data(30)
    with pytest.raises(ValueError, match=r"diagnostics must be one of .* got 'pit'"):
        calibration_report(Model(), X, y, diagnostics=["pit"])
    with pytest.raises(
        TypeError, match="diagnostics must be a sequence of names or callables, got 'tarp'"
    ):
        calibration_report(Model(), X, y, diagnostics="tarp")
    with pytest.raises(TypeError, match=r"'<lambda>' returned 0.5; results need a pvalue"):
        calibration_report(Model(), X, y, diagnostics=[lambda held_out, random: 0.5])
    with pytest.raises(TypeError, match=r"'<lambda>' returned .*; results need a pvalue"):
        calibration_report(
            Model(), X, y, diagnostics=[lambda held_out, random: SimpleNamespace(pvalue=np.nan)]
        )
    with pytest.raises(ValueError, match="diagnostics has two of the name '<lambda>'"):
        calibration_report(Model(), X, y, diagnostics=[lambda h, r: 0.5, lambda h, r: 0.6])
    with pytest.raises(ValueError, match="diagnostics is empty"):
        calibration_report(Model(), X, y, diagnostics=[])
    with pytest.raises(ValueError, match="y has 19 rows; at least 20"):
        calibration_report(Model(), X[:19], y[:19])
    with pytest.raises(ValueError, match="n_draws must be an integer of at least 2, got 1"):
        calibration_report(Model(), X, y, n_draws=1)


def test_a_report_takes_tables_of_astropy(fitted):
    table = pytest.importorskip("astropy.table").Table
    X, y, _ = make_bimodal(150, random_state=1)
    options = {"diagnostics": ["rosenblatt", "local"], "random_state": 0}
    own = calibration_report(fitted, table({"x0": X[:, 0]}), y, **options)
    assert own.pvalues == calibration_report(fitted, X, y, **options).pvalues
