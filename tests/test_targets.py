"""Mixed targets: numbers, labels and counts, through the whole estimator."""

import numpy as np
import pandas as pd
import pytest
from conftest import SINGLE, small
from sklearn.model_selection import GridSearchCV

from sklearn_san._targets import TargetCodec, has_labels, split_columns
from sklearn_san.exceptions import TiesWarning
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians


def mixed_table(n=1500):
    """Redshift, class and number of neighbours of objects, with a known dependence."""
    random = np.random.default_rng(0)
    x = random.uniform(-1.0, 1.0, size=(n, 2))
    redshift = 1.0 + 0.5 * x[:, 0] + 0.1 * random.normal(size=n)
    p_star = 1.0 / (1.0 + np.exp(-4.0 * x[:, 1]))
    label = np.where(random.uniform(size=n) < p_star, "star", "galaxy")
    rate = np.where(label == "star", 0.5, 6.0)
    count = random.poisson(rate)
    frame = pd.DataFrame({"redshift": redshift, "class": label, "neighbours": count})
    return pd.DataFrame(x, columns=["a", "b"]), frame


LIKELIHOOD = {"neighbours": "ordinal", "redshift": "mog"}
LIMITS = [[-np.inf, np.inf], [-np.inf, np.inf], [0, np.inf]]


@pytest.fixture(scope="module")
def mixed():
    X, y = mixed_table()
    return small(likelihood=LIKELIHOOD, limits=LIMITS, epochs=25).fit(X, y), X, y


def test_families_are_chosen_by_name_and_dtype(mixed):
    est, _, _ = mixed
    names = [type(family).__name__ for family in est.families_]
    assert names == ["MixtureOfGaussians", "Categorical", "Ordinal"]
    assert est.network_.families[1].n_classes == 2
    assert est.likelihood == {"neighbours": "ordinal", "redshift": "mog"}


def test_score_is_near_the_exact_entropy(mixed):
    est, X, y = mixed
    from scipy import stats

    p_star = 1.0 / (1.0 + np.exp(-4.0 * X["b"]))
    star = (y["class"] == "star").to_numpy()
    exact = stats.norm.logpdf(y["redshift"], 1.0 + 0.5 * X["a"], 0.1)
    exact = exact + np.log(np.where(star, p_star, 1.0 - p_star))
    exact = exact + stats.poisson.logpmf(y["neighbours"], np.where(star, 0.5, 6.0))
    assert est.score(X, y) == pytest.approx(exact.mean(), abs=0.15)
    assert min(est.validation_curve_) == pytest.approx(-exact.mean(), abs=0.3)


def test_draws_have_the_dtypes_of_the_columns(mixed):
    est, X, _y = mixed
    draws = est.sample(X[:5], 400, random_state=0)
    assert draws.shape == (5, 400, 3)
    assert draws.dtype == object
    assert set(draws[..., 1].ravel()) == {"star", "galaxy"}
    frame = est.sample(X[:5], 400, random_state=0, as_frame=True)
    assert list(frame.columns) == ["redshift", "class", "neighbours"]
    assert frame.index.names == ["row", "draw"]
    assert len(frame) == 2000
    assert frame["redshift"].dtype == np.float64
    assert frame["neighbours"].dtype == np.int64
    assert frame["neighbours"].min() >= 0
    assert (frame["class"].to_numpy() == draws[..., 1].ravel()).all()
    # Counts follow the label, which comes before them in the order
    means = frame.groupby("class")["neighbours"].mean()
    assert means["star"] == pytest.approx(0.5, abs=0.4)
    assert means["galaxy"] == pytest.approx(6.0, abs=1.0)


def test_predictions(mixed):
    est, X, y = mixed
    mean = est.predict(X)
    assert ((mean[:, 1] == y["class"]).mean()) > 0.75
    mode = est.predict(X[:3], output_type="mode")
    assert set(mode[:, 1]) <= {"star", "galaxy"}
    with pytest.raises(ValueError, match=r"quantile has no meaning for the labels of output 1"):
        est.predict(X, output_type="median")


def test_means_of_counts_are_not_rounded_beside_labels(mixed):
    est, X, _ = mixed
    means = est.predict(X)[:, 2].astype(float)
    assert (means % 1 != 0).mean() > 0.9
    draws = est.sample(X, 200, random_state=0)[..., 2].astype(float)
    assert not (draws % 1).any()
    np.testing.assert_allclose(means, draws.mean(axis=1), atol=6 * draws.std() / np.sqrt(200))


