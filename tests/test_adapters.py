"""Adapters import their partners when used alone; their examples and pages run where they can."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_san import adapters

ROOT = Path(__file__).parents[1]
STEMS = sorted(
    path.stem for path in (ROOT / "sklearn_san" / "adapters").glob("*.py") if path.stem[0] != "_"
)
PAGES = sorted((ROOT / "docs" / "partners").glob("*.rst"))
#: Packages without which a page cannot be run.
NEEDED = {
    "dask": ["dask"],
    "formats": ["arviz", "corner", "getdist", "qp", "xarray"],
    "sbi": ["sbi"],
    "skpro": ["skpro"],
}
#: Blocks of the page on tools around scikit-learn, the first of which the others need.
START, *BLOCKS = [
    inspect.cleandoc(block)
    for block in re.findall(
        r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)",
        (ROOT / "docs" / "partners" / "relatives.rst").read_text(),
    )
]


@pytest.fixture(autouse=True)
def global_state_untouched():
    """Partners draw by global seeds."""
    state = np.random.get_state()
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    np.random.set_state(state)


def skip_without(packages):
    for name in packages:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def test_nothing_is_imported_before_an_adapter_is():
    code = f"""
import sys
import sklearn_san.adapters
assert not {{"torch", "sklearn", "numpy", *{STEMS}}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_names_every_adapter_and_no_other():
    assert sorted(set(re.findall(r"^`(\w+)` ", adapters.__doc__, flags=re.MULTILINE))) == STEMS


@pytest.mark.parametrize("stem", STEMS)
def test_examples_run(stem):
    skip_without([stem])
    module = importlib.import_module(f"sklearn_san.adapters.{stem}")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, optionflags=flags).failed == 0


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_pages_run(page):
    skip_without(NEEDED.get(page.stem, ()))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert result.failed == 0


@pytest.fixture(scope="module")
def start():
    namespace = {}
    exec(compile(START, "relatives.rst", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[1].split(".")[0])
def test_tools_around_scikit_learn(block, start):
    skip_without({name for name in re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE)})
    exec(compile(block, "relatives.rst", "exec"), dict(start))
