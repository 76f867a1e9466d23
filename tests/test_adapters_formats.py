"""Draws in the formats of other packages, against the draws themselves."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import small

from sklearn_san.cli.formats import About
from sklearn_san.cli.tables import read_table, write_table

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


def partner(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def density(fitted, bimodal):
    X, _, _ = bimodal
    return fitted.predict_density(X[:3])


def test_xarray(fitted, bimodal, density):
    partner("xarray")
    from sklearn_san.adapters.xarray import to_xarray

    data = to_xarray(density, 7, random_state=0, units={"y1": "kpc"})
    draws = density.sample(7, random_state=0)
    for j, name in enumerate(density.output_names):
        assert data[name].dims == ("row", "draw")
        np.testing.assert_array_equal(data[name], draws[..., j])
    assert data["y1"].units == "kpc"
    assert "units" not in data["y0"].attrs
    assert data["y0"].limits == [-4.0, 4.0]
    with pytest.raises(ValueError, match=r"units names \['age'\], which are no outputs"):
        to_xarray(density, units={"age": "Gyr"})


def test_xarray_with_names_and_labels(bimodal):
    partner("xarray")
    from sklearn_san.adapters.xarray import to_xarray

    X, y, _ = bimodal
    X = pd.DataFrame(X, index=[f"star {i}" for i in range(len(X))])
    table = pd.DataFrame({"a": y[:, 0], "kind": np.where(y[:, 1] > 0, "up", "down")}, X.index)
    data = to_xarray(small().fit(X, table).predict_density(X[:2]), 5, random_state=0)
    assert data["a"].dtype == np.float64
    assert set(np.unique(data["kind"])) <= {"up", "down"}
    assert data["a"].sel(row="star 1").shape == (5,)


def test_arviz(density, bimodal):
    arviz = partner("arviz")
    from sklearn_san.adapters.arviz import to_arviz

    data = to_arviz(density, 9, random_state=0)
    draws = density.sample(9, random_state=0)
    assert data.posterior["y0"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(data.posterior["y1"][0].T, draws[..., 1])
    np.testing.assert_allclose(data.sample_stats["lp"][0].T, density.log_prob(draws))
    one = to_arviz(density[0], 2000, random_state=0)
    summary = arviz.summary(one)
    own = density[0].sample(2000, random_state=0)[0]
    np.testing.assert_allclose(summary["mean"], own.mean(0), atol=1e-3)  # three digits
    X, y, _ = bimodal
    single = small().fit(X, y[:, 0]).predict_density(X[:2])
    assert to_arviz(single, 4).sample_stats["lp"].shape == (1, 4, 2)


def test_getdist(density, bimodal):
    partner("getdist")
    from sklearn_san.adapters.getdist import to_getdist

    samples = to_getdist(density[1], 3000, random_state=0, labels={"y0": r"\theta"})
    draws = density[1].sample(3000, random_state=0)
    np.testing.assert_array_equal(samples.samples, draws[0])
    np.testing.assert_allclose(samples.loglikes, -density[1].log_prob(draws)[0])
    assert samples.parLabel("y0") == r"\theta"
    assert samples.ranges.getLower("y0") == -4.0
    assert samples.ranges.getUpper("y1") is None
    X, y, _ = bimodal
    single = small().fit(X, y[:, 0]).predict_density(X[:1])
    assert to_getdist(single, 10).samples.shape == (10, 1)
    with pytest.raises(ValueError, match="density of one row, got 3 rows"):
        to_getdist(density)


def test_tables_io(tmp_path):
    tables_io = partner("tables_io")
    table = {"redshift": np.arange(3) + 0.5, "id": np.arange(3)}
    path = str(tmp_path / "own.hdf5")
    write_table(path, [table], About(group="photometry"))
    read = tables_io.read(path, tables_io.types.NUMPY_DICT)["photometry"]
    for name, column in table.items():
        np.testing.assert_array_equal(read[name], column)
    base = str(tmp_path / "theirs")
    tables_io.write({"photometry": table}, base, "hdf5")
    found = read_table(f"{base}.hdf5", numbers=list(table))
    np.testing.assert_array_equal(found.numbers["redshift"], table["redshift"])