def test_impossible_values(mixed):
    est, X, y = mixed
    with pytest.raises(ValueError, match=r"y has the label 'quasar' in output 1 .*known are"):
        est.log_prob(X[:1], y[:1].assign(**{"class": "quasar"}))
    with pytest.raises(ValueError, match="known are 'galaxy', 'star'"):
        est.log_prob(X[:1], y[:1].assign(**{"class": np.str_("quasar")}).to_numpy(dtype=str))
    with pytest.raises(ValueError, match=r"value 1.5 in output 2 .*not 0 plus a multiple of 1"):
        est.log_prob(X[:1], y[:1].assign(neighbours=1.5))
    assert est.log_prob(X[:1], y[:1].assign(neighbours=-1))[0] == -np.inf
    broken = y.astype(object)
    broken.iloc[3, 1] = None
    with pytest.raises(ValueError, match="1 missing labels in output 1"):
        small(likelihood={"class": "categorical"}).fit(X, broken)


def test_grid_search_over_a_mixed_target():
    X, y = mixed_table(400)
    est = small(likelihood=LIKELIHOOD, limits=LIMITS)
    search = GridSearchCV(est, {"K": [1, 2]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_order_and_scalers_leave_labels_alone():
    X, y = mixed_table(600)
    for y_scaler in ("power", "minmax", None):
        est = small(
            likelihood=LIKELIHOOD,
            limits=LIMITS,
            order=["class", "neighbours", "redshift"],
            y_scaler=y_scaler,
        ).fit(X, y)
        frame = est.sample(X[:50], 10, random_state=0, as_frame=True)
        assert set(frame["class"]) == {"star", "galaxy"}
        assert set(frame["neighbours"] % 1) == {0}
        assert set(est.predict(X)[:, 1]) == {"star", "galaxy"}


def test_labels_of_other_kinds():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 1))
    text = small().fit(X, np.where(X[:, 0] > 0, "b", "a"))
    assert text.sample(X[:2], 3).shape == (2, 3)
    assert (text.predict(X) == np.where(X[:, 0] > 0, "b", "a")).mean() > 0.9
    truth = small().fit(X, X[:, 0] > 0)
    assert set(truth.predict(X)) == {False, True}
    numbers = small(likelihood="categorical").fit(X, np.where(X[:, 0] > 0, 20, 10))
    assert set(numbers.predict(X)) == {10.0, 20.0}
    assert np.exp(numbers.log_prob(X, np.where(X[:, 0] > 0, 20, 10))).mean() > 0.8
    with pytest.raises(ValueError, match="likelihood 'mog' needs numbers, but output 0"):
        small(likelihood="mog").fit(X, np.where(X[:, 0] > 0, "b", "a"))


def test_inflated_output_through_the_estimator():
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 1))
    p_zero = 1.0 / (1.0 + np.exp(-2.0 * X[:, 0]))
    zero = random.uniform(size=2000) < p_zero
    y = np.where(zero, 0.0, random.gamma(4.0, 2.0, size=2000))
    parameters = {"likelihood": Inflated(MixtureOfGaussians(), at=0.0), "encoder_shape": None}
    est = small(epochs=30, **parameters).fit(X, y)
    draws = est.sample(np.array([[-2.0], [2.0]]), 4000, random_state=0)
    share = (draws == 0.0).mean(1)
    np.testing.assert_allclose(share, [0.018, 0.982], atol=0.05)
    from scipy import stats

    exact = np.where(zero, np.log(p_zero), np.log1p(-p_zero) + stats.gamma.logpdf(y, 4, 0, 2))
    assert est.score(X, y) == pytest.approx(exact.mean(), abs=0.1)
    rescaled = small(epochs=30, **parameters)
    rescaled.fit(X, 8.0 * y)  # a power of 2 changes no digit
    # Only the values that have a density feel the change of units
    expected = est.score(X, y) - (~zero).mean() * np.log(8.0)
    assert rescaled.score(X, 8.0 * y) == pytest.approx(expected, rel=SINGLE)


def test_many_ties_are_warned_of_once():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 1))
    quality = random.integers(3, 9, size=(200, 2))
    with pytest.warns(TiesWarning, match=r"only 6 different values in 200 rows of output 0 \(y0\)"):
        small(epochs=1).fit(X, quality)
    for likelihood in ("ordinal", "categorical", MixtureOfGaussians(min_scale=0.1)):
        small(epochs=1, likelihood=likelihood).fit(X, quality)


def test_columns_and_labels():
    columns, names, flat = split_columns(pd.Series([1.0, 2.0], name="z"))
    assert (len(columns), names, flat) == (1, ["z"], True)
    assert split_columns([[1, 2], [3, 4]])[1:] == (["y0", "y1"], False)
    assert has_labels(np.array(["a"]))
    assert has_labels(np.array([True]))
    assert has_labels(np.array(["a", "b"], dtype=object))
    assert not has_labels(np.array([1.0, "b"], dtype=object))
    assert not has_labels(np.array([1.5]))
    codec = TargetCodec(["z"], [True], [False]).fit([np.array(["b", "a", "b"])])
    assert codec.encode([np.array(["b", "a"])]).tolist() == [[1.0], [0.0]]
    assert codec.decode(np.array([[1.0], [0.0]])).tolist() == [["b"], ["a"]]
