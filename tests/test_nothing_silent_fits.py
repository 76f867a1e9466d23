"""Data that mislead a fit: the right value, or a warning that names the matter."""

import warnings
from functools import partial

import numpy as np
import pytest
from conftest import small
from scipy.stats import t as student

from sklearn_san import SANConditionalDensityEstimator, _fitting, _rows
from sklearn_san._model import make_generator
from sklearn_san._scaling import compress, expand
from sklearn_san._schema import Block, Reader
from sklearn_san._splitting import linked_rows, split_rows
from sklearn_san.exceptions import (
    DependentOutputsWarning,
    ExtremeValuesWarning,
    OutOfRangeWarning,
    TiesWarning,
)
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians


def table(n, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 3))
    noise = 0.3 * random.normal(size=(n, 2))
    return X, np.column_stack([np.sin(2 * X[:, 0]), 0.5 * X[:, 1]]) + noise


def fitted(X, y, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        est = SANConditionalDensityEstimator(random_state=0, epochs=30, n_members=4)
        return est.fit(X, y, **arguments)


def score_on_new_rows(X, y, **arguments):
    return fitted(X, y, **arguments).score(*table(1000, seed=1))


def copies_as_rows_alone():
    X, y = table(200)
    rows = np.random.default_rng(0).integers(0, 200, 2000)
    return score_on_new_rows(X[rows], y[rows]) > score_on_new_rows(X, y) - 1.0


def realisations_as_rows_alone(**arguments):
    X, y = table(200)
    random = np.random.default_rng(0)
    rows = random.integers(0, 200, 2000)
    noisy = X[rows] + 0.01 * random.normal(size=(2000, 3))
    return score_on_new_rows(noisy, y[rows]) > score_on_new_rows(X, y) - 1.0


def extremes_in_y():
    X, y = table(400)
    wrong = y.copy()
    wrong[:5] = 1e8
    return score_on_new_rows(X, wrong) > score_on_new_rows(X, y) - 0.3


def marks_in_x(value):
    X, y = table(400)
    wrong = X.copy()
    wrong[np.random.default_rng(0).random(400) < 0.05, 0] = value
    return score_on_new_rows(wrong, y) > score_on_new_rows(X, y) - 0.3


def few_rows(n):
    gains = []
    for seed in range(3):
        X, y = table(n, seed)
        X_new, y_new = table(500, seed + 100)
        est = SANConditionalDensityEstimator(random_state=0).fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)
            score = est.score(X_new, y_new)
        gains.append(score - linear_gaussian(X, y, X_new, y_new))
    return np.mean(gains) > -0.5


def linear_gaussian(X, y, X_new, y_new):
    """Mean log density under a conjugate linear model with normal inverse gamma prior."""
    (X, X_new), _ = standardised(X, X_new)
    (z, z_new), spread = standardised(y, y_new)
    total = -np.log(spread).sum()
    for d in range(y.shape[1]):
        A = np.column_stack([np.ones(len(X)), X, z[:, :d]])
        B = np.column_stack([np.ones(len(X_new)), X_new, z_new[:, :d]])
        precision = A.T @ A + np.eye(A.shape[1])
        mean = np.linalg.solve(precision, A.T @ z[:, d])
        a = 1.0 + len(A) / 2
        b = 1.0 + 0.5 * (z[:, d] @ z[:, d] - mean @ precision @ mean)
        leverage = np.einsum("ij,ij->i", B, np.linalg.solve(precision, B.T).T)
        scale = np.sqrt(b / a * (1.0 + leverage))
        total += student.logpdf(z_new[:, d], 2 * a, B @ mean, scale).mean()
    return total


def standardised(values, new):
    mean, spread = values.mean(0), values.std(0)
    return ((values - mean) / spread, (new - mean) / spread), spread


def a_constant_feature_counts_as_absent():
    X, y = table(300)
    X[:, 2] = 7.0
    est = fitted(X, y)
    moved = X.copy()
    moved[:, 2] = 1e6
    return np.array_equal(est.predict(moved), est.predict(X))


