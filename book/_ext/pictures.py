"""Still pictures of charts and widgets, for paper and where no script runs, and a warning for pictures without words."""

import html
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = "This figure answers to its controls on the page of the book, in a browser that runs scripts."
CHART = re.compile(r'<div class="book-chart" role="group" aria-label="([^"]*)">')
WIDE = 600  # pixels: of several panels, whose letters a phone may not shrink
IMG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"""\balt\s*=\s*("[^"]+"|'[^']+')""", re.IGNORECASE)


class Stills(SphinxPostTransform):
    """Describe the still of a chart or widget, and put it into HTML pages, where print or a page without scripts shows it.

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
        page += nodes.raw("", '<div class="book-still">', format="html")
        page += [child.deepcopy() for child in picture.children]
        page += nodes.raw("", "</div>", format="html")


def look_at_pictures(app, doctree, docname) -> None:
    """Mark wide pictures, for narrow screens. Warn, and so fail the build, of one that tells nothing to who cannot see it."""
    for image in doctree.findall(nodes.image):
        width = re.fullmatch(r"(\d+)(px)?", str(image.get("width", "")))
        if width and int(width[1]) > WIDE:
            image["classes"].append("book-wide")
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
    app.connect("doctree-resolved", look_at_pictures)
