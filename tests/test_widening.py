"""Scales that are fitted to rows for validation."""

import numpy as np
import pytest
import torch
from conftest import small
from scipy.stats import norm

from sklearn_san import _fitting, _widening
from sklearn_san._training import Rows
from sklearn_san._widening import PULL, STEPS, _best_steps, widen


def rows_of(x, y, weight=None):
    columns = [torch.as_tensor(part, dtype=torch.float64) for part in (x, y)]
    if weight is not None:
        columns.append(torch.as_tensor(weight, dtype=torch.float64))
    index = torch.arange(len(x))[None]
    return Rows(tuple(columns), index, torch.zeros(1), weighted=weight is not None)


def fitted(likelihood, seed=0, **parameters):
    """Network of a normal output whose standard deviation is 1, in units of the network."""
    random = np.random.default_rng(seed)
    X, y = random.normal(size=(2000, 1)), random.normal(size=(2000, 2))
    plain = {"x_scaler": None, "y_scaler": None, "linear_base": False, "early_stopping": False}
    est = small(likelihood=likelihood, epochs=3, dtype="float64", **plain, **parameters)
    return est.fit(X, y).network_


@pytest.mark.parametrize("likelihood", ["gaussian", "mog", "truncated_mog"])
def test_factor_is_that_of_the_rows(likelihood):
    # Rows are 1.2 and 0.9 times as spread as those that the network knows; one Gaussian needs just
    # that, several the more the more they overlap
    limits = {"limits": [[-30.0, 30.0]] * 2} if likelihood == "truncated_mog" else {}
    network = fitted(likelihood, likelihood_params={} if likelihood == "gaussian" else {"K": 1},
                     **limits)  # fmt: skip
    random = np.random.default_rng(1)
    x, y = random.normal(size=(4000, 1)), random.normal(size=(4000, 2)) * [1.2, 0.9]
    steps = _best_steps(network, rows_of(x, y))
    np.testing.assert_allclose(steps, np.log([1.2, 0.9]), atol=0.06)
    before = network.conditionals(*(torch.as_tensor(a[None]) for a in (x, y)))[0].sum()
    widen(network, rows_of(x, y))
    assert network.conditionals(*(torch.as_tensor(a[None]) for a in (x, y)))[0].sum() > before
    np.testing.assert_allclose(_best_steps(network, rows_of(x, y)), 0.0, atol=0.02)


def test_members_that_are_mixed_need_less():
    one, four = fitted("gaussian"), fitted("gaussian", n_members=4)
    random = np.random.default_rng(1)
    x, y = random.normal(size=(1000, 1)), 1.3 * random.normal(size=(1000, 2))
    rows = rows_of(x, y)
    rows_of_four = Rows(rows.columns, rows.index.expand(4, -1), torch.zeros(4))
    for network, its in ((one, rows), (four, rows_of_four)):
        before, steps = network.blocks[0].heads.bias.clone(), _best_steps(network, its)
        widen(network, its)
        moved = (network.blocks[0].heads.bias - before)[:, -1]
        np.testing.assert_allclose(moved, steps[0] / network.n_members, rtol=1e-6)


def test_few_rows_are_believed_little_and_weights_and_gaps_count():
    network = fitted("gaussian")
    random = np.random.default_rng(2)
    x, y = random.normal(size=(500, 1)), 1.3 * random.normal(size=(500, 2))
    assert np.abs(_best_steps(network, rows_of(x[:3], y[:3]))).max() < 0.1
    weight = np.where(np.arange(500) < 250, 2.0, 0.0)
    half = np.r_[0:250, 0:250]
    expected = _best_steps(network, rows_of(x[half], y[half]))
    np.testing.assert_allclose(_best_steps(network, rows_of(x, y, weight)), expected, atol=1e-9)
    gaps = y.copy()
    gaps[250:, 1] = np.nan
    found = _best_steps(network, rows_of(x, gaps))
    assert found[0] == pytest.approx(_best_steps(network, rows_of(x, y))[0], abs=1e-9)
    assert found[1] == pytest.approx(_best_steps(network, rows_of(x[:250], y[:250]))[1], abs=1e-9)


def test_maximum_of_a_parabola():
    for middle in (0.0, 0.123, 0.4):
        assert _widening._maximum(-((STEPS - middle) ** 2) / PULL) == pytest.approx(middle)
    assert _widening._maximum(np.full(len(STEPS), np.nan)) == 0.0


@pytest.mark.parametrize("likelihood", ["softmax", "categorical", "ordinal"])
def test_families_without_scales_stay_as_they_are(likelihood):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 1)), random.uniform(-0.5, 3.5, size=200)
    limits = {"limits": [[-0.5, 3.5]]} if likelihood == "softmax" else {}
    y = y if limits else y.round()
    assert np.isfinite(small(likelihood=likelihood, epochs=2, **limits).fit(X, y).score(X, y))


def test_a_single_network_that_learned_few_rows_by_heart():
    # Normal with standard deviation 0.3; 300 rows, 40 columns of noise
    random = np.random.default_rng(0)
    X = random.normal(size=(2300, 40))
    y = X[:, 0] + 0.3 * random.normal(size=2300)
    new = slice(300, None)
    parameters = {"module_shape": (64, 64), "epochs": 30, "linear_base": False,
                  "early_stopping": True, "validation_fraction": 0.2,
                  "encoder_shape": None}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fitting, "widen", lambda network, rows: None)
        before = small(**parameters).fit(X[:300], y[:300])
    after = small(**parameters).fit(X[:300], y[:300])
    assert after.score(X[new], y[new]) > before.score(X[new], y[new])

    def spread(est):
        return norm.ppf(est.predict_density(X[new]).cdf(y[new]).clip(1e-6, 1 - 1e-6)).std()

    assert abs(np.log(spread(after))) < abs(np.log(spread(before)))
