"""Stages of RAIL: as the estimator by itself, in chunks and from files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import small

pytest.importorskip("rail.estimation.estimator", reason="pz-rail-base is not installed")
h5py = pytest.importorskip("h5py")
import qp  # noqa: E402
from rail.core.data import TableHandle  # noqa: E402
from rail.evaluation.metrics.cdeloss import CDELoss  # noqa: E402

from sklearn_san.adapters.rail import DEFAULTS, SANEstimator, SANInformer  # noqa: E402
from sklearn_san.photoz import RedshiftPDF, cde_loss, point_estimate, risk  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # RAIL's own
BANDS = [f"mag_{band}_lsst" for band in "ugr"]
ERRORS = [f"mag_err_{band}_lsst" for band in "ugr"]
SAN = {"K": 3, "module_shape": (16,), "n_members": 2, "epochs": 5}
SHARED = {"bands": BANDS, "err_bands": ERRORS, "hdf5_groupname": "", "output_mode": "return"}


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Files of each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def table():
    """Magnitudes that tell the redshift; the faint ones of u were not detected."""
    random = np.random.default_rng(0)
    z = random.gamma(4.0, 0.2, size=900)
    slopes = np.array([3.0, 2.0, 1.0])
    magnitudes = 22.0 + z[:, None] * slopes + 0.2 * random.normal(size=(900, 3))
    data = dict(zip(BANDS, magnitudes.T, strict=True))
    data[BANDS[0]] = np.where(data[BANDS[0]] > 26.0, 99.0, data[BANDS[0]])
    data |= dict(zip(ERRORS, np.full((3, 900), 0.2), strict=True))
    return data | {"redshift": z, "object_id": np.arange(900)}


def part(table, rows):
    return {name: values[rows] for name, values in table.items()}


def informed(table, **options):
    inform = SANInformer.make_stage(**({"name": "inform", "san": SAN} | SHARED | options))
    return inform.inform(part(table, slice(600)))


def estimated(table, model, **options):
    stage = SANEstimator.make_stage(name="estimate", model=model, **(SHARED | options))
    return stage.estimate(part(table, slice(600, None))).data


def features(table):
    X = np.stack([table[band] for band in BANDS], axis=1)
    return np.where(X == 99.0, np.inf, X)


def test_stages_do_what_the_estimator_does(table):
    ensemble = estimated(table, informed(table))
    est = small(**SAN, **DEFAULTS)
    X = features(table)
    est.fit(X[:600], table["redshift"][:600])
    grid = np.linspace(0.0, 3.0, 301)
    pz = RedshiftPDF.from_estimator(est, X[600:], grid)
    np.testing.assert_allclose(ensemble.pdf(grid), pz.pdf, rtol=1e-6, atol=1e-12)
    best = point_estimate(pz)
    np.testing.assert_allclose(ensemble.ancil["zbest"][:, 0], best)
    np.testing.assert_allclose(ensemble.ancil["zmode"][:, 0], point_estimate(pz, "mode"))
    np.testing.assert_allclose(ensemble.ancil["risk"][:, 0], risk(pz, best))
    np.testing.assert_array_equal(ensemble.ancil["redshift"], table["redshift"][600:])
    np.testing.assert_array_equal(ensemble.ancil["id"], np.arange(600, 900))
    assert np.corrcoef(best, table["redshift"][600:])[0, 1] > 0.8
    z = table["redshift"][600:]
    expected = CDELoss(ensemble, grid, z).evaluate().statistic
    assert cde_loss(pz, z) == pytest.approx(expected, rel=0.01)  # RAIL takes the nearest point


def test_representations_are_of_one_density(table):
    model = informed(table)
    grid = np.linspace(0.0, 3.0, 301)
    on_grid = estimated(table, model)
    mixture = estimated(table, model, qp_representation="mixmod")
    exact = mixture.pdf(grid)
    # Normalised over the grid, and to all redshifts
    inside = mixture.cdf(np.array([3.0])) - mixture.cdf(np.array([0.0]))
    np.testing.assert_allclose(on_grid.pdf(grid) * inside, exact, atol=0.01 * exact.max())
    quantiles = estimated(table, model, qp_representation="quant", n_quantiles=19)
    assert quantiles.metadata["pdf_name"][0].decode() == "quant"
    levels = np.arange(0.5, 19) / 19
    np.testing.assert_allclose(quantiles.ppf(levels), mixture.ppf(levels), atol=0.01)
    np.testing.assert_allclose(quantiles.ancil["zbest"], on_grid.ancil["zbest"])
    with pytest.raises(ValueError, match="one of 'interp', 'quant', 'mixmod'; got 'histogram'"):
        estimated(table, model, qp_representation="histogram")
    bounded = informed(table, san=SAN | {"limits": [[0.0, np.inf]]}, name="bounded")
    with pytest.raises(ValueError, match="without limits"):
        estimated(table, bounded, qp_representation="mixmod")


def test_chunks_and_files(table, tmp_path):
    for name, rows in (("train", slice(600)), ("test", slice(600, None))):
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for key, values in part(table, rows).items():
                file.create_dataset(f"photometry/{key}", data=values)
    options = {"bands": BANDS, "err_bands": ERRORS, "output_mode": "default"}
    inform = SANInformer.make_stage(name="inform", model="san.pkl", san=SAN, **options)
    inform.inform(TableHandle("train", path=str(tmp_path / "train.hdf5")))
    assert Path("san.pkl").exists()
    estimate = SANEstimator.make_stage(
        name="estimate", model="san.pkl", output="pz.hdf5", chunk_size=70, **options
    )
    estimate.estimate(TableHandle("test", path=str(tmp_path / "test.hdf5")))
    written = qp.read("pz.hdf5")
    whole = estimated(table, informed(table))
    assert written.npdf == 300
    np.testing.assert_allclose(written.ancil["zmode"], whole.ancil["zmode"], rtol=1e-5)
    grid = np.linspace(0.0, 3.0, 61)
    np.testing.assert_allclose(written.pdf(grid), whole.pdf(grid), rtol=1e-4, atol=1e-6)


def test_undetected_and_unobserved_bands(table):
    data = dict(table)
    data[BANDS[2]] = np.where(np.arange(900) % 5 == 0, -99.0, data[BANDS[2]])
    data[BANDS[0]] = np.where(data[BANDS[0]] == 99.0, np.nan, data[BANDS[0]])
    by_nan = estimated(data, informed(data, include_mag_err=True), include_mag_err=True)
    data[BANDS[0]] = np.nan_to_num(data[BANDS[0]], nan=99.0)
    by_99 = estimated(data, informed(data, include_mag_err=True), include_mag_err=True)
    np.testing.assert_array_equal(by_nan.ancil["zbest"], by_99.ancil["zbest"])
    assert np.isfinite(by_99.ancil["zbest"]).all()


def test_bands_that_training_always_had_may_be_missing(table):
    data = dict(table)
    data[BANDS[1]] = np.where(np.arange(900) >= 600, np.nan, data[BANDS[1]])
    best = estimated(data, informed(data)).ancil["zbest"][:, 0]
    assert np.corrcoef(best, data["redshift"][600:])[0, 1] > 0.6


def test_weights_of_training_rows(table):
    data = table | {"weight": 1.0 + table["redshift"]}
    plain, weighted = informed(data), informed(data, weight_col="weight")
    assert not np.allclose(
        estimated(data, plain).ancil["zmean"], estimated(data, weighted).ancil["zmean"]
    )


def test_the_benchmark_prints_a_table():
    folder = Path(__file__).parents[1] / "benchmarks"
    command = [sys.executable, str(folder / "redshifts.py"), "--estimators", "san"]
    done = subprocess.run(
        [*command, "--rows", "500", "--epochs", "2"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    assert rows[2][1].strip() == "san"
    assert all(row[1:] for row in rows)
