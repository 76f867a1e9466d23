"""Rows drawn from a model of the table: the model, when rows are drawn, and what that is worth."""

import numpy as np
import pytest
from conftest import small

from sklearn_san import SANConditionalDensityEstimator
from sklearn_san import _synthetic as synthetic
from sklearn_san._rows import OBSERVED_REPEATS, WholeTable
from sklearn_san._schema import Block


def simulated(n_rows, seed=0):
    """Two parameters in the unit square, and four data: noisy functions of them, one a count."""
    random = np.random.default_rng(seed)
    theta = random.uniform(size=(n_rows, 2))
    x = np.stack([theta[:, 0] + theta[:, 1], theta[:, 0] * theta[:, 1]], axis=1)
    x = x + 0.05 * random.standard_normal(x.shape)
    count = random.poisson(5.0 * theta[:, 0])
    return np.column_stack([x, count, np.ones(n_rows)]), theta


@pytest.fixture(scope="module")
def drawn():
    """A table, and rows drawn from a model of it."""
    X, y = simulated(800)
    model = synthetic.TableModel(
        SANConditionalDensityEstimator()._plain,
        Block(X, y, None, None),
        np.array([[0.0, 1.0]] * 2),
    )
    return X, y, *model.sample(4000, 0)


def test_drawn_rows_are_like_those_of_the_table(drawn):
    X, y, other_X, other_y = drawn
    assert 3000 < len(other_X) == len(other_y) <= 4000
    many_X, many_y = simulated(20_000, seed=1)
    table, true, found = (np.column_stack([a[:, :3], b]) for a, b in (
        (X, y), (many_X, many_y), (other_X, other_y)))  # fmt: skip
    np.testing.assert_allclose(found.mean(0), true.mean(0), atol=0.12 * true.std(0).max())
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(true.T), atol=0.12)
    assert (
        (found >= table.min(0)) | np.isin(np.arange(5), (3, 4))
    ).all()  # y has limits of its own
    assert ((other_y >= 0.0) & (other_y <= 1.0)).all()


def test_ties_and_constants_stay(drawn):
    X, _, other_X, _ = drawn
    assert set(other_X[:, 2]) <= set(X[:, 2])
    zeros = np.mean(X[:, 2] == 0.0)
    assert np.mean(other_X[:, 2] == 0.0) == pytest.approx(zeros, abs=0.1)
    assert (other_X[:, 3] == 1.0).all()
    np.testing.assert_array_equal(synthetic._cuts(np.array([0.0, 1.0, 3.0])), [-0.5, 0.5, 2.0, 4.0])


def test_drawn_rows_do_not_validate():
    import torch

    X, y = simulated(100)
    own = WholeTable(Block(X, y, None, None)).with_drawn(X[:50] + 1.0, y[:50])
    assert (own.n_rows, own.n_observed, own.n_drawn) == (150, 100, 50)
    split = own.split(10, 2, torch.Generator().manual_seed(0))
    assert split.holdout.max() < 100
    for training, holdout in zip(split.training, split.holdout, strict=True):
        rows, counts = np.unique(training, return_counts=True)
        assert set(rows) == set(range(150)) - set(holdout)
        assert set(counts[rows < 100]) == {OBSERVED_REPEATS}
        assert set(counts[rows >= 100]) == {1}
    np.testing.assert_array_equal(own.observed.sample.X, X)
    assert own.observed.n_drawn == 0


def test_drawn_rows_with_rows_to_validate_on_and_weights():
    import torch

    X, y = simulated(100)
    weight = np.linspace(0.5, 1.5, 100)
    table = WholeTable(Block(X, y, weight, None), None, 20)
    own = table.with_drawn(X[:50] + 1.0, y[:50])
    np.testing.assert_array_equal(own.sample.X[-20:], X[-20:])
    np.testing.assert_array_equal(own.sample.weight[80:130], 1.0)
    split = own.split(20, 1, torch.Generator().manual_seed(0))
    assert set(split.holdout[0]) == set(range(130, 150))
    assert set(split.training[0]) == set(range(130))
    np.testing.assert_array_equal(own.observed.sample.y, y)
    assert own.observed.n_held == 20


