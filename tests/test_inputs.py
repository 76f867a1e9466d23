"""What the network sees of X: missing values, non-detections, categories, measurement errors."""

import numpy as np
import pandas as pd
import pytest
from conftest import SINGLE, small
from scipy.stats import kstest, norm
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._columns import FeatureTable
from sklearn_san._inputs import InputEncoder
from sklearn_san.exceptions import UnknownCategoryWarning


def linear(n, seed, noise=0.5):
    """y = x0 + x1 + noise."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 2))
    return X, X.sum(1) + noise * random.normal(size=n)


def test_blocks_of_the_encoder():
    X = np.array([[0.0, 1.0, 2.0], [2.0, np.nan, np.inf], [4.0, 0.0, 6.0], [2.0, 1.0, 4.0]])
    encoder = InputEncoder("standard", [None, 2, None], nondetection=True).fit(X)
    x = encoder.transform(X)
    # Two numbers, two categories, a mask for the category that was missing, one non-detection
    assert encoder.n_inputs == x.shape[1] == 6
    np.testing.assert_allclose(x[:, 0], (X[:, 0] - 2.0) / np.sqrt(2.0))
    np.testing.assert_allclose(x[1, 1:], [0.0, 0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(x[0, 2:], [0.0, 1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="NaN in feature 'x0', which had none in fit; fit with"):
        encoder.transform(np.array([[np.nan, 1.0, 2.0]]))


def test_errors_as_features():
    X, _ = linear(50, 0)
    X_err = np.full(X.shape, 0.1)
    X_err[::2] = 0.4
    encoder = InputEncoder("standard", [None, None], use_errors=True).fit(X, X_err=X_err)
    x = encoder.transform(X, X_err)
    assert x.shape == (50, 4)
    np.testing.assert_allclose(x[:, 2:].mean(0), 0.0, atol=1e-12)
    noisy = encoder.jitter(X, X_err, np.ones(X.shape))
    np.testing.assert_allclose(noisy, X + X_err)


@pytest.mark.parametrize("missing_rate", [0.0, 0.5])
def test_missing_values_widen_the_posterior_as_they_should(missing_rate):
    # Without x1 the variance is 1.25, with both features it is 0.25
    X, y = linear(4000, 0)
    holes = X.copy()
    if not missing_rate:
        holes[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    est = small(missing_rate=missing_rate, epochs=20).fit(holes, y)
    X_test, y_test = linear(3000, 2)
    for column, deviation in ((None, 0.5), (0, np.sqrt(1.25)), (1, np.sqrt(1.25))):
        shown = X_test.copy()
        centre = shown.sum(1)
        if column is not None:
            shown[:, column] = np.nan
            centre = shown[:, 1 - column]
        exact = norm.logpdf(y_test, centre, deviation).mean()
        assert est.score(shown, y_test) > exact - 0.06
        assert np.mean(est.predict(shown[:500], output_type="std")) == pytest.approx(
            deviation, rel=0.15
        )
    nothing = np.full((4, 2), np.nan)
    assert est.predict(nothing, output_type="std") == pytest.approx(1.5, rel=0.25)
    assert est.sample(nothing, 3, random_state=0).shape == (4, 3)


def test_what_stands_for_missing_numbers():
    X, _ = linear(2000, 0)
    X[:, 1] = X[:, 0] + 0.1 * X[:, 1]
    holes = X.copy()
    holes[::3, 1] = np.nan
    holes[1::9, 0] = np.inf
    encoder = InputEncoder("standard", [None, None], nondetection=True).fit(holes)
    x, full = encoder.transform(holes), encoder.transform(X)
    gap = np.isnan(holes[:, 1]) & np.isfinite(holes[:, 0])
    assert np.abs(x[gap, 1] - full[gap, 1]).mean() < 0.15  # 0.8 for the mean of all rows
    assert (x[np.isinf(holes[:, 0]), 0] == 0.0).all()
    seen = np.isfinite(holes)
    np.testing.assert_array_equal(x[:, :2][seen], full[:, :2][seen])


def test_rows_with_gaps_teach_about_complete_ones(tmp_path):
    # 90 % of the rows lack one or the other feature; exactly 0.726 nats for complete rows
    X, y = linear(3000, 0)
    holes, rows = X.copy(), np.random.default_rng(1).random(3000) < 0.9
    holes[rows, np.random.default_rng(2).integers(0, 2, 3000)[rows]] = np.nan
    est = small(epochs=30).fit(holes, y)
    X_test, y_test = linear(3000, 2)
    exact = norm.logpdf(y_test, X_test.sum(1), 0.5).mean()
    assert est.score(X_test, y_test) > exact - 0.15
    est.save(tmp_path / "model")
    loaded = SANConditionalDensityEstimator.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.log_prob(holes, y), est.log_prob(holes, y))


def test_missing_values_that_tell_something():
    # x1 is missing where y is high: rows in which training hides it must not blur that
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 2))
    high = random.random(3000) < 0.3
    y = np.where(high, 5.0, 0.0) + 0.1 * random.normal(size=3000)
    X[high, 1] = np.nan
    est = small(epochs=30).fit(X, y)
    assert est.predict([[0.0, np.nan]])[0] == pytest.approx(5.0, abs=0.3)
    assert est.predict([[0.0, 0.0]])[0] == pytest.approx(0.0, abs=0.3)


def test_nondetections_are_a_state_of_their_own():
    # x0 is infinite where y is high
    random = np.random.default_rng(0)
    X = random.normal(size=(1000, 2))
    seen = random.random(1000) < 0.7
    y = np.where(seen, X[:, 0], 5.0) + 0.1 * random.normal(size=1000)
    X[~seen, 0] = np.inf
    est = small(nondetection="inf", missing_rate=0.3, epochs=30, n_members=4).fit(X, y)
    assert est.predict([[np.inf, 0.0]])[0] == pytest.approx(5.0, abs=0.3)
    assert est.predict([[0.5, 0.0]])[0] == pytest.approx(0.5, abs=0.3)
    spread = est.predict([[np.nan, 0.0]], output_type="std")[0]
    assert spread == pytest.approx(y.std(), rel=0.4)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        small().fit(X, y)


def test_nondetections_in_a_feature_that_had_none():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(300, 3)), random.normal(size=300)
    X[::5, 0] = np.inf
    est = small(nondetection="inf", missing_rate=0.2, epochs=2).fit(X, y)
    assert est.input_encoder_.infinite.tolist() == [True, False, False]
    rows = np.zeros((2, 3))
    rows[:, 1] = np.inf, np.nan
    np.testing.assert_array_equal(*est.predict(rows, output_type="quantiles"))
    exact = small(nondetection="inf", epochs=2).fit(X, y)
    with pytest.raises(
        ValueError, match="infinity in feature 'x1', which had none in fit; fit with"
    ):
        exact.predict(rows[:1])
    assert np.isfinite(exact.predict([[np.inf, 0.0, 0.0]])).all()
    later = small(nondetection="inf").partial_fit(X, y)
    assert later.input_encoder_.infinite.all()  # it may come


def frames():
    random = np.random.default_rng(0)
    kind = random.choice(["a", "b", "c"], size=600)
    flag = random.random(600) < 0.5
    size = random.normal(size=600)
    y = size + np.select([kind == "a", kind == "b"], [3.0, -3.0]) + 2.0 * flag
    y = y + 0.1 * random.normal(size=600)
    return pd.DataFrame({"kind": kind, "size": size, "flag": flag}), y


@pytest.mark.parametrize("as_category", [False, True])
def test_categories_of_a_frame(as_category):
    X, y = frames()
    if as_category:
        X["kind"] = X["kind"].astype("category")
    est = small(epochs=25, missing_rate=0.05).fit(X, y)
    assert est.feature_table_.categories == [["a", "b", "c"], None, [False, True]]
    assert est.feature_names_in_.tolist() == ["kind", "size", "flag"]
    assert np.abs(est.predict(X) - y).mean() < 0.5
    other = X[:5].copy()
    other["kind"] = ["d", "a", None, "b", "c"]  # one unknown, one missing
    missing = other.copy()
    missing.loc[0, "kind"] = None
    with pytest.warns(UnknownCategoryWarning, match="20 % of the rows of feature 'kind', .* 'd'"):
        np.testing.assert_array_equal(est.predict(other), est.predict(missing))
    assert est.predict(missing, output_type="std")[0] > 1.0
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(X[["size", "kind", "flag"]])


def test_polars_frames():
    polars = pytest.importorskip("polars")
    X, y = frames()
    est = small(epochs=5).fit(X, y)
    np.testing.assert_array_equal(est.predict(polars.from_pandas(X)), est.predict(X))
    own = small(epochs=5).fit(polars.from_pandas(X), y)
    targets = polars.DataFrame({"mass": y, "age": -np.sqrt(1.0 + y**2)})
    named = small(epochs=1).fit(X, targets)
    assert named.output_names_ == targets.columns
    assert np.isfinite(named.log_prob(X, targets)).all()
    np.testing.assert_array_equal(own.predict(X), est.predict(X))


def test_categories_by_number_in_an_array():
    random = np.random.default_rng(0)
    code = random.integers(0, 3, size=500).astype(float) * 10
    X = np.column_stack([random.normal(size=500), code])
    y = np.select([code == 0, code == 10], [4.0, -4.0]) + 0.1 * random.normal(size=500)
    est = small(categorical_features=[1], epochs=15).fit(X, y)
    assert est.feature_table_.categories == [None, [0.0, 10.0, 20.0]]
    assert np.abs(est.predict(X) - y).mean() < 0.5


@pytest.mark.parametrize(
    ("change", "parameters", "error", "message"),
    [
        ({"day": pd.date_range("2020", periods=600)}, {}, ValueError, "dates .* feature 'day'"),
        ({}, {"categorical_features": None}, ValueError, "something else than numbers .*kind"),
        ({}, {"categorical_features": ["flag"]}, ValueError, "something else than numbers .*kind"),
    ],
)
def test_columns_that_cannot_be_used(change, parameters, error, message):
    X, y = frames()
    with pytest.raises(error, match=message):
        small(**parameters).fit(X.assign(**change), y)


def test_a_table_of_one_row_keeps_its_columns():
    table = FeatureTable("from_dtype").fit(pd.DataFrame({"a": ["x"], "b": [1]}))
    with pytest.warns(UnknownCategoryWarning, match="'y'"):
        numbers = table.transform(pd.DataFrame({"a": ["y"], "b": [2]}))
    np.testing.assert_array_equal(numbers, [[np.nan, 2]])


def measured(n, seed):
    """x measured with errors of 0.1 or 1, y a function of the true value."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(n, 1))
    X_err = np.where(random.random((n, 1)) < 0.5, 0.1, 1.0)
    y = true[:, 0] + 0.2 * random.normal(size=n)
    return true, true + X_err * random.normal(size=(n, 1)), X_err, y


