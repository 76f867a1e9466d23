"""Fixtures for all tests."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san.datasets import make_bimodal

#: How closely a small network in single precision repeats its results when the sums in it are
#: made in another order, relative and around 0: a thousand units in the last place.
SINGLE = 1000 * float(np.finfo(np.float32).eps)

#: Files whose tests compile no kernels.
IN_TORCH = {
    "test_docs.py", "test_encoders.py", "test_likelihoods.py", "test_network.py",
    "test_package.py", "test_scaling.py", "test_truncated_normal.py",
}  # fmt: skip


def pytest_collection_modifyitems(config, items):
    """Let the second of two processes begin with what compiles nothing.

    Each begins with one half of the tests. Where no kernels are kept yet, both would compile the
    same ones at the same time.
    """
    if not hasattr(config, "workerinput"):
        return
    first = [item for item in items if item.path.name in IN_TORCH]
    others = [item for item in items if item.path.name not in IN_TORCH]
    middle = min(len(items) // 2, len(others))
    items[:] = others[:middle] + first + others[middle:]


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
