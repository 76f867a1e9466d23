"""Formulas as MathML, made by docutils when the pages are built.

Browsers draw MathML themselves, so that no page needs a script or a font from elsewhere.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def _markup(formula: str, block: bool) -> str:
    """MathML with the thin space between log and p that docutils leaves to the browser."""
    text = tex2mathml(formula, as_block=block)
    applied = "<mo>(?:&ApplyFunction;|\u2061)</mo>"
    text = re.sub(rf"{applied}(\s*<mo[^>]*>\()", r"\1", text)
    return re.sub(applied, '<mspace width="0.17em"/>', text)


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    writer.body.append(f'<span class="math">{_markup(node.astext(), False)}</span>')
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula with lines of its own, which scrolls if it is wider than the page."""
    writer.body.append(f'<div class="math">{_markup(node.astext(), True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
