"""The automatic order: its pilot, orders that are tried, and what the estimator makes of them."""

import copy
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from conftest import small
from sklearn.linear_model import Ridge

from sklearn_san import SANConditionalDensityEstimator, _fitting, _order
from sklearn_san._order import (
    Base,
    Pilot,
    auto_order,
    cost_of,
    features,
    fitted_gains,
    least_cost_order,
    normal_scores,
    pair_gains,
    tried_order,
)
from sklearn_san._schema import Reader


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
    """Make the pilot's gains those of a table whose columns are best in reverse."""

    def gains(x, y, random):
        return np.tri(y.shape[1], k=-1)

    monkeypatch.setattr(_order, "MIN_ROWS", 100)
    monkeypatch.setattr(_order, "keyed", lambda scores: np.arange(scores.shape[1]))
    monkeypatch.setattr(_order, "pair_gains", gains)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_least_costs(seed):
    costs = random_costs(6, seed)
    best = min(cost_of(costs, np.array(order)) for order in permutations(range(6)))
    np.testing.assert_allclose(cost_of(costs, least_cost_order(costs, np.zeros(6))), best)


@pytest.mark.parametrize("seed", range(5))
def test_many_outputs_are_moved_one_by_one(monkeypatch, seed):
    costs = random_costs(8, seed)
    monkeypatch.setattr(_order, "MAX_EXACT", 0)
    order = least_cost_order(costs, np.zeros(8))
    assert sorted(order) == list(range(8))
    for j in range(8):
        others = order[order != j]
        for place in range(8):
            assert cost_of(costs, np.insert(others, place, j)) >= cost_of(costs, order) - 1e-9


def test_levels_rise():
    costs = random_costs(6, 0)
    order = least_cost_order(costs, np.array([0, 0, 1, 1, 1, 2]))
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order[2:5]) == [2, 3, 4]
    assert order[5] == 5


@pytest.mark.parametrize(("share", "stays"), [(0.9, True), (1.1, False)])
def test_order_of_the_pilot_must_be_much_better(share, stays):
    gains = np.random.default_rng(0).random((5, 5))
    costs = gains.T - gains
    given, best = np.arange(5), least_cost_order(costs, np.zeros(5))
    gains *= share * _order.MIN_GAIN / (cost_of(costs, given) - cost_of(costs, best))
    chosen = tried_order(gains, np.zeros(5), given, 1, None, np.random.default_rng(0))
    np.testing.assert_array_equal(chosen, given if stays else best)


def additive(gains):
    """Losses of orders that have exactly these gains, and a list of the orders tried."""
    tried = []

    def losses(order):
        tried.append(tuple(order))
        place = np.argsort(order)
        return -(gains * (place[:, None] < place)).sum(axis=0)

    return losses, tried


def test_gains_are_fitted_by_ridge_regression():
    random = np.random.default_rng(0)
    true, pilot = random.normal(size=(2, 5, 5))
    tried = [random.permutation(5) for _ in range(7)]
    losses_of, _ = additive(true)
    losses = [losses_of(order) + np.arange(5) for order in tried]
    fitted = fitted_gains(pilot, tried, losses)
    places = [np.argsort(order) for order in tried]
    for d in range(5):
        before = np.array([place < place[d] for place in places], dtype=float)
        left = np.array(losses)[:, d] + before @ pilot[:, d]
        ridge = Ridge(alpha=_order.GAIN_RIDGE).fit(-before, left)
        np.testing.assert_allclose(fitted[:, d] - pilot[:, d], ridge.coef_, atol=1e-10)
    np.testing.assert_array_equal(fitted_gains(pilot, tried[:1], losses[:1]), pilot)


def test_trials_mend_what_the_pilot_got_wrong():
    random = np.random.default_rng(1)
    true = random.normal(size=(6, 6))
    np.fill_diagonal(true, 0.0)
    pilot = true + 0.5 * random.normal(size=(6, 6))
    losses_of, tried = additive(true)
    levels, given = np.zeros(6), np.arange(6)
    chosen = tried_order(pilot, levels, given, 12, losses_of, random)
    assert len(tried) == len(set(tried)) == 12
    assert tried[0] == tuple(least_cost_order(pilot.T - pilot, levels))
    assert tried[-1] == tuple(given)
    totals = [losses_of(np.array(order)).sum() for order in tuple(tried)]
    assert losses_of(chosen).sum() == min(totals) < totals[0]


@pytest.mark.parametrize(("share", "stays"), [(0.9, True), (1.1, False)])
def test_order_as_given_stays_if_it_is_about_as_good(share, stays):
    def losses_of(order):  # best in reverse
        return np.full(3, -share * _order.MIN_TRIED_GAIN / 3 * (order[0] == 2))

    given, levels = np.arange(3), np.zeros(3)
    chosen = tried_order(np.tri(3), levels, given, 8, losses_of, np.random.default_rng(0))
    assert chosen.tolist() == ([0, 1, 2] if stays else [2, 1, 0])


