"""Fixtures for all tests."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san._engines import without_kernels
from sklearn_san.datasets import make_bimodal

#: How closely a small network in single precision repeats its results when the sums in it are
#: made in another order, relative and around 0: a thousand units in the last place.
SINGLE = 1000 * float(np.finfo(np.float32).eps)

#: Tests for which all kernels are compiled first, where none are kept yet.
MANY = 1000


def pytest_collection_modifyitems(config, items):
    """Have the first of two processes compile the kernels of fits, the second all others.

    Later each would compile all of them.
    """
    process = getattr(config, "workerinput", {}).get("workerid")
    if len(items) < MANY or process not in ("gw0", "gw1"):
        return
    X, y = np.random.default_rng(0).normal(size=(2, 200, 2))
    for likelihood in ("mog", "molog"):
        est = small(likelihood=likelihood, epochs=1)
        if process == "gw0":
            est.fit(X, y).predict_density(X[:1]).mode()
            continue
        with without_kernels():
            est.fit(X, y)
        density = est.predict_density(X[:1])
        density.sample()
        density.quantile(0.5)
        density.pdf_grid(1, [0.0, 1.0])
        density.marginal_cdf(1, [0.0])


@pytest.fixture(autouse=True)
def global_state_untouched():
    """Fail any test that changes the state of the process."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    settings = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert settings == (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


def small(**parameters):
    """Estimator that fits in a second, without features of x that pilots would choose."""
    defaults = {
        "K": 3,
        "module_shape": (16,),
        "feature_encoding": None,
        "tree_features": False,
        "synthetic_rows": 0,
        "n_members": 1,
        "epochs": 5,
        "random_state": 0,
    }
    return SANConditionalDensityEstimator(**(defaults | parameters))


@pytest.fixture(scope="session")
def bimodal():
    """X, y and the exact log density."""
    return make_bimodal(600, random_state=0)


@pytest.fixture(scope="session")
def fitted(bimodal):
    """Two outputs, the first with limits; not to be changed."""
    X, y, _ = bimodal
    return small(limits=[[-4.0, 4.0], [-np.inf, np.inf]], epochs=15).fit(X, y)


@pytest.fixture(scope="session")
def benchmark_data():
    """Loader of the benchmark files; skips where they are not installed."""
    folder = os.environ.get("SAN_BENCH_DATA")
    if folder is None:
        pytest.skip("set SAN_BENCH_DATA to the folder of the benchmark files")

    def load(name):
        path = Path(folder) / name
        assert path.exists(), f"{path} is missing"
        return np.load(path)

    return load
