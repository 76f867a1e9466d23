"""Encoders of spectra, images and sets, trained with the network."""

import pickle
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SINGLE, small
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_san import SANConditionalDensityEstimator, merge
from sklearn_san._engines import without_kernels
from sklearn_san._part_encoders import gather, spread
from sklearn_san._parts import Part, split_parts
from sklearn_san.exceptions import BadRowsWarning, CorruptModelError

N_PIXELS = 50
LINE = np.exp(-0.5 * (np.linspace(-1.0, 1.0, N_PIXELS) / 0.2) ** 2)


class Flat(nn.Module):
    """Features linear in all values."""

    def __init__(self, shape, n_features=2):
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(int(np.prod(shape)), n_features)

    def forward(self, values):
        return self.linear(values.flatten(1))


class FlatFactory(BaseEstimator):
    """Made up, as those of the package are."""

    def __init__(self, n_features=2):
        self.n_features = n_features

    def __call__(self, shape):
        return Flat(shape, self.n_features)


def flat(shape):
    return Flat(shape, 1)


def spectra(n, seed=0, noise=2.0):
    """Noisy pixels of a line whose amplitude is y, and the exact posterior mean and deviation."""
    random = np.random.default_rng(seed)
    y = random.normal(size=n)
    X = y[:, None] * LINE + noise * random.normal(size=(n, N_PIXELS))
    precision = 1.0 + (LINE**2).sum() / noise**2
    return X.astype(np.float32), y, X @ LINE / noise**2 / precision, precision**-0.5


def few(**parameters):
    defaults = {"encoder": flat, "epochs": 2, "n_members": 2, "module_shape": (8,), "K": 1}
    return small(**(defaults | parameters))


@pytest.fixture(scope="module")
def parts():
    """Spectra and two plain columns, of which the second tells of y as well."""
    X, y, _, _ = spectra(300)
    random = np.random.default_rng(1)
    table = np.stack([random.normal(size=300), y + random.normal(size=300)], axis=1)
    return {"spectrum": X.reshape(300, 5, 10), "photometry": table}, y


@pytest.mark.parametrize("shared", [False, True])
def test_known_posterior(shared):
    X, y, mean, scale = spectra(3000)
    est = few(
        encoder=flat, epochs=25, batch_size=128, learning_rate=0.03, share_encoder=shared,
        validation_fraction=0.05,
    )  # fmt: skip
    est.fit(X[:2000].reshape(-1, 5, 10), y[:2000])
    test = slice(2000, None)
    loss = -est.score(X[test].reshape(-1, 5, 10), y[test])
    exact = -norm(mean[test], scale).logpdf(y[test]).mean()
    # Of 1000 test rows: 50 weights that are learned from 1900 rows cost 0.013 nats
    assert exact - 0.02 < loss < exact + 0.05
    assert est.part_shapes_ == {"X": (5, 10)}
    assert est.n_features_in_ == 0
    assert est.engine_ == "compiled" or est.engine_.startswith("torch: ")
    assert est.network_.n_features == (1 if shared else 2)
