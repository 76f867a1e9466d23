"""What a row's result must not depend on: rows beside it, chunks, options that are not heard."""

import numpy as np
import pandas as pd
import pytest
from conftest import small
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san import _model
from sklearn_san.chains import as_density_estimator
from sklearn_san.density import ConditionalDensity
from sklearn_san.likelihoods import Inflated, TruncatedMixtureOfGaussians


@pytest.fixture(scope="module")
def inflated():
    """A mass at 0 in the first of two outputs, whose scale is far from 1."""
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 1))
    size = 1000.0 * np.exp(0.3 * random.normal(size=500)) * (random.random(500) < 0.6)
    y = np.stack([size, X[:, 0] + 0.001 * size + 0.1 * random.normal(size=500)], axis=1)
    limits = [[0.0, np.inf], [-np.inf, np.inf]]
    likelihood = [Inflated(TruncatedMixtureOfGaussians()), "mog"]
    return X, small(limits=limits, likelihood=likelihood, epochs=10, n_members=2).fit(X, y)


def test_point_masses_have_no_jacobian(inflated):
    X, est = inflated
    density = est.predict_density(X[:4])
    draws = density.sample(10_000, random_state=0)
    share = (draws[..., 0] == 0.0).mean(axis=1)
    error = 5 * np.sqrt(share * (1.0 - share) / 10_000)  # five standard errors
    known = density.given({0: 0.0})
    assert (np.abs(np.exp(known.log_evidence()) - share) < error).all()
    marginal = density.marginal(0, grid=[0.0, 500.0, 1000.0])
    assert (np.abs(marginal.density[:, 0] - share) < error).all()
    assert (np.abs(density.pdf_grid(0, [0.0, 500.0])[:, 0] - share) < error).all()
    assert (np.abs(np.exp(density.marginal_log_prob(0, np.zeros(4))) - share) < error).all()
    assert (np.abs(density.marginal_cdf(0, np.zeros(4)) - share) < error).all()
    y = np.stack([np.zeros(4), X[:4, 0]], axis=1)
    joint = known.log_prob(y) + known.log_evidence()
    np.testing.assert_allclose(joint, density.log_prob(y), rtol=1e-5, atol=1e-5)
    second = density.given({1: X[:4, 0]})  # comes last: by importance weights
    np.testing.assert_allclose(
        np.exp(second.marginal_log_prob(0, np.zeros(4))),
        (second.sample(4000, random_state=0)[..., 0] == 0.0).mean(axis=1),
        atol=0.05,
    )
    with pytest.raises(NotImplementedError, match="y0 may have probabilities instead"):
        density.grad_log_prob(y)
    with pytest.raises(NotImplementedError, match="Inflated is no mixture"):
        density.components()


@pytest.mark.parametrize("on_bad_rows", ["raise", "nan"])
def test_a_density_keeps_its_rows_whatever_becomes_of_those_given(bimodal, on_bad_rows):
    X, y, _ = bimodal
    est = small(epochs=2).fit(X, y)
    X, X_err, values = X[:5].copy(), np.full(X[:5].shape, 0.1), np.full(5, 0.5)
    density = est.predict_density(X, X_err=X_err, on_bad_rows=on_bad_rows)
    before = density.mean()
    X += 1.0
    X_err *= 2.0
    np.testing.assert_array_equal(density.mean(), before)
    if on_bad_rows == "raise":
        known = est.predict_density(X).given({0: values})
        before = known.mean()
        values += 1.0
        np.testing.assert_array_equal(known.mean(), before)


@pytest.fixture(scope="module")
def noisy(bimodal):
    """A density with measurement errors."""
    X, y, _ = bimodal
    est = small(epochs=5).fit(X, y)
    return est.predict_density(X[:40], X_err=np.full((40, 1), 0.3)), y[:40]


