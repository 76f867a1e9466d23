"""What the pages say about the package is true, and so are the pieces that they are made with.

The Python snippets of the guide are run in `test_readme`, the examples by ``make docs``, and the
built site is tested in `test_site`.
"""

import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

import sklearn_san
from sklearn_san.cli.options import complete
from sklearn_san.cli.parser import make_parser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "sklearn_san"
GUIDE = "".join(path.read_text() for path in sorted((DOCS / "guide").glob("*.rst")))
MODULES = (
    "calibration", "chains", "datasets", "density", "encoders", "exceptions", "likelihoods",
    "metrics", "photoz", "plotting", "recalibration", "simulation",
)  # fmt: skip
#: Public in their modules, but no part of the interface; or documented under another name.
INNER = {
    "CalibratedDensity", "DIAGNOSTICS", "GALAXY_BANDS", "GALAXY_LIMITS", "GALAXY_PARAMETERS",
    "GALAXY_WAVELENGTHS", "LIKELIHOODS", "SCORERS", "ScoreMap", "fit_score_map",
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


def test_lines_of_the_front_page_are_those_of_the_readme():
    text = (DOCS / "index.rst").read_text()
    (block,) = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    assert inspect.cleandoc(block) in (ROOT / "README.md").read_text()


def test_every_page_of_the_guide_is_described_in_its_index():
    text = (DOCS / "guide" / "index.rst").read_text()
    for path in (DOCS / "guide").glob("*.rst"):
        if path.stem != "index":
            assert f"\n   {path.stem}\n" in text, path.stem
            assert f"- :doc:`{path.stem}`: " in text, path.stem


def test_every_tutorial_is_in_their_index():
    text = (DOCS / "tutorials" / "index.rst").read_text()
    pages = [path for path in (DOCS / "tutorials").glob("*.rst") if path.stem != "index"]
    assert len(pages) > 5
    for path in pages:
        title = path.read_text().splitlines()[0]
        assert f"\n   {path.stem}\n" in text, path.stem
        assert f".. grid-item-card:: {title}\n      :link: {path.stem}\n" in text, path.stem


def test_citation_is_of_this_version_and_licence():
    text = (ROOT / "CITATION.cff").read_text()
    said = dict(re.findall(r"^([a-z-]+): (\S.*)$", text, flags=re.MULTILINE))
    assert said["version"] == sklearn_san.__version__
    dated = re.findall(
        r"^## \[([\d.]+)\] - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert dated[0] == (said["version"], said["date-released"])
    assert said["cff-version"] == "1.2.0"
    assert {"message", "title", "type"} <= said.keys()
    assert f'license = "{said["license"]}"' in (ROOT / "pyproject.toml").read_text()
    page = (DOCS / "development" / "citing.rst").read_text()
    assert f"version = {{{said['version']}}}" in page
    assert f"year    = {{{said['date-released'][:4]}}}" in page


def test_links_of_contributing_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(targets) == 2
    for target in targets:
        assert (ROOT / target).exists(), target


@pytest.fixture
def extension(monkeypatch):
    """Loader of modules that the site is built with."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module


def test_licences_are_told_of_all_that_is_needed(extension):
    licences = extension("licences")
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.match(r"[\w-]+", text)[0] for text in project["dependencies"]]
    assert licences.needed() == sorted(needed, key=str.lower)
    rows = licences.rows_of("needed") + licences.rows_of("in-turn")
    assert {"numpy", "llvmlite", "threadpoolctl"} <= {name for name, _, _ in rows}
    for name, version, licence in rows:
        assert version, name
        assert re.search("BSD|MIT|Apache|MPL|PSF|Python|ISC|HPND|Zlib|Unlicense", licence), name
    assert ("plot", "matplotlib") in [row[:2] for row in licences.rows_of("extras")]
    with pytest.raises(ValueError, match="'all' is none of"):
        licences.rows_of("all")


def test_formulas_become_mathml(extension):
    mathml = extension("mathml")
    line = mathml._markup(r"\log p(y_1)", False)
    assert re.match("<math", line)
    assert "<msub>" in line
    assert re.search(r'<mi>log</mi>\s*<mspace width="[\d.]+em"/>\s*<mi>p</mi>', line)
    assert "mspace" not in mathml._markup(r"\log (y)", False)
    assert 'display="block"' in mathml._markup(r"\sum_d y_d", True)


def test_the_gallery_starts_with_what_is_there(extension):
    gallery = extension("gallery")
    names = sorted(path.name for path in (ROOT / "examples").glob("plot_*.py"))
    ordered = sorted(names, key=gallery.Order("examples"))
    assert [name.removesuffix(".py") for name in ordered[: len(gallery.FIRST)]] == [*gallery.FIRST]