def test_marginalising_over_errors_keeps_the_pit_uniform():
    # Trained on exact x. The density averages p(y | x') over x' ~ N(x, err), which is the
    # posterior for a flat prior of x; so test rows are drawn around what was measured.
    true, _, _, y = measured(3000, 0)
    est = small(epochs=25).fit(true, y)
    random = np.random.default_rng(1)
    X = random.normal(size=(2000, 1))
    X_err = np.full(X.shape, 0.8)
    y = (X + X_err * random.normal(size=X.shape))[:, 0] + 0.2 * random.normal(size=2000)
    honest = est.predict_density(X, X_err=X_err)
    careless = est.predict_density(X)
    # False-alarm rate 1e-4
    assert kstest(honest.cdf(y), "uniform").pvalue > 1e-4
    assert kstest(careless.cdf(y), "uniform").pvalue < 1e-10
    assert honest.log_prob(y).mean() > careless.log_prob(y).mean() + 1.0
    exact = norm.logpdf(y, X[:, 0], np.hypot(0.8, 0.2)).mean()
    assert honest.log_prob(y).mean() == pytest.approx(exact, abs=0.1)
    draws = honest[:50].sample(4000, random_state=0)
    assert draws.std(axis=1).mean() == pytest.approx(np.hypot(0.8, 0.2), rel=0.1)
    np.testing.assert_allclose(honest[:50].std(), draws.std(axis=1), rtol=0.15)
    np.testing.assert_allclose(honest[:50].mean(), draws.mean(axis=1), atol=0.1)
    middle = honest[:50].quantile(0.5)[:, 0]
    np.testing.assert_allclose(middle, np.median(draws, axis=1), atol=0.12)
    u = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(honest[:50].cdf(honest[:50].inverse_cdf(u)), u, atol=1e-8)
    assert np.isfinite(honest[:5].mode()).all()
    mass = honest[:2].marginal(0, grid=np.linspace(-6.0, 6.0, 400))
    np.testing.assert_allclose(np.trapezoid(mass.density, mass.grid), 1.0, atol=0.02)


