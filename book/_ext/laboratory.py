"""The place of the live laboratory on a page: the directive ``live``, and the scripts that a page with one loads.

    :::{live} Attack them yourself
    :setting: attack=fgsm n=100

    What stands there without scripts, and in the notebooks for Colab and JupyterLab.
    :::

Without a title it is not folded: on a page of its own, where the recorded figure behind it stands in for it.
"""

import json
import shutil
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDGETS = Path(__file__).parents[2] / "modlib" / "book" / "widgets"
SHARED = ("kit.js", "kit.css", "modularity.js", "graph.js")


class Laboratory(nodes.General, nodes.Element):
    """Where the laboratory opens; holds what stands there without scripts."""


class Live(SphinxDirective):
    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = {"setting": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        pairs = dict(each.split("=", 1) for each in self.options.get("setting", "").split())
        setting = {key: int(value) if value.isdigit() else value for key, value in pairs.items()}
        place = Laboratory("", title=self.arguments[0] if self.arguments else "", setting=json.dumps(setting))
        self.state.nested_parse(self.content, self.content_offset, place)
        return [place]


def enter(self, node: Laboratory) -> None:
    attributes, title = f'class="book-live" data-setting="{escape(node["setting"])}"', escape(node["title"])
    self.body.append(f"<details {attributes}><summary>{title}</summary>" if title else f"<div {attributes}>")


def leave(self, node: Laboratory) -> None:
    self.body.append("</details>\n" if node["title"] else "</div>\n")


def nothing(self, node: Laboratory) -> None:
    """Other builders show what it holds."""


def load(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    if doctree is not None and next(doctree.findall(Laboratory), None):
        app.add_js_file("book-live.js", loading_method="defer")


def copy_shared(app: Sphinx, exception: Exception | None) -> None:
    """What the laboratory shares with the widgets, beside its own scripts."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "_static" / "live"
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        shutil.copyfile(WIDGETS / name, folder / name)


def setup(app: Sphinx) -> None:
    others = {name: (nothing, nothing) for name in ("latex", "text", "man", "texinfo")}
    app.add_node(Laboratory, html=(enter, leave), **others)
    app.add_directive("live", Live)
    app.connect("html-page-context", load)
    app.connect("build-finished", copy_shared)
