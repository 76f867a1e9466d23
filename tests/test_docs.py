"""The interface pages name everything public, and commands in the guide are real ones.

The Python snippets of the guide are run in `test_readme`, the examples by ``make docs``.
"""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

from sklearn_san.cli.options import complete
from sklearn_san.cli.parser import make_parser

DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = Path(__file__).parents[1] / "sklearn_san"
GUIDE = (DOCS / "guide.rst").read_text()
MODULES = (
    "calibration", "chains", "datasets", "density", "exceptions", "likelihoods", "metrics",
    "photoz", "plotting", "recalibration",
)  # fmt: skip
#: Public in their modules, but no part of the interface; or documented under another name.
INNER = {
    "CalibratedDensity", "DIAGNOSTICS", "LIKELIHOODS", "SCORERS", "ScoreMap", "fit_score_map",
}  # fmt: skip


def documented():
    """Full names in `api.rst`."""
    module, names = "", set()
    for line in (DOCS / "api.rst").read_text().splitlines():
        found = re.match(r"\.\. currentmodule:: (\S+)|   ([A-Za-z_]\w*)$", line)
        if found and found[1]:
            module = found[1]
        elif found:
            names.add(f"{module}.{found[2]}")
    return names


def blocks(language):
    """Code blocks of the guide in a language, without their indentation."""
    found = re.findall(rf"\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", GUIDE)
    return [inspect.cleandoc(block) for block in found]


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    module = importlib.import_module(f"sklearn_san.{name}")
    names = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]
    missing = {f"{module.__name__}.{key}" for key in names if key not in INNER} - documented()
    assert not missing


def test_what_is_documented_exists():
    assert len(documented()) > 50
    for name in documented():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_map_names_every_file_and_no_other():
    text = (DOCS / "development" / "contributing.rst").read_text()
    (drawn,) = re.findall(r"code-block:: text\n\n((?:   .*\n)+)", text)
    names = [name for line in drawn.splitlines() for name in re.split(r" {2,}", line)[1].split()]
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(names) == sorted(files | folders)
    paths = [path for path in re.findall(r"``([^`\s]+)``", text) if re.search(r"/|\.py$", path)]
    assert len(paths) > 50
    for path in paths:
        assert (PACKAGE / path).exists() or (DOCS.parent / path).exists(), path


def test_commands_of_the_guide_are_accepted():
    commands = [line for block in blocks("bash") for line in block.replace("\\\n", "").splitlines()]
    assert len(commands) == 9
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "sklearn-san"
        assert make_parser().parse_args(arguments).command.__name__ == arguments[0]


def test_configuration_file_of_the_guide_is_accepted(tmp_path):
    pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    (toml,) = blocks("toml")
    (tmp_path / "fit.toml").write_text(toml)
    options = make_parser().parse_args(["fit", "--config", str(tmp_path / "fit.toml")])
    complete(options)
    assert options.features == ["u", "g", "r", "i", "z"]
    assert options.limits == {"redshift": [0, 13]}
    assert options.parameters == {"epochs": 20}


@pytest.mark.parametrize("word", ["SBC", "NPE", "theta", "x_o", "prior", "pairplot", "MAP"])
def test_the_guide_has_the_words_of_simulation_based_inference(word):
    assert re.search(rf"\b{word}\b", GUIDE)