@pytest.mark.parametrize("member", ["cdf", "inverse_cdf", "sobol", "quantile", "mode", "log_prob"])
def test_chunks_count_the_points_of_measurement_errors(noisy, member, monkeypatch):
    density, y = noisy
    sizes = []
    original = ConditionalDensity._jittered

    def watched(self, *args):
        contexts = original(self, *args)
        sizes.append(contexts.shape[0] * contexts.shape[1])
        return contexts

    monkeypatch.setattr(ConditionalDensity, "_jittered", watched)
    monkeypatch.setattr("sklearn_san.density.N_PAIRS", 512)
    monkeypatch.setattr(_model, "CHUNK", 512)
    monkeypatch.setattr("sklearn_san.density.N_CLIMBING", 512)
    calls = {
        "cdf": lambda: density.cdf(y),
        "inverse_cdf": lambda: density.inverse_cdf(np.full(y.shape, 0.4)),
        "sobol": lambda: density[:4].sample(8, method="sobol", random_state=0),
        "quantile": lambda: density[:4].quantile([0.2, 0.4]),
        "mode": lambda: density[:10].mode(),
        "log_prob": lambda: density.log_prob(np.repeat(y[:, None], 30, axis=1)),
    }
    assert np.isfinite(calls[member]()).all()
    assert sizes
    assert max(sizes) <= 512


def test_draws_with_errors_do_not_depend_on_chunks_or_neighbours(noisy, monkeypatch):
    density, _ = noisy
    whole = density.sample(30, random_state=0)
    few = density[:3].sample(30, random_state=0)
    np.testing.assert_allclose(few, whole[:3], rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(_model, "CHUNK", 70)
    again = density.sample(30, random_state=0)
    np.testing.assert_allclose(again, whole, rtol=1e-4, atol=1e-4)


def test_errors_of_x_are_independent_of_what_is_drawn(noisy):
    # y = x + noise for two features: the variances of both add up
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 2))
    y = X.sum(axis=1) + 0.7 * random.normal(size=2000)
    est = small(K=1, epochs=20, linear_base=True).fit(X, y)
    density = est.predict_density(np.zeros((1, 2)), X_err=np.full((1, 2), 0.5))
    drawn = density.sample(40_000, random_state=0).std()
    assert density.std()[0] == pytest.approx(drawn, rel=0.02)  # five standard errors
    low, high = density.interval(0.9)[0]
    expected = np.quantile(density.sample(40_000, random_state=1), [0.05, 0.95])
    np.testing.assert_allclose([low, high], expected, atol=0.05)
    y2 = np.stack([y, X[:, 0] + 0.7 * random.normal(size=2000)], axis=1)
    pair = small(K=1, epochs=20, linear_base=True, order=[1, 0]).fit(X, y2)
    density = pair.predict_density(np.zeros((1, 2)), X_err=np.full((1, 2), 0.5))
    np.testing.assert_allclose(
        density.std(), density.sample(40_000, random_state=0).std(axis=1), rtol=0.03
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # compiled, and in torch
def test_what_is_weighed_does_not_depend_on_neighbours(bimodal, dtype):
    X, y, _ = bimodal
    density = small(epochs=5, n_members=2, dtype=dtype).fit(X, y).predict_density(X[:20])
    for weighed in (
        density.given({1: y[:20, 1]}),
        density.given({0: y[:20, 0]}),
        density.marginalise(lambda y: np.exp(y[:, 0])),
    ):
        for method in ("mean", "std", "median"):
            alone = getattr(weighed[17], method)()
            whole = getattr(weighed, method)()[[17]]
            np.testing.assert_allclose(alone, whole, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            weighed[17].log_prob(y[[17]]), weighed.log_prob(y[:20])[[17]], rtol=1e-4, atol=1e-5
        )
        draws = weighed.sample(20, random_state=0)
        np.testing.assert_allclose(
            weighed[:3].sample(20, random_state=0), draws[:3], rtol=1e-4, atol=1e-4
        )


def test_options_are_heard(bimodal):
    X, y, _ = bimodal
    est = small(epochs=2).fit(X, y)
    frame = est.sample(X[:3], 8, method="sobol", as_frame=True, random_state=0)
    draws = est.sample(X[:3], 8, method="sobol", random_state=0)
    np.testing.assert_array_equal(frame.to_numpy().reshape(3, 8, 2), draws)
    known = {"given": {0: 0.5}, "random_state": 0}
    plain = est.sample(X[:3], 8, **known)
    for options in ({"dtype": "float32"}, {"out": np.empty((3, 8, 2), np.float32)}):
        single = est.sample(X[:3], 8, **known, **options)
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, plain, rtol=1e-6)
    given_frame = est.sample(X[:3], 8, as_frame=True, **known)
    np.testing.assert_array_equal(given_frame.to_numpy().reshape(3, 8, 2), plain)
    for given in (None, {0: 0.5}):
        with pytest.raises(ValueError, match="dtype=float64 is not that of out, float32"):
            est.sample(X[:3], 2, given=given, dtype="float64", out=np.empty((3, 2, 2), np.float32))
    with pytest.raises(ValueError, match=r"neither with out=, dtype= nor return_ess="):
        est.sample(X[:3], as_frame=True, dtype="float32")
    with pytest.raises(NotImplementedError, match=r"y1 would have to come first in `order`"):
        est.sample(X[:3], given={1: 0.5}, method="sobol")


