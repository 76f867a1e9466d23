"""The automatic order: its pilot, the order of least costs, and what the estimator makes of it."""

from itertools import permutations

import numpy as np
import pytest
import torch
from conftest import small

from sklearn_san import SANConditionalDensityEstimator, _order
from sklearn_san._order import (
    Base,
    Pilot,
    auto_order,
    cost_of,
    features,
    least_cost_order,
    normal_scores,
    pair_costs,
)


def problem(n=400):
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 2))
    y = X @ random.normal(size=(2, 4)) + random.normal(size=(n, 4))
    return X, y


def random_costs(n, seed):
    costs = np.random.default_rng(seed).normal(size=(n, n))
    return costs - costs.T


@pytest.fixture
def backwards(monkeypatch):
    """Make the pilot's costs those of a table whose columns are best in reverse."""

    def costs(x, y, random):
        place = np.arange(y.shape[1])
        return np.sign(place - place[:, None]).astype(float)

    monkeypatch.setattr(_order, "MIN_ROWS", 100)
    monkeypatch.setattr(_order, "pair_costs", costs)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_least_costs(seed):
    costs = random_costs(6, seed)
    best = min(cost_of(costs, np.array(order)) for order in permutations(range(6)))
    np.testing.assert_allclose(cost_of(costs, least_cost_order(costs)), best)


@pytest.mark.parametrize("seed", range(5))
def test_many_outputs_are_moved_one_by_one(monkeypatch, seed):
    costs = random_costs(8, seed)
    monkeypatch.setattr(_order, "MAX_EXACT", 0)
    order = least_cost_order(costs)
    assert sorted(order) == list(range(8))
    for j in range(8):
        others = order[order != j]
        for place in range(8):
            assert cost_of(costs, np.insert(others, place, j)) >= cost_of(costs, order) - 1e-9


def test_order_as_given_stays_if_it_is_about_as_good():
    costs = random_costs(5, 0)
    small_costs = costs * _order.MIN_GAIN / (2.1 * np.abs(costs).sum())
    np.testing.assert_array_equal(least_cost_order(small_costs), np.arange(5))


def test_normal_scores():
    random = np.random.default_rng(0)
    values = np.array([[3.0, 1.0], [1.0, np.nan], [2.0, 1.0], [np.inf, 1.0]])
    scores = normal_scores(values, random)
    np.testing.assert_array_equal(np.argsort(scores[:, 0]), [1, 2, 0, 3])
    np.testing.assert_allclose(np.sort(scores[:, 0]), -np.sort(-scores[:, 0]) * -1)
    assert np.isnan(scores[:, 1]).tolist() == [False, True, False, False]
    assert len(np.unique(scores[[0, 2, 3], 1])) == 3  # ties are broken


def test_features_are_scores_states_and_categories():
    X = np.array([[0.5, 0.0], [np.nan, 2.0], [1.5, np.nan], [2.5, 2.0]])
    inputs = features(X, [None, 3], np.random.default_rng(0))
    assert inputs[1, :2].tolist() == [0.0, 1.0]
    assert inputs[:, 2:].tolist() == [[0, 1], [1, 0], [0, 0], [1, 0]]


def test_base_is_least_squares():
    X, y = problem(2000)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    base, known = Base(X, y), np.array([True, False, True, False])
    slope, scale = base.given(known)
    location = base.location(X)
    predicted = location + (y - location) @ slope
    inputs = np.column_stack([np.ones(len(X)), X, y[:, known]])
    exact = inputs @ np.linalg.lstsq(inputs, y[:, ~known], rcond=None)[0]
    np.testing.assert_allclose(predicted[:, ~known], exact, atol=0.01)
    left = (y[:, ~known] - exact).std(axis=0)
    used = left < 0.5
    np.testing.assert_allclose(scale[~known][used], left[used], rtol=0.01)
    np.testing.assert_array_equal(scale[~known][~used], 1.0)


def test_loss_sees_known_outputs_only():
    X, y = problem()
    y = normal_scores(y, np.random.default_rng(0))
    pilot = Pilot(X, y, 100, np.random.default_rng(0))
    rows, known = np.arange(10)[None], np.array([[True, False, False, True]])
    before = pilot.loss(rows, known).detach()[0]
    for j in range(4):
        changed = y.copy()
        changed[:10, j] += 1.0  # rows that are held out
        after = Pilot(X, changed, 100, np.random.default_rng(0)).loss(rows, known).detach()[0]
        same = (before == after).all(dim=0)
        others = [k for k in range(4) if k != j]
        assert not same[j]
        assert bool(same[others].all()) is not known[0, j]
    changed = y.copy()
    changed[:10, 0] = np.nan
    assert (Pilot(X, changed, 100, np.random.default_rng(0)).loss(rows, known)[0, :, 0] == 0).all()


