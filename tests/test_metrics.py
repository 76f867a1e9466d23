"""Scores against closed forms, quadrature and double loops; propriety; scorers in scikit-learn."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import small
from scipy import stats
from scipy.integrate import quad
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import check_scoring, mean_pinball_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san import metrics
from sklearn_san.metrics import (
    SCORERS,
    DrawsScorer,
    IntervalScorer,
    LogScorer,
    QuantileScorer,
    coverage_error,
    crps,
    crps_gaussian,
    energy_score,
    interval_coverage,
    interval_score,
    interval_width,
    log_score,
    pinball_loss,
    pit_values,
)

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(12, 2))
DRAWS = RNG.normal(size=(12, 7, 2))
INTERVAL = np.sort(RNG.normal(size=(12, 2, 2)), axis=1)
LEVELS = [0.2, 0.5, 0.9]
QUANTILES = np.sort(RNG.normal(size=(12, 3, 2)), axis=1)
LOC = RNG.normal(size=(12, 4, 2))
SCALE = RNG.uniform(0.1, 2.0, size=(12, 4, 2))
WEIGHTS = np.moveaxis(RNG.dirichlet(np.ones(4), size=(12, 2)), 2, 1)

#: Every metric of y: the arrays whose rows it takes, and how to call it with them.
CASES = {
    "crps": ((Y, DRAWS), crps),
    "crps_biased": ((Y, DRAWS), lambda y, d, **k: crps(y, d, fair=False, **k)),
    "crps_gaussian": ((Y, LOC[:, 0], SCALE[:, 0]), crps_gaussian),
    "crps_mixture": ((Y, LOC, SCALE, WEIGHTS), crps_gaussian),
    "energy_score": ((Y, DRAWS), energy_score),
    "pinball_loss": ((Y, QUANTILES), lambda y, q, **k: pinball_loss(y, q, LEVELS, **k)),
    "interval_score": ((Y, INTERVAL), lambda y, i, **k: interval_score(y, i, 0.8, **k)),
    "interval_coverage": ((Y, INTERVAL), interval_coverage),
    "interval_width": ((INTERVAL,), interval_width),
}
each_metric = pytest.mark.parametrize("case", CASES)
each_of_outputs = pytest.mark.parametrize("case", [c for c in CASES if c != "energy_score"])


# Values


def quadrature_of_crps(y, cdf):
    """Integral of the squared distance of the cdf to the step at y."""
    left = quad(lambda t: cdf(t) ** 2, -30, y, epsabs=1e-11, limit=200)[0]
    return left + quad(lambda t: (1 - cdf(t)) ** 2, y, 30, epsabs=1e-11, limit=200)[0]


def test_crps_of_gaussians_and_mixtures_by_quadrature():
    y, loc, scale, weights = Y[:4, 0], LOC[:4, :, 0], SCALE[:4, :, 0], WEIGHTS[:4, :, 0]
    exact = [
        quadrature_of_crps(
            y[i], lambda t, i=i: (weights[i] * stats.norm.cdf(t, loc[i], scale[i])).sum()
        )
        for i in range(4)
    ]
    np.testing.assert_allclose(
        crps_gaussian(y, loc, scale, weights, per_row=True), exact, atol=1e-8
    )
    exact = [
        quadrature_of_crps(y[i], lambda t, i=i: stats.norm.cdf(t, loc[i, 0], scale[i, 0]))
        for i in range(4)
    ]
    single = crps_gaussian(y, loc[:, 0], scale[:, 0], per_row=True)
    np.testing.assert_allclose(single, exact, atol=1e-8)
    one_component = crps_gaussian(y, loc[:, :1], scale[:, :1], np.ones((4, 1)), per_row=True)
    np.testing.assert_array_equal(one_component, single)


def test_crps_of_a_gaussian_in_the_tail_and_in_the_limit_of_a_point():
    assert crps_gaussian([1e8], [0.0], [1.0]) == pytest.approx(1e8 - 1 / np.sqrt(np.pi))
    assert crps_gaussian([2.0], [5.0], [1e-12]) == pytest.approx(3.0)


@pytest.mark.parametrize("fair", [True, False])
def test_scores_of_draws_against_a_double_loop(fair):
    n_draws = DRAWS.shape[1]
    n_pairs = n_draws * (n_draws - 1 if fair else n_draws)
    unit = np.array([2.0, 0.5])
    for i, (point, draws) in enumerate(zip(Y, DRAWS, strict=True)):
        error = np.mean([abs(a - point) for a in draws], axis=0)
        spread = sum(abs(a - b) for a in draws for b in draws) / n_pairs
        loop = error - spread / 2
        result = crps(Y, DRAWS, fair=fair, per_row=True, multioutput="raw_values")[i]
        np.testing.assert_allclose(result, loop)
        error = np.mean([np.linalg.norm((a - point) / unit) for a in draws])
        spread = sum(np.linalg.norm((a - b) / unit) for a in draws for b in draws) / n_pairs
        result = energy_score(Y, DRAWS, fair=fair, scale=unit, per_row=True)[i]
        assert result == pytest.approx(error - spread / 2)


def test_energy_score_of_one_output_is_the_crps():
    flat = np.zeros(12)
    two_y, two_draws = np.stack([Y[:, 0], flat], axis=1), DRAWS * [1.0, 0.0]
    for fair in (True, False):
        expected = crps(Y[:, 0], DRAWS[..., 0], fair=fair, per_row=True)
        score = energy_score(Y[:, 0], DRAWS[..., 0], fair=fair, scale=[2.0], per_row=True)
        np.testing.assert_allclose(score, expected / 2.0)
        np.testing.assert_allclose(
            energy_score(two_y, two_draws, fair=fair, per_row=True), expected
        )


def test_fair_crps_has_no_bias_and_the_other_has_the_known_one():
    # 40,000 rows with a standard deviation of 0.6: off by 0.015 once in 1.7 million
    y, draws = np.zeros(40_000), np.random.default_rng(1).normal(size=(40_000, 3))
    exact = crps_gaussian([0.0], [0.0], [1.0])
    assert crps(y, draws) == pytest.approx(exact, abs=0.015)
    # E|Y' - Y''| / (2 n_draws) for standard normal draws
    bias = 1 / np.sqrt(np.pi) / 3
    assert crps(y, draws, fair=False) == pytest.approx(exact + bias, abs=0.015)


def test_a_large_offset_costs_no_digits():
    y, draws = np.round(1024 * Y) / 1024, np.round(1024 * DRAWS) / 1024
    # Exactly representable, but not the sum over several draws
    assert crps(y + 2**42, draws + 2**42) == pytest.approx(crps(y, draws), rel=1e-12)


def test_memory_is_bounded_by_chunks_that_do_not_change_the_results(monkeypatch):
    names = ("crps", "crps_mixture", "energy_score")
    whole = [CASES[name][1](*CASES[name][0]) for name in names]
    monkeypatch.setattr("sklearn_san.metrics.averages._CHUNK", 40)
    monkeypatch.setattr("sklearn_san.metrics.draws._BLOCK", 3)
    for value, name in zip(whole, names, strict=True):
        assert CASES[name][1](*CASES[name][0]) == pytest.approx(value)


def test_scale_by_standard_deviations():
    y, draws = Y * [1.0, 1000.0], DRAWS * [1.0, 1000.0]
    value = energy_score(y, draws, scale="std")
    assert value == pytest.approx(energy_score(Y, DRAWS, scale=Y.std(axis=0)))
    assert value == pytest.approx(energy_score(Y / Y.std(axis=0), DRAWS / Y.std(axis=0)))


def test_pinball_loss_is_that_of_scikit_learn_and_integrates_to_half_the_crps():
    for j, level in enumerate(LEVELS):
        expected = mean_pinball_loss(Y, QUANTILES[:, j], alpha=level)
        assert pinball_loss(Y, QUANTILES[:, [j]], level) == pytest.approx(expected)
    levels = (np.arange(4000) + 0.5) / 4000
    quantiles = stats.norm.ppf(levels, loc=0.3, scale=2.0)[None]
    half = pinball_loss([1.5], quantiles, levels)
    assert half == pytest.approx(crps_gaussian([1.5], [0.3], [2.0]) / 2, rel=1e-4)


def test_interval_score_is_a_sum_of_pinball_losses():
    level = 0.8
    alpha = 1 - level
    lower = pinball_loss(Y, INTERVAL[:, :1], alpha / 2, per_row=True)
    upper = pinball_loss(Y, INTERVAL[:, 1:], 1 - alpha / 2, per_row=True)
    score = interval_score(Y, INTERVAL, level, per_row=True)
    np.testing.assert_allclose(score, 2 / alpha * (lower + upper))


def test_coverage_and_width_by_hand():
    y = np.array([[0.0, 5.0], [1.0, 1.0], [2.0, 1.0]])
    interval = np.tile([[0.0, 0.0], [1.0, 3.0]], (3, 1, 1))
    raw = interval_coverage(y, interval, multioutput="raw_values")
    np.testing.assert_allclose(raw, [2 / 3, 2 / 3])
    np.testing.assert_array_equal(interval_coverage(y, interval, per_row=True), [0.5, 1.0, 0.5])
    np.testing.assert_array_equal(interval_width(interval, multioutput="raw_values"), [1.0, 3.0])
    assert interval_width(interval, multioutput=[3, 1]) == 1.5
    assert interval_width([[1, 2], [3, 6]]) == 2.0
    # Errors of opposite sign do not cancel
    interval[:, :, 1] = [-1.0, 0.0]
    assert coverage_error(y, interval, 1 / 3) == pytest.approx(1 / 3)
    np.testing.assert_allclose(
        coverage_error(y, interval, 0.5, multioutput="raw_values"), [1 / 6, 1 / 2]
    )


def test_log_score():
    assert log_score([-1.0, 3.0]) == 1.0
    assert log_score([-1.0, -np.inf]) == -np.inf
    assert log_score([-1.0, -np.inf, 2.0], sample_weight=[3, 0, 1]) == -0.25
    assert log_score([-1.0, -np.inf], sample_weight=[1, 1e-300]) == -np.inf
    assert isinstance(log_score(np.zeros(3, dtype=np.float32)), float)


# The scheme that all share


@each_metric
def test_means_over_rows_and_weights(case):
    arrays, metric = CASES[case]
    each, mean = metric(*arrays, per_row=True), metric(*arrays)
    assert each.shape == (12,)
    assert isinstance(mean, float)
    assert mean == pytest.approx(each.mean())
    counts = np.arange(12) % 4
    repeated = metric(*(np.repeat(a, counts, axis=0) for a in arrays))
    assert metric(*arrays, sample_weight=counts) == pytest.approx(repeated)
    assert metric(*arrays, sample_weight=0.1 * counts) == pytest.approx(repeated)
    with pytest.raises(ValueError, match="per_row=True takes none; leave one"):
        metric(*arrays, sample_weight=counts, per_row=True)


def test_weights_equal_repeated_rows_in_the_standard_deviation_and_the_coverage_error():
    counts = np.arange(12) % 4
    y, draws, interval = (np.repeat(a, counts, axis=0) for a in (Y, DRAWS, INTERVAL))
    expected = energy_score(y, draws, scale="std")
    assert energy_score(Y, DRAWS, scale="std", sample_weight=counts) == pytest.approx(expected)
    expected = coverage_error(y, interval, 0.8)
    assert coverage_error(Y, INTERVAL, 0.8, sample_weight=counts) == pytest.approx(expected)


@each_of_outputs
def test_means_over_outputs(case):
    arrays, metric = CASES[case]
    each = metric(*arrays, per_row=True, multioutput="raw_values")
    assert each.shape == (12, 2)
    np.testing.assert_allclose(metric(*arrays, multioutput="raw_values"), each.mean(axis=0))
    np.testing.assert_allclose(metric(*arrays, per_row=True), each.mean(axis=1))
    weighted = metric(*arrays, multioutput=[1, 3])
    assert weighted == pytest.approx((each @ [0.25, 0.75]).mean())


@each_metric
def test_one_output_with_and_without_its_axis(case):
    arrays, metric = CASES[case]
    with_axis, without = [a[..., :1] for a in arrays], [a[..., 0] for a in arrays]
    value = metric(*with_axis)
    assert metric(*without) == value
    assert metric(with_axis[0], *without[1:]) == value
    assert metric(*(a.astype(np.float32) for a in without)) == pytest.approx(value, rel=1e-5)
    assert metric(*(a.tolist() for a in without)) == value
    frame = [pd.DataFrame(a) if a.ndim == 2 else a for a in with_axis]
    assert metric(*frame) == value
    one_row = metric(*(a[:1] for a in with_axis))
    assert one_row == metric(*with_axis, per_row=True)[0]


@each_metric
def test_order_of_rows_outputs_and_draws_does_not_matter(case):
    arrays, metric = CASES[case]
    rng = np.random.default_rng(3)
    rows = rng.permutation(12)
    np.testing.assert_allclose(
        metric(*(a[rows] for a in arrays), per_row=True), metric(*arrays, per_row=True)[rows]
    )
    assert metric(*(a[..., ::-1] for a in arrays)) == pytest.approx(metric(*arrays))
    if case.startswith(("crps", "energy")):
        shuffled = [a[:, ::-1] if a.ndim == 3 else a for a in arrays]
        assert metric(*shuffled) == pytest.approx(metric(*arrays))


@pytest.mark.parametrize("case", ["crps", "crps_gaussian", "crps_mixture", "pinball_loss",
                                  "interval_score", "energy_score"])  # fmt: skip
def test_scores_are_in_the_units_of_y_and_leave_the_origin_out(case):
    arrays, metric = CASES[case]
    factors = [0.0 if a is WEIGHTS or a is SCALE else 1.0 for a in arrays]
    if case == "crps_gaussian":
        factors[2] = 0.0
    moved = [a + 5.0 * f for a, f in zip(arrays, factors, strict=True)]
    assert metric(*moved) == pytest.approx(metric(*arrays))
    scaled = [a if a is WEIGHTS else 3.0 * a for a in arrays]
    assert metric(*scaled) == pytest.approx(3.0 * metric(*arrays))


def test_inputs_are_not_changed():
    for arrays, metric in CASES.values():
        before = [a.copy() for a in arrays]
        metric(*arrays)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_booleans_are_keyword_only_and_all_names_have_a_line_in_the_map():
    for name in metrics.__all__:
        assert f"`{name}`" in metrics.__doc__
        if inspect.isfunction(getattr(metrics, name)):
            parameters = inspect.signature(getattr(metrics, name)).parameters
            for flag in {"fair", "per_row"} & set(parameters):
                assert parameters[flag].kind is inspect.Parameter.KEYWORD_ONLY


# Propriety: the truth is N(0, 1), or a correlated pair; rivals are shifted, wider or narrower.
# Each rival loses by more than 5 standard errors of the difference: a false alarm in 3 million.

RIVALS = [(0.3, 1.0), (0.0, 1.4), (0.0, 0.7), (-0.3, 1.2)]


def assert_truth_wins(losses, truth):
    for rival, loss in losses.items():
        difference = loss - truth
        error = difference.std() / np.sqrt(len(difference))
        assert difference.mean() > 5 * error, rival


@pytest.mark.parametrize("score", ["log", "crps", "crps_gaussian", "pinball", "interval"])
def test_the_true_density_has_the_best_score(score):
    rng = np.random.default_rng(5)
    n_rows = 20_000
    y, noise = rng.normal(size=n_rows), rng.normal(size=(n_rows, 30))
    ones = np.ones(n_rows)

    def loss(loc, scale):
        quantiles = np.tile(stats.norm.ppf([0.1, 0.5, 0.9], loc, scale), (n_rows, 1))
        return {
            "log": lambda: -stats.norm.logpdf(y, loc, scale),
            "crps": lambda: crps(y, loc + scale * noise, per_row=True),
            "crps_gaussian": lambda: crps_gaussian(y, loc * ones, scale * ones, per_row=True),
            "pinball": lambda: pinball_loss(y, quantiles, [0.1, 0.5, 0.9], per_row=True),
            "interval": lambda: interval_score(y, quantiles[:, ::2], 0.8, per_row=True),
        }[score]()

    assert_truth_wins({rival: loss(*rival) for rival in RIVALS}, loss(0.0, 1.0))


def test_energy_score_sees_dependence_that_the_crps_does_not():
    rng = np.random.default_rng(6)
    factor = np.linalg.cholesky([[1.0, 0.9], [0.9, 1.0]])
    y = rng.normal(size=(6000, 2)) @ factor.T
    noise = rng.normal(size=(6000, 40, 2))
    truth, independent = noise @ factor.T, noise
    assert_truth_wins(
        {"independent": energy_score(y, independent, per_row=True)},
        energy_score(y, truth, per_row=True),
    )
    assert crps(y, independent) == pytest.approx(crps(y, truth), abs=0.01)


# PIT


@pytest.mark.parametrize(("kind", "n_draws"), [("normal", 1), ("poisson", 9), ("constant", 50)])
def test_pit_is_exactly_uniform_for_an_exact_sampler(kind, n_draws):
    rng = np.random.default_rng(7)
    draw = {
        "normal": lambda size: rng.normal(size=size),
        "poisson": lambda size: rng.poisson(1.5, size=size),
        "constant": np.zeros,
    }[kind]
    u = pit_values(draw((5000, 2)), draw((5000, n_draws, 2)), random_state=0)
    assert u.shape == (5000, 2)
    assert ((u >= 0) & (u < 1)).all()
    for column in u.T:  # 6 tests at 1e-4
        assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_pit_by_hand_and_its_randomness():
    y, draws = [0.0, 2.0, 9.0], [[1.0, 2.0, 3.0]] * 3
    u = pit_values(y, draws, random_state=np.random.RandomState(0))
    assert u.shape == (3,)
    v = np.random.RandomState(0).uniform(size=3)
    np.testing.assert_allclose(u, [v[0] / 4, (1 + 2 * v[1]) / 4, (3 + v[2]) / 4])
    np.testing.assert_array_equal(u, pit_values(y, draws, random_state=0))
    assert (pit_values(y, draws) != pit_values(y, draws)).all()


# Wrong input, each with its message


def changed(array, value, *index):
    array = np.array(array, dtype=object if isinstance(value, str) else float)
    array[index] = value
    return array


Y1, D1, I1 = Y[:, 0], DRAWS[..., 0], INTERVAL[..., 0]
BAD = [
    (lambda: crps(Y[:, :, None], DRAWS), r"\(n_rows,\) or \(n_rows, n_outputs\), got \(12, 2, 1\)"),
    (lambda: crps(Y, DRAWS[:5]), r"y_draws has shape \(5, 7, 2\); with 12 rows and 2 outputs it "
     r"must be \(12, n_draws, 2\)\.$"),
    (lambda: crps(Y, DRAWS[..., 0]), r"y_draws has shape \(12, 7\); .* \(12, n_draws, 2\)"),
    (lambda: crps(Y1, D1[0]), r"y_draws has shape \(7,\); with 12 rows and 1 output it must be "
     r"\(12, n_draws, 1\) or \(12, n_draws\)\.$"),
    (lambda: crps(Y1, DRAWS), r"y_draws has shape \(12, 7, 2\); .* \(12, n_draws, 1\)"),
    (lambda: crps(Y, DRAWS[:, :0]), r"y_draws has shape \(12, 0, 2\)"),
    (lambda: crps(Y, DRAWS[:, :1]), "fair=True needs at least 2 draws .* got 1; set fair=False"),
    (lambda: energy_score(Y, DRAWS[:, :1]), "fair=True needs at least 2 draws"),
    (lambda: crps(Y[:0], DRAWS[:0]), "0 sample"),
    (lambda: crps(changed(Y, np.nan, 3, 0), DRAWS), "Input y_true contains NaN"),
    (lambda: crps(changed(Y, "red", 3, 0), DRAWS), "could not convert string to float: 'red'"),
    (lambda: crps(Y, changed(DRAWS, np.nan, 3, 0, 0)), "Input y_draws contains NaN"),
    (lambda: energy_score(Y, changed(DRAWS, np.inf, 3, 0, 0)), "Input y_draws contains infinity"),
    (lambda: crps(Y, DRAWS, multioutput="mean"), "multioutput must be .* got 'mean'"),
    (lambda: crps(Y, DRAWS, multioutput=[1, 2, 3]), r"multioutput has shape \(3,\); .* \(2,\)"),
    (lambda: crps(Y, DRAWS, multioutput=[1, -1]), r"not negative .* got \[1.0, -1.0\]"),
    (lambda: crps(Y, DRAWS, sample_weight=[1, 2]), r"must have shape \(12,\), .* got \(2,\)"),
    (lambda: crps(Y, DRAWS, sample_weight=-Y1**2), "sample_weight must not be negative, got -"),
    (lambda: crps(Y, DRAWS, sample_weight=0 * Y1), "sample_weight is zero for every row"),
    (lambda: crps(Y, DRAWS, sample_weight=Y1 * np.nan), "Input sample_weight contains NaN"),
    (lambda: crps_gaussian(Y, Y[:5], Y), r"loc has shape \(5, 2\); .* must be \(12, 2\)\.$"),
    (lambda: crps_gaussian(Y1, Y1, Y), r"scale has shape \(12, 2\); .* \(12, 1\) or \(12,\)\.$"),
    (lambda: crps_gaussian(Y, Y, 0 * Y), "scale must be positive, got 0"),
    (lambda: crps_gaussian(Y, LOC, SCALE[:, :3], WEIGHTS), r"scale .* must be \(12, K=4, 2\)"),
    (lambda: crps_gaussian(Y, LOC[..., 0], SCALE, WEIGHTS), r"loc has shape \(12, 4\)"),
    (lambda: crps_gaussian(Y, LOC, SCALE, 2 * WEIGHTS), "furthest from 1 is 2"),
    (lambda: crps_gaussian(Y1, [[0, 0]] * 12, [[1, 1]] * 12, [[2, -1]] * 12), "the least is -1"),
    (lambda: energy_score(Y, DRAWS, scale="iqr"), "'std', numbers or None; got 'iqr'"),
    (lambda: energy_score(Y, DRAWS, scale=[1, 2, 3]), r"scale has shape \(3,\); it must be \(2,\)"),
    (lambda: energy_score(Y, DRAWS, scale=[1, -2]), "finite, got -2 for output 1"),
    (lambda: energy_score(0 * Y, DRAWS, scale="std"), r"got 0 for output 0 \(y_true is constant\)"),
    (lambda: pinball_loss(Y, QUANTILES, [0.1, 0.5, 1.0]), r"0 and 1, got \[0.1, 0.5, 1.0\]"),
    (lambda: pinball_loss(Y, QUANTILES, []), r"0 and 1, got \[\]"),
    (lambda: pinball_loss(Y, QUANTILES, "half"), "levels must be numbers .* got 'half'"),
    (lambda: pinball_loss(Y, QUANTILES, 0.5), r"\(12, 3, 2\); .* must be \(12, 1, 2\)"),
    (lambda: pinball_loss(Y, Y, 0.5), r"\(12, 2\); .* must be \(12, 1, 2\)"),
    (lambda: pinball_loss(Y, QUANTILES * np.nan, LEVELS), "Input y_quantiles contains NaN"),
    (lambda: interval_score(Y, INTERVAL, 1.0), "level must lie strictly between 0 and 1, got 1.0"),
    (lambda: coverage_error(Y, INTERVAL, 90), "level must lie strictly between 0 and 1, got 90"),
    (lambda: IntervalScorer(interval_score, 0.0), "level must lie .* got 0.0"),
    (lambda: QuantileScorer(pinball_loss, [0.0, 0.5]), r"between 0 and 1, got \[0.0, 0.5\]"),
    (lambda: interval_score(Y, DRAWS, 0.9), r"y_interval has shape \(12, 7, 2\); .* \(12, 2, 2\)"),
    (lambda: interval_width(Y1), r"y_interval has shape \(12,\); .* \(12, 2, 1\) or \(12, 2\)"),
    (lambda: interval_width(INTERVAL * np.nan), "Input y_interval contains NaN"),
    (
        lambda: interval_coverage(Y1, changed(I1, [2.0, 1.0], 4)),
        "has 1 lower bound above the upper one, such as 2 > 1 in row 4, output 0; give the lower",
    ),
    (lambda: interval_width(INTERVAL[:, ::-1]), "has 24 lower bounds above .* in row 0, output 0"),
    (lambda: pit_values(Y, DRAWS[:5]), r"y_draws has shape \(5, 7, 2\)"),
    (lambda: pit_values(Y1, D1, random_state="x"), "'x' cannot be used to seed"),
    (lambda: log_score(Y), r"log_prob must have shape \(n_rows,\), .* got \(12, 2\)"),
    (lambda: log_score([0.0, np.nan]), "log_prob has nan in row 1; it must hold numbers or -inf"),
    (lambda: log_score([np.inf, 0.0]), "log_prob has inf in row 0"),
    (lambda: log_score([0.0, 1.0], sample_weight=[1]), r"\(2,\), one weight per row; got \(1,\)"),
    (lambda: SCORERS["log_score"].set_score_request(sample_weight=3), "alias"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m for _, m in BAD])
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("level", ["0.9", True, [0.5, 0.9]])
def test_a_level_must_be_a_number(level):
    for call in (
        lambda: interval_score(Y, INTERVAL, level),
        lambda: IntervalScorer(interval_score, level),
    ):
        with pytest.raises(TypeError, match="level must be a number between 0 and 1, got"):
            call()


# Scorers


class StandardNormal(RegressorMixin, BaseEstimator):
    """Independent Gaussians around a constant, with the interface that scorers need."""

    def __init__(self, loc=0.0, scale=1.0):
        self.loc = loc
        self.scale = scale

    def fit(self, X, y, sample_weight=None):
        self.n_outputs_ = np.asarray(y).shape[1]
        return self

    def predict(self, X, *, output_type="mean", quantiles=0.5, n_samples=1, random_state=None):
        if output_type == "quantiles":
            values = stats.norm.ppf(quantiles, self.loc, self.scale)[:, None]
            return np.tile(values, (len(X), 1, self.n_outputs_))
        assert output_type == "samples"
        shape = (len(X), n_samples, self.n_outputs_)
        return self.loc + self.scale * np.random.default_rng(random_state).normal(size=shape)

    def score(self, X, y, sample_weight=None):
        log_prob = stats.norm.logpdf(y, self.loc, self.scale).sum(axis=1)
        return log_score(log_prob, sample_weight=sample_weight)


@pytest.fixture(scope="module")
def normal():
    """X, y and a model that is exact."""
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(900, 1)), rng.normal(size=(900, 2))
    return X, y, StandardNormal().fit(X, y)


def test_scorers_are_their_metrics_with_the_sign_turned(normal):
    X, y, est = normal
    weight = np.arange(900.0)
    draws = est.predict(X, output_type="samples", n_samples=200, random_state=0)
    levels = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    quantiles = est.predict(X, output_type="quantiles", quantiles=levels)
    interval = est.predict(X, output_type="quantiles", quantiles=[0.05, 0.95])
    for w in (None, weight):
        expected = {
            "log_score": est.score(X, y, w),
            "neg_crps": -crps(y, draws, sample_weight=w),
            "neg_energy_score": -energy_score(y, draws, sample_weight=w),
            "neg_pinball_loss": -pinball_loss(y, quantiles, levels, sample_weight=w),
            "neg_interval_score": -interval_score(y, interval, 0.9, sample_weight=w),
            "neg_coverage_error": -coverage_error(y, interval, 0.9, sample_weight=w),
        }
        values = {name: score(est, X, y, sample_weight=w) for name, score in SCORERS.items()}
        assert values == pytest.approx(expected)
    assert all(type(value) is float for value in values.values())


@pytest.mark.parametrize("rival", [StandardNormal(loc=0.5), StandardNormal(scale=2.0)])
def test_every_scorer_prefers_the_truth(normal, rival):
    X, y, est = normal
    rival.fit(X, y)
    for scorer in SCORERS.values():
        assert scorer(est, X, y) > scorer(rival, X, y)


def test_parameters_of_scorers(normal):
    X, y, est = normal
    draws = est.predict(X, output_type="samples", n_samples=20, random_state=3)
    scorer = DrawsScorer(energy_score, n_draws=20, random_state=3, scale="std")
    assert scorer(est, X, y) == -energy_score(y, draws, scale="std")
    scorer = IntervalScorer(
        lambda y, interval, level: interval_coverage(y, interval), 0.5, greater_is_better=True
    )
    assert scorer(est, X, y) == pytest.approx(0.5, abs=0.06)
    assert repr(DrawsScorer(crps, fair=False, greater_is_better=True)) == (
        "DrawsScorer(crps, n_draws=200, random_state=0, fair=False, greater_is_better=True)"
    )
    assert repr(LogScorer()) == "LogScorer()"


def test_scorers_can_be_pickled_and_do_not_depend_on_global_state(fitted, bimodal):
    X, y, _ = (a[:20] if isinstance(a, np.ndarray) else a for a in bimodal)
    restored = pickle.loads(pickle.dumps(SCORERS))
    for name, scorer in SCORERS.items():
        value = scorer(fitted, X, y)
        assert value == restored[name](fitted, X, y)
        assert value == scorer(fitted, X, pd.DataFrame(y, columns=["a", "b"]))


def test_scorers_take_one_dimensional_targets(bimodal):
    X, y, _ = bimodal
    flat = small(epochs=2).fit(X, y[:, 0])
    for scorer in SCORERS.values():
        assert np.isfinite(scorer(flat, X[:40], y[:40, 0]))
        assert scorer(flat, X[:40], y[:40, 0]) == scorer(flat, X[:40], y[:40, :1])


def test_log_score_outside_the_limits_is_minus_infinity(fitted):
    assert SCORERS["log_score"](fitted, [[0.0], [0.0]], [[0.0, 0.0], [9.0, 0.0]]) == -np.inf


def test_cross_validation_of_a_pipeline_with_all_scorers(bimodal):
    X, y, _ = bimodal
    pipeline = make_pipeline(StandardScaler(), small(epochs=2))
    results = cross_validate(pipeline, X, y, scoring=SCORERS, cv=2, error_score="raise")
    plain = cross_validate(pipeline, X, y, cv=2)
    np.testing.assert_array_equal(results["test_log_score"], plain["test_score"])
    for name in SCORERS:
        assert np.isfinite(results[f"test_{name}"]).all()


def test_grid_search_over_processes_with_all_scorers(bimodal):
    X, y, _ = bimodal
    search = GridSearchCV(
        make_pipeline(StandardScaler(), small()),
        {"sanconditionaldensityestimator__epochs": [1, 20]},
        scoring=SCORERS,
        refit="log_score",
        cv=2,
        n_jobs=2,
        error_score="raise",
    ).fit(X, y)
    for name in ("log_score", "neg_crps", "neg_energy_score"):
        assert search.cv_results_[f"rank_test_{name}"].tolist() == [2, 1]


def test_grid_search_with_one_scorer(normal):
    X, y, _ = normal
    scorer = IntervalScorer(interval_score, level=0.5)
    search = GridSearchCV(StandardNormal(), {"scale": [0.5, 1.0, 2.0]}, scoring=scorer, cv=3)
    assert search.fit(X, y).best_params_ == {"scale": 1.0}
    assert search.score(X, y) == scorer(search.best_estimator_, X, y)


def test_weights_reach_scorers_without_metadata_routing(normal):
    X, y, est = normal
    weight = np.arange(len(y), dtype=float)
    values = check_scoring(est, scoring=SCORERS)(est, X, y, sample_weight=weight)
    for name, scorer in SCORERS.items():
        assert values[name] == scorer(est, X, y, sample_weight=weight) != scorer(est, X, y)


def test_weights_reach_scorers_with_metadata_routing(normal):
    X, y, _ = normal
    weight = np.arange(len(y), dtype=float)
    half = np.arange(len(y)) < 450
    folds = [(np.flatnonzero(half), np.flatnonzero(~half))]
    scorer = SCORERS["neg_crps"]
    with sklearn.config_context(enable_metadata_routing=True):
        est = StandardNormal().set_fit_request(sample_weight=False)
        asking = {
            "yes": scorer.set_score_request(sample_weight=True),
            "no": scorer.set_score_request(sample_weight=False),
            "named": scorer.set_score_request(sample_weight="other"),
        }
        params = {"sample_weight": weight, "other": weight**2}
        results = cross_validate(est, X, y, scoring=asking, cv=folds, params=params)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(est, X, y, scoring=scorer, cv=folds, params={"sample_weight": weight})
    est.fit(X[half], y[half])
    for name, w in (("yes", weight[~half]), ("no", None), ("named", weight[~half] ** 2)):
        assert results[f"test_{name}"] == [scorer(est, X[~half], y[~half], sample_weight=w)]


def test_a_pipeline_with_metadata_routing_needs_requests_of_the_last_step(normal):
    X, y, _ = normal
    with sklearn.config_context(enable_metadata_routing=True):
        est = StandardNormal().set_predict_request(
            output_type=True, n_samples=True, random_state=True, quantiles=True
        )
        pipeline = make_pipeline(StandardScaler(), est).fit(X, y)
        values = {name: scorer(pipeline, X, y) for name, scorer in SCORERS.items()}
    assert values == {name: scorer(est, X, y) for name, scorer in SCORERS.items()}
