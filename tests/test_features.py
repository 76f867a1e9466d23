"""Encoded columns, predictions of trees, and similar rows as inputs of the network."""

import copy
import pickle

import numpy as np
import pytest
from conftest import small as without_features
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.tree import ExtraTreeRegressor

from sklearn_san import SANConditionalDensityEstimator, _fitting, merge
from sklearn_san._boosting import FEWEST_ROWS, FOREST_TREES, _moments, fit_forest
from sklearn_san._features import (
    CHUNK,
    FOREST_STEP,
    GAIN,
    LEAST_DISTANCE,
    LEAST_KNOWN,
    LEAST_SPREAD,
    MOST_COLUMNS,
    N_KNOTS,
    N_NEIGHBOURS,
    SOFTENING,
    Forest,
    Neighbours,
    PiecewiseLinear,
    TreeFeatures,
    fit_neighbours,
)
from sklearn_san._inputs import folds
from sklearn_san._kinds import UnfitState
from sklearn_san._saved_states import rebuild

AUTO = {"feature_encoding": "auto", "tree_features": "auto"}
BOTH = {"feature_encoding": "piecewise_linear", "tree_features": True}


def small(**parameters):
    return without_features(**(AUTO | parameters))


def check_copies(est, X, y, folder):
    """Saved, copied and pickled, an estimator is as it was."""
    exact = est.log_prob(X, y)
    est.save(folder / "model.safetensors")
    loaded = SANConditionalDensityEstimator.load(folder / "model.safetensors")
    for other in (loaded, copy.deepcopy(est), pickle.loads(pickle.dumps(est))):
        np.testing.assert_array_equal(other.log_prob(X, y), exact)


def steps(n, seed=0):
    """A table for trees: steps whose height depends on another feature, and noise."""
    random = np.random.default_rng(seed)
    X = random.uniform(-1.0, 1.0, (n, 8))
    y = np.floor(3.0 * X[:, 0]) * (X[:, 1] > 0.2) + 2.0 * (X[:, 2] > 0.3) * (X[:, 1] < 0.5)
    y += 0.3 * random.normal(size=n)
    return X, y


def test_encoding_against_interpolation():
    x = np.random.default_rng(0).normal(size=(500, 2))
    x[:, 1] = np.round(x[:, 1])
    encoding = PiecewiseLinear().fit(x)
    own = x[:, 1]
    knots = np.unique(own)
    assert encoding.n_features == N_KNOTS - 1 + len(knots) - 1
    encoded = encoding.transform(x)
    assert np.abs(encoded).max() == GAIN
    for k in range(len(knots) - 1):
        exact = np.interp(own, knots[k : k + 2], [-GAIN, GAIN])
        np.testing.assert_allclose(encoded[:, N_KNOTS - 1 + k], exact, atol=1e-12)
    # The column itself is a sum of its parts
    np.testing.assert_allclose(
        (encoded[:, : N_KNOTS - 1] / GAIN + 1.0) / 2.0 @ encoding.width[: N_KNOTS - 1],
        x[:, 0] - x[:, 0].min(),
        atol=1e-12,
    )


def test_columns_of_two_values_are_left_alone():
    x = np.repeat([[0.0, 1.0], [1.0, 1.0]], 100, axis=0)
    encoding = PiecewiseLinear().fit(x)
    assert encoding.n_features == 0
    assert encoding.transform(x).shape == (200, 0)


def test_trees_against_a_loop_over_rows():
    random = np.random.default_rng(0)
    shape = (3, 2, 5)  # folds, outputs, trees
    column, threshold = random.integers(0, 4, (*shape, 3)), random.normal(size=(*shape, 3))
    value = np.round(random.normal(size=(*shape, 8)) * 1024) / 1024
    trees = TreeFeatures(column, threshold, value)
    x, fold = random.normal(size=(CHUNK + 7, 4)), random.integers(0, 3, CHUNK + 7)

    def slow(row, k):
        sums = np.zeros(2)
        for d in range(2):
            for t in range(5):
                above = row[column[k, d, t]] > threshold[k, d, t]
                sums[d] += value[k, d, t, above @ [1, 2, 4]]
        return sums

    exact = np.array([[slow(row, k) for k in range(3)] for row in x])
    np.testing.assert_array_equal(trees.transform(x), exact.sum(1) / 3)
    np.testing.assert_array_equal(trees.transform(x, fold), exact[np.arange(len(x)), fold])
    np.testing.assert_array_equal(trees.transform(x[5:6]), trees.transform(x)[5:6])
    assert trees.transform(x[:0]).shape == (0, 2)


