"""Dask arrays and frames against the estimator itself; workers in processes of their own."""

import os
import uuid
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import SINGLE, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_san.cli import main
from sklearn_san.cli.formats import write_parquet
from sklearn_san.datasets import make_bimodal

dask = pytest.importorskip("dask", reason="dask is not installed")
pytest.importorskip("distributed", reason="distributed is not installed")

import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402
from distributed import Client, LocalCluster  # noqa: E402
from joblib import parallel_config  # noqa: E402

from sklearn_san.adapters import dask as adapter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

N_ROWS = 90
GRID = np.linspace(-3.0, 3.0, 7)


@pytest.fixture(scope="module")
def rows():
    X, y, _ = make_bimodal(300, random_state=0)
    return X[:N_ROWS], y[:N_ROWS]


@pytest.fixture(scope="module")
def table(rows):
    X, y = rows
    columns = {"x": X[:, 0], "a": y[:, 0], "b": y[:, 1], "e": np.full(N_ROWS, 0.1)}
    ids = [f"star {i}" for i in range(N_ROWS)]
    return pd.DataFrame({"star": ids, **columns}, index=np.arange(N_ROWS) * 2)


@pytest.fixture(scope="module")
def named():
    X, y, _ = make_bimodal(300, random_state=0)
    return small().fit(pd.DataFrame(X, columns=["x"]), pd.DataFrame(y, columns=["a", "b"]))


@pytest.fixture(scope="module")
def client():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


def frame_of(table):
    """Three partitions, the second without rows."""
    parts = table.iloc[:40], table.iloc[:0], table.iloc[40:]
    return dd.concat([dd.from_pandas(part, npartitions=1) for part in parts])


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("chunks", [(N_ROWS,), (31, 0, 59), (1, 89)])
def test_arrays(fitted, rows, chunks):
    X, y = rows
    lazy = da.from_array(X, chunks=(chunks, 1))
    for kind in ("mean", "median", "std", "mode", "quantiles"):
        found, expected = (
            adapter.predict(fitted, lazy, output_type=kind),
            fitted.predict(X, output_type=kind),
        )
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert found.chunks[0] == chunks
        assert_same(found.compute(scheduler="sync"), expected)
    assert_same(adapter.log_prob(fitted, lazy, y), fitted.log_prob(X, y))
    other = da.from_array(y, chunks=(50, 1))
    assert_same(adapter.log_prob(fitted, lazy, other), fitted.log_prob(X, y))
    pdf = adapter.pdf_grid(fitted, lazy, "y0", GRID)
    assert pdf.shape == (N_ROWS, 7)
    assert_same(pdf, fitted.predict_density(X).pdf_grid("y0", GRID))
    X_err = np.full(X.shape, 0.1)
    assert_same(
        adapter.predict(fitted, lazy, X_err=da.from_array(X_err, chunks=(20, 1))),
        fitted.predict(X, X_err=X_err),
    )


def test_one_output_and_several_features(rows):
    X, y = rows
    X = np.concatenate([X, y[:, 1:]], axis=1)
    est = small().fit(X, y[:, 0])
    lazy = da.from_array(X, chunks=(50, 1))  # features in two chunks
    assert_same(adapter.predict(est, lazy), est.predict(X))
    assert_same(adapter.log_prob(est, lazy, y[:, 0]), est.log_prob(X, y[:, 0]))
    draws = adapter.sample(est, lazy, 3, random_state=0)
    assert draws.shape == (N_ROWS, 3)
    both = small().fit(X, y)
    other = da.from_array(y, chunks=(30, 1))
    assert_same(adapter.log_prob(both, lazy, other, X_err=lazy * 0), both.log_prob(X, y))
    with pytest.raises(TypeError, match="y is missing"):
        adapter.log_prob(both, lazy)
    assert_same(draws, est.sample(X, 3, random_state=0, row_ids=np.arange(N_ROWS)))


