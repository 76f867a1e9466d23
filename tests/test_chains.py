"""Densities behind pipelines and searches."""

import numpy as np
import pytest
from conftest import small
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_san.chains import as_density_estimator


def pipeline():
    return make_pipeline(StandardScaler(), "passthrough", PolynomialFeatures(2), small())


def check(chain, X, y, expected):
    np.testing.assert_allclose(chain.log_prob(X, y), expected)
    assert chain.score(X, y) == pytest.approx(expected.mean())
    np.testing.assert_allclose(chain.predict_density(X).log_prob(y), expected)
    draws = chain.sample(X[:5], 3, random_state=0)
    assert draws.shape == (5, 3, 2)
    assert chain.predict(X[:5], output_type="quantiles", quantiles=[0.5]).shape == (5, 1, 2)


def test_pipeline(bimodal):
    X, y, _ = bimodal
    fitted = pipeline().fit(X, y)
    expected = fitted[-1].log_prob(fitted[:-1].transform(X), y)
    chain = as_density_estimator(fitted)
    check(chain, X, y, expected)
    assert "PolynomialFeatures()" in repr(chain)
    assert chain.score(X, y) == fitted.score(X, y)


def test_search_over_a_pipeline_inside_a_pipeline(bimodal):
    X, y, _ = bimodal
    grid = {"sanconditionaldensityestimator__K": [2, 3]}
    outer = make_pipeline(StandardScaler(), GridSearchCV(pipeline(), grid, cv=2)).fit(X, y)
    search = outer[-1]
    scaled = outer[0].transform(X)
    best = search.best_estimator_
    expected = best[-1].log_prob(best[:-1].transform(scaled), y)
    check(as_density_estimator(outer), X, y, expected)


def test_a_plain_estimator(fitted, bimodal):
    X, y, _ = bimodal
    check(as_density_estimator(fitted), X, y, fitted.log_prob(X, y))


def test_what_has_no_density_is_refused():
    with pytest.raises(TypeError, match="loses the Jacobian"):
        as_density_estimator(TransformedTargetRegressor(small(), transformer=StandardScaler()))
    with pytest.raises(TypeError, match=r"got LinearRegression\(\)"):
        as_density_estimator(make_pipeline(StandardScaler(), LinearRegression()))
    with pytest.raises(NotFittedError):
        as_density_estimator(pipeline())
    with pytest.raises(NotFittedError):
        as_density_estimator(GridSearchCV(small(), {"K": [2]}, refit=False))