def test_labels_and_dtypes(bimodal):
    X, y, _ = bimodal
    frame = pd.DataFrame({"kind": np.where(y[:, 0] > 0, "up", "down"), "size": y[:, 1]})
    est = small(epochs=5).fit(X, frame)
    with pytest.raises(ValueError, match="dtype=float32 cannot hold labels"):
        est.sample(X[:2], dtype="float32")
    numbered = small(epochs=2, likelihood=["categorical", "mog"]).fit(
        X, np.stack([(y[:, 0] > 0) * 3.0, y[:, 1]], axis=1)
    )
    assert numbered.sample(X[:2], dtype="float32").dtype == np.float32
    # The most probable label, not the one next to the mean of their codes
    three = np.array(["a", "b", "c"])[np.where(y[:, 0] > 0, 0, 2)]
    three[:3] = "b"
    mixed = small(epochs=5).fit(X, pd.DataFrame({"size": y[:, 1], "kind": three}))
    known = mixed.predict_density(X[:9]).given({"size": 0.0})
    assert set(known.mean()[:, 1]) <= {"a", "c"}


def test_missing_last_outputs_do_not_hide_the_others(fitted, bimodal):
    X, y, _ = bimodal
    density = fitted.predict_density(X[:3])
    missing = y[:3].copy()
    missing[1, 1] = np.nan
    u = density.cdf(missing)
    np.testing.assert_array_equal(np.isnan(u), np.isnan(missing))
    np.testing.assert_allclose(u[:, 0], density.cdf(y[:3])[:, 0])
    gradient = density.grad_log_prob(missing)
    assert gradient[1, 1] == 0.0
    assert np.isfinite(gradient).all()


def test_errors_of_transformed_features_are_refused(bimodal):
    X, y, _ = bimodal
    chain = as_density_estimator(make_pipeline(StandardScaler(), small(epochs=1)).fit(X, y))
    X_err = np.ones((3, 1))
    for call in (
        lambda: chain.predict_density(X[:3], X_err=X_err),
        lambda: chain.sample(X[:3], X_err=X_err),
        lambda: chain.log_prob(X[:3], y[:3], X_err=X_err),
        lambda: chain.score(X[:3], y[:3], X_err=X_err),
        lambda: chain.predict(X[:3], X_err=X_err),
    ):
        with pytest.raises(ValueError, match="X_err is in the units of X"):
            call()
    plain = as_density_estimator(small(epochs=1).fit(X, y))
    assert plain.sample(X[:3], X_err=X_err).shape == (3, 1, 2)