def test_few_orders_are_tried_once():
    random = np.random.default_rng(0)
    losses_of, tried = additive(np.tri(3, k=-1))
    tried_order(np.zeros((3, 3)), np.zeros(3), np.arange(3), 20, losses_of, random)
    assert len(tried) == len(set(tried)) == 6
    losses_of, tried = additive(np.tri(4, k=-1))
    levels = np.array([0, 0, 1, 1])
    tried_order(np.zeros((4, 4)), levels, np.arange(4), 20, losses_of, random)
    assert len(set(tried)) == 4


def test_shuffled_columns_end_in_one_order(monkeypatch):
    monkeypatch.setattr(_order, "MIN_ROWS", 100)
    monkeypatch.setattr(_order, "MAX_STEPS", 5)
    X, y = problem()
    true = np.random.default_rng(2).normal(size=(4, 4))

    def chosen(place, n_trials, n_first=0):
        def trial(order):
            loss = additive(true)[0](place[order])
            return loss[place]

        return place[auto_order(X, y[:, place], n_first, n_trials=n_trials, trial=trial)].tolist()

    shuffles = [np.random.default_rng(seed).permutation(4) for seed in range(5)]
    found = [chosen(place, 8) for place in shuffles]
    assert found == [found[0]] * 5
    for place in shuffles:
        assert chosen(place, 8, 1)[0] == place[0]


def test_short_fits_tell_the_loss_of_each_output():
    random = np.random.default_rng(0)
    X = random.normal(size=(1500, 1))
    y = random.normal(size=(1500, 3))
    y[:, 1] = y[:, 0] + 0.01 * y[:, 1]
    y[::5, 2] = np.nan
    weight = random.uniform(0.5, 1.5, len(X))
    est = small(n_members=8, linear_base=True, order=None)
    reader = Reader(copy.copy(est))
    sample = reader.learn(reader.read(X, y, weight))
    n_trials, losses = _fitting.order_trials(est, reader, sample, increment=False)
    assert n_trials == 0
    normal, narrow, some = 1.42, 1.42 + np.log(0.01), 0.8 * 1.42
    np.testing.assert_allclose(losses(np.array([0, 1, 2])), [normal, narrow, some], atol=0.2)
    np.testing.assert_allclose(losses(np.array([1, 0, 2])), [narrow, normal, some], atol=0.2)
    assert reader.schema.order.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(losses(np.array([1, 0, 2])), losses(np.array([1, 0, 2])))


@pytest.mark.parametrize(
    ("n_rows", "parameters", "increment", "n_trials"),
    [
        (20_000, {}, False, 7),
        (5000, {}, False, 7),
        (20_000, {"n_members": 1}, False, 4),
        (20_000, {"n_members": 1, "epochs": 5}, False, 0),
        (1_000_000, {}, True, 6),
        (20_000, {}, True, 0),
    ],
)
def test_trials_take_a_share_of_the_fit(n_rows, parameters, increment, n_trials):
    X, y = problem(50)
    est = SANConditionalDensityEstimator(**parameters)
    reader = Reader(copy.copy(est))
    sample = reader.learn(reader.read(X, y))
    reader.n_rows = n_rows
    assert _fitting.order_trials(est, reader, sample, increment=increment)[0] == n_trials


def test_fit_tries_orders(monkeypatch):
    monkeypatch.setattr(_order, "MIN_ROWS", 100)
    monkeypatch.setattr(_order, "MAX_STEPS", 5)
    monkeypatch.setattr(_fitting, "TRIAL_PASSES", 100)
    X, y = problem(400)
    y[:, 3] = np.round(y[:, 3])
    tried = []

    def remembered(*args, **kwargs):
        n_trials, losses = _fitting.order_trials(*args, **kwargs)
        return n_trials, lambda order: tried.append(order.tolist()) or losses(order)

    monkeypatch.setattr("sklearn_san._estimator.order_trials", remembered)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est = small(epochs=6, order=[1, ...]).fit(X, y, X_err=np.full(X.shape, 0.1))
    assert [0, 1, 2, 3] in tried
    assert all(order[0] == 0 for order in tried)  # counted from the order so far
    assert est.order_[0] == 1


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


def test_training_lowers_the_loss(monkeypatch):
    monkeypatch.setattr(_order, "MAX_STEPS", 30)
    X, y = problem()
    y = normal_scores(y, np.random.default_rng(0))
    y[:40, 3] = np.nan
    pilot = Pilot(X, y, 100, np.random.default_rng(0))
    rows, known = np.arange(100, 400)[None], np.zeros((1, 4), dtype=bool)
    before = pilot.loss(rows, known).mean()
    assert pilot.fit().loss(rows, known).mean() < before
    gains = pair_gains(X, y, np.random.default_rng(0))
    np.testing.assert_array_equal(gains.diagonal(), 0.0)
    np.testing.assert_array_equal(gains, pair_gains(X, y, np.random.default_rng(0)))


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
    monkeypatch.setattr(_order, "pair_gains", None)
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
