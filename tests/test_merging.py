"""Ensembles that were trained apart, as one."""

import numpy as np
import pytest
from conftest import small
from scipy.special import logsumexp
from sklearn.exceptions import NotFittedError

from sklearn_san import merge


def fits(bimodal, n_members=(2, 3), **others):
    """Fits to the same rows with different seeds; options of the last in `others`."""
    X, y, _ = bimodal
    found = []
    for seed, members in enumerate(n_members):
        options = others if seed == len(n_members) - 1 else {}
        est = small(n_members=members, random_state=seed, epochs=3, module_shape=(8,))
        found.append(est.set_params(**options).fit(X, y))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_density_is_the_mean_of_all_members(bimodal, dtype, tmp_path):
    X, y, _ = bimodal
    apart = fits(bimodal, dtype=dtype)
    if dtype == "float64":
        apart[0].set_params(dtype=dtype).fit(X, y)
    before = [est.log_prob(X, y) for est in apart]
    merged = merge(apart)
    assert merged.n_members_ == merged.get_params()["n_members"] == 5
    weights = np.array([[2 / 5], [3 / 5]])
    expected = logsumexp(before, axis=0, b=weights)
    np.testing.assert_allclose(merged.log_prob(X, y), expected, rtol=1e-5, atol=1e-5)
    for est, log_prob in zip(apart, before, strict=True):  # left as they were
        np.testing.assert_array_equal(est.log_prob(X, y), log_prob)
    means = np.average([est.predict(X) for est in apart], axis=0, weights=weights[:, 0])
    np.testing.assert_allclose(merged.predict(X), means, atol=0.05)  # quasi-random points
    # 20,000 draws: five standard errors
    draws = merged.sample(X[:2], 20_000, random_state=0)
    assert (np.abs(draws.mean(1) - merged.predict(X[:2])) < 5 * draws.std(1) / 141 + 0.02).all()
    merged.save(tmp_path / "merged")
    again = type(merged).load(tmp_path / "merged")
    np.testing.assert_array_equal(again.log_prob(X, y), merged.log_prob(X, y))
    assert merged.partial_fit(X, y).n_members_ == 5


def test_one_estimator_alone(bimodal):
    X, y, _ = bimodal
    (est,) = fits(bimodal, n_members=(2,))
    np.testing.assert_array_equal(merge([est]).log_prob(X, y), est.log_prob(X, y))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"y_scaler": "robust"}, r"estimators\[1\] differs from the first in the scaling of y"),
        ({"x_scaler": None}, "in the scaling of X"),
        ({"order": [1, 0]}, "in the order"),
        ({"limits": [[-9, 9], [-99, 99]]}, "in the limits"),
        ({"likelihood": "molog"}, "in the likelihoods"),
        ({"K": 4}, "in the likelihoods"),
        ({"module_shape": (9,)}, "in the shape of the network"),
        ({"linear_base": True}, "in the linear base"),
        ({"activation": "tanh"}, "in the activation"),
        ({"dtype": "float64"}, "in the linear base|in the shape of the network|likelihoods"),
    ],
)
def test_what_differs_is_named(bimodal, others, message):
    with pytest.raises(ValueError, match=message):
        merge(fits(bimodal, **others))


def test_what_cannot_be_merged(bimodal):
    X, y, _ = bimodal
    first, second = fits(bimodal)
    with pytest.raises(ValueError, match="in the number of features"):
        merge([first, small(n_members=2, epochs=1).fit(np.hstack([X, X]), y)])
    with pytest.raises(ValueError, match="in the names of the outputs"):
        merge([first, small(n_members=2, epochs=1).fit(X, y[:, 0])])
    with pytest.raises(ValueError, match="in the scaling of X"):
        merge([first, second.set_params(n_members=2).fit(X[:300], y[:300])])
    with pytest.raises(ValueError, match="estimators is empty"):
        merge([])
    with pytest.raises(TypeError, match=r"estimators\[1\] must be a SANCond.* got str"):
        merge([first, "model"])
    with pytest.raises(NotFittedError):
        merge([first, small()])
