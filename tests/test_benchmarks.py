"""What the defaults reach on real tables; needs the benchmark files, takes minutes."""

import numpy as np
import pytest

from sklearn_san import SANConditionalDensityEstimator

pytestmark = pytest.mark.slow


def test_magnitudes_given_redshift(benchmark_data):
    data = benchmark_data("dc2_galaxies.npz")
    X, y = data["redshift"][:, None], data["mags"]
    est = SANConditionalDensityEstimator(random_state=0).fit(X[:20_000], y[:20_000])
    assert -est.score(X[-5000:], y[-5000:]) <= -7.5
    draws = est.sample(X[-5000:], 1, random_state=0)[:, 0]
    assert np.abs(np.corrcoef(draws.T) - np.corrcoef(y[-5000:].T)).max() < 0.02


def test_galaxies(benchmark_data):
    data = benchmark_data("galaxies.npz")
    X, y = data["x"], data["y"]
    nll = {}
    for n in (20_000, 100_000):
        est = SANConditionalDensityEstimator(limits=data["y_limits"], random_state=0)
        nll[n] = -est.fit(X[:n], y[:n]).score(X[-5000:], y[-5000:])
    assert nll[20_000] < 5.30
    assert nll[100_000] < nll[20_000] - 0.5
    draws = est.sample(X[-100:], 20_000, random_state=0)
    low, high = data["y_limits"].T
    assert ((draws >= low) & (draws <= high)).all()
