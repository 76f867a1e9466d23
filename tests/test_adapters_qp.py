"""Ensembles of qp against the density itself, and in qp's files."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import small

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    qp = pytest.importorskip("qp", reason="qp-prob is not installed")
    from sklearn_san.adapters.qp import to_qp
from sklearn_san.photoz import RedshiftPDF, point_estimate, risk

pytestmark = pytest.mark.filterwarnings("ignore")  # the package's own
GRID = np.linspace(-8.0, 8.0, 401)


@pytest.fixture(scope="module")
def density(bimodal):
    X, y, _ = bimodal
    return small(order=[1, 0]).fit(X, y).predict_density(X[:5])


@pytest.mark.parametrize("output", ["y0", "y1"])
def test_on_a_grid(density, output):
    ensemble = to_qp(density, output, grid=GRID, is_redshift=False)
    pdf = RedshiftPDF.from_density(density, GRID, output=output)
    np.testing.assert_allclose(ensemble.pdf(GRID), pdf.pdf, rtol=1e-6, atol=1e-12)
    for kind in ("mean", "median", "mode"):
        np.testing.assert_allclose(ensemble.ancil[kind][:, 0], point_estimate(pdf, kind))
    np.testing.assert_allclose(ensemble.ancil["std"][:, 0], pdf.std())


def test_quantiles_and_mixture(density):
    quantiles = to_qp(density, "y0", representation="quant", grid=GRID, n_quantiles=9,
                      is_redshift=False)  # fmt: skip
    levels = np.arange(0.5, 9) / 9
    np.testing.assert_allclose(quantiles.ppf(levels), density.quantile(levels)[..., 0], atol=1e-6)
    mixture = to_qp(density, "y1", representation="mixmod", grid=GRID, is_redshift=False)
    pdf = density.pdf_grid("y1", GRID)
    rounding = 256 * np.finfo(np.float32).eps
    np.testing.assert_allclose(mixture.pdf(GRID), pdf, rtol=rounding, atol=rounding * pdf.max())


@pytest.mark.parametrize("representation", ["interp", "quant", "mixmod"])
def test_files_with_ids_and_redshifts(bimodal, tmp_path, representation):
    X, y, _ = bimodal
    X = pd.DataFrame(X, index=[f"galaxy {i}" for i in range(len(X))])
    z = np.abs(y[:, 0])
    density = small().fit(X, z).predict_density(X[:4])
    grid = np.linspace(-0.9, 8.0, 301)
    ensemble = to_qp(density, representation=representation, grid=grid)
    pz = RedshiftPDF.from_density(density, grid)
    best = point_estimate(pz)
    np.testing.assert_allclose(ensemble.ancil["zbest"][:, 0], best)
    np.testing.assert_allclose(ensemble.ancil["risk"][:, 0], risk(pz, best))
    assert ensemble.ancil["id"].tolist() == X.index[:4].tolist()
    named = to_qp(density, representation=representation, grid=grid, ids=[7, 5, 3, 1])
    path = str(tmp_path / "pz.hdf5")
    named.write_to(path)
    read = qp.read(path)
    assert read.metadata["pdf_name"][0].decode() == representation
    assert read.ancil["id"].tolist() == [7, 5, 3, 1]
    np.testing.assert_allclose(read.pdf(grid), ensemble.pdf(grid))
    np.testing.assert_allclose(read.ancil["zmode"], ensemble.ancil["zmode"])


def test_what_no_ensemble_holds(bimodal, density):
    X, y, _ = bimodal
    with pytest.raises(ValueError, match="representation must be one of 'interp', 'quant', "):
        to_qp(density, representation="histogram")
    bounded = small(limits=[[-9, 9], [-9, 9]]).fit(X, y).predict_density(X[:2])
    with pytest.raises(ValueError, match=r"without limits, and the model has .*take 'interp'"):
        to_qp(bounded, representation="mixmod", is_redshift=False)
    with pytest.raises(ValueError, match="y1"):
        to_qp(density, "y2")
