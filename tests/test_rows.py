"""Tables in memory and streams: the same rows, the same abilities."""

import numpy as np
import pandas as pd
import pytest
from conftest import small

from sklearn_san import _rows
from sklearn_san._rows import ArrayStream, BatchStream, draw_reservoir
from sklearn_san._schema import Raw
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians


def data(n, seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 2))
    y = np.column_stack([np.sin(3 * X[:, 0]), np.abs(X[:, 1])])
    return X, y + 0.3 * random.normal(size=(n, 2))


@pytest.fixture
def tiny_pools(monkeypatch):
    monkeypatch.setattr(_rows, "POOL", 1000)
    monkeypatch.setattr(_rows, "RESERVOIR", 1500)
    monkeypatch.setattr(_rows, "MAX_VALIDATION", 200)
    monkeypatch.setattr(_rows, "STREAM_BYTES", 1000)
    monkeypatch.setattr(_rows, "BLOCK", 64)
    monkeypatch.setattr(_rows, "CHUNK", 700)


def in_batches(size, *parts):
    """Parts of a table as batches, for the keyword arguments of `fit`."""
    n = len(parts[0])

    def cut(part, rows):
        if part is None:
            return None
        return part.iloc[rows] if hasattr(part, "iloc") else part[rows]

    return [
        tuple(cut(part, slice(start, start + size)) for part in parts)
        for start in range(0, n, size)
    ]


def missing_values(X, y, arguments, random):
    X[random.random(X.shape) < 0.1] = np.nan
    return X, y, arguments, {}


def weights(X, y, arguments, random):
    weight = random.integers(0, 3, len(X)).astype(float)  # some are 0
    y[weight == 0] = 1e3  # counts for nothing
    return X, y, arguments | {"sample_weight": weight}, {}


def errors(X, y, arguments, random):
    return X, y, arguments | {"X_err": np.full(X.shape, 0.2)}, {"use_errors": True}


def missing_outputs(X, y, arguments, random):
    y[::3, 1] = np.nan
    return X, y, arguments, {}


def categories(X, y, arguments, random):
    frame = pd.DataFrame(X, columns=["a", "b"])
    frame["kind"] = np.where(X[:, 0] > 0, "high", "low")
    frame.loc[len(frame) - 3 :, "kind"] = "rare"  # in the last batch only
    return frame, y, arguments, {}


def names(X, y, arguments, random):
    targets = pd.DataFrame(y, columns=["left", "right"])
    return pd.DataFrame(X, columns=["a", "b"]), targets, arguments, {"order": ["right", "left"]}


def labels(X, y, arguments, random):
    targets = pd.DataFrame({"side": np.where(y[:, 0] > 0, "up", "down"), "size": y[:, 1]})
    targets.loc[len(y) - 2 :, "side"] = "nowhere"  # in the last batch only
    return X, targets, arguments, {}


def limits(X, y, arguments, random):
    return X, y, arguments, {"limits": [[-9.0, 9.0], [-4.0, np.inf]], "y_scaler": "minmax"}


def inflated(X, y, arguments, random):
    y[random.random(len(y)) < 0.3, 0] = 0.0
    return X, y, arguments, {"likelihood": [Inflated(MixtureOfGaussians(), at=0.0), "mog"]}


def nondetections(X, y, arguments, random):
    X[random.random(X.shape) < 0.1] = np.inf
    return X, y, arguments, {"nondetection": "inf"}


def hidden_values(X, y, arguments, random):
    return X, y, arguments, {"missing_rate": 0.2}


ABILITIES = {
    one.__name__: one
    for one in (
        missing_values, weights, errors, missing_outputs, categories, names, labels, limits,
        inflated, nondetections, hidden_values,
    )
}  # fmt: skip
COMBINED = {
    **{name: [one] for name, one in ABILITIES.items()},
    "everything of numbers": [weights, errors, missing_values, missing_outputs, hidden_values],
    "frames with all": [missing_values, weights, missing_outputs, categories, hidden_values],
    "names and errors": [errors, weights, limits, names],
}


def table(abilities, n):
    X, y = data(n)
    random, arguments, parameters = np.random.default_rng(1), {}, {}
    for ability in abilities:
        X, y, arguments, more = ability(X, y, arguments, random)
        parameters |= more
    return X, y, arguments, parameters


@pytest.mark.parametrize("abilities", COMBINED.values(), ids=COMBINED.keys())
def test_batches_that_fit_into_memory_are_a_table(abilities):
    X, y, arguments, parameters = table(abilities, 400)
    est = small(epochs=3, **parameters).fit(X, y, **arguments)
    parts = (X, y, arguments.get("sample_weight"), arguments.get("X_err"))
    for batches in (
        in_batches(130, *parts),
        [dict(zip(("X", "y", "sample_weight", "X_err"), b, strict=True))
         for b in in_batches(130, *parts)],
    ):  # fmt: skip
        other = small(epochs=3, **parameters).fit(batches)
        assert other.loss_curve_ == est.loss_curve_
        assert other.output_names_ == est.output_names_
        assert other.order_.tolist() == est.order_.tolist()
        err = {k: v for k, v in arguments.items() if k == "X_err"}
        np.testing.assert_array_equal(other.log_prob(X, y, **err), est.log_prob(X, y, **err))


