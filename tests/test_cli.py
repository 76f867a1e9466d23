"""The command line as a new user meets it: a catalogue in a file, no notebook."""

import csv
import gzip
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import RobustScaler

from sklearn_san import SANConditionalDensityEstimator, __version__, _callbacks
from sklearn_san._callbacks import FitMonitor
from sklearn_san._container import MODEL, dump_tree
from sklearn_san._files import replacing
from sklearn_san.calibration import DIAGNOSTICS, calibration_report
from sklearn_san.cli import commands, formats, hdf5, main, parser, printing
from sklearn_san.cli.formats import About
from sklearn_san.cli.options import parameter
from sklearn_san.cli.printing import plain
from sklearn_san.cli.tables import read_table, write_table
from sklearn_san.compiled import engine
from sklearn_san.datasets import GALAXY_BANDS, GALAXY_PARAMETERS, make_galaxies
from sklearn_san.likelihoods import Inflated, MixtureOfGaussians
from sklearn_san.metrics import crps

X, Y, X_ERR = make_galaxies(300, return_errors=True, random_state=0)
BANDS, TARGETS = list(GALAXY_BANDS), ["redshift", "log_mass"]
IDS = [f"galaxy {i}" for i in range(300)]
TINY = ["K=2", "module_shape=8,", "sequence_features=2", "n_members=1", "epochs=2"]
CATALOGUE = {
    "id": np.array(IDS, dtype=object),
    **dict(zip(BANDS, X.T, strict=True)),
    **{f"{band}_err": column for band, column in zip(BANDS, X_ERR.T, strict=True)},
    **dict(zip(GALAXY_PARAMETERS, Y.T, strict=True)),
    "source": np.arange(300) + 4_000_000_000_000_000_000,
    "kind": np.where(Y[:, 0] > 1.5, "far", "near").astype(object),
    "weight": np.where(np.arange(300) < 200, 1.0, 0.0),
}
FIT = ["--features", *BANDS, "--targets", *TARGETS, "--limits", "redshift=0,4", "--seed", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a catalogue and a model of it, for tests that leave both as they are."""
    path = tmp_path_factory.mktemp("work")
    write_table(str(path / "cat.csv"), [CATALOGUE])
    assert main(fit_command(path / "cat.csv", path / "m.san", "--quiet")) == 0
    return path


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A folder of its own with both files; the current one."""
    for name in ("cat.csv", "m.san"):
        os.link(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command that is to succeed; what it prints."""

    def run(*argv):
        code = main([str(one) for one in argv])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def fails(capsys):
    """Run a command that is to fail; what it prints on standard error."""

    def fails(code, *argv):
        assert main([str(one) for one in argv]) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        if code == 1:
            assert printed.err.count("\n") == 1
            assert printed.err.startswith("sklearn-san: error: ")
        return printed.err

    return fails


@pytest.fixture
def no_pandas(monkeypatch):
    monkeypatch.setattr(formats, "has_pandas", lambda: False)


def fit_command(table, model, *more, fit=FIT, tiny=TINY):
    return ["fit", str(table), "--model", str(model), *fit, "--set", *tiny, *more]


def rows_of(text):
    header, *rows = csv.reader(text.splitlines())
    return header, np.array(rows)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# What a new user does


def test_fit_tells_what_it_wrote_and_scores_the_rows_set_aside(here, capsys):
    assert main(fit_command("cat.csv", "new.san", "--test-fraction", "0.2")) == 0
    out, err = capsys.readouterr()
    plan, _, wrote = err.splitlines()
    assert "216 rows to learn from, 24 to validate on; 2 outputs; 1 members; 2 epochs" in plan
    assert wrote == "wrote 'new.san': 8 features, 2 targets, 240 rows, 2 epochs"
    est = SANConditionalDensityEstimator.load("new.san")
    assert not est.verbose
    assert est.feature_names_in_.tolist() == BANDS
    assert est.output_names_ == TARGETS
    np.testing.assert_array_equal(est.limits_, [[0, 4], [-np.inf, np.inf]])
    test = np.random.RandomState(0).permutation(300)[:60]
    log_prob = est.log_prob(est_frame(X[test]), Y[test, :2])
    error = log_prob.std(ddof=1) / np.sqrt(60)
    assert out == (
        f"test log-likelihood: {log_prob.mean():.4f} +- {error:.4f} nats per row (60 rows)\n"
    )


def est_frame(x):
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(x, columns=BANDS)


def test_the_same_seed_gives_the_same_file(folder, here, run):
    assert run(*fit_command("cat.csv", "again.san")) == ""
    assert Path("again.san").read_bytes() == (folder / "m.san").read_bytes()


def test_info(here, run):
    text = run("info", "m.san")
    for words in ("u, g, r", "target redshift", "in [0, 4]", "parameter K", __version__):
        assert words in text
    found = json.loads(run("info", "m.san", "--json"))
    est = SANConditionalDensityEstimator.load("m.san")
    assert [one["name"] for one in found["features"]] == BANDS
    assert found["targets"][0] == {
        "name": "redshift",
        "limits": [0.0, 4.0],
        "family": "TruncatedMixtureOfGaussians()",
        "labels": None,
        "position": 0,
    }
    assert found["targets"][1]["limits"] == [None, None]
    assert found["parameters"]["K"] == 2
    assert found["parameters"]["batch_size"] == est.batch_size_
    assert found["epochs"] == 2
    assert found["training_nll"] == est.loss_curve_[-1]
    assert found["versions"]["sklearn_san"] == __version__
    assert found["bytes"] == os.path.getsize("m.san")


def described(est):
    """Same as `info --json`, from a model that was loaded."""
    table, place = est.feature_table_, np.argsort(est.order_)
    names = getattr(est, "feature_names_in_", [f"x{j}" for j in range(est.n_features_in_)])
    resolved = {name: getattr(est, f"{name}_") for name in ("n_members", "epochs", "batch_size")}
    return {
        "features": [
            {"name": name, "labels": None if table is None else table.categories[j]}
            for j, name in enumerate(names)
        ],
        "targets": [
            {
                "name": name,
                "limits": est.limits_[j],
                "family": repr(est.families_[place[j]]),
                "labels": est.codec_.classes[j],
                "position": place[j],
            }
            for j, name in enumerate(est.output_names_)
        ],
        "networks": est.n_members_,
        "weights": sum(
            weight.numel()
            for weight in [*est.network_.parameters(), *getattr(est.encoders_, "weights", [])]
        ),
        "epochs": est.n_iter_,
        "best_epoch": est.best_epoch_,
        "training_nll": est.loss_curve_[-1],
        "validation_nll": min(est.validation_curve_, default=None),
        "parameters": est.get_params() | resolved,
    }


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.safetensors"))


@pytest.mark.parametrize("path", [*GOLDEN, "own.san"], ids=lambda path: Path(path).stem)
def test_info_is_that_of_the_loaded_model(here, run, path):
    if path == "own.san":
        est = SANConditionalDensityEstimator(
            **{"K": 1, "module_shape": (2,), "n_members": 1, "epochs": 1, "random_state": 0},
            **{"x_scaler": RobustScaler(with_centering=False), "early_stopping": False},
            likelihood=Inflated(MixtureOfGaussians(K=2), at=0.0),
            encoder_shape=(3,),
        )
        est.fit(X, Y[:, :2]).save(path)
    found = json.loads(run("info", path, "--json"))
    expected = plain(described(SANConditionalDensityEstimator.load(path)))
    # A file of old does not hold the parameters that are new
    defaults = SANConditionalDensityEstimator().get_params()
    encoder = expected["parameters"].pop("encoder")
    for name in expected["parameters"].keys() - found["parameters"].keys():
        default = expected["parameters"].pop(name)
        assert name.startswith("encoder__") or default == defaults[name]
    if path == "own.san" or path.stem != "parts":
        assert encoder is None
        assert found.pop("parts") == []
    else:
        (part,) = found.pop("parts")
        assert (part["name"], part["shape"]) == ("spectrum", [20])
        assert part["encoder"].endswith(".SpectrumEncoder")
        assert part["parameters"] == {
            "channels": [2, 4], "kernel_size": 3, "n_bins": 2, "n_features": 3
        }  # fmt: skip
    found["parameters"].pop("encoder", None)
    assert list(found["parameters"]) == list(expected["parameters"])
    for name, value in expected.items():
        assert found.pop(name) == value
    assert set(found) == {"file", "bytes", "versions"}


def test_info_of_models_that_were_made_up(here, fails):
    for tree in ([1], {"order_": 1}, {"network_": None}):
        Path("made.up").write_bytes(dump_tree(tree, content=MODEL))
        assert "'made.up' cannot be rebuilt (" in fails(1, "info", "made.up")


def test_score(here, run):
    est = SANConditionalDensityEstimator.load("m.san")
    found = json.loads(run("score", "cat.csv", "--model", "m.san", "--json", "-n", 50))
    log_prob = est.log_prob(est_frame(X), Y[:, :2])
    assert found["rows"] == 300
    assert found["log_likelihood"]["mean"] == pytest.approx(log_prob.mean(), rel=1e-12)
    error = log_prob.std(ddof=1) / np.sqrt(300)
    assert found["log_likelihood"]["standard_error"] == pytest.approx(error, rel=1e-9)
    draws = est.sample(est_frame(X), 50, random_state=0, row_ids=np.arange(300))
    expected = crps(Y[:, :2], draws, multioutput="raw_values")
    assert [found["crps"][name]["mean"] for name in TARGETS] == pytest.approx(expected, rel=1e-9)
    lines = run("score", "cat.csv", "--model", "m.san").splitlines()
    assert lines[0].split() == ["rows", "300"]
    assert re.fullmatch(r"log-likelihood +-[0-9.]+ \+- [0-9.]+ nats per row", lines[1])
    assert [line.split()[2] for line in lines[2:]] == TARGETS


def test_score_per_row_and_weights(here, run):
    command = ["score", "cat.csv", "--model", "m.san", "--json", "-n", "9", "--weights", "weight"]
    found = json.loads(run(*command, "--per-row", "rows.csv", "--keep", "id"))
    table = read_table("rows.csv", numbers=["log_prob", "crps_log_mass"], verbatim=["id"])
    assert table.verbatim["id"].tolist() == IDS
    mean = table.numbers["log_prob"][:200].mean()
    assert found["log_likelihood"]["mean"] == pytest.approx(mean, rel=1e-12)
    error = table.numbers["crps_log_mass"][:200].std(ddof=1) / np.sqrt(200)
    assert found["crps"]["log_mass"]["standard_error"] == pytest.approx(error, rel=1e-9)


def test_score_of_rows_outside_the_limits(here, run):
    table = {**CATALOGUE, "redshift": np.where(np.arange(300) < 3, 7.0, Y[:, 0])}
    write_table("far.csv", [table])
    found = json.loads(run("score", "far.csv", "--model", "m.san", "-n", 2, "--json"))
    assert found["rows_of_density_zero"] == 3
    assert found["log_likelihood"] == {"mean": None, "standard_error": None}
    assert "rows of density zero  3" in run("score", "far.csv", "--model", "m.san", "-n", 2)


def test_calibrate(here, run):
    pytest.importorskip("matplotlib")
    command = ["calibrate", "cat.csv", "--model", "m.san", "-n", 20]
    found = json.loads(
        run(*command, "--json", "--per-row", "pit.csv", "--keep", "id", "--picture", "report.png")
    )
    est = SANConditionalDensityEstimator.load("m.san")
    report = calibration_report(est, est_frame(X), Y[:, :2], n_draws=20, random_state=0)
    assert found["pvalues"] == pytest.approx(report.pvalues)
    assert found["effects"][0]["coverage"] == pytest.approx(report.effects[0].coverage)
    assert found["rejected"] == (report.pvalue <= 0.05)
    table = read_table("pit.csv", numbers=["pit_redshift", "pit_log_mass"], verbatim=["id"])
    u = np.stack([table.numbers[f"pit_{name}"] for name in TARGETS], axis=1)
    np.testing.assert_allclose(u, report.rosenblatt.u)
    assert Path("report.png").read_bytes().startswith(b"\x89PNG")
    text = run(*command, "--diagnostics", "hpd")
    assert "densest regions that say 90 % hold" in text


def test_the_diagnostics_of_the_command_are_all():
    assert tuple(DIAGNOSTICS) == parser.DIAGNOSTICS


def test_calibrate_refuses(here, fails):
    command = ["calibrate", "cat.csv", "--model", "m.san"]
    assert "--keep goes with --per-row" in fails(2, *command, "--keep", "id")
    assert "invalid choice: 'ks'" in fails(2, *command, "--diagnostics", "ks")
    Path("there.png").touch()
    assert "there.png" in fails(1, *command, "--picture", "there.png")


def test_numbers_that_mean_missing(here, run):
    few = {name: column[:30].copy() for name, column in CATALOGUE.items()}
    few["redshift"][:4] = -99.0
    write_table("sentinels.csv", [few])
    scored = ["score", "sentinels.csv", "--model", "m.san", "--json", "-n", 2]
    found = json.loads(run(*scored, "--missing", -99, 99.9, "--drop-missing"))
    assert found["rows"] == 26
    assert found["rows_of_density_zero"] == 0
    assert json.loads(run(*scored))["rows_of_density_zero"] == 4
    few["redshift"] = np.float32(99.9) * np.ones(30)
    few["redshift"][5:] = 1.0
    write_table(
        "sentinels.csv",
        [few],
    )
    assert json.loads(run(*scored, "--missing", 99.9, "--drop-missing"))["rows"] == 25


def test_a_sign_of_life_without_a_terminal(here, run, monkeypatch, capsys):
    monkeypatch.setattr(printing, "INTERVAL", 0.0)
    monkeypatch.setattr(commands, "N_ROWS", 100)
    assert main(["predict", "cat.csv", "--model", "m.san", "--out", "m.csv"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("predict")]
    assert [line.split(", about")[0] for line in lines] == [
        "predict: 100 of 300 rows", "predict: 200 of 300 rows",
    ]  # fmt: skip


def test_sample_is_that_of_python(here, run):
    text = run("sample", "cat.csv", "--model", "m.san", "--out", "-", "-n", 3, "--seed", 5)
    header, rows = rows_of(text)
    assert header == ["row", "draw", *TARGETS]
    est = SANConditionalDensityEstimator.load("m.san")
    draws = est.sample(est_frame(X), 3, random_state=5, row_ids=np.arange(300))
    np.testing.assert_array_equal(rows[:, 2:].astype(float), draws.reshape(900, 2))
    np.testing.assert_array_equal(rows[:, 0].astype(int), np.repeat(np.arange(300), 3))
    np.testing.assert_array_equal(rows[:, 1].astype(int), np.tile(np.arange(3), 300))


@pytest.mark.parametrize("n_values", [2**20, 40, 5])
def test_sample_array_in_blocks(here, run, monkeypatch, n_values):
    # All rows at once, three rows at once, and two draws of one row at once
    monkeypatch.setattr(commands, "N_VALUES", n_values)
    write_table("few.csv", [{name: column[:20] for name, column in CATALOGUE.items()}])
    common = ["sample", "few.csv", "--model", "m.san", "-n", 6, "--seed", 1]
    run(*common, "--out", "draws.npy")
    run(*common, "--out", "draws.csv", "--keep", "id", "source")
    run(*common, "--out", "exact", "--format", "npy", "--dtype", "float64")
    draws = np.load("draws.npy", mmap_mode="r")
    assert draws.shape == (20, 6, 2)
    assert draws.dtype == np.float32
    header, rows = rows_of(Path("draws.csv").read_text())
    assert header == ["id", "source", "draw", *TARGETS]
    assert rows[::6, 0].tolist() == IDS[:20]
    assert rows[-1, 1] == "4000000000000000019"
    long = rows[:, 3:].astype(float).reshape(20, 6, 2)
    np.testing.assert_array_equal(np.load("exact"), long)
    np.testing.assert_array_equal(draws, long.astype(np.float32))
    assert draws[..., 0].min() >= 0
    assert draws[..., 0].max() <= 4
    # Blocks must not repeat each other's noise; 120 draws of 24 bits clash once in 2,000 seeds
    assert len(np.unique(long[..., 1])) == 120


def test_predict(here, run):
    write_table("few.csv", [{name: column[:40] for name, column in CATALOGUE.items()}])
    header, rows = rows_of(run("predict", "few.csv", "--model", "m.san", "--out", "-"))
    names = ["mean", "std", "median", "q05", "q95"]
    assert header == ["row", *(f"{y}_{one}" for y in TARGETS for one in names)]
    est = SANConditionalDensityEstimator.load("m.san")
    x, found = est_frame(X[:40]), rows[:, 1:].astype(float)
    np.testing.assert_array_equal(found[:, [0, 5]], est.predict(x))
    np.testing.assert_array_equal(found[:, [1, 6]], est.predict(x, output_type="std"))
    levels = est.predict(x, output_type="quantiles", quantiles=[0.5, 0.05, 0.95])
    np.testing.assert_array_equal(found[:, 2:5], levels[..., 0])
    chosen = ["--statistics", "mode", "q97.5", "mean", "--keep", "redshift"]
    header, rows = rows_of(run("predict", "few.csv", "--model", "m.san", "--out", "-", *chosen))
    assert header[:4] == ["redshift", "redshift_mode", "redshift_q97.5", "redshift_mean"]
    np.testing.assert_array_equal(rows[:, 0].astype(float), Y[:40, 0])
    np.testing.assert_allclose(rows[:, 1].astype(float), est.predict_density(x).mode()[:, 0])


def test_help_and_version(run):
    assert run("--version") == f"sklearn-san {__version__}\n"
    assert "predict" in run("--help")
    for command in ("fit", "sample", "predict", "score", "info"):
        assert "--quiet" in run(command, "--help")


def test_as_a_module(here):
    command = [sys.executable, "-m", "sklearn_san", "sample", "cat.csv", "--model", "m.san"]
    done = subprocess.run(
        [*command, "-n", "2", "--out", "-", "--seed", "0"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 601


# Tables


FORMATS = [
    ".csv",
    ".csv.gz",
    pytest.param(".parquet", marks=pytest.mark.skipif("not has('pyarrow')")),
    pytest.param(".fits", marks=pytest.mark.skipif("not has('astropy')")),
    pytest.param(".fits.gz", marks=pytest.mark.skipif("not has('astropy')")),
    pytest.param(".vot", marks=pytest.mark.skipif("not has('astropy')")),
    pytest.param(".hdf5", marks=pytest.mark.skipif("not has('h5py')")),
]
VECTORS = [".npy", *FORMATS[2:4], *FORMATS[5:]]


def has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("ending", FORMATS)
def test_round_trip_of_formats(here, run, ending):
    write_table(f"cat{ending}", [{k: v[:100] for k, v in CATALOGUE.items()},
                                 {k: v[100:] for k, v in CATALOGUE.items()}])  # fmt: skip
    table = read_table(f"cat{ending}", numbers=BANDS, values=["id", "source", "kind"])
    np.testing.assert_array_equal(np.stack(list(table.numbers.values()), axis=1), X)
    assert table.values["id"].tolist() == IDS
    np.testing.assert_array_equal(table.values["source"], CATALOGUE["source"])
    command = ["--model", "m.san", "--keep", "id", "source", "-n", 2, "--seed", 0]
    command += ["--format", "long"]
    run("sample", f"cat{ending}", *command, "--out", f"draws{ending}")
    expected = rows_of(run("sample", "cat.csv", *command, "--out", "-"))[1]
    draws = read_table(
        f"draws{ending}", numbers=["draw", *TARGETS], values=["source"], verbatim=["id"]
    )
    np.testing.assert_array_equal(draws.numbers["log_mass"], expected[:, 4].astype(float))
    assert draws.values["source"].dtype == np.int64
    assert draws.verbatim["id"].tolist() == expected[:, 0].tolist()
    run("predict", f"cat{ending}", "--model", "m.san", "--out", f"means{ending}")
    means = read_table(f"means{ending}", numbers=["row", "redshift_mean"])
    assert means.numbers["row"][-1] == 299


def test_fits_nulls_units_and_vectors(here):
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column("n", "J", null=-99, array=[1, -99, 3]),
        fits.Column("big", "K", null=-1, array=[2**60 + 1, -1, 5]),
        fits.Column("x", "E", array=[0.5, np.nan, 1.5]),
        fits.Column("name", "5A", array=["ab", "", "c"]),
        fits.Column("flag", "L", array=[True, False, True]),
        fits.Column("mags", "2D", array=np.zeros((3, 2))),
    ]
    fits.BinTableHDU.from_columns(columns).writeto("t.fits")
    table = read_table("t.fits", numbers=["n", "x", "flag"], values=["big", "name", "n"])
    np.testing.assert_array_equal(table.numbers["n"], [1, np.nan, 3])
    np.testing.assert_array_equal(table.numbers["x"], [0.5, np.nan, 1.5])
    np.testing.assert_array_equal(table.numbers["flag"], [1, 0, 1])
    assert table.values["big"].tolist() == [str(2**60 + 1), None, "5"]
    assert table.values["name"].tolist() == ["ab", None, "c"]
    with pytest.raises(ValueError, match=r"Column 'mags' of 't.fits' has \(2,\) numbers in each"):
        read_table("t.fits", numbers=["mags"])
    with pytest.raises(ValueError, match=r"Column 'name' of 't.fits' holds no numbers"):
        read_table("t.fits", numbers=["name"])
    fits.PrimaryHDU(np.zeros((2, 2))).writeto("image.fits")
    with pytest.raises(ValueError, match=r"'image.fits' holds no table, only images"):
        read_table("image.fits", numbers=["n"])
    with pytest.raises(ValueError, match="Column 'name' has text that is not ASCII"):
        write_table("new.fits", [{"name": np.array(["é"], dtype=object)}])
    assert names_in(here) == ["cat.csv", "image.fits", "m.san", "t.fits"]


def write_hdf5(path, tables):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, column in tables.items():
            file[name] = column


def test_hdf5_groups_units_and_types(here, monkeypatch):
    h5py = pytest.importorskip("h5py")
    columns = {
        "n": np.array([1, -99, 3], dtype=">i4"),
        "x": np.array([0.5, np.nan, 1.5], dtype=np.float32),
        "name": np.array([b"ab", b"", b"c"]),
        "word": np.array(["é", "", "c"], dtype=object),
        "flag": np.array([True, False, True]),
        "mags": np.zeros((3, 2)),
        "short": np.zeros(2),
    }
    tables = {f"deep/photometry/{name}": column for name, column in columns.items()}
    write_hdf5("t.hdf5", tables | {"meta/version": 1, "wide/n": np.arange(5), "wide/u": np.ones(5)})
    with h5py.File("t.hdf5", "a") as file:
        file["deep/photometry/x"].attrs["units"] = np.bytes_("mag")
    monkeypatch.setattr(hdf5, "N_ROWS", 2)
    table = read_table("t.hdf5", numbers=["n", "x", "flag"], values=["name", "word", "n"])
    np.testing.assert_array_equal(table.numbers["n"], [1, -99, 3])
    np.testing.assert_array_equal(table.numbers["x"], [0.5, np.nan, 1.5])
    np.testing.assert_array_equal(table.numbers["flag"], [1, 0, 1])
    assert table.values["n"].dtype == np.int32
    assert table.values["name"].tolist() == ["ab", None, "c"]
    assert table.values["word"].tolist() == ["é", None, "c"]
    assert table.units == {"x": "mag"}
    assert read_table("t.hdf5", numbers=["n"], group="/wide").n_rows == 5
    for names, group, message in [
        (["n"], None, r"in the groups deep/photometry, wide; choose one with --group"),
        (["n"], "sky", r"has no table 'sky'; its tables are deep/photometry, wide"),
        (["n", "x"], "wide", r"has no column 'x'.*its columns are n, u"),
        (["n", "x", "words"], None, r"has no column 'words' \(did you mean 'word'\?\)"),
        (["x", "short"], None, r"several lengths: x 3, short 2"),
        (["mags"], None, r"Column 'mags' of 't.hdf5' has \(2,\) numbers in each"),
        (["name"], None, r"Column 'name' of 't.hdf5' holds no numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_table("t.hdf5", numbers=names, group=group)
    write_hdf5("none.hdf5", {"meta/version": 1})
    with pytest.raises(ValueError, match=r"'none.hdf5' holds no table"):
        read_table("none.hdf5", numbers=["n"])
    with pytest.raises(ValueError, match="Column 'a/b' cannot be a dataset of HDF5"):
        write_table("new.hdf5", [{"a/b": np.arange(2)}])
    assert names_in(here) == ["cat.csv", "m.san", "none.hdf5", "t.hdf5"]


def test_hdf5_grows_piece_by_piece(here):
    h5py = pytest.importorskip("h5py")
    pieces = [
        {
            "x": np.arange(n) + 0.5,
            "v": np.full((n, 3), n),
            "name": np.array(["é"] * n, dtype=object),
        }
        for n in (0, 2, 3)
    ]
    write_table("t.h5", pieces, About({"seed": 3}, {"x": {"units": "mag"}}, "photometry"))
    with h5py.File("t.h5") as file:
        assert file.attrs["seed"] == 3
        table = file["photometry"]
        assert table["x"].attrs["units"] == "mag"
        assert table["x"][()].tolist() == [0.5, 1.5, 0.5, 1.5, 2.5]
        assert table["v"][:, 0].tolist() == [2, 2, 3, 3, 3]
        assert table["name"].asstr()[0] == "é"


def test_votable_masks_units_and_types(here):
    astropy = pytest.importorskip("astropy.table")
    table = astropy.Table(masked=True)
    table["n"] = astropy.MaskedColumn([1, 2, 3], mask=[False, True, False])
    table["big"] = astropy.MaskedColumn([2**60 + 1, 2, 5], mask=[False, True, False])
    table["x y"] = astropy.MaskedColumn([0.5, 1.0, 1.5], mask=[False, True, False], unit="mag")
    table["name"] = astropy.MaskedColumn(["ab", "b", "c"], mask=[False, True, False])
    table["flag"] = [True, False, True]
    table["mags"] = np.zeros((3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the space in a name
        table.write("t.vot", format="votable")
    found = read_table("t.vot", numbers=["n", "x y", "flag"], values=["big", "name", "n"])
    np.testing.assert_array_equal(found.numbers["n"], [1, np.nan, 3])
    np.testing.assert_array_equal(found.numbers["x y"], [0.5, np.nan, 1.5])
    np.testing.assert_array_equal(found.numbers["flag"], [1, 0, 1])
    assert found.values["big"].tolist() == [str(2**60 + 1), None, "5"]
    assert found.values["name"].tolist() == ["ab", None, "c"]
    assert found.units == {"x y": "mag"}
    with pytest.raises(ValueError, match=r"Column 'mags' of 't.vot' has \(2,\) numbers in each"):
        read_table("t.vot", numbers=["mags"])
    write_table("s.vot", [{"x y": np.arange(2.0), "q97.5": np.ones(2)}])
    assert read_table("s.vot", numbers=["x y", "q97.5"]).numbers["x y"].tolist() == [0.0, 1.0]
    Path("none.vot").write_text('<?xml version="1.0"?><VOTABLE version="1.4"><RESOURCE/></VOTABLE>')
    with pytest.raises(ValueError, match=r"'none.vot' is no VOTable"):
        read_table("none.vot", numbers=["n"])


def facts_of(path):
    """Facts, and units, descriptions and grids by column, in a file."""
    if path.endswith(".hdf5"):
        import h5py

        with h5py.File(path) as file:
            columns = {name: dict(one.attrs) for name, one in file.items()}
            return {key: str(one) for key, one in file.attrs.items()}, columns
    if path.endswith(".parquet"):
        from pyarrow import parquet

        def text(notes):
            return {key.decode(): one.decode() for key, one in (notes or {}).items()}

        schema = parquet.read_schema(path)
        return text(schema.metadata), {one.name: text(one.metadata) for one in schema}
    if path.endswith(".fits"):
        from astropy.io import fits

        header = fits.getheader(path, 1)
        places = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
        words = {"units": "TUNIT", "description": "TCOMM", "grid": "TGRID"}
        return {key: str(header.get(key)) for key in ("creator", "model", "seed")}, {
            name: {kind: header.get(f"{word}{i}") for kind, word in words.items()}
            for name, i in places.items()
        }
    from astropy.io.votable import parse

    file = parse(path)
    facts = {info.name: info.value for info in file.resources[0].infos}
    return facts, {
        one.name: {
            "units": one.unit and str(one.unit),
            "description": one.description,
            "grid": facts.get(f"{one.name}_grid"),
        }
        for one in file.get_first_table().fields
    }


def vectors_of(path, name):
    if path.endswith(".hdf5"):
        import h5py

        with h5py.File(path) as file:
            return file[name][()]
    if path.endswith(".parquet"):
        from pyarrow import parquet

        return np.array(parquet.read_table(path)[name].to_pylist())
    from astropy.table import Table

    return np.asarray(Table.read(path)[name])


@pytest.fixture(scope="module")
def with_units(folder, tmp_path_factory):
    """A catalogue whose columns have units, and a model of it."""
    pytest.importorskip("astropy")
    path, tables = tmp_path_factory.mktemp("units"), {"redshift": "Gyr", "g": "mag"}
    about = About({}, {name: {"units": unit} for name, unit in tables.items()})
    few = {name: CATALOGUE[name][:60] for name in ("id", *BANDS, *TARGETS)}
    write_table(str(path / "u.fits"), [few], about)
    assert main(fit_command(path / "u.fits", path / "u.san", "--quiet")) == 0
    return path


@pytest.mark.parametrize("ending", VECTORS[1:])
def test_units_and_facts_in_files(with_units, tmp_path, run, fails, ending, monkeypatch):
    monkeypatch.chdir(with_units)
    est = SANConditionalDensityEstimator.load("u.san")
    assert est.feature_units_ == {"g": "mag"}
    assert est.codec_.units == {"redshift": "Gyr"}
    out = str(tmp_path / f"o{ending}")
    common = ["u.fits", "--model", "u.san", "--keep", "id", "g", "--out", out, "--overwrite"]
    run("predict", *common, "--statistics", "mean", "q05")
    facts, columns = facts_of(out)
    assert facts["creator"] == f"sklearn_san {__version__}"
    assert facts["model"] == "u.san"
    assert columns["g"]["units"] == "mag"
    assert columns["redshift_q05"]["units"] == "Gyr"
    assert columns["redshift_q05"]["description"] == "q05 of p(redshift | x)"
    assert columns["log_mass_mean"].get("units") is None
    assert read_table(out, numbers=["g", "redshift_mean"]).units == {
        "g": "mag",
        "redshift_mean": "Gyr",
    }
    run("sample", *common, "--seed", 3, "--format", "long", "-n", 2)
    facts, columns = facts_of(out)
    assert facts["seed"] == "3"
    assert columns["redshift"]["units"] == "Gyr"
    run("predict", *common, "--pdf", "redshift=0,4,9")
    columns = facts_of(out)[1]
    assert columns["redshift_pdf"]["units"].replace("1 / Gyr", "Gyr**-1") == "Gyr**-1"
    assert columns["redshift_pdf"]["grid"] == "0.0,4.0,9"
    other = {name: CATALOGUE[name][:9] for name in BANDS}
    write_table("same.vot", [other], About({}, {"g": {"units": "mag"}}))
    run("predict", "same.vot", "--model", "u.san", "--out", tmp_path / "s.csv")
    write_table(str(tmp_path / f"t{ending}"), [other], About({}, {"g": {"units": "Jy"}}))
    message = fails(
        1, "predict", tmp_path / f"t{ending}", "--model", "u.san", "--out", tmp_path / "o.csv"
    )
    assert "column 'g' of X has the unit Jy, but had mag in fit" in message


@pytest.mark.parametrize("ending", VECTORS)
def test_densities_on_a_grid(here, run, monkeypatch, ending):
    monkeypatch.setattr(commands, "N_ROWS", 17)
    write_table("few.csv", [{name: column[:40] for name, column in CATALOGUE.items()}])
    out = f"o{ending}"
    command = ["predict", "few.csv", "--model", "m.san", "--out", out, "--pdf"]
    run(*command, "redshift=0,4,41")
    est = SANConditionalDensityEstimator.load("m.san")
    density = est.predict_density(est_frame(X[:40]))
    expected = density.pdf_grid("redshift", np.linspace(0, 4, 41))
    if ending == ".npy":
        found = np.load(out)
    else:
        found = vectors_of(out, "redshift_pdf")
        assert read_table(out, numbers=["row"]).n_rows == 40
    assert found.dtype.kind == "f"
    rounding = 64 * np.finfo(np.float32).eps
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding * expected.max())
    if ending == ".npy":
        return
    run(*command, "redshift=0,4,41", "log_mass=8,12,5", "--statistics", "mean", "--overwrite")
    assert vectors_of(out, "log_mass_pdf").shape == (40, 5)
    means = read_table(out, numbers=["redshift_mean"]).numbers["redshift_mean"]
    np.testing.assert_array_equal(means, density.mean()[:, 0])


@pytest.mark.parametrize("ending", VECTORS[1:])
@pytest.mark.parametrize("n_values", [2**20, 10])
def test_draws_in_vectors(here, run, monkeypatch, ending, n_values):
    # All rows at once, and five draws of one row at once
    monkeypatch.setattr(commands, "N_VALUES", n_values)
    write_table("few.csv", [{name: column[:20] for name, column in CATALOGUE.items()}])
    common = ["sample", "few.csv", "--model", "m.san", "-n", 7, "--seed", 1]
    form = [] if ending == ".hdf5" else ["--format", "vectors"]
    run(*common, "--out", f"o{ending}", "--keep", "id", *form)
    run(*common, "--out", "o.npy", "--dtype", "float64")
    for j, name in enumerate(TARGETS):
        np.testing.assert_array_equal(vectors_of(f"o{ending}", name), np.load("o.npy")[..., j])
    assert read_table(f"o{ending}", values=["id"]).values["id"].tolist() == IDS[:20]


@pytest.mark.filterwarnings("ignore:1 of 4 rows cannot be used")
@pytest.mark.parametrize("ending", VECTORS)
def test_densities_of_bad_rows(here, run, ending):
    table = {name: column[:4] for name, column in CATALOGUE.items()}
    write_table("few.csv", [table | {"g": np.array([20.0, np.nan, 21.0, 22.0])}])
    command = ["predict", "few.csv", "--model", "m.san", "--on-bad-rows", "nan", "--quiet"]
    run(*command, "--out", f"o{ending}", "--pdf", "redshift=0,4,5")
    found = np.load("o.npy") if ending == ".npy" else vectors_of(f"o{ending}", "redshift_pdf")
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False, False]


def test_vectors_of_no_rows(here, run):
    pytest.importorskip("h5py")
    write_table("few.csv", [{name: column[:0] for name, column in CATALOGUE.items()}])
    run("predict", "few.csv", "--model", "m.san", "--out", "o.hdf5", "--pdf", "redshift=0,4,41")
    assert vectors_of("o.hdf5", "redshift_pdf").shape == (0, 41)
    run("sample", "few.csv", "--model", "m.san", "--out", "s.hdf5", "-n", 3)
    assert vectors_of("s.hdf5", "redshift").shape == (0, 3)


def test_hdf5_from_and_to_groups(here, run):
    pytest.importorskip("h5py")
    columns = {f"photometry/{name}": CATALOGUE[name] for name in (*BANDS, *TARGETS)}
    write_hdf5("cat.hdf5", columns | {"spectra/u": np.arange(3)})
    run(*fit_command("cat.hdf5", "h.san", "--group", "photometry"))
    assert Path("h.san").read_bytes() == Path("m.san").read_bytes()
    command = ["predict", "cat.hdf5", "--model", "h.san", "--group", "photometry"]
    run(*command, "--out", "o.hdf5", "--out-group", "point_estimates", "--keep", "redshift")
    table = read_table("o.hdf5", numbers=["redshift", "log_mass_q95"], group="point_estimates")
    np.testing.assert_array_equal(table.numbers["redshift"], Y[:, 0])


def test_parquet_nulls_and_types(here):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns = {
        "n": pa.array([1, None, 3]),
        "big": pa.array([2**60 + 1, None, 5]),
        "x": pa.array([0.5, None, 1.5]),
        "name": pa.array(["ab", None, "c"]).dictionary_encode(),
        "price": pa.array([Decimal("1.25"), None, Decimal(3)]),
        "when": pa.array(np.array(["2024-01-01", "NaT", "2024-01-03"], dtype="datetime64[ns]")),
    }
    pq.write_table(pa.table(columns), "t.parquet")
    table = read_table("t.parquet", numbers=["n", "x", "price"], values=["big", "name", "when"])
    np.testing.assert_array_equal(table.numbers["n"], [1, np.nan, 3])
    np.testing.assert_array_equal(table.numbers["x"], [0.5, np.nan, 1.5])
    np.testing.assert_array_equal(table.numbers["price"], [1.25, np.nan, 3])
    assert table.values["big"].tolist() == [str(2**60 + 1), None, "5"]
    assert table.values["name"].tolist() == ["ab", None, "c"]
    write_table("t.csv", [table.values])
    assert Path("t.csv").read_text().splitlines()[1].startswith(f"{2**60 + 1},ab,2024-01-01T")


CSV_FILES = {
    "plain": "id,a,b\n1,0.5,x\n02,,\n3,1e3,y z\n",
    "quotes": 'id,a,b\n"1","0.5",x\n02,,""\n3,1e3,"y z"\n',
    "semicolons": "id;a;b\n1;0.5;x\n02;NA;null\n3;1e3;y z\n",
    "tabs": "id\ta\tb\n1\t0.5\tx\n02\tnan\tNone\n3\t1e3\ty z\n",
    "spaces, blank lines, Windows": "id, a, b\r\n1, 0.5, x\r\n\r\n02, , \r\n3, 1e3, y z\r\n",
    "mark": "\ufeffid,a,b\n1,0.5,x\n02,--,--\n3,1e3,y z\n",
}


@pytest.mark.parametrize("pandas", [True, False])
@pytest.mark.parametrize("case", CSV_FILES)
def test_csv(case, pandas, tmp_path, monkeypatch):
    if not pandas:
        monkeypatch.setattr(formats, "has_pandas", lambda: False)
        monkeypatch.setattr(formats, "N_ROWS", 2)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(CSV_FILES[case].encode()))
    table = read_table(str(path), numbers=["a"], values=["b", "id", "a"], verbatim=["id"])
    np.testing.assert_array_equal(table.numbers["a"], [0.5, np.nan, 1000.0])
    np.testing.assert_array_equal(table.values["a"], [0.5, np.nan, 1000.0])
    assert table.values["b"].tolist() == ["x", None, "y z"]
    assert table.verbatim["id"].tolist() == ["1", "02", "3"]
    assert table.values["id"].dtype == np.float64  # 02 is not written as whole numbers are


def test_csv_types(tmp_path):
    path = tmp_path / "t.txt"
    path.touch()
    with pytest.raises(ValueError, match=r"t\.txt' must end in one of \.csv, \.csv\.gz"):
        read_table(str(path))
    path = tmp_path / "t.csv"
    big = 2**60 + 1
    path.write_text(f"n,gap,big,huge,flag\n1,1,{big},{10**18}9,True\n-5,,,{10**18}0,false\n")
    values = read_table(str(path), values=["n", "gap", "big", "huge", "flag"]).values
    assert values["n"].dtype == np.int64
    np.testing.assert_array_equal(values["gap"], [1.0, np.nan])
    assert values["big"].tolist() == [str(big), None]
    assert values["huge"].dtype == object
    assert values["flag"].tolist() == [True, False]
    assert read_table(str(path), numbers=["flag"]).numbers["flag"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("pandas", [True, False])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n\n3,4,5\n", "Line 4 of '.*' has 3 cells, but there are 2 columns"),
        ("a,b\n1,2\n3\n", "Line 3 of '.*' has 1 cells, but there are 2 columns"),
        ("a,b\n1,2\nbad,4\n", "Column 'a' of '.*' has 'bad' in line 3, which is no number"),
        ("a,b\n1,2\n1,'\"x\n", "has 1 cells|has no rows|no number|cannot be read|has no column"),
        ("a,a\n1,2\n", "has 2 columns 'a'; rename them"),
        ("A,b\n1,2\n", r"has no column 'a' \(did you mean 'A'\?\); its columns are A, b"),
        ("", "has no column 'a'; its columns are"),
        ("a,b\n", "has no rows"),
    ],
)
def test_csv_that_is_wrong(text, message, pandas, tmp_path, monkeypatch):
    if not pandas:
        monkeypatch.setattr(formats, "has_pandas", lambda: False)
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(str(path), numbers=["a", "b"] if "'\"" in text else ["a"])


def test_without_pandas(here, run, no_pandas):
    run(*fit_command("cat.csv", "bare.san"))
    est = SANConditionalDensityEstimator.load("bare.san")
    assert est.feature_names_in_.tolist() == BANDS
    assert est.output_names_ == TARGETS
    for command in (["sample", "--seed", "0", "-n", "2"], ["predict", "--statistics", "mean"]):
        texts = [
            run(command[0], "cat.csv", *command[1:], "--out", "-", "--model", model)
            for model in ("bare.san", "m.san")
        ]
        assert texts[0] == texts[1]
    assert "CRPS" in run("score", "cat.csv", "--model", "bare.san")


# Labels, missing values, errors of measurement


@pytest.mark.parametrize("pandas", [True, False])
def test_labels_among_features_and_targets(here, run, fails, monkeypatch, pandas):
    if not pandas:
        monkeypatch.setattr(formats, "has_pandas", lambda: False)
    field = np.array(["1", "2", "x"], dtype=object)[np.arange(300) % 3]
    field[:2] = None
    write_table("c.csv", [{**CATALOGUE, "field": field}])
    fit = ["--features", "g", "field", "--targets", "kind", "log_mass", "--seed", "0"]
    labels = ["--categorical", "field", "kind", "--quiet"]
    run(*fit_command("c.csv", "l.san", *labels, fit=fit))
    found = json.loads(run("info", "l.san", "--json"))
    assert found["features"][1] == {"name": "field", "labels": ["1", "2", "x"]}
    assert found["targets"][0]["labels"] == ["far", "near"]
    # Only numbers are left in the column, which are the same labels all the same
    some = {name: column[3::3] for name, column in {**CATALOGUE, "field": field}.items()}
    write_table("some.csv", [some])
    text = run("sample", "some.csv", "--model", "l.san", "--out", "-", "-n", 2, "--seed", 0)
    header, rows = rows_of(text)
    assert header == ["row", "draw", "kind", "log_mass"]
    assert set(rows[:, 2]) == {"far", "near"}
    est = SANConditionalDensityEstimator.load("l.san")
    assert est.feature_table_.categories[1] == ["1", "2", "x"]
    header, rows = rows_of(run("predict", "some.csv", "--model", "l.san", "--out", "-"))
    assert header == ["row", "kind_mean", "log_mass_mean"]
    scores = json.loads(run("score", "some.csv", "--model", "l.san", "--json"))
    assert list(scores["crps"]) == ["log_mass"]
    err = fails(1, "sample", "some.csv", "--model", "l.san", "--out", "l.npy")
    assert "Output 'kind' has labels, which no vector of numbers holds" in err
    err = fails(
        1, "predict", "some.csv", "--model", "l.san", "--out", "l.npy", "--pdf", "kind=0,1,5"
    )
    assert "output 0 (kind) has labels, which have no density" in err
    command = ["predict", "some.csv", "--model", "l.san", "--out", "l.csv", "--statistics", "std"]
    assert "no meaning for the labels of output 0 (kind)" in fails(1, *command)
    assert not Path("l.csv").exists()


def test_missing_values(here, run, capsys):
    gaps = {**CATALOGUE, "g": np.where(np.arange(300) % 7 == 0, np.nan, X[:, 1])}
    gaps["log_mass"] = np.where(np.arange(300) < 30, np.nan, Y[:, 1])
    write_table("gaps.csv", [gaps])
    assert main(fit_command("gaps.csv", "g.san", "--drop-missing")) == 0
    err = capsys.readouterr().err
    assert "left out 30 of 300 rows, which lack targets or weights\n" in err
    assert "270 rows" in err
    command = ["score", "gaps.csv", "--model", "g.san", "--json", "-n", "3", "--drop-missing"]
    assert json.loads(run(*command))["rows"] == 270
    run(*command, "--per-row", "rows.csv")
    assert read_table("rows.csv", numbers=["row"]).numbers["row"][0] == 30
    assert len(run("predict", "gaps.csv", "--model", "g.san", "--out", "-").splitlines()) == 301


@pytest.mark.skipif(
    "X_err" not in inspect.signature(SANConditionalDensityEstimator.fit).parameters,
    reason="the estimator takes no measurement errors",
)
def test_measurement_errors(here, run, monkeypatch):
    seen = []
    plain = SANConditionalDensityEstimator.fit

    def fit(self, X, y, **options):
        seen.append(options["X_err"])
        return plain(self, X, y, **options)

    monkeypatch.setattr(SANConditionalDensityEstimator, "fit", fit)
    errors = ["--errors", "g=g_err", "i=i_err"]
    run(*fit_command("cat.csv", "e.san", *errors))
    expected = np.zeros(X.shape)
    expected[:, [1, 3]] = X_ERR[:, [1, 3]]
    np.testing.assert_array_equal(seen[0], expected)
    command = ["cat.csv", "--model", "e.san"]
    one, other = (
        rows_of(run("predict", *command, "--out", "-", "--statistics", "mean", *more))[1]
        for more in ([], errors)
    )
    assert (one != other).any()
    assert len(run("sample", *command, "--out", "-", "-n", 2, *errors).splitlines()) == 601


def test_weights_reach_fit(here, run, monkeypatch):
    seen = {}
    plain = SANConditionalDensityEstimator.fit

    def fit(self, X, y, **options):
        seen.update(options)
        return plain(self, X, y, **options)

    monkeypatch.setattr(SANConditionalDensityEstimator, "fit", fit)
    run(*fit_command("cat.csv", "w.san", "--weights", "weight"))
    np.testing.assert_array_equal(seen["sample_weight"], CATALOGUE["weight"])


def test_a_model_without_names(here, run, fails):
    est = SANConditionalDensityEstimator(K=1, module_shape=(2,), n_members=1, epochs=1)
    est.set_params(random_state=0).fit(X, Y[:, 0]).save("array.san")
    command = ["cat.csv", "--model", "array.san", "--seed", 0, "--features"]
    text = run("sample", *command, *BANDS, "--out", "-", "-n", 2)
    assert rows_of(text)[0] == ["row", "draw", "y0"]
    draws = est.sample(X, 2, random_state=0, row_ids=np.arange(len(X))).ravel()
    np.testing.assert_array_equal(rows_of(text)[1][:, 2].astype(float), draws)
    run("predict", *command[:-3], "--features", *BANDS, "--out", "array.csv")
    found = json.loads(run("score", *command, *BANDS, "--targets", "redshift", "--json"))
    assert found["log_likelihood"]["mean"] == pytest.approx(est.score(X, Y[:, 0]), rel=1e-12)
    assert [one["name"] for one in json.loads(run("info", "array.san", "--json"))["features"]] == [
        f"x{j}" for j in range(8)
    ]
    err = fails(1, "sample", *command[:3], "--out", "-")
    assert "'array.san' was fitted without names of columns; name its 8 features" in err
    err = fails(1, "sample", *command, "u", "--out", "-")
    assert "--features has 1 columns, but the model has 8 of them: x0, x1" in err


# The configuration file


CONFIG = """
table = "cat.csv"
model = "c.san"
features = ["u", "g", "r", "i", "z", "Y", "J", "H"]
targets = ["redshift", "log_mass"]
seed = 3
quiet = true
[limits]
redshift = [0, 4]
log_mass = [0.0, inf]
[parameters]
K = 3
module_shape = [8]
sequence_features = 2
n_members = 1
epochs = 1
"""


def has_toml():
    return has("tomllib") or has("tomli")


@pytest.mark.skipif("not has_toml()")
def test_config(here, capsys):
    Path("run.toml").write_text(CONFIG)
    command = ["fit", "--config", "run.toml", "--set", "epochs=2", "--limits", "redshift=0,5"]
    assert main([*command, "--seed", "0"]) == 0
    assert capsys.readouterr() == ("", "")
    est = SANConditionalDensityEstimator.load("c.san")
    assert (est.K, est.epochs, est.random_state) == (3, 2, 0)
    np.testing.assert_array_equal(est.limits_, [[0, 5], [0, np.inf]])


@pytest.mark.skipif("not has_toml()")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seed = 3", "sede = 3"), r"unknown option 'sede' \(did you mean 'seed'\?\)"),
        (("seed = 3", "seed = -3"), "'seed' in 'run.toml' must be a whole number from 0, got -3"),
        (("seed = 3", "test-fraction = 2"), "'test-fraction' in .* a number between 0 and 1"),
        (("quiet = true", "quiet = 1"), "'quiet' in 'run.toml' must be true or false, got 1"),
        (('table = "cat.csv"', "table = 1"), "'table' in 'run.toml' must be text, got 1"),
        (("redshift = [0, 4]", "redshift = 4"), "'limits' in .* a table of lists with two"),
        (("redshift = [0", "redhsift = [0"), r"--limits has no target 'redhsift' \(did you mean"),
        (("[limits]", "[limits"), "'run.toml' is not TOML"),
        (("K = 3", "k = 3"), r"no parameter 'k' \(did you mean 'K'\?\)"),
        (("K = 3", "verbose = 1"), "'verbose' cannot be set so; use --quiet"),
        (('model = "c.san"', ""), "--model is missing; give it here or in a file with --config"),
        (('features = ["u"', 'features = ["redshift"'), "'redshift' is named twice"),
    ],
)
def test_config_that_is_wrong(here, fails, change, message):
    assert CONFIG.count(change[0]) == 1
    Path("run.toml").write_text(CONFIG.replace(*change))
    assert re.search(message, fails(2, "fit", "--config", "run.toml"))
    assert not Path("c.san").exists()


def test_config_without_a_reader(here, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    err = fails(1, "fit", "--config", "run.toml")
    assert "needs Python 3.11 or the package tomli" in err


def test_features_from_a_file(here, run):
    Path("names.txt").write_text("\n".join(BANDS) + "\n\n")
    fit = ["--features-from-file", "names.txt", *FIT[len(BANDS) + 1 :]]
    run(*fit_command("cat.csv", "f.san", fit=fit))
    assert Path("f.san").read_bytes() == Path("m.san").read_bytes()


# What goes wrong


FAILURES = [  # all others are in `test_properties`
    (["sample", "cat.csv", "--model", "m.san", "--out", "sub.csv"],
     "'sub.csv' is no file but a folder or device; give the name of a file."),
    (["sample", "cat.csv", "--model", "m.san", "--out", "old.csv"],
     "'old.csv' exists; add --overwrite to replace it."),
    (["sample", "cat.csv", "--model", "m.san", "--out", "cat.csv", "--overwrite"],
     "'cat.csv' is read by this command; write to another file."),
    (["sample", "cat.csv", "--model", "m.san", "--out", "o.csv", "--keep", "Id"],
     "'cat.csv' has no column 'Id' (did you mean 'id'?); its columns are id, u, g,"),
    (["predict", "text.csv", "--model", "m.san", "--out", "o.csv"],
     "Column 'u' of 'text.csv' has 'faint' in line 3, which is no number"),
    (fit_command("no_mass.csv", "o.san", "--drop-missing"), "'no_mass.csv' has no row with all"),
    (["score", "cat.csv", "--model", "m.san", "--weights", "log_agn_mass"],
     "Column 'log_agn_mass' of 'cat.csv' has weights that are missing or negative"),
    (fit_command("cat.csv", "o.san", fit=["--features", "g", "--targets", "kind"]),
     "Column 'kind' of 'cat.csv' has 'near' in line 2, which is no number; leave missing values "
     "blank, and give `fit` labels as --categorical."),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), FAILURES, ids=lambda value: str(value)[:60])
def test_failures(here, fails, argv, message):
    Path("old.csv").write_text("a,b\n1,2\n")
    Path("sub.csv").mkdir()
    head = ",".join(BANDS)
    Path("text.csv").write_text(f"{head}\n1,2,3,4,5,6,7,8\nfaint,2,3,4,5,6,7,8\n")
    Path("no_mass.csv").write_text(f"{head},redshift,log_mass\n" + "1,2,3,4,5,6,7,8,0.5,\n" * 9)
    before = names_in(here)
    assert message in fails(1, *argv)
    assert names_in(here) == before
    assert Path("old.csv").read_text() == "a,b\n1,2\n"


SAMPLE = ["sample", "cat.csv", "--model", "m.san"]
MISUSES = [
    ([*SAMPLE, "--out", "o.npy", "--format", "long"], "'o.npy' must end in one of"),
    ([*SAMPLE, "--out", "o.csv", "--format", "vectors"], "CSV has no columns of vectors"),
    (["predict", *SAMPLE[1:], "--out", "-", "--pdf", "redshift=0,4,5"], "CSV has no columns of"),
    (["predict", *SAMPLE[1:], "--out", "o.npy"], "holds the density of one output: give --pdf"),
    (
        ["predict", *SAMPLE[1:], "--out", "o.npy", "--pdf", "redshift=0,4,5", "--keep", "id"],
        "--keep goes with a table",
    ),
    (
        [*SAMPLE, "--out", "o.csv", "--group", "a"],
        "--group goes with HDF5 files, not with 'cat.csv",
    ),
    ([*SAMPLE, "--out", "o.csv", "--out-group", "a"], "--out-group goes with HDF5 files, not with"),
    ([*SAMPLE, "--out", "o.npy", "--out-group", "a"], "--out-group goes with a table"),
    (["predict", *SAMPLE[1:], "--out", "o.npy", "--pdf", "z=0,4,5"], "--pdf has no output 'z'"),
    (
        ["predict", *SAMPLE[1:], "--out", "o.npy", "--pdf", "redshift=4,0,5"],
        "'redshift=4,0,5' must be NAME=LOW,HIGH,N, such as redshift=0,3,301",
    ),
    (["sample", "cat.txt", "--model", "m.san", "--out", "o.csv"], "'cat.txt' must end in one of"),
    (fit_command("cat.csv", "o.san", tiny=["epoch=2"]), "'epoch' (did you mean 'epochs'?)"),
]


@pytest.mark.parametrize(("argv", "message"), MISUSES, ids=lambda value: str(value)[-60:])
def test_misuses(here, fails, argv, message):
    err = fails(2, *argv)
    assert err.startswith("usage: sklearn-san")
    assert message in err
    assert names_in(here) == ["cat.csv", "m.san"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("K=5", 5),
        ("learning_rate=1e-3", 1e-3),
        ("module_shape=64,32", (64, 32)),
        ("module_shape=[64, 32]", [64, 32]),
        ("linear_base=auto", "auto"),
        ("linear_base=false", False),
        ("x_scaler=None", None),
        ("likelihood={'n': 'ordinal'}", {"n": "ordinal"}),
        ("device=cuda:0", "cuda:0"),
        ("checkpoint_dir=a=b", "a=b"),
    ],
)
def test_values_of_parameters(text, value):
    assert parameter(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("t.parquet", "pyarrow", "parquet"),
        ("t.fits", "astropy", "fits"),
        ("t.vot", "astropy", "fits"),
        ("t.h5", "h5py", "hdf5"),
    ],
)
def test_missing_extras(here, fails, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    Path(name).touch()
    message = f'needs {module}, which is not installed; run: pip install "sklearn-san[{extra}]"'
    assert message in fails(1, "predict", name, "--model", "m.san", "--out", "o.csv")
    assert message in fails(1, *SAMPLE, "--out", f"o{Path(name).suffix}")


KINDS = {".parquet": "Parquet file", ".fits": "FITS file", ".vot": "VOTable", ".hdf5": "HDF5 file"}


@pytest.mark.parametrize("ending", VECTORS[1:])
@pytest.mark.parametrize("content", ["a,b\n1,2\n" * 9, ""])
def test_files_of_another_kind(here, fails, ending, content):
    Path(f"t{ending}").write_text(content)
    err = fails(1, "predict", f"t{ending}", "--model", "m.san", "--out", "o.csv")
    assert f"'t{ending}' is no {KINDS[ending]}, or is damaged" in err


def test_bytes_that_are_no_text(here, fails):
    Path("t.csv").write_bytes(b"u,g\n\xff\xfe,1\n")
    err = fails(
        1, "predict", "t.csv", "--model", "m.san", "--out", "o.csv", "--features", *"ug" * 4
    )
    assert "'t.csv' is no text in UTF-8" in err
    Path("t.csv.gz").write_bytes(b"u,g\n1,1\n")
    err = fails(1, "predict", "t.csv.gz", "--model", "m.san", "--out", "o.csv")
    assert "'t.csv.gz' cannot be read: Not a gzipped file" in err


def test_nothing_is_computed_before_the_output_is_checked(here, fails, monkeypatch):
    for name in ("fit", "load"):
        monkeypatch.setattr(SANConditionalDensityEstimator, name, None)
    for name in ("old.npy", "old.csv"):
        Path(name).touch()
    assert "exists" in fails(1, *fit_command("cat.csv", "m.san"))
    assert "exists" in fails(1, *SAMPLE, "--out", "old.npy")
    assert "exists" in fails(1, "predict", *SAMPLE[1:], "--out", "old.csv")
    assert "exists" in fails(1, "score", *SAMPLE[1:], "--per-row", "old.csv")


def test_overwrite(here, run):
    Path("o.csv").write_text("old")
    Path("o.csv").chmod(0o640)
    run("predict", *SAMPLE[1:], "--out", "o.csv", "--overwrite", "--statistics", "mean")
    assert Path("o.csv").read_text().startswith("row,redshift_mean,log_mass_mean\n0,")
    assert Path("o.csv").stat().st_mode & 0o777 == 0o640
    os.link("m.san", "old.san")
    os.remove("m.san")
    Path("m.san").write_text("old")
    run(*fit_command("cat.csv", "m.san", "--overwrite"))
    assert Path("m.san").read_bytes() == Path("old.san").read_bytes()


@pytest.mark.parametrize("ending", [".npy", *FORMATS])
@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("no\nluck"), 1), (KeyboardInterrupt(), 130)]
)
def test_no_file_is_left_after_a_failure(here, capsys, monkeypatch, ending, error, code):
    plain = commands._draws

    def break_off(*arguments):
        blocks = plain(*arguments)
        yield next(blocks)
        raise error

    monkeypatch.setattr(commands, "N_VALUES", 1000)
    monkeypatch.setattr(commands, "_draws", break_off)
    Path(f"o{ending}").write_text("old")
    assert main([*SAMPLE, "--out", f"o{ending}", "--overwrite"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "sklearn-san: error: RuntimeError no luck\n" if code == 1 else "sklearn-san: stopped\n"
    )
    assert Path(f"o{ending}").read_text() == "old"
    assert names_in(here) == sorted(["cat.csv", "m.san", f"o{ending}"])


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: background jobs of a shell ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", ["__init__", "end_epoch", "close"])
def test_a_training_that_is_stopped_leaves_the_old_model(
    here, capsys, monkeypatch, interruptible, step
):
    monkeypatch.setattr(FitMonitor, step, lambda *_: signal.raise_signal(signal.SIGINT))
    before = Path("m.san").read_bytes()
    assert main(fit_command("cat.csv", "m.san", "--overwrite")) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "sklearn-san: stopped"
    assert Path("m.san").read_bytes() == before
    assert names_in(here) == ["cat.csv", "m.san"]


def test_debug_shows_where(here):
    with pytest.raises(FileNotFoundError, match=r"There is no file 'none\.san'"):
        main(["info", "none.san", "--debug"])


def test_a_reader_that_has_had_enough(here, monkeypatch):
    monkeypatch.setattr(commands, "write_table", raise_broken_pipe)
    with open("out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert main([*SAMPLE, "--out", "-"]) == 1


def raise_broken_pipe(*_):
    raise BrokenPipeError


def test_warnings_are_one_line(here, capsys):
    write_table("ties.csv", [{**CATALOGUE, "log_mass": np.round(Y[:, 1])}])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(fit_command("ties.csv", "t.san", "--quiet")) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sklearn-san: warning: y has only ")
    assert "(log_mass)" in err
    assert err.count("\n") == 1


def test_fit_tells_what_it_waits_for(here, capsys, monkeypatch):
    monkeypatch.setattr(engine, "is_kept", lambda *_: False)
    monkeypatch.setattr(_callbacks, "INTERVAL", 0.0)
    assert main(fit_command("cat.csv", "new.san")) == 0
    lines = capsys.readouterr().err.splitlines()
    name = "SANConditionalDensityEstimator"
    assert lines[0].startswith(f"{name}: 270 rows to learn from, 30 to validate on; 2 outputs")
    assert lines[1] == f"{name}: features: as they are, by auto"
    assert lines[2] == f"{name}: compiling kernels, once on this machine"
    assert [line.partition(",")[0] for line in lines[3:-1]] == [
        f"{name}: epoch {epoch} of 2" for epoch in (1, 2)
    ]
    assert lines[-1].startswith("wrote 'new.san'")
    assert main(fit_command("cat.csv", "new.san", "--quiet", "--overwrite")) == 0
    assert capsys.readouterr().err == ""


#: Calls that compute nothing, and their exit codes.
LIGHT_CALLS = [
    (["--help"], 0),
    (["--version"], 0),
    (["predict", "--help"], 0),
    (["info", "m.san"], 0),
    (["info", "m.san", "--json"], 0),
    (["info", "cat.csv"], 1),
    (["train"], 2),
    (["fit", "cat.csv"], 2),
    (["fit", "none.csv", "--model", "o.san", *FIT], 1),
    (["fit", "cat.csv", "--model", "m.san", *FIT], 1),
    (["fit", "cat.csv", "--model", "o.san", *FIT, "--limits", "size=0,1"], 2),
    (["sample", "cat.csv", "--model", "none.san", "--out", "o.csv"], 1),
    (["predict", "none.csv", "--model", "m.san", "--out", "o.csv"], 1),
    (["predict", "cat.csv", "--model", "m.san", "--out", "o.txt"], 2),
    (["score", "cat.csv", "--model", "m.san", "--keep", "id"], 2),
]


def test_what_computes_nothing_starts_without_torch(here):
    code = f"""
import sys
from sklearn_san.cli import main
for argv, code in {LIGHT_CALLS!r}:
    assert main(argv) == code, argv
heavy = {{"torch", "sklearn", "scipy", "numba", "pandas"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_progress_bars_are_for_terminals(here, capsys, monkeypatch):
    command = [*SAMPLE, "--out", "o.npy", "--overwrite", "-n", "2"]
    for is_terminal, quiet, shown in [
        (True, [], True),
        (True, ["--quiet"], False),
        (False, [], False),
    ]:
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert main([*command, *quiet]) == 0
        assert ("sample" in capsys.readouterr().err) == shown


def test_a_folder_that_may_not_be_written_to(here, fails, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root
    err = fails(1, *SAMPLE, "--out", "o.csv")
    assert "'o.csv' may not be written to; choose another folder or name." in err


def test_infinities_that_mean_something(here, run):
    dropouts = {**CATALOGUE, "u": np.where(np.arange(300) % 5 == 0, np.inf, X[:, 0])}
    write_table("drop.csv", [dropouts])
    run(*fit_command("drop.csv", "d.san", tiny=[*TINY, "nondetection=inf"]))
    found = json.loads(run("score", "drop.csv", "--model", "d.san", "-n", 2, "--json"))
    assert np.isfinite(found["log_likelihood"]["mean"])


def test_replacing_follows_links(tmp_path):
    (tmp_path / "real").write_text("old")
    os.symlink(tmp_path / "real", tmp_path / "link")
    with replacing(str(tmp_path / "link")) as temporary:
        Path(temporary).write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
