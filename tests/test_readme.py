"""Every snippet of the README, the guides and the tutorials runs, and so do the short examples."""

import contextlib
import doctest
import io
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
TUTORIALS = sorted(path.name for path in (DOCS / "tutorials").glob("*.rst"))
#: What the pages need beside the package itself.
EXTRAS = {"photometric_redshifts.rst": ("astropy", "pandas"), "survey.rst": ("pandas", "pyarrow")}
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def test_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    # The same with fewer epochs and rows
    for shown, fast, count in [
        ("epochs=10", "epochs=1", 2),
        ("galaxies(2000", "galaxies(700", 1),
        ("1500:", "600:", 7),
        (":1500", ":600", 2),
        (":400", ":200", 2),
    ]:
        assert text.count(shown) == count, shown
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
    assert np.load("draws.npy").shape == (700, 100, 2)


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


class Roughly(doctest.OutputChecker):
    """Numbers with a decimal point may differ by a fifth and 0.02, all else may not.

    Learned numbers differ from one kind of CPU to the other.
    """

    PARTS = re.compile(r"((?<![\w.])-?\d+\.\d*(?:e[-+]?\d+)?(?![\w.])|\.\.\.)")

    def check_output(self, want, got, optionflags):
        want, got = " ".join(want.replace("<BLANKLINE>", "").split()), " ".join(got.split())
        texts, parts = self.PARTS.split(want)[::2], self.PARTS.split(want)[1::2]
        holes = [".*?" if part == "..." else r"(-?\d+\.\d*(?:e[-+]?\d+)?)" for part in parts]
        pairs = zip(texts, [*holes, ""], strict=True)
        found = re.fullmatch("".join(re.escape(text) + hole for text, hole in pairs), got)
        if found is None:
            return False
        expected = np.array([float(part) for part in parts if part != "..."])
        return bool(np.allclose(np.array(found.groups(), dtype=float), expected, 0.2, 0.02))


def test_numbers_are_compared_roughly():
    check = Roughly().check_output
    assert check("(0.52, 3)\n", "(0.5,  3)\n", FLAGS)
    assert not check("(0.52, 3)\n", "(0.52, 4)\n", FLAGS)
    assert not check("0.5 0.5\n", "0.5\n", FLAGS)
    assert not check("-2.1\n", "2.1\n", FLAGS)
    assert not check("a 0.5\n", "b 0.5\n", FLAGS)
    assert check("p = ... 1.00\n", "p = 0.3 |\n1.1\n", FLAGS)
    assert not check("p = ... 1.00\n", "p = 0.3 |\n2.1\n", FLAGS)


def run_command(line):
    """One line of a shell, by the function behind the command."""
    program, *arguments = shlex.split(line)
    assert program == "sklearn-san"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(arguments) == 0


def as_doctest(block):
    """Commands of a block for a shell as lines of Python, without processes of their own."""
    text = block[1].replace("\\\n", "").replace("--workers 2", "")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "".join(f">>> run_command({line!r})\n" for line in lines if line)


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_run(name, tmp_path, monkeypatch):
    """Each page by itself, its commands in their places."""
    for module in EXTRAS.get(name, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "tutorials" / name).read_text()
    text = re.sub(r"\.\. code-block:: bash\n\n((?:   .*\n|\n)+)", as_doctest, text)
    names = {"run_command": run_command}
    test = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    assert len(test.examples) == text.count("\n>>> ")
    assert (name == "index.rst") == (not test.examples)
    assert doctest.DocTestRunner(Roughly(), optionflags=FLAGS).run(test).failed == 0


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