@pytest.mark.parametrize("abilities", COMBINED.values(), ids=COMBINED.keys())
def test_a_stream_learns_what_a_table_does(tiny_pools, abilities):
    X, y, arguments, parameters = table(abilities, 3000)
    parts = (X, y, arguments.get("sample_weight"), arguments.get("X_err"))
    est = small(epochs=10, **parameters).fit(in_batches(800, *parts))
    whole = small(epochs=10, **parameters).fit(X, y, **arguments)
    assert est.n_iter_ > 10  # several pools in each epoch
    new, y_new, more, _ = table([a for a in abilities if a is not weights], 3000)
    rows = slice(0, 1000)
    new, y_new = (v.iloc[rows] if hasattr(v, "iloc") else v[rows] for v in (new, y_new))
    err = {"X_err": more["X_err"][rows]} if "X_err" in more else {}
    streamed, expected = est.score(new, y_new, **err), whole.score(new, y_new, **err)
    assert streamed == pytest.approx(expected, abs=0.25)
    # Losses are in the units of y
    assert -est.validation_curve_[-1] == pytest.approx(-whole.validation_curve_[-1], abs=0.35)


def test_patterns_are_hidden_until_the_end_and_not_in_validation():
    X, y = data(4000)
    gaps = np.zeros(X.shape, dtype=bool)
    gaps[::4] = [True, False]
    holes, hidden = np.where(gaps, np.nan, X), []
    original = _rows.Epochs._hide

    def hide(self, X, random, epoch):
        found = original(self, X, random, epoch)
        hidden.append((epoch, (np.isnan(found) & ~np.isnan(X)).sum(axis=0)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows.Epochs, "_hide", hide)
        small(epochs=10).fit(holes, y)
        assert not any(counts[1] for _, counts in hidden)  # no row lacks the second feature
        counts = {epoch: counts[0] for epoch, counts in hidden}
        assert counts[0] == counts[10] == 0
        # A quarter of the three quarters that have the first; standard deviation 25
        assert all(abs(counts[epoch] - 750) < 150 for epoch in (1, 3, 6))
        assert 0 < counts[9] < 400
        hidden.clear()
        small(epochs=2).fit(X, y)
        small(epochs=2, missing_rate=0.0).fit(holes, y)
        assert not hidden  # nothing to hide


def test_the_rows_of_a_stream_are_those_of_the_table(tiny_pools):
    X, y, arguments, parameters = table(COMBINED["frames with all"], 3000)
    seen = {}
    original = _rows.Epochs.columns

    def columns(self, epoch=1):
        block = self.rows.training_block(epoch)
        for x, z, w in zip(block.X, block.y, block.weight, strict=True):
            seen[x.tobytes() + z.tobytes()] = w
        return original(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows.Epochs, "columns", columns)
        est = small(epochs=3, **parameters).fit(
            in_batches(800, X, y, arguments["sample_weight"], None)
        )
        streamed = dict(seen)
        seen.clear()
        small(epochs=1, **parameters).fit(X, y, **arguments)
    assert streamed.keys() <= seen.keys()
    assert len(streamed) > 0.9 * len(seen) - 200
    for key, weight in streamed.items():
        assert weight == pytest.approx(seen[key])
    assert est.feature_table_.categories[2] == ["high", "low", "rare"]


def test_a_rare_gap_anywhere_in_a_stream_is_learned(tiny_pools):
    X, y = data(5000)
    X[4321, 1] = np.nan  # not in a sample of 1,500 rows with this seed
    est = small(epochs=2).fit(in_batches(800, X, y))
    assert est.input_encoder_.missing.tolist() == [False, True]
    assert np.isfinite(est.predict(X[4321:4322])).all()
    X[1234, 0] = 1e300
    with pytest.raises(ValueError, match=r"1e\+300 in feature 'x0'.*too extreme"):
        small(epochs=2).fit(in_batches(800, X, y))


def test_batches_go_on_from_an_earlier_fit(tiny_pools):
    X, y = data(3000)
    est = small(epochs=4, warm_start=True).fit(in_batches(800, X, y))
    first = est.loss_curve_
    est.fit(in_batches(800, X, y))
    assert est.loss_curve_[0] < first[0] - 0.1


def test_batches(tiny_pools):
    X, y = data(5000)
    batches = in_batches(800, X, y)
    est = small(epochs=6).fit(batches)
    assert est.n_iter_ == 6 * 5  # pools of 1,000 of 4,850 rows
    assert est.epochs_ == 6
    # Scalers are those of a sample of 1,350 rows: five standard errors
    assert np.abs(est.input_encoder_.scaler.mean_ - X.mean(0)).max() < 5 / np.sqrt(1350)
    np.testing.assert_allclose(1 / est.y_scaler_.slope, y.std(0), rtol=0.1)
    from_function = small(epochs=6).fit(lambda: iter(batches))
    np.testing.assert_array_equal(from_function.log_prob(X, y), est.log_prob(X, y))
    with pytest.raises(TypeError, match="a generator can be read only once"):
        small().fit(pair for pair in batches)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(*data(30), None, None, 5)], "requires y to be passed"),
        (lambda: [(data(30)[0],)], r"batch 0 must be \(X, y\), \(X, y, sample_weight\)"),
        (lambda: [{"X": data(30)[0]}], "batch 0 must be"),
        ([(*data(30), np.ones(30)), data(30)], "batch 1 has other parts"),
        ([data(30), (data(30)[0][:, :1], data(30)[1])], "batch 1 cannot be used: X has 1 features"),
        ([(*data(30), np.ones(29))], r"batch 0 cannot be used: sample_weight must have shape"),
        ([(*data(30), None, -np.ones((30, 2)))], "batch 0 cannot be used: X_err must not be neg"),
    ],
)  # fmt: skip
def test_wrong_batches(batches, message):
    with pytest.raises((TypeError, ValueError), match=message):
        small().fit(batches)


