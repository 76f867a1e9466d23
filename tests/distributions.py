"""Build the package and try what was built: ``python tests/distributions.py``.

The wheel and the source distribution go to ``dist``. The wheel must hold the package and nothing
else, the source distribution all files that git knows but those in `LEFT_OUT`. The wheel is
installed into a fresh environment in a temporary folder, where every module is imported and the
quick form of the demo runs; then some tests of the unpacked source distribution are run on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
LEFT_OUT = {".gitignore", ".ci/run"}
#: Tests that read the files of the distribution, and tests of what needs a compiler.
QUICK = ("package", "docs", "golden", "truncated_normal", "compiled_products")
#: What setuptools writes into a source distribution.
WRITTEN = {"PKG-INFO", "setup.cfg"}

IMPORT_ALL = """
import importlib, pkgutil, sys
import sklearn_san
assert sys.prefix in sklearn_san.__file__, sklearn_san.__file__
missing = set("arviz astropy ceci dask getdist h5py pandas pyarrow qp rail sbi skpro xarray"
              .split())
for module in pkgutil.walk_packages(sklearn_san.__path__, "sklearn_san."):
    if module.name == "sklearn_san.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if getattr(cause, "name", "").partition(".")[0] not in missing:
            raise
print(f"sklearn_san {sklearn_san.__version__}: all modules can be imported")
"""


def in_git() -> set[str]:
    """Files that git knows."""
    listed = run("git", "ls-files", cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    return set(listed.splitlines())


def run(*command: object, **options: object) -> subprocess.CompletedProcess:
    """Run a command, which must not fail."""
    return subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


def build() -> tuple[Path, Path]:
    """Source distribution, and the wheel that is built from it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT, stdout=subprocess.DEVNULL)
    (source,), (wheel,) = DIST.glob("*.tar.gz"), DIST.glob("*.whl")
    return source, wheel


def must_agree(what: str, found: set[str], expected: set[str]) -> None:
    """Stop with the names that one of them lacks."""
    if found != expected:
        lacks, more = sorted(expected - found), sorted(found - expected)
        raise SystemExit(f"{what} lacks {lacks} and holds {more}, which do not belong there.")


def check_wheel(wheel: Path) -> None:
    """Compare the names in a wheel with the files of the package, and find its licence."""
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    must_agree(
        wheel.name, names - about, {name for name in in_git() if name.startswith("sklearn_san/")}
    )
    must_agree(
        f"The metadata of {wheel.name}",
        {name.split("/", 1)[1] for name in about},
        {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"},
    )


def check_source(source: Path) -> None:
    """Compare the names in a source distribution with the files that git knows."""
    with tarfile.open(source) as archive:
        names = {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}
    names = {name for name in names if not name.startswith("sklearn_san.egg-info/")}
    must_agree(source.name, names - WRITTEN, in_git() - LEFT_OUT - WRITTEN)


def main() -> None:
    """Build, compare, install and try."""
    source, wheel = build()
    check_wheel(wheel)
    check_source(source)
    print(f"{wheel.name} and {source.name} hold what they should", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try_out(source, wheel, Path(folder))


def try_out(source: Path, wheel: Path, folder: Path) -> None:
    """Install the wheel into a fresh environment, and run modules, demo and tests there."""
    home = folder / "environment"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("sklearn_san-*")

    def install(extra: str) -> None:
        constraints = ["--quiet", "--constraint", ROOT / "constraints.txt"]
        run(
            python, "-m", "pip", "install", *constraints, f"sklearn-san[{extra}] @ {wheel.as_uri()}"
        )

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    install("plot")
    run(python, "-c", IMPORT_ALL, cwd=folder, env=environment)
    run(python, "examples/plot_galaxy_parameters.py", "--quick", cwd=unpacked, env=environment)
    install("test")
    # By the script of pytest, which leaves the unpacked source of the package out of the path
    tests = [f"tests/test_{name}.py" for name in QUICK]
    run(python.with_name("pytest"), "-q", *tests, cwd=unpacked, env=environment)


if __name__ == "__main__":
    main()
