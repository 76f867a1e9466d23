"""Names in single backticks lead to the page of what they name, from wherever they are written.

`ExtremeValuesWarning` is found without its module if nothing else that is documented is called so.
"""

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

#: Kinds of objects with pages of their own; members share names with each other.
KINDS = ("class", "exception", "function")


def find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: Any
) -> nodes.reference | None:
    """Refer to the only class or function of this name, or to none."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    name = "." + node["reftarget"]
    objects = env.domains["py"].objects  # type: ignore[attr-defined]
    found = [
        key
        for key, entry in objects.items()
        if key.endswith(name) and entry.objtype in KINDS and not entry.aliased
    ]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, text, found[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Ask `find` for what Sphinx does not find."""
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