def forest_for(n=400, n_folds=3):
    random = np.random.default_rng(0)
    x, weight = np.round(random.normal(size=(n, 4)), 2), random.uniform(0.5, 2.0, n)
    y = np.stack([x[:, 0] * x[:, 1], 5.0 + np.abs(x[:, 2])], 1) + 0.1 * random.normal(size=(n, 2))
    return x, y, weight, folds(x, n_folds), n_folds


def test_forest_against_that_of_scikit_learn():
    x, y, weight, fold, n_folds = forest_for()
    forest = fit_forest(x, y, weight, fold, n_folds)
    new = np.concatenate([x, np.random.default_rng(1).normal(size=(CHUNK, 4))])
    # To the last digit, as questions about two rows are equally good
    centre, unit = np.transpose([_moments(values, weight) for values in y.T])
    z = (y - centre) / unit
    predictions = np.empty((n_folds, FOREST_TREES, len(new), 2))
    for k in range(n_folds):
        for t in range(FOREST_TREES):
            tree = ExtraTreeRegressor(max_features=1.0, random_state=k * FOREST_TREES + t)
            own = fold != k
            predictions[k, t] = tree.fit(x[own], z[own], weight[own]).predict(new)

    def exact(values):
        spread = np.log(values.std(axis=0, ddof=1) + LEAST_SPREAD)
        return np.concatenate([values.mean(axis=0), GAIN * spread], axis=1)

    rounding = FOREST_STEP / LEAST_SPREAD  # of values, of which small spreads have the logarithm
    features = forest.transform(new)
    assert forest.n_features == features.shape[1] == 4
    np.testing.assert_allclose(
        features, exact(predictions.reshape(-1, *predictions.shape[2:])), atol=rounding
    )
    for k in range(n_folds):
        own = fold == k
        np.testing.assert_allclose(
            forest.transform(x, fold)[own],
            exact(predictions[k][:, : len(x)][:, own]),
            atol=rounding,
        )
    np.testing.assert_array_equal(forest.transform(new[7:8]), features[7:8])
    np.testing.assert_array_equal(
        forest.transform(x[9:10], fold[9:10]), forest.transform(x, fold)[9:10]
    )
    assert forest.transform(x[:0]).shape == (0, 4)


def test_forest_is_of_complete_rows_and_needs_some():
    x, y, weight, fold, n_folds = forest_for()
    y[::4, 1] = np.nan
    weight[1::4] = 0.0
    own = ~np.isnan(y[:, 1]) & (weight > 0.0)
    forest = fit_forest(x, y, weight, fold, n_folds)
    other = fit_forest(x[own], y[own], weight[own], fold[own], n_folds)
    np.testing.assert_array_equal(forest.transform(x), other.transform(x))
    few = slice(0, FEWEST_ROWS - 1)
    assert fit_forest(x[few], np.ones((len(x[few]), 1)), None, fold[few], n_folds) is None
    assert fit_forest(x, np.ones((len(x), 1)), None, 0 * fold, n_folds) is None  # all are copies
    flat = fit_forest(x, np.ones((len(x), 1)), None, fold, n_folds)
    np.testing.assert_allclose(flat.transform(x), [[0.0, GAIN * np.log(LEAST_SPREAD)]] * len(x))


def trees_about(columns, gains):
    """One tree for each column, of one question that moves the prediction by so much."""
    column = np.array(columns)[None, None, :, None]
    value = np.stack([np.zeros(len(gains)), gains], axis=-1)[None, None]
    return TreeFeatures(column, np.zeros(column.shape), value)


