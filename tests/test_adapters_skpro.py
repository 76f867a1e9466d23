"""The regressor and the distribution as skpro takes them, by its own tests too."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import SINGLE, small

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("skpro", reason="skpro is not installed")
    from skpro.metrics import CRPS, LogLoss
    from skpro.utils.estimator_checks import check_estimator

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from sklearn_san.adapters.skpro import DensityDistribution, SANProbaRegressor

pytestmark = pytest.mark.filterwarnings("ignore")  # skpro's own


@pytest.fixture(autouse=True)
def global_state_untouched():
    """As all of skpro, distributions draw by numpy's global seed."""
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


@pytest.fixture(scope="module")
def frames(bimodal):
    X, y, _ = bimodal
    index = pd.Index([f"row {i}" for i in range(len(X))], name="name")
    return pd.DataFrame(X, index, ["x"]), pd.DataFrame(y, index, ["a", "b"])


@pytest.fixture(scope="module")
def regressor(frames):
    return SANProbaRegressor(small(epochs=10)).fit(*frames)


@pytest.mark.parametrize("tested", [SANProbaRegressor, DensityDistribution])
def test_conformance(tested):
    results = check_estimator(tested, verbose=False)
    assert len(results) > 50
    assert {name: found for name, found in results.items() if found != "PASSED"} == {}


def test_values_are_those_of_the_density(regressor, frames):
    X, y = (frame.iloc[:5] for frame in frames)
    found, density = regressor.predict_proba(X), regressor.estimator_.predict_density(X)
    assert found.joint.log_prob(y).shape == (5,)
    for j, name in enumerate(y):
        values = y[name].to_numpy()
        log_prob = density.marginal_log_prob(j, values)
        np.testing.assert_allclose(found.log_pdf(y)[name], log_prob, rtol=SINGLE)
        np.testing.assert_allclose(found.pdf(y)[name], np.exp(log_prob), rtol=SINGLE)
        np.testing.assert_allclose(found.cdf(y)[name], density.marginal_cdf(j, values))
        np.testing.assert_allclose(found.mean()[name], density.mean()[:, j])
        np.testing.assert_allclose(found.var()[name], density.std()[:, j] ** 2)
    assert (found.log_pdf(y).index == X.index).all()
    np.testing.assert_allclose(found.ppf(found.cdf(y)), y, atol=10 * SINGLE)
    quantiles = regressor.predict_quantiles(X, alpha=[0.1, 0.9])
    expected = density.quantile([0.1, 0.9])  # (rows, levels, outputs)
    np.testing.assert_allclose(quantiles, expected.swapaxes(1, 2).reshape(5, 4))


def test_parts_are_those_of_the_whole(regressor, frames):
    X, y = (frame.iloc[:5] for frame in frames)
    whole = regressor.predict_proba(X)
    part = whole.loc[["row 3", "row 1"], ["b"]]
    cdf = whole.cdf(y)
    np.testing.assert_allclose(
        part.cdf(y.loc[["row 3", "row 1"], ["b"]])["b"], cdf["b"].iloc[[3, 1]]
    )
    one = whole.iloc[2, 1]
    assert one.shape == ()
    assert abs(one.cdf(y.iloc[2, 1]) - cdf.iloc[2, 1]) < 1e-9
    assert np.isscalar(one.sample())


def test_draws_keep_the_dependence_of_the_outputs(regressor, frames):
    X, _ = frames
    draws = regressor.predict_proba(X.iloc[:3]).sample(2000)
    assert draws.index.names == [None, "name"]
    cov = regressor.estimator_.predict_density(X.iloc[:3]).cov()
    for i, name in enumerate(X.index[:3]):
        own = draws.xs(name, level=1)
        np.testing.assert_allclose(own.cov(), cov[i], atol=0.15 * np.trace(cov[i]))


def test_energy_and_scores(regressor, frames):
    X, y = (frame.iloc[:200] for frame in frames)
    found = regressor.predict_proba(X)
    draws = regressor.estimator_.sample(X, 2000, random_state=1)
    error = 0.15  # of 1,000 draws
    energy = np.abs(draws - y.to_numpy()[:, None]).mean(1).sum(1)
    np.testing.assert_allclose(found.energy(y)["energy"], energy, rtol=error, atol=error)
    assert 0.0 < CRPS()(y, found) < float(y.std().sum())
    log_loss = -found.log_pdf(y).to_numpy().mean()
    assert abs(LogLoss()(y, found) - log_loss) < 1e-6


def test_pipelines_and_one_output(frames):
    X, y = frames
    chain = make_pipeline(PolynomialFeatures(2, include_bias=False), small())
    fitted = SANProbaRegressor(chain).fit(X, y[["a"]])
    assert fitted.predict(X.iloc[:4]).columns.tolist() == ["a"]
    assert fitted.predict_interval(X.iloc[:4], coverage=0.8).shape == (4, 2)
    assert fitted.clone().estimator is not chain