def novelty_is_a_p_value():
    X, y = table(1000)
    est = fitted(X, y)
    p = est.novelty_score(table(2000, seed=1)[0])
    # Binomial deviations of both samples, five sigma
    near = abs((p <= 0.1).mean() - 0.1) < 5 * np.sqrt(0.09 * (1 / 500 + 1 / 2000))
    return near and est.novelty_score(X[:3] + 1e6).max() < 0.01


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(copies_as_rows_alone, id="8 copies of a row"),
        pytest.param(realisations_as_rows_alone, id="8 realisations of an object"),
        pytest.param(extremes_in_y, id="9 1e8 in y"),
        pytest.param(lambda: marks_in_x(99.0), id="9 99 in a feature"),
        pytest.param(lambda: marks_in_x(-999.0), id="9 -999 in a feature"),
        *(pytest.param(lambda n=n: few_rows(n), id=f"12 {n} rows") for n in (2, 3, 5, 10, 20, 50)),
        pytest.param(a_constant_feature_counts_as_absent, id="13 constant feature"),
        pytest.param(novelty_is_a_p_value, id="13 novelty"),
    ],
)
def test_the_value_is_right(holds):
    assert holds()


def change_y(change):
    def changed():
        X, y = table(400)
        return X, change(y)

    return changed


def zeros(y):
    y[::3, 0] = 0.0
    return y


def fractions(y):
    parts = np.exp(np.column_stack([y, y[:, :1] * y[:, 1:]]))
    return parts / parts.sum(1, keepdims=True)


def marked_feature():
    X, y = table(400)
    X[::20, 1] = 99.0
    return X, y


def marked_output(y):
    y[::40, 0] = 1e8
    return y


@pytest.mark.parametrize(
    ("data", "category", "words"),
    [
        (change_y(zeros), TiesWarning, r"y is 0 134 times .* Inflated\(base, at=0\)"),
        (
            change_y(lambda y: np.column_stack([y[:, 0], 2 * y[:, 0]])),
            DependentOutputsWarning,
            r"Output 0 \(y0\) is a linear function of y1",
        ),
        (change_y(fractions), DependentOutputsWarning, r"y0\) is a linear function of y1, y2"),
        (
            change_y(lambda y: np.column_stack([y[:, 0], y[:, 0] ** 2])),
            DependentOutputsWarning,
            r"Output 1 \(y1\) is a function of y0",
        ),
        (marked_feature, ExtremeValuesWarning, r"Feature 1 \(x1\) has the value 99 in 20 of 400"),
        (change_y(marked_output), ExtremeValuesWarning, r"Output 0 \(y0\) has the value 1e\+08"),
    ],
)
def test_a_fit_warns_of(data, category, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TiesWarning)
        warnings.filterwarnings("always", category=category)
        with pytest.warns(category, match=words):
            small(epochs=1).fit(*data())


@pytest.mark.parametrize(
    "change",
    [
        lambda y: np.round(y, 4),
        lambda y: np.exp(2 * y),
        lambda y: np.column_stack([y[:, 0], y[:, 0] + 1e-4 * y[:, 1]]),
        lambda y: np.random.default_rng(0).standard_t(2.0, size=y.shape),
    ],
)
def test_a_fit_does_not_warn_of(change):
    X, y = table(2000)
    small(epochs=1).fit(X, change(y))


def test_the_remedy_for_mass_is_silent():
    X, y = table(400)
    small(epochs=1, likelihood=[Inflated(MixtureOfGaussians(), at=0.0), "mog"]).fit(X, zeros(y))


def test_rows_out_of_range_are_counted_once_for_each_call():
    X, y = table(300)
    est = fitted(X, y)
    far = np.concatenate([X[:3], X[:1] + 1e6])
    for call in (est.predict, est.sample, est.predict_density, lambda x: est.log_prob(x, y[:4])):
        with pytest.warns(OutOfRangeWarning, match=r"1 of 4 rows \(25.00%\)") as told:
            call(far)
        assert len(told) == 1
        assert told[0].filename == __file__
    est.predict(X)