def test_training_with_errors_learns_the_density_given_noisy_features():
    true, noisy, X_err, y = measured(4000, 0)
    est = small(use_errors=True, epochs=25, n_members=1).fit(true, y, X_err=X_err)
    _, noisy, X_err, y = measured(3000, 1)
    # p(y | x, err): normal with the prior of the true value shrunk
    shrink = 1.0 / (1.0 + X_err[:, 0] ** 2)
    exact = norm.logpdf(y, shrink * noisy[:, 0], np.sqrt(0.04 + X_err[:, 0] ** 2 * shrink)).mean()
    assert est.score(noisy, y, X_err=X_err) > exact - 0.1
    assert kstest(est.predict_density(noisy, X_err=X_err).cdf(y), "uniform").pvalue > 1e-4
    blind = small(epochs=25, n_members=1).fit(true, y=measured(4000, 0)[3], X_err=None)
    assert blind.score(noisy, y) < exact - 1.0


def test_errors_are_routed_as_metadata(bimodal):
    from sklearn import config_context

    X, y, _ = bimodal
    X_err = np.full_like(X, 0.3)
    start = small(epochs=2, dtype="float64")  # two ways to the mean, whose rounding is amplified
    with config_context(enable_metadata_routing=True):
        est = clone(start).set_fit_request(X_err=True).set_score_request(X_err=True)
        pipeline = make_pipeline(StandardScaler(with_std=False), est).fit(X, y, X_err=X_err)
        routed = pipeline.score(X, y, X_err=X_err)
    shifted = X - X.mean(0)
    direct = start.fit(shifted, y, X_err=X_err)
    assert routed == pytest.approx(direct.score(shifted, y, X_err=X_err), rel=1e-6)
    assert routed != pytest.approx(direct.score(shifted, y), rel=1e-3)