def test_draws_do_not_depend_on_partitions(fitted, rows):
    X, _ = rows
    expected = fitted.sample(X, 4, random_state=5, row_ids=np.arange(N_ROWS))
    for chunks in ((45, 45), (7, 0, 83)):
        lazy = da.from_array(X, chunks=(chunks, 1))
        assert_same(adapter.sample(fitted, lazy, 4, random_state=5), expected)
    fresh = adapter.sample(fitted, lazy, 4)
    np.testing.assert_array_equal(fresh, fresh.compute())
    ids = da.from_array(np.arange(N_ROWS) + 10, chunks=30)
    assert_same(
        adapter.sample(fitted, lazy, 2, random_state=5, row_ids=ids),
        fitted.sample(X, 2, random_state=5, row_ids=np.arange(N_ROWS) + 10),
    )
    with pytest.raises(ValueError, match="row_ids=None takes the numbers of the rows"):
        adapter.sample(fitted, lazy[lazy[:, 0] > 0], 2)


def test_nothing_is_computed_before_it_is_asked_for(fitted):
    def refuse(*_):
        raise AssertionError("computed")

    lazy = da.from_array(np.zeros((6, 1)), chunks=(3, 1)).map_blocks(refuse, meta=np.empty((0, 0)))
    assert adapter.predict(fitted, lazy).shape == (6, 2)
    assert adapter.sample(fitted, lazy, 5).chunks == ((3, 3), (5,), (2,))
    assert adapter.pdf_grid(fitted, lazy, 0, GRID).shape == (6, 7)


def test_frames(named, table):
    X, lazy = table[["x"]], frame_of(table)

    def check(found, expected, columns):
        meta = found._meta
        assert meta.columns.tolist() == columns
        found = found.compute(scheduler="sync")
        pd.testing.assert_series_equal(meta.dtypes, found.dtypes)
        np.testing.assert_array_equal(found.index, table.index)
        assert_same(found, expected)

    check(adapter.predict(named, lazy), named.predict(X), ["a_mean", "b_mean"])
    check(
        adapter.predict(named, lazy, output_type="quantiles", quantiles=[0.05, 0.975]),
        named.predict(X, output_type="quantiles", quantiles=[0.05, 0.975]).reshape(N_ROWS, 4),
        ["a_q05", "b_q05", "a_q97.5", "b_q97.5"],
    )
    expected = named.log_prob(X, table[["a", "b"]])[:, None]
    other = lazy.rename(columns={"a": "first", "b": "second"})
    for found in (
        adapter.log_prob(named, lazy),
        adapter.log_prob(named, lazy, lazy[["a", "b"]]),
        adapter.log_prob(named, other, ["first", "second"]),
    ):
        check(found, expected, ["log_prob"])
    check(
        adapter.pdf_grid(named, lazy, "b", GRID),
        named.predict_density(X).pdf_grid("b", GRID),
        [f"pdf_{i}" for i in range(7)],
    )
    check(
        adapter.predict(named, lazy, X_err=["e"]),
        named.predict(X, X_err=table[["e"]].to_numpy()),
        ["a_mean", "b_mean"],
    )


def test_draws_of_frames(named, table):
    lazy = frame_of(table)
    for ids, names in (
        ("star", table["star"]),
        ("index", table.index),
        (lazy["star"], table["star"]),
    ):
        found = adapter.sample(named, lazy, 3, row_ids=ids, random_state=1)
        assert found._meta.columns.tolist() == ["draw", "a", "b"]
        draws = found.compute(scheduler="sync")
        pd.testing.assert_series_equal(found._meta.dtypes, draws.dtypes)
        expected = named.sample(table[["x"]], 3, random_state=1, row_ids=names.to_numpy())
        assert_same(draws[["a", "b"]], expected.reshape(-1, 2))
        np.testing.assert_array_equal(draws.index, table.index.repeat(3))
        np.testing.assert_array_equal(draws["draw"], np.tile(np.arange(3), N_ROWS))
    with pytest.raises(ValueError, match="name a column"):
        adapter.sample(named, lazy, 3)


def test_labels_and_bad_rows(rows, table):
    X, y = rows
    kinds = pd.DataFrame({"a": y[:, 0], "kind": np.where(y[:, 1] > 0, "up", "down")})
    est = small().fit(pd.DataFrame(X, columns=["x"]), kinds)
    found = adapter.sample(est, frame_of(table), 2, row_ids="index", random_state=0).compute()
    assert set(found["kind"]) <= {"up", "down"}
    gap = table.assign(x=table["x"].where(table.index > 4))
    found = adapter.predict(small().fit(X, y), frame_of(gap)[["x"]], on_bad_rows="nan").compute()
    assert found.isna().any(axis=1).sum() == 3


