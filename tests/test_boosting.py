"""Boosted oblivious trees, against a slow reference."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from sklearn_san._boosting import FEW_BINS, FEW_ROWS, MANY_BINS, STEP, fit_trees, n_folds
from sklearn_san.compiled.boosting import grow


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def grown(codes, n_bins, y, weight, *, n_trees, depth, row_share=1.0, column_share=1.0, seed=1):
    column, code = np.zeros((n_trees, depth), int), np.zeros((n_trees, depth), int)
    value = np.zeros((n_trees, 2**depth))
    grow(codes, n_bins, y, weight, 0.5, 2.0, row_share, column_share, seed, column, code, value)
    return column, code, value


def reference(codes, n_bins, y, weight, *, n_trees, depth):
    """Each question tried on all rows, one by one."""
    prediction = np.zeros(len(y))
    columns, cuts, values = [], [], []
    for _ in range(n_trees):
        residual, leaf, column, code = y - prediction, np.zeros(len(y), int), [], []

        def gain(leaf, residual=residual):
            total = np.bincount(leaf, weight * residual)
            return (total**2 / (np.bincount(leaf, weight) + 2.0)).sum()

        for level in range(depth):
            tried = [
                (gain(leaf + ((codes[f] > b).astype(int) << level)), f, b)
                for f in range(len(codes))
                for b in range(n_bins[f] - 1)
            ]
            _, f, b = max(tried, key=lambda one: one[0])
            leaf = leaf + ((codes[f] > b).astype(int) << level)
            column.append(f)
            code.append(b)
        total, count = (np.bincount(leaf, w, 2**depth) for w in (weight * residual, weight))
        value = 0.5 * total / (count + 2.0)
        prediction = prediction + value[leaf]
        columns.append(column)
        cuts.append(code)
        values.append(value)
    return np.array(columns), np.array(cuts), np.array(values)


def test_trees_are_those_of_the_reference(rng):
    n_bins = np.array([5, 1, 9])
    codes = np.stack([rng.integers(0, n, 80) for n in n_bins]).astype(np.uint8)
    y, weight = rng.normal(size=80) + codes[2], rng.uniform(0.5, 2.0, 80)
    weight[::7] = 0.0
    ours = grown(codes, n_bins, y, weight, n_trees=4, depth=3)
    theirs = reference(codes, n_bins, y, weight, n_trees=4, depth=3)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-10, atol=1e-12)


def test_rows_and_columns_are_drawn_by_the_seed(rng):
    n_bins = np.array([16, 16])
    codes = rng.integers(0, 16, (2, 200)).astype(np.uint8)
    y, weight = rng.normal(size=200), np.ones(200)
    shares = {"n_trees": 3, "depth": 2, "row_share": 0.5, "column_share": 0.5}
    first, again, other = (
        grown(codes, n_bins, y, weight, **shares, seed=seed)[2] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_fold_is_not_learned_from_by_its_trees(rng):
    X, fold = rng.normal(size=(300, 3)), rng.integers(0, 5, 300)
    y = rng.normal(size=(300, 1))
    trees = fit_trees(X, y, None, fold, 5)
    changed = np.where((fold == 2)[:, None], y + 100.0, y)
    others = fit_trees(X, changed, None, fold, 5)
    # Up to the common unit, which is that of all rows
    ours, theirs = trees.transform(X, np.full(300, 2)), others.transform(X, np.full(300, 2))
    assert np.corrcoef(ours[:, 0], theirs[:, 0])[0, 1] > 1.0 - 1e-6
    # Noise cannot be predicted out of fold, but by trees that have seen it
    assert r2_score(y, trees.transform(X, fold)) < 0.1
    assert r2_score(y, trees.transform(X, (fold + 1) % 5)) > 0.3


def test_outputs_with_gaps_and_weights(rng):
    X = rng.normal(size=(400, 2))
    y = np.stack([np.sign(X[:, 0]), np.abs(X[:, 1])], axis=1)
    weight = np.ones(400)
    y[:40, 1] = np.nan
    y[40:80], weight[40:80] = 50.0, 0.0
    fold = rng.integers(0, 5, 400)
    predictions = fit_trees(X, y, weight, fold, 5).transform(X, fold)[80:]
    for d in range(2):
        assert np.corrcoef(predictions[:, d], y[80:, d])[0, 1] > 0.9


def test_values_are_exact_sums_and_sizes_are_bounded(rng):
    X, y = rng.normal(size=(500, 2)), rng.normal(size=(500, 1))
    trees = fit_trees(X, y, None, rng.integers(0, 5, 500), 5)
    np.testing.assert_array_equal(trees.value, np.round(trees.value / STEP) * STEP)
    assert len(np.unique(trees.threshold[trees.column == 0])) < FEW_BINS
    assert n_folds(100) > n_folds(10_000)
    X, y = rng.normal(size=(FEW_ROWS, 1)), rng.normal(size=(FEW_ROWS, 1))
    deeper = fit_trees(X, y, None, rng.integers(0, 2, FEW_ROWS), 2)
    assert deeper.column.shape[3] > trees.column.shape[3]
    assert FEW_BINS <= len(np.unique(deeper.threshold)) < MANY_BINS


def test_a_column_or_an_output_without_variation(rng):
    X, fold = np.zeros((60, 2)), rng.integers(0, 5, 60)
    predictions = fit_trees(X, np.full((60, 1), 3.0), None, fold, 5).transform(X, fold)
    np.testing.assert_array_equal(predictions, 0.0)
