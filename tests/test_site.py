"""The built site: links lead somewhere, no page asks another host, nothing is wider than a window.

Run by ``make docs`` and ``make test-site``. Skipped where the site is not built or older than its
sources; what needs a browser, where there is none. With ``SAN_SITE_PICTURES`` naming a folder,
pictures of all pages that are opened are left there.
"""

import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, find_browser

DOCS = Path(__file__).parents[1] / "docs"
SITE = DOCS / "_build" / "html"
MADE = {"_build", "auto_examples", "generated", "backreferences", "__pycache__"}
PAGES = (
    "index.html",
    "tutorials/index.html",
    "tutorials/photometric_redshifts.html",
    "tutorials/sbi.html",
    "tutorials/trust.html",
    "guide/index.html",
    "guide/what.html",
    "guide/fit.html",
    "guide/likelihoods.html",
    "guide/calibration.html",
    "guide/command.html",
    "photoz.html",
    "partners/relatives.html",
    "api.html",
    "api/generated/sklearn_san.SANConditionalDensityEstimator.html",
    "api/generated/sklearn_san.photoz.hierarchical_nz.html",
    "auto_examples/index.html",
    "auto_examples/plot_one_density.html",
    "development/contributing.html",
    "development/decisions.html",
    "development/changelog.html",
    "development/citing.html",
    "development/licences.html",
)
#: Those of `PAGES` that have formulas.
FORMULAS = ("index.html", "guide/what.html", "guide/fit.html", "photoz.html")
#: A desktop and a telephone, in CSS pixels.
WINDOWS = {"desktop": (1280, 900), "telephone": (390, 844)}
#: What is not as it should be on a page that is open.
LOOK = r"""
(async () => {
  const images = [...document.images];
  for (const image of images) image.loading = "eager";
  await Promise.allSettled(images.map((image) => image.decode()));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const raw = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.closest("pre, code, script, style")
        && /\\[([]|\\(log|sum|frac|mid|int)\b/.test(node.data)) raw.push(node.data);
  }
  const page = document.documentElement;
  return {
    width: page.scrollWidth - page.clientWidth,
    broken: images.filter((image) => !image.naturalWidth).map((image) => image.src),
    raw: raw,
    flat: [...document.querySelectorAll("math")].filter(
      (formula) => formula.checkVisibility()
        && formula.getBoundingClientRect().width * formula.getBoundingClientRect().height < 20
    ).length,
    formulas: document.querySelectorAll("math").length,
  };
})()
"""


class Page(HTMLParser):
    """Targets of a page, what it refers to, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names.update(filter(None, (values.get("id"), values.get("name"))))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "source", "iframe", "object", "embed") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") not in ("next", "prev", "index", "search"):
            self.loaded.append(values["href"])


@cache
def read(path):
    return Page(path.read_text())


def pages_of(site):
    """All pages; what the theme keeps in `_static` is none."""
    return sorted(path for path in site.rglob("*.html") if site / "_static" not in path.parents)


@pytest.fixture(scope="module")
def site():
    """Folder of the site, if it is as new as its sources."""
    built = SITE / "objects.inv"  # written anew by every build
    if not built.exists():
        pytest.skip("the site is not built; make docs builds and tests it")
    sources = [
        path
        for path in DOCS.rglob("*")
        if path.is_file()
        and not MADE.intersection(path.relative_to(DOCS).parts)
        and path.name != "sg_execution_times.rst"
    ]
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime > built.stat().st_mtime:
        pytest.skip(f"the site is older than {newest.name}; make docs builds and tests it")
    return SITE


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium or Chrome is installed")
    found = Browser(path, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def test_links_of_the_site_lead_somewhere(site):
    wrong = []
    pages = pages_of(site)
    assert len(pages) > 100
    for path in pages:
        for link in read(path).links + read(path).loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            name = unquote(parts.fragment)
            missing = not target.exists() or (
                name and target.suffix == ".html" and name not in read(target).names
            )
            if missing:
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_pages_load_nothing_from_other_hosts(site):
    for path in pages_of(site):
        for address in read(path).loaded:
            parts = urlsplit(address)
            assert not parts.netloc, f"{path.relative_to(site)}: {address}"
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text()), path


def test_names_lead_to_their_pages_and_these_to_examples(site):
    made = "../api/generated/sklearn_san."
    for name, target in [
        ("guide/fit.html", f"{made}SANConditionalDensityEstimator.html"),
        ("guide/misleading.html", f"{made}exceptions.ExtremeValuesWarning.html"),
        (
            "api/generated/sklearn_san.plotting.CornerDisplay.html",
            "../../auto_examples/plot_gallery_of_pictures.html",
        ),
    ]:
        assert any(link.startswith(target) for link in read(site / name).links), (name, target)


def test_faults_of_a_page_are_seen(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(r"""<!doctype html>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <div style="width: 500px">\(y\)</div><img src="none.png">
        <script src="http://example.org/script.js"></script><script>nothing()</script>""")
    browser.size(*WINDOWS["telephone"])
    browser.open(page.as_uri())
    found = browser.evaluate(LOOK)
    assert found["width"] > 100
    assert found["raw"] == [r"\(y\)"]
    assert len(found["broken"]) == 1
    assert "http://example.org/script.js" in browser.requests
    assert len(browser.faults) == 1
    with pytest.raises(RuntimeError, match="nothing is not defined"):
        browser.evaluate("nothing()")


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_into_a_window(site, browser, name, window):
    browser.size(*WINDOWS[window])
    browser.open((site / name).as_uri())
    found = browser.evaluate(LOOK)
    folder = os.environ.get("SAN_SITE_PICTURES")
    if folder:
        stem = name.removesuffix(".html").replace("/", "_")
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.picture(Path(folder) / f"{stem}_{window}.png")
    assert found["width"] <= 0
    assert not found["broken"]
    assert not found["raw"]
    assert found["flat"] == 0
    assert (found["formulas"] > 0) == (name in FORMULAS)
    assert not [address for address in browser.requests if not address.startswith("file:")]
    assert not browser.faults


def test_a_word_is_found_without_a_network(site, browser):
    browser.open((site / "search.html").as_uri() + "?q=recalibration")
    script = """
    (async () => {
      for (let i = 0; i < 100; i++) {
        const links = [...document.querySelectorAll("#search-results a")].map((link) => link.href);
        if (links.some((link) => link.includes("guide/recalibration.html"))) return true;
        await new Promise((done) => setTimeout(done, 100));
      }
      return false;
    })()
    """
    assert browser.evaluate(script)
