"""The package itself: its public names are imported when asked for, every folder is installed."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small

import sklearn_san

ROOT = Path(__file__).parents[1]


def test_nothing_is_imported_before_it_is_asked_for():
    code = """
import sys
import sklearn_san
names = dir(sklearn_san)
assert not {"torch", "sklearn", "scipy", "numba", "numpy"} & sys.modules.keys()
for name in names:
    getattr(sklearn_san, name)
assert "torch" in sys.modules
from sklearn_san import SANConditionalDensityEstimator, density, merge
assert sklearn_san.SANConditionalDensityEstimator is SANConditionalDensityEstimator
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_public():
    names = {
        "CalibratedDensity", "OwnBatches", "SANConditionalDensityEstimator", "adapters",
        "calibration", "chains", "datasets", "density", "encoders", "exceptions", "likelihoods",
        "merge", "metrics", "photoz", "plotting", "recalibration", "simulation",
    }  # fmt: skip
    assert names <= set(dir(sklearn_san))
    assert set(sklearn_san.__all__) <= set(dir(sklearn_san))
    with pytest.raises(AttributeError, match="module 'sklearn_san' has no attribute 'nothing'"):
        getattr(sklearn_san, "nothing")  # noqa: B009
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from sklearn_san import nothing  # noqa: F401


def test_pickles_are_read_by_a_process_that_has_imported_nothing(tmp_path):
    path = tmp_path / "estimator.pickle"
    path.write_bytes(pickle.dumps([small(K=7), sklearn_san.exceptions.CorruptModelError("no")]))
    code = f"""
import pickle
with open({str(path)!r}, "rb") as file:
    estimator, error = pickle.load(file)
print(estimator.K, type(error).__module__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "7 sklearn_san.exceptions no\n", done.stderr


def test_every_folder_is_installed():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "sklearn_san").rglob("__init__.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(
        setuptools["packages"]
    )


def test_the_makefile_names_files_that_are_there():
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    lists = re.findall(r"^(\w+) := \$\(addprefix tests/test_, ([^)]*)\)", text, flags=re.MULTILINE)
    assert {name for name, _ in lists} == {"NUMERICAL", "QUICK", "SHORT"}
    for _, names in lists:
        assert names.split()
        for name in names.split():
            assert (ROOT / "tests" / f"test_{name}").exists(), name