def test_chains(rows):
    X, y = rows
    chain = make_pipeline(StandardScaler(), small()).fit(X, y)
    lazy = da.from_array(X, chunks=(50, 1))
    assert_same(adapter.predict(chain, lazy), chain.predict(X))


def test_partitioned_parquet(named, table, tmp_path):
    pytest.importorskip("pyarrow")
    frame_of(table).to_parquet(tmp_path / "sky")
    sky = dd.read_parquet(tmp_path / "sky")
    adapter.sample(named, sky, 2, row_ids="star", random_state=0).to_parquet(tmp_path / "draws")
    draws = pd.read_parquet(tmp_path / "draws")
    expected = named.sample(table[["x"]], 2, random_state=0, row_ids=table["star"].to_numpy())
    assert_same(draws[["a", "b"]], expected.reshape(-1, 2))


# Two workers in processes


def test_workers_give_what_one_process_gives(client, named, table, tmp_path):
    named.save(tmp_path / "model.san")
    for model in (named, tmp_path / "model.san"):
        found = adapter.predict(model, frame_of(table)).compute()
        assert_same(found, named.predict(table[["x"]]))


class Counting:
    """Model that leaves a file each time that it is unpacked."""

    def __init__(self, model, folder):
        self.model, self.folder = model, folder

    def __setstate__(self, state):
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()}-{uuid.uuid4()}").touch()

    def predict_density(self, X, **options):
        return self.model.predict_density(X, **options)


def test_the_model_is_sent_once_to_each_worker(client, fitted, rows, tmp_path):
    lazy = da.from_array(np.tile(rows[0], (20, 1)), chunks=(90, 1))
    adapter.predict(Counting(fitted, tmp_path), lazy).compute()
    workers = client.run(os.getpid).values()
    counts = Counter(int(path.name.split("-")[0]) for path in tmp_path.iterdir())
    counts = [counts[worker] for worker in workers]
    assert max(counts) == 1


def test_a_task_computes_on_one_thread(rows):
    from sklearn_san.compiled.engine import n_threads

    class Density:
        def summarise(self, kinds, quantiles):
            return {"mean": np.full((1, 1), n_threads())}

    class Model:
        def predict_density(self, X, **_):
            return Density()

    found = adapter._part(
        lambda density, index: density.summarise("", 0)["mean"], "raise", {}, [], rows[0], Model()
    )
    assert found == 1


def test_members_and_searches_through_joblib(client, rows):
    X, y = rows
    est = small(n_members=2, epochs=2)
    expected = clone(est).fit(X, y)
    search = GridSearchCV(small(epochs=2), {"K": [2, 3]}, cv=2, error_score="raise")
    alone = clone(search).fit(X, y)
    with parallel_config("dask"):
        trained = clone(est).set_params(n_jobs=2).fit(X, y)
        found = clone(search).set_params(n_jobs=2).fit(X, y)
    assert_same(trained.predict(X), expected.predict(X))
    assert_same(found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_the_command_line_with_a_scheduler(client, named, table, tmp_path):
    pytest.importorskip("pyarrow")
    named.save(tmp_path / "model.san")
    (tmp_path / "sky").mkdir()
    for i, rows in enumerate((slice(0, 30), slice(30, 90))):
        write_parquet(str(tmp_path / "sky" / f"{i}.parquet"), [{"x": table["x"].to_numpy()[rows]}])
    command = ["sample", str(tmp_path / "sky"), "--model", str(tmp_path / "model.san"), "--seed"]
    address = client.scheduler.address
    assert (
        main([*command, "0", "--out", str(tmp_path / "o"), "--scheduler", address, "-n", "2"]) == 0
    )
    draws = pd.read_parquet(tmp_path / "o")
    expected = named.sample(table[["x"]], 2, random_state=0, row_ids=np.arange(N_ROWS))
    assert_same(draws[["a", "b"]], expected.reshape(-1, 2))