def test_neighbours_against_a_loop_over_rows():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 4)), random.normal(size=(300, 2))
    neighbours = fit_neighbours(x, y, None, trees_about([0, 3, 3], [2.0, 1.0, 1.0]))
    # The square of 2 is that of the most important column, and 1 + 1 half of it
    np.testing.assert_array_equal(neighbours.column, [0, 3])
    np.testing.assert_allclose(neighbours.scale, [1.0, 0.5])

    def slow(row):
        distance = np.sqrt((row[0] - x[:, 0]) ** 2 + (row[3] - x[:, 3]) ** 2 / 4.0)
        distance[distance == 0.0] = np.inf
        near = np.argsort(distance)[:N_NEIGHBOURS]
        weight = 1.0 / (distance[near] + SOFTENING * distance[near].mean())
        mean = np.average(y[near], axis=0, weights=weight)
        spread = np.sqrt(np.average((y[near] - mean) ** 2, axis=0, weights=weight))
        log_distance = np.log(distance[near].mean() + LEAST_DISTANCE)
        return [*mean, *GAIN * np.log(spread + LEAST_SPREAD), GAIN * log_distance]

    new = np.concatenate([x[:20], random.normal(size=(20, 4))])
    features = neighbours.transform(new)
    assert neighbours.n_features == features.shape[1] == 5
    np.testing.assert_allclose(features, [slow(row) for row in new], atol=1e-12)
    np.testing.assert_array_equal(neighbours.transform(new[7:8]), features[7:8])
    assert neighbours.transform(new[:0]).shape == (0, 5)


def test_neighbours_are_complete_rows_with_weight_and_no_copies():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 2)), random.normal(size=(300, 1))
    trees = trees_about([0, 1], [1.0, 1.0])
    plain = fit_neighbours(x, y, None, trees)
    more_x = np.concatenate([x, x[:50], random.normal(size=(40, 2))])
    more_y = np.concatenate([y, y[:50] + 3.0, np.full((40, 1), np.nan)])
    weight = np.ones(390)
    more_y[350:370], weight[350:370] = 99.0, 0.0
    weight[300:350] = 2.0
    other = fit_neighbours(more_x, more_y, weight, trees)
    np.testing.assert_array_equal(other.known, plain.known)
    # Of a copy and its original the weighted mean
    order = np.lexsort(x.T[::-1])
    np.testing.assert_allclose(other.value[:, 0], (y[:, 0] + 2.0 * (np.arange(300) < 50))[order])
    # None is described by its own output
    shifted = fit_neighbours(x, y + 1000.0 * (np.arange(300) == 3)[:, None], None, trees)
    np.testing.assert_array_equal(shifted.transform(x[3:4]), plain.transform(x[3:4]))


def test_neighbours_need_questions_and_different_rows():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 20)), random.normal(size=(300, 1))
    assert fit_neighbours(x, y, None, trees_about([0], [0.0])) is None
    assert (
        fit_neighbours(x[: LEAST_KNOWN - 1], y[: LEAST_KNOWN - 1], None, trees_about([0], [1.0]))
        is None
    )
    assert fit_neighbours(np.round(x), y, None, trees_about([0], [1.0])) is None
    wide = fit_neighbours(x, y, None, trees_about(list(range(20)), np.arange(1.0, 21.0)))
    np.testing.assert_array_equal(wide.column, np.arange(20 - MOST_COLUMNS, 20))


