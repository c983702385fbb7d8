"""Formulas as MathML, which browsers set by themselves: without a script, on paper, and aloud."""

import html
import importlib.util
import io
import re
from pathlib import Path

import math_core
from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)
convert = math_core.LatexToMathML(fancy_error=False).convert_with_local_state

FONT = Path(importlib.util.find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
# Beside what the pages hold: browsers set a lone letter of MathML as one of these, in italics.
ITALICS = {0x210E, *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C)}


def mathml(node: nodes.Element, display: bool) -> str:
    try:
        return convert(node.astext(), displaystyle=display)
    except math_core.LatexError as error:
        logger.warning("a formula cannot be converted: %s", error, location=node, type="book", subtype="formula")
        return html.escape(node.astext())


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math") + mathml(node, False) + "</span>")
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(f'<div class="math-scroll">{mathml(node, True)}</div></div>\n')
    raise nodes.SkipNode


def write_font(app: Sphinx, exception: Exception | None) -> None:
    """Write of a font for mathematics what the pages use, since few systems have one."""
    if exception or app.builder.format != "html":
        return
    found = "".join(
        part for page in Path(app.outdir).rglob("*.html") for part in re.findall(r"<math.*?</math>", page.read_text("utf-8"))
    )
    characters = {ord(c) for c in html.unescape(re.sub("<[^>]*>", "", found))}
    font = TTFont(FONT)
    chosen = subset.Subsetter(subset.Options(layout_features=["ssty"], name_IDs=["*"]))
    chosen.populate(unicodes=characters | ITALICS)
    chosen.subset(font)
    font.flavor = "woff"
    written = io.BytesIO()
    font.save(written)
    (Path(app.outdir) / "_static" / "math.woff").write_bytes(written.getvalue())


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("build-finished", write_font)
