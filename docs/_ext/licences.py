"""Licences of what the package needs, read from the metadata of what is installed.

``python docs/_ext/licences.py`` prints the tables; the directive ``licences`` puts one into a page.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from packaging.requirements import Requirement
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PACKAGE = "sklearn-san"
TROVE = "License :: OSI Approved :: "


def needed(extra: str = "") -> list[str]:
    """Names of the packages that the package needs, with an extra those that it adds."""
    requirements = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    found = [
        requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
    ]
    always = {r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    if extra:
        found = [requirement for requirement in found if requirement.name not in always]
    return sorted({r.name for r in found if r.name != PACKAGE}, key=str.lower)


def extras() -> list[str]:
    """Names of the extras that add packages of others."""
    return [name for name in metadata.metadata(PACKAGE).get_all("Provides-Extra") if needed(name)]


def everything(names: list[str]) -> list[str]:
    """Installed packages among these and all that they need in turn, by name."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        key = name.lower().replace("_", "-")
        if key in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found[key] = name
        for requirement in map(Requirement, requires):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sorted(found.values(), key=str.lower)


def licence(name: str) -> str:
    """Licence of an installed package, in the words of its metadata."""
    about = metadata.metadata(name)
    if about.get("License-Expression"):
        return about["License-Expression"]
    troves = [c for c in about.get_all("Classifier") or [] if c.startswith(TROVE)]
    if troves:
        return ", ".join(trove.removeprefix(TROVE) for trove in troves)
    first = (about.get("License") or "").strip().partition("\n")[0]
    return first or "not stated in its metadata"


def table(names: list[str]) -> list[tuple[str, str, str]]:
    """Name, version and licence of those of the packages that are installed."""
    rows = []
    for name in names:
        try:
            rows.append((name, metadata.version(name), licence(name)))
        except metadata.PackageNotFoundError:
            continue
    return rows


class Licences(SphinxDirective):
    """A table of ``needed``, ``in-turn`` or ``extras``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table by way of reStructuredText."""
        lines = [".. list-table::", "   :header-rows: 1", ""]
        extra = self.arguments[0] == "extras"
        lines += [f"   * - {'extra' if extra else 'package'}"]
        lines += [f"     - {word}" for word in (["package"] if extra else [])]
        lines += ["     - version", "     - licence"]
        for row in rows_of(self.arguments[0]):
            lines += [f"   {'* -' if i == 0 else '  -'} {word}" for i, word in enumerate(row)]
        node: Any = nodes.Element()
        self.state.nested_parse(StringList(lines, source="licences"), self.content_offset, node)
        return node.children


def rows_of(part: str) -> list[tuple[str, ...]]:
    """Rows of one of the three tables."""
    if part == "needed":
        return list(table(needed()))
    if part == "in-turn":
        direct = {name.lower() for name in needed()}
        return [row for row in table(everything(needed())) if row[0].lower() not in direct]
    if part == "extras":
        return [(extra, *row) for extra in extras() for row in table(needed(extra))]
    raise ValueError(f"licences: {part!r} is none of 'needed', 'in-turn' and 'extras'.")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive ``licences``."""
    app.add_directive("licences", Licences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    for part in sys.argv[1:] or ["needed", "in-turn", "extras"]:
        print(f"{part}:")
        for row in rows_of(part):
            print("  " + "  ".join(row))