def test_neighbours_in_a_model(tmp_path, monkeypatch):
    X, y = steps(400)
    encoder = small(**BOTH, epochs=1).fit(X, y).input_encoder_
    assert encoder.neighbours is None
    assert isinstance(encoder.forest, Forest)
    monkeypatch.setattr(_fitting, "FEW_FOR_TREES", 300)
    est = small(**BOTH).fit(X, y)
    encoder = est.input_encoder_
    assert isinstance(encoder.neighbours, Neighbours)
    assert isinstance(encoder.forest, Forest)
    assert encoder.n_plain == 8
    assert "similar rows" in est.describe()
    np.testing.assert_array_equal(
        encoder.transform(X)[:, -3:], encoder.neighbours.transform(encoder.plain(X))
    )
    check_copies(est, X, y, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("column", np.array([0, -1])),
        ("scale", np.array([1.0, 0.0])),
        ("known", np.zeros((LEAST_KNOWN - 1, 2))),
        ("known", np.full((LEAST_KNOWN, 2), np.nan)),
        ("known", np.zeros((LEAST_KNOWN, 3))),
        ("value", np.zeros((LEAST_KNOWN + 1, 1))),
        ("value", np.zeros((LEAST_KNOWN, 0))),
    ],
)
def test_neighbours_in_files_are_checked(name, value):
    known, value_of = np.zeros((LEAST_KNOWN, 2)), np.zeros((LEAST_KNOWN, 1))
    good = vars(Neighbours(np.array([0, 1]), np.ones(2), known, value_of))
    assert isinstance(rebuild("Neighbours", dict(good), ""), Neighbours)
    with pytest.raises(UnfitState, match=name):
        rebuild("Neighbours", good | {name: value}, "")


def test_forest_in_a_model(tmp_path, monkeypatch):
    X, y = steps(300)
    monkeypatch.setattr(_fitting, "FOREST_BELOW", 100)
    assert small(**BOTH, epochs=1).fit(X, y).input_encoder_.forest is None
    monkeypatch.undo()
    est = small(tree_features=True, feature_encoding=None).fit(X, y)
    encoder = est.input_encoder_
    assert encoder.n_plain == 8
    assert encoder.n_inputs == 8 + 1 + 2
    assert "spread of trees" in est.describe()
    plain = encoder.plain(X)
    np.testing.assert_array_equal(encoder.transform(X)[:, -2:], encoder.forest.transform(plain))
    check_copies(est, X, y, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("root", np.array([[0, 5]])),
        ("root", np.zeros((0, 2), dtype=int)),
        ("column", np.array([0, -1, 0, -1, 0])),
        ("column", np.array([0, -2, 0, -1, -1])),
        ("threshold", np.full(5, np.nan)),
        ("after", np.array([0, 0, 4, 1, 2])),  # back to itself
        ("after", np.array([2, 3, 4, 1, 2])),  # a leaf too many
        ("after", np.array([2, 0, 5, 1, 2])),
        ("value", np.zeros((2, 1))),
        ("value", np.full((3, 1), np.inf)),
    ],
)
def test_forests_in_files_are_checked(name, value):
    good = {
        "root": np.array([[0, 2]]),
        "column": np.array([0, -1, 1, -1, -1]),
        "threshold": np.zeros(5),
        "after": np.array([2, 0, 4, 1, 2]),
        "value": np.arange(3.0)[:, None],
    }
    forest = rebuild("Forest", dict(good), "")
    # Below and above the question of the first tree, which goes on to the second
    np.testing.assert_array_equal(forest.transform(np.array([[-1.0, 1.0]]))[:, 0], [1.0])
    with pytest.raises(UnfitState, match=name if name != "value" or len(value) > 2 else "after"):
        rebuild("Forest", good | {name: value}, "")


def test_divisions_into_folds_are_independent():
    X = np.random.default_rng(0).normal(size=(3000, 3))
    table = np.zeros((5, 5))
    np.add.at(table, (folds(X, 5), folds(X, 5, 1)), 1)
    # Binomial counts; five standard deviations
    assert np.abs(table - 120).max() < 5 * np.sqrt(120)


def test_equal_rows_share_a_fold():
    X = np.random.default_rng(0).normal(size=(1000, 3))
    X[0, 1] = np.nan
    own = folds(np.concatenate([X, X[::-1]]), 5)
    np.testing.assert_array_equal(own[:1000], own[1000:][::-1])
    # Binomial counts; five standard deviations
    assert np.abs(np.bincount(own[:1000], minlength=5) - 200).max() < 5 * np.sqrt(160)


