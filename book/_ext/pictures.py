"""Still pictures of charts and widgets, and a warning for every picture that says nothing in words."""

import html
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = "This figure answers to its controls on the page of the book, in a browser that runs scripts."
CHART = re.compile(r'<div class="book-chart" role="group" aria-label="([^"]*)">')
IMG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"""\balt\s*=\s*("[^"]+"|'[^']+')""", re.IGNORECASE)


class Stills(SphinxPostTransform):
    """Describe the still of a chart or widget, and put it into HTML pages for readers without scripts.

    Runs just before myst-nb reduces each output to the one form that suits the builder.
    """

    default_priority = 3

    def run(self, **kwargs) -> None:
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") == "mime_bundle":
                self.treat({form["mime_type"]: form for form in bundle.children})

    def treat(self, forms: dict) -> None:
        page, picture = forms.get("text/html"), forms.get("image/png")
        chart = page and CHART.match(page.astext())
        if chart:
            words = html.unescape(chart[1])
            # Without the class "text_html", for which the theme paints a light panel in the dark.
            page.next_node(nodes.raw)["classes"] = ["output"]
        elif WIDGET in forms:
            page, words = forms[WIDGET], forms["text/plain"].astext()
            if not picture:
                warn("a widget has no still picture", page)
        if not (picture and (chart or WIDGET in forms)):
            return
        still = picture.next_node(nodes.image)
        still["alt"] = words
        picture += nodes.paragraph("", "", nodes.emphasis("", LIVE))
        page += nodes.raw("", "<noscript>", format="html")
        page += [child.deepcopy() for child in picture.children]
        page += nodes.raw("", "</noscript>", format="html")


def warn_of_wordless(app, doctree, docname) -> None:
    """Warn, and so fail the build, where a reader who cannot see a picture learns nothing."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            warn("an image has no alternative text", image)
    for raw in doctree.findall(nodes.raw):
        if raw.get("format") != "html":
            continue
        for words in CHART.findall(raw.astext()):
            if not words.strip():
                warn("a chart has no description", raw)
        for tag in IMG.findall(raw.astext()):
            if not ALT.search(tag):
                warn(f"an image has no alternative text: {tag[:80]}", raw)


def warn(sentence: str, node: nodes.Node) -> None:
    while not node.line and node.parent is not None:  # outputs have none, their cells do
        node = node.parent
    logger.warning(sentence, location=node, type="book", subtype="alt")


def setup(app) -> None:
    app.add_post_transform(Stills)
    app.connect("doctree-resolved", warn_of_wordless)