def test_missing_targets_teach_the_outputs_before_them():
    random = np.random.default_rng(0)
    X = random.normal(size=(1500, 1))
    y = np.column_stack([X[:, 0], X[:, 0]]) + 0.3 * random.normal(size=(1500, 2))
    y[:, 1] += y[:, 0]
    holes = y.copy()
    holes[::2, 1] = np.nan
    for parameters in ({}, {"dtype": "float64"}, {"activation": "relu"}):
        est = small(epochs=15, **parameters).fit(X, holes)
        assert (
            est.score(X, y)
            > norm.logpdf(0.3 * random.normal(size=(1500, 2)), 0, 0.3).sum(1).mean() - 0.3
        )
        # Rows that lack the last output are scored by the others
        first = est.predict_density(X).given({0: y[:, 0]}).log_evidence()
        half = y.copy()
        half[:, 1] = np.nan
        np.testing.assert_allclose(est.log_prob(X, half), first, rtol=SINGLE, atol=SINGLE)
    with pytest.raises(ValueError, match=r"output 0 \(y0\) is missing and output 1 \(y1\) is not"):
        small(order=[2, 0, 1]).fit(X, np.column_stack([holes[:, ::-1], X[:, 0] + y[:, 0]]))
    # The other order makes them exact
    reordered = small(order=[1, 0], epochs=1).fit(X, holes[:, ::-1])
    assert np.isfinite(reordered.score(X, holes[:, ::-1]))


def test_compiled_and_plain_networks_agree_on_missing_targets():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 1))
    y = X + random.normal(size=(200, 3))
    y[:100, 2] = np.nan
    y[:50, 1] = np.nan
    for linear_base in (True, False):
        est = small(epochs=2, linear_base=linear_base, n_members=2).fit(X, y)
        fast = est.log_prob(X, y)
        double = small(epochs=2, linear_base=linear_base, n_members=2).fit(X, y)
        double.network_ = double.network_.double()
        np.testing.assert_allclose(fast, double.log_prob(X, y), rtol=SINGLE, atol=SINGLE)


def test_rates_of_single_features():
    random = np.random.default_rng(0)
    encoder = InputEncoder("standard", [None] * 3, missing_rate=np.array([0.0, 0.5, 0.1]))
    X = random.normal(size=(4000, 3))
    np.testing.assert_array_equal(encoder.fit(X).missing, [False, True, True])
    share = np.isnan(encoder.hide(X, random)).mean(axis=0)
    np.testing.assert_allclose(share, [0.0, 0.5, 0.1], atol=0.04)  # four standard errors


def test_what_is_hidden_by_name_may_be_missing_later(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(2, 300, 2))
    est = small(missing_rate={"x1": 0.5}, epochs=2).fit(X, y)
    holes = X[:5].copy()
    holes[:, 1] = np.nan
    expected = est.log_prob(holes, y[:5])
    assert np.isfinite(expected).all()
    est.save(tmp_path / "model")
    np.testing.assert_array_equal(est.load(tmp_path / "model").log_prob(holes, y[:5]), expected)
    with pytest.raises(ValueError, match="'x0', which had none in fit"):
        est.log_prob(holes[:, ::-1], y[:5])