def test_training_lowers_the_loss_and_costs_are_antisymmetric(monkeypatch):
    monkeypatch.setattr(_order, "MAX_STEPS", 30)
    X, y = problem()
    y = normal_scores(y, np.random.default_rng(0))
    y[:40, 3] = np.nan
    pilot = Pilot(X, y, 100, np.random.default_rng(0))
    rows, known = np.arange(100, 400)[None], np.zeros((1, 4), dtype=bool)
    before = pilot.loss(rows, known).mean()
    assert pilot.fit().loss(rows, known).mean() < before
    costs = pair_costs(X, y, np.random.default_rng(0))
    np.testing.assert_array_equal(costs, -costs.T)
    np.testing.assert_array_equal(costs, pair_costs(X, y, np.random.default_rng(0)))


def test_levels_of_missing_values_and_first_outputs(backwards):
    X, y = problem()
    n_missing = np.array([0, 5, 0, 5])
    assert auto_order(X, y).tolist() == [3, 2, 1, 0]
    assert auto_order(X, y, 1).tolist() == [0, 3, 2, 1]
    assert auto_order(X[:50], y[:50]).tolist() == [0, 1, 2, 3]
    assert auto_order(X, y[:, :2]).tolist() == [0, 1]
    assert auto_order(X[:50], y[:50], 0, n_missing).tolist() == [0, 2, 1, 3]


def test_fit_is_that_with_the_order_it_found(backwards):
    X, y = problem()
    names = ["a", "b", "c", "d"]
    est = small(epochs=2).fit(X, y)
    assert est.order_.tolist() == [3, 2, 1, 0]
    assert small().get_params()["order"] == "auto"
    same = small(epochs=2, order=[3, 2, 1, 0]).fit(X, y)
    np.testing.assert_array_equal(est.log_prob(X, y), same.log_prob(X, y))
    assert small(epochs=1, order=None).fit(X, y).order_.tolist() == [0, 1, 2, 3]
    pd = pytest.importorskip("pandas")
    part = small(epochs=1, order=["c", ...]).fit(X, pd.DataFrame(y, columns=names))
    assert part.order_.tolist() == [2, 3, 1, 0]
    assert small(epochs=1).fit([(X[:200], y[:200]), (X[200:], y[200:])]).order_[0] == 3


def test_order_of_the_first_fit_stays(backwards, monkeypatch, tmp_path):
    X, y = problem()
    est = small(epochs=1, order=[2, ...], warm_start=True, checkpoint_dir=str(tmp_path)).fit(X, y)
    part = small(order=[2, ...]).partial_fit(X, y)
    est.save(tmp_path / "model")
    monkeypatch.setattr(_order, "pair_costs", None)
    again = SANConditionalDensityEstimator.load(tmp_path / "model")
    assert again.order == [2, ...]
    for fitted in (
        est.fit(X, y), part.partial_fit(X, y), again, est.distill(X, n_rows=200, epochs=1)
    ):  # fmt: skip
        assert fitted.order_.tolist() == [2, 3, 1, 0]


def test_outputs_that_lack_values_come_last():
    X, y = problem()
    y[::2, 0] = np.nan
    y[::4, 2] = np.nan
    assert small(epochs=1).fit(X, y).order_.tolist() == [1, 3, 2, 0]
    batches = [(X[:200], y[:200]), (X[200:], y[200:])]
    assert small(epochs=1).fit(batches).order_.tolist() == [1, 3, 2, 0]
    with pytest.raises(ValueError, match="y has 200 missing values"):
        small(epochs=1, order=None).fit(X, y)
    with pytest.raises(ValueError, match="y has 200 missing values"):
        small(epochs=1, order=[0, ...]).fit(X, y)
    y[1, 2] = np.nan
    with pytest.raises(ValueError, match="missing value before an observed one"):
        small(epochs=1).fit(X, y)


def test_gaps_in_rows_of_a_stream_that_are_not_at_hand(monkeypatch):
    X, y = problem()
    monkeypatch.setattr("sklearn_san._rows.RESERVOIR", 50)
    y[::2, 0] = np.nan
    kept = small(epochs=1).fit([(X, y)])
    assert kept.order_.tolist() == [1, 2, 3, 0]
    y[1::4, 1] = np.nan
    y[1:4:4, 1] = y[0, 0]
    with pytest.raises(ValueError, match=r"is missing and output|missing value before an observed"):
        small(epochs=1).fit([(X, y)])


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with _order.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