def test_trees_are_chosen_where_they_help_and_not_for_straight_lines():
    X, y = steps(1200, 1)  # of 600, a short fit cannot tell trees from the encoding
    est = SANConditionalDensityEstimator(n_members=2, epochs=40, random_state=0)
    assert est.fit(X, y).input_encoder_.trees is not None
    plain = clone(est).set_params(feature_encoding=None, tree_features=False).fit(X, y)
    X_test, y_test = steps(2000, 2)
    assert est.score(X_test, y_test) > plain.score(X_test, y_test) + 0.1
    random = np.random.default_rng(2)
    line = X @ np.arange(-3.0, 5.0) + random.normal(size=len(X))
    encoder = est.fit(X, line).input_encoder_
    assert encoder.trees is None
    assert encoder.encoding is None


def log_normal(n=600):
    random = np.random.default_rng(1)
    X = random.uniform(-1.0, 1.0, (n, 2))
    return X, np.exp(X[:, 0] + (1.0 + 0.3 * X[:, 1]) * random.normal(size=n))


@pytest.mark.parametrize("limits", [None, (0.0, np.inf)])
def test_powers_are_chosen_where_a_logarithm_is_near(limits):
    X, y = log_normal()
    kinds = {"random_state": 0, "epochs": 20, "K": 3, "limits": limits}
    auto, standard, skew = (
        without_features(y_scaler=kind, **kinds).fit(X[:400], y[:400])
        for kind in ("auto", "standard", "skew")
    )
    assert auto.y_scaler_.spec == "skew"
    np.testing.assert_array_equal(auto.log_prob(X, y), skew.log_prob(X, y))
    assert auto.score(X[400:], y[400:]) > standard.score(X[400:], y[400:]) + 0.02
    density = auto.predict_density(X[:20])
    np.testing.assert_allclose(density.cdf(density.inverse_cdf(np.full(20, 0.01))), 0.01, rtol=1e-3)
    draws = auto.sample(X[:20], 2000, random_state=0)
    np.testing.assert_allclose(np.median(draws, axis=1), density.median(), rtol=0.2)
    if limits is not None:
        assert draws.min() >= 0.0


@pytest.mark.parametrize(
    ("parameters", "transform"),
    [
        ({}, np.log),
        ({}, np.negative),
        ({"limits": (0.0, 1e9)}, np.positive),
        ({"y_scaler": "standard"}, np.positive),
    ],
)
def test_powers_are_not_chosen(parameters, transform):
    X, y = log_normal(300)
    est = without_features(**parameters, epochs=1).fit(X, transform(y))
    assert est.y_scaler_.spec == "standard"


def test_choice_does_not_depend_on_the_seed_so_that_fits_can_be_merged():
    X, y = steps(400)
    apart = [small(epochs=20, n_members=2, random_state=s).fit(X, y) for s in (0, 1)]
    assert merge(apart).n_members_ == 4


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({}, {"rows": 150}),
        ({}, {"gaps": True}),
        ({"missing_rate": 0.2}, {}),
        ({}, {"X_err": True}),
        ({}, {"groups": True}),
    ],
)
def test_auto_is_off_by_its_rule(monkeypatch, parameters, arguments):
    X, y = steps(arguments.pop("rows", 300))
    if arguments.pop("X_err", False):
        arguments["X_err"] = np.full(X.shape, 0.01)
    if arguments.pop("groups", False):
        arguments["groups"] = np.arange(len(X)) // 2
    if arguments.pop("gaps", False):
        X[::7, 0] = np.nan
    monkeypatch.setattr(_fitting, "_pilot", lambda *_: pytest.fail("a pilot was fitted"))
    encoder = small(**parameters).fit(X, y, **arguments).input_encoder_
    assert encoder.trees is encoder.encoding is None


def test_partial_fit_tries_nothing_and_takes_what_it_is_told(monkeypatch):
    X, y = steps(300)
    monkeypatch.setattr(_fitting, "_pilot", lambda *_: pytest.fail("a pilot was fitted"))
    assert small().partial_fit(X, y).input_encoder_.trees is None
    est = small(**BOTH).partial_fit(X, y)
    assert est.partial_fit(*steps(50, 3)).input_encoder_.trees is not None