def test_number_of_rows_is_that_wanted():
    X, y = simulated(300)
    est = small(epochs=2, synthetic_rows=400, limits=(0, 1)).fit(X, y)
    assert 200 < est.n_synthetic_rows_ <= 400
    assert small(epochs=2).fit(X, y).n_synthetic_rows_ == 0
    again = small(epochs=2, synthetic_rows=400, limits=(0, 1)).fit(X, y)
    np.testing.assert_array_equal(est.log_prob(X, y), again.log_prob(X, y))


def test_progress_tells_of_drawn_rows(capsys):
    X, y = simulated(300)
    est = small(epochs=1, synthetic_rows=400, limits=(0, 1), verbose=1).fit(X, y)
    assert f"{est.n_synthetic_rows_} of these are drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "fit", "message"),
    [
        ({}, {"groups": np.arange(100)}, "rows without groups"),
        ({}, {"X_err": np.full((100, 3), 0.01)}, "rows without groups and X_err"),
        ({"missing_rate": 0.1}, {}, "rows without missing and infinite values"),
        ({"categorical_features": [2]}, {}, "features that are numbers"),
        ({"likelihood": ["mog", "ordinal"]}, {}, "outputs that are numbers with a density"),
    ],
)
def test_tables_without_a_model(change, fit, message):
    X, y = simulated(100)
    X = X[:, :3]
    if "likelihood" in change:
        y = np.column_stack([y[:, 0], np.round(4 * y[:, 1])])
    with pytest.raises(ValueError, match=f"synthetic_rows=50 needs {message}"):
        small(synthetic_rows=50, **change).fit(X, y, **fit)
    assert small(epochs=1, synthetic_rows="auto", **change).fit(X, y, **fit).n_synthetic_rows_ == 0


def test_auto_asks_for_a_whole_fit_and_for_rows(monkeypatch):
    asked = []
    monkeypatch.setattr(synthetic, "_is_worth", lambda *_: asked.append(1) or False)
    X, y = simulated(600)
    for X_, y_, change in (
        (X, y, {"epochs": 1}),
        (X, y[:, :1], {}),
        (X[:400], y[:400], {}),
        (X, y, {"early_stopping": False}),
    ):
        rows = WholeTable(Block(X_, y_, None, None))
        options = small(**{"epochs": "auto", "synthetic_rows": "auto"} | change)
        assert not synthetic._may_be_worth(options, rows)
    assert synthetic._may_be_worth(options.set_params(early_stopping="auto"), rows) == (
        synthetic.unavailable() is None
    )
    assert not asked


def test_tables_of_which_no_model_can_be_made(monkeypatch):
    def refuse(*_):  # as where the trial did not see the one row that is extreme
        raise ValueError("Input X contains 1e+27.")

    X, y = simulated(100)
    monkeypatch.setattr(synthetic, "TableModel", refuse)
    message = r"synthetic_rows=50 finds no model of the table.*X contains 1e\+27"
    with pytest.raises(ValueError, match=message):
        small(synthetic_rows=50).fit(X, y)
    for name in ("_may_be_worth", "_is_worth"):
        monkeypatch.setattr(synthetic, name, lambda *_: True)
    assert small(epochs=1, synthetic_rows="auto").fit(X, y).n_synthetic_rows_ == 0


@pytest.mark.slow
def test_auto_draws_rows_where_they_help():
    X, y = simulated(600)  # three standard errors in the trial; of 1,000 rows two
    test_X, test_y = simulated(5000, seed=1)
    plain, auto = (
        SANConditionalDensityEstimator(limits=(0, 1), synthetic_rows=n, random_state=0).fit(X, y)
        for n in (0, "auto")
    )
    assert plain.n_synthetic_rows_ == 0 < auto.n_synthetic_rows_
    assert auto.score(test_X, test_y) > plain.score(test_X, test_y)
