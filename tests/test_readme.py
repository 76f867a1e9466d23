"""Every snippet of the README and the guides runs, and so do the short examples."""

import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sklearn_san.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDE = DOCS / "guide"
GUIDES = [
    "photoz.rst",
    "simulation.rst",
    *sorted(f"guide/{path.name}" for path in GUIDE.glob("*.rst")),
]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    # The same with fewer epochs, and fewer rows to ask
    for shown, fast, count in [("epochs=10", "epochs=1", 2), ("galaxies(2000", "galaxies(1600", 1)]:
        assert text.count(shown) == count
        text = text.replace(shown, fast)
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert snippets
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    commands = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)[-1]
    for command in commands.replace("\\\n", "").splitlines():
        program, *arguments = shlex.split(command)
        assert program == "sklearn-san"
        assert main(arguments) == 0
    assert np.load("draws.npy").shape == (1600, 100, 2)


@pytest.fixture(scope="module")
def start():
    """Names that the lines at the head of the pages of the guide define."""
    text = (GUIDE / "start.txt").read_text()
    test = doctest.DocTestParser().get_doctest(text, {}, "start.txt", None, 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(test, clear_globs=False).failed == 0
    return test.globs


@pytest.mark.parametrize("name", GUIDES)
def test_guides_run(name, start):
    """Pages that show the lines of `start.txt` have its names, others nothing."""
    path = DOCS / name
    shown = ".. include:: start.txt" in path.read_text()
    result = doctest.testfile(
        str(path), module_relative=False, optionflags=FLAGS, globs=start if shown else {}
    )
    assert result.failed == 0
    assert result.attempted == path.read_text().count("\n>>> ")


def test_most_pages_of_the_guide_have_snippets():
    assert len(GUIDES) > 20
    assert sum(">>> " in (DOCS / name).read_text() for name in GUIDES) > len(GUIDES) - 3


def test_pictures_and_links_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["plot_grid_search.py", "plot_own_likelihood.py"])
def test_short_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = ROOT / "examples" / name
    code = re.sub(r'(epochs(": |=))\d+', r"\g<1>3", path.read_text())
    assert code != path.read_text()
    exec(compile(code, str(path), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out