@pytest.mark.parametrize("n_members", [1, 4])
def test_no_group_is_on_both_sides(n_members):
    group = np.random.default_rng(0).integers(0, 60, 500)
    split = split_rows(500, 50, n_members, make_generator(0), group)
    for training, holdout in zip(*split, strict=True):
        assert not set(group[training]) & set(group[holdout])
        assert set(training) | set(holdout) == set(range(500))
        assert 40 <= len(holdout) <= 100


def test_which_rows_are_linked():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(100, 2)), random.normal(size=(100, 1))
    none = None, None

    def links(X, y):
        return linked_rows(Block(X, y, *none), 20)[0]

    twice = np.repeat(np.arange(100), 2)
    assert links(X, y) is None
    np.testing.assert_array_equal(np.bincount(links(X[twice], y[twice])), np.full(100, 2))
    other = random.normal(size=(200, 1))
    np.testing.assert_array_equal(np.bincount(links(X[twice], other)), np.full(100, 2))
    # Rows of few values repeat by chance
    assert links(random.integers(0, 4, (200, 2)).astype(float), other) is None
    assert links(np.zeros((200, 1)), other) is None
    # One value of X in many rows is no object
    many = np.where(np.arange(200)[:, None] < 80, 0.0, random.normal(size=(200, 2)))
    assert links(many, other) is None


@pytest.fixture
def scales_as_trained(monkeypatch):
    """Scales stay what the validation curve is of."""
    monkeypatch.setattr(_fitting, "widen", lambda network, rows: None)


def test_rows_to_validate_on_are_the_users(scales_as_trained):
    X, y = table(300)
    X_val, y_val = table(80, seed=1)
    est = small(epochs=3).fit(X, y, X_val=X_val, y_val=y_val)
    assert est.validation_curve_[est.best_epoch_ - 1] == pytest.approx(
        -est.score(X_val, y_val), rel=1e-4
    )
    np.testing.assert_allclose(est.input_encoder_.scaler.mean_, X.mean(0))
    weight = np.r_[np.ones(40), np.zeros(40)]
    half = small(epochs=3).fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    assert half.validation_curve_[half.best_epoch_ - 1] == pytest.approx(
        -half.score(X_val[:40], y_val[:40]), rel=1e-4
    )


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({}, {"X_val": np.zeros((5, 3))}, "X_val and y_val go together"),
        ({}, {"sample_weight_val": np.ones(5)}, "go with X_val and y_val"),
        (
            {"early_stopping": False},
            {"X_val": np.zeros((5, 3)), "y_val": np.zeros((5, 2))},
            "early_stopping=False",
        ),
        ({}, {"X_val": np.zeros((5, 2)), "y_val": np.zeros((5, 2))}, "X_val and y_val cannot"),
        ({}, {"groups": np.zeros(300)}, "groups has one group only"),
        ({}, {"groups": np.zeros(5)}, r"groups must have shape \(300,\)"),
    ],
)
def test_wrong_groups_or_rows_are_refused(parameters, arguments, message):
    X, y = table(300)
    with pytest.raises(ValueError, match=message):
        small(epochs=1, **parameters).fit(X, y, **arguments)


def test_groups_go_with_arrays_only():
    X, y = table(300)
    with pytest.raises(ValueError, match="groups goes with arrays"):
        small(epochs=1).fit([(X, y)], groups=np.zeros(300))


def test_groups_are_routed():
    import sklearn
    from sklearn.model_selection import GroupKFold, cross_val_score

    X, y = table(300)
    groups = np.repeat(np.arange(60), 5)
    with sklearn.config_context(enable_metadata_routing=True):
        est = small(epochs=1).set_fit_request(groups=True)
        scores = cross_val_score(est, X, y, cv=GroupKFold(3), params={"groups": groups})
    assert np.isfinite(scores).all()


