"""What is installed is what is here."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_folder_is_installed():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "sklearn_san").rglob("__init__.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(
        setuptools["packages"]
    )