def test_weights_of_batches_are_given_in_them():
    with pytest.raises(ValueError, match="part of each batch"):
        small().fit([data(30), data(30)], sample_weight=np.ones(60))


@pytest.mark.parametrize("with_all", [False, True])
def test_memory_maps(tiny_pools, tmp_path, with_all):
    X, y = data(5000)
    for name, values in (("X", X), ("y", y)):
        np.save(tmp_path / f"{name}.npy", values.astype(np.float32))
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X", "y")]
    options = {"epochs": 8, "order": [1, 0], "y_scaler": "minmax"}
    more = {}
    if with_all:
        weight = np.where(np.arange(5000) % 5 == 0, 0.0, 1.0 + np.arange(5000) % 3)
        more = {"sample_weight": weight, "X_err": np.full(X.shape, 0.1)}
    est = small(**options).fit(*maps, **more)
    assert est.n_iter_ > 8
    whole = small(**options).fit(X, y, **more)
    X_test, y_test = data(1000, 1)
    assert est.score(X_test, y_test) == pytest.approx(whole.score(X_test, y_test), abs=0.15)
    np.testing.assert_allclose(est.y_scaler_.slope, whole.y_scaler_.slope, rtol=0.3)
    limited = small(limits=[[-1.0, 1.0], [-9.0, 9.0]])
    with pytest.raises(ValueError, match=r"y has \d+ values outside limits for output 0 \(y0\)"):
        limited.fit(*maps)
    one = small(epochs=1).fit(maps[0], maps[1][:, 0])
    assert one.sample(X[:3], 2, random_state=0).shape == (3, 2)


def read(X, y, sample_weight=None, X_err=None):
    """Rows as they are."""
    return Raw(X, [y[:, 0]], sample_weight, X_err)


def test_pools_hold_each_row_equally_often_and_none_for_validation():
    X = np.arange(2000.0)[:, None]
    left_out = np.array([3, 500, 1999])
    useless = np.ones(2000)
    useless[7] = 0.0
    arrays = ArrayStream((X, X, useless, None), read, 0)
    batches = BatchStream([(X[:700], X[:700]), (X[700:], X[700:])], read)
    for stream, without in ((arrays, [*left_out, 7]), (batches, left_out)):
        seen = np.zeros(2000)
        for number in range(40):
            raw = stream.pool(number, 500, left_out)
            np.testing.assert_array_equal(raw.X[:, 0], raw.y[0])
            assert raw.n_rows == 500
            seen[raw.X[:, 0].astype(int)] += 1
        assert (seen[without] == 0).all()
        assert np.delete(seen, without).min() >= 1
        again = stream.pool(3, 500, left_out)
        np.testing.assert_array_equal(again.X, stream.pool(3, 500, left_out).X)


def test_the_reservoir_is_a_fair_sample():
    X = np.arange(10_000.0)[:, None]
    batches = [(X[start : start + 900], X[start : start + 900]) for start in range(0, 10_000, 900)]
    seen = []
    kept, numbers = draw_reservoir(
        BatchStream(batches, read), 2000, 0, lambda raw: seen.append(raw.n_rows)
    )
    assert sum(seen) == 10_000
    np.testing.assert_array_equal(kept.X[:, 0], numbers)
    assert len(np.unique(numbers)) == 2000
    # Mean of 2,000 of 10,000 numbers: standard error 58
    assert abs(numbers.mean() - 4999.5) < 5 * 58
    with pytest.raises(ValueError, match="hold 0 rows"):
        draw_reservoir(BatchStream([], read), 10, 0, seen.append)