def test_compression_is_inverted():
    z = np.array([[-1e8, -30.0, 1.0, 30.0, 1e12]]).T
    np.testing.assert_allclose(expand(compress(z, np.array([20.0])), np.array([20.0])), z)


def test_a_density_with_compressed_tails_is_normalised():
    X, y = table(400)
    est = fitted(X, marked_output(y)[:, 0])
    assert not est.y_scaler_.linear
    assert est.y_scaler_.parts[0][1].bound is not None
    grid = np.concatenate([-np.geomspace(1e30, 20, 4000), np.linspace(-20, 20, 8001)[1:-1],
                           np.geomspace(20, 1e30, 4000)])  # fmt: skip
    density = np.exp(est.log_prob(np.repeat(X[:1], len(grid), 0), grid))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.01)


@pytest.fixture
def tiny_pools(monkeypatch):
    for name, value in (("POOL", 1000), ("RESERVOIR", 1500), ("MAX_VALIDATION", 200)):
        monkeypatch.setattr(_rows, name, value)
    monkeypatch.setattr(_rows, "STREAM_BYTES", 1000)


def pools_of(X, y, groups=None, held=None):
    reader = Reader(small())
    trials = partial(_fitting.order_trials, small(), increment=False)
    return _rows.as_rows(X, y, None, None, reader, 0, trials, groups, held)


def test_no_pool_holds_copies_of_rows_to_validate_on(tiny_pools):
    X, y = table(1500)
    rows = np.random.default_rng(0).integers(0, 1500, 6000)
    pools = pools_of([(X[some], y[some]) for some in np.split(rows, 4)], None)
    split = pools.split(150, 2, make_generator(0))
    held = pools.sample.X[split.holdout[0]]
    for epoch in (1, 2, 3):
        block = pools.training_block(epoch)
        assert not np.isin(block.X[:, 0], held[:, 0]).any()


def on_disk(X, path):
    mapped = np.memmap(path, dtype=np.float64, mode="w+", shape=X.shape)
    mapped[:] = X
    return mapped


def test_groups_of_a_memory_map_stay_together(tiny_pools, tmp_path):
    X, y = table(6000)
    groups = np.random.default_rng(0).integers(0, 300, 6000)
    pools = pools_of(on_disk(X, tmp_path / "X"), y, groups=groups)
    split = pools.split(150, 1, make_generator(0))
    held = set(groups[pools.numbers[split.holdout[0]]])
    assert held == set(groups[pools.left_out])
    number = {value: i for i, value in enumerate(X[:, 0])}
    block = pools.training_block(1)
    assert not held & {groups[number[value]] for value in block.X[:, 0]}


def test_rows_to_validate_on_go_with_streams(tiny_pools, scales_as_trained):
    X, y = table(4000)
    X_val, y_val = table(100, seed=1)
    batches = [(X[i : i + 1000], y[i : i + 1000]) for i in range(0, 4000, 1000)]
    est = small(epochs=2).fit(batches, X_val=X_val, y_val=y_val, sample_weight_val=np.ones(100))
    assert est.validation_curve_[est.best_epoch_ - 1] == pytest.approx(
        -est.score(X_val, y_val), rel=1e-4
    )


def test_a_later_fit_warns_of_rows_out_of_range():
    X, y = table(300)
    est = small(epochs=1, warm_start=True).fit(X, y)
    with pytest.warns(OutOfRangeWarning, match="300 of 300 rows"):
        est.fit(X + 1e3, y)


def test_a_constant_feature_with_weights_says_nothing(bimodal):
    X, y, _ = bimodal
    weight = np.linspace(0.5, 2.0, len(X))
    for constant in (0.1, 1.0, 1e9 + 0.1):
        wider = np.column_stack([X, np.full(len(X), constant)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            est = small(epochs=1).fit(wider, y, sample_weight=weight)
        assert np.isfinite(est.log_prob(wider, y)).all()