def test_trees_need_rows_that_stay_the_same():
    X, y = steps(300)
    with pytest.raises(ValueError, match="tree_features=True needs rows that are the same"):
        small(tree_features=True).fit(X, y, X_err=np.full(X.shape, 0.1))
    with pytest.raises(ValueError, match="tree_features=True needs rows that are the same"):
        small(tree_features=True, missing_rate=0.1).fit(X, y)
    X[::7, 0] = np.nan  # of which training hides more
    with pytest.raises(ValueError, match="tree_features=True needs rows that are the same"):
        small(tree_features=True).fit(X, y)
    assert small(tree_features=True, missing_rate=0).fit(X, y).input_encoder_.trees is not None


def test_rows_to_learn_from_are_predicted_out_of_fold():
    random = np.random.default_rng(0)
    X, noise = random.normal(size=(500, 2)), random.normal(size=500)
    est = small(**BOTH, epochs=1).fit(X, noise)
    encoder = est.input_encoder_
    for column in (-3, -2):  # boosted and random trees
        own = encoder.transform(X, out_of_fold=True)[:, column]
        later = encoder.transform(X)[:, column]
        assert np.corrcoef(own, noise)[0, 1] < 0.2  # nothing to learn; standard error 0.045
        assert np.corrcoef(later, noise)[0, 1] > 0.5


def test_missing_values_categories_and_infinities():
    X, y = steps(300)
    X[::9, 1], X[1::9, 2] = np.nan, np.inf
    X[:, 3] = np.arange(300) % 3
    est = small(**BOTH, missing_rate=0, nondetection="inf", categorical_features=[3]).fit(X, y)
    encoder = est.input_encoder_
    assert encoder.n_plain == 7 + 3 + 1 + 1  # numbers, categories, missing, not detected
    assert encoder.encoding.column.max() < 7
    assert np.isfinite(est.log_prob(X, y)).all()


def test_several_outputs_and_labels():
    X, y = steps(300)
    y = np.stack([(y > 0.5).astype(float), y], axis=1)
    y[:30, 1] = np.nan
    est = small(**BOTH, likelihood=["categorical", "mog"]).fit(X, y)
    assert est.input_encoder_.trees.n_features == 1
    assert np.isfinite(est.log_prob(X, y)).all()
    labels = small(**BOTH).fit(X, np.where(y[:, 0] > 0, "a", "b"))
    assert labels.input_encoder_.trees is None


@pytest.mark.parametrize("warm", [True, False])
def test_saved_and_warm_started(tmp_path, warm):
    X, y = steps(300)
    est = small(**BOTH, warm_start=warm).fit(X, y)
    trees = est.input_encoder_.trees
    again = est.fit(X, y).input_encoder_.trees
    assert (again is trees) == warm
    est.save(tmp_path / "model.safetensors")
    loaded = SANConditionalDensityEstimator.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.log_prob(X, y), est.log_prob(X, y))
    np.testing.assert_array_equal(loaded.novelty_score(X), est.novelty_score(X))


def test_streams_are_predicted_out_of_fold(monkeypatch):
    from sklearn_san import _rows

    X, y = steps(1200)
    monkeypatch.setattr(_rows, "RESERVOIR", 400)
    monkeypatch.setattr(_rows, "POOL", 300)
    batches = [(X[i : i + 100], y[i : i + 100]) for i in range(0, 1200, 100)]
    est = small(**BOTH, epochs=2).fit(batches)
    assert np.isfinite(est.score(X, y))


def test_in_a_search():
    X, y = steps(250)
    search = GridSearchCV(small(epochs=10), {"tree_features": [False, True]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_student_takes_the_features_of_its_teacher():
    X, y = steps(300)
    student = small(**BOTH).fit(X, y).distill(X, n_rows=300)
    assert student.input_encoder_.trees is not None
    assert student.input_encoder_.encoding is not None
