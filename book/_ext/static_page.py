"""Sphinx extension: pages that work without a kernel and without any other host.

Five parts, one a file:

- this one prepares the kernels that execute the notebooks and the scripts that pages load;
- ``kernel_startup.py`` runs first in every kernel: an altair chart becomes a fragment of the page;
- ``formulas.py`` sets formulas;
- ``pictures.py`` gives each chart a still picture, and warns of a picture without words;
- ``laboratory.py`` gives the live laboratory its place on a page.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path

import formulas
import laboratory
import pictures
import vl_convert
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

HERE = Path(__file__).parent
STARTUP = HERE / "kernel_startup.py"
KERNEL_CONFIG = HERE / "kernel_config.py"


def outputs_key(root: Path) -> str:
    """Hash of everything outside a notebook that its outputs depend on.

    The notebook cache compares only the code in the cells; a change in the library, in the
    environment or in the scale of the runs must execute the notebooks again as well.
    """
    scale = os.environ.get("MODLIB_SCALE") or "book"
    key = hashlib.sha256(scale.encode())
    folders = ["modlib", *(["results"] if scale == "full" else [])]  # which then holds records measured here
    library = (p for name in folders for p in (root / name).rglob("*") if p.is_file() and p.suffix != ".pyc")
    for path in [*sorted(library), root / "requirements.txt", STARTUP, KERNEL_CONFIG]:
        if path.exists():
            key.update(str(path.relative_to(root)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return key.hexdigest()[:16]


def prepare_kernels(app: Sphinx, config: Config) -> None:
    """Give the kernels a profile of their own, and the cache a folder named by `outputs_key`."""
    build = Path(app.outdir).parent
    profile = build / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(STARTUP, profile / "startup" / STARTUP.name)
    shutil.copyfile(KERNEL_CONFIG, profile / "ipython_kernel_config.py")
    os.environ["IPYTHONDIR"] = str(build / "ipython")
    cache = build / ".jupyter_cache" / outputs_key(Path(app.srcdir))
    cache.parent.mkdir(parents=True, exist_ok=True)
    config.nb_execution_cache_path = str(cache)
    os.environ["MODLIB_RESULTS"] = str(Path(app.srcdir) / "results")  # one folder for all pages
    if os.environ.get("MODLIB_SCALE") == "full":
        config.nb_execution_timeout = -1  # a cell may train for hours


def write_vega(app: Sphinx, exception: Exception | None) -> None:
    """Write Vega, Vega-Lite and vega-embed as one script; `book-charts.js` loads it when needed."""
    if exception or app.builder.format != "html":
        return
    # In a function of its own: its hundreds of names stay out of the page, and no module loader
    # that happens to be on the page captures it.
    bundle = vl_convert.javascript_bundle()
    script = f"(function (define, module, exports) {{\n{bundle}\n}})();\n"
    (Path(app.outdir) / "_static" / "vega.js").write_text(script, encoding="utf-8")


def silence_thebe(app: Sphinx, config: Config) -> None:
    """Disconnect sphinx-thebe, which Jupyter Book always switches on.

    Its scripts name a foreign host and declare the same constants twice, which is a script error.
    """
    for event in ("env-before-read-docs", "doctree-resolved"):
        for listener in list(app.events.listeners.get(event, [])):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


# Scripts of the page and of its own folder, and none that is made from text: Vega interprets its expressions. A page that is
# opened as a file has no origin, so files are named; widgets are modules made from the page's own text (blob:).
POLICY = (
    "default-src 'self' file: data: blob:; script-src 'self' file: blob: 'unsafe-inline'; "
    "style-src 'self' file: 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self' file:"
)
HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}" />
<noscript><style>.book-still {{ display: block; }} .book-chart {{ display: none; }}</style></noscript>
"""


def add_to_head(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """What every page may load, and stills where no script runs, in browsers that do not tell a style sheet so."""
    context["metatags"] = HEAD + context.get("metatags", "")


def number_ledger(app: Sphinx, env) -> None:
    """Figures and equations of the ledger of chapter 4 are L4.1, L4.2: it is no chapter that Sphinx would number them by."""
    for page, kinds in env.toc_fignumbers.items():
        if page.startswith("book/ledger/"):
            for numbers in kinds.values():
                for place, name in enumerate(sorted(numbers, key=numbers.get), 1):
                    numbers[name] = (f"L{int(page[-2:])}", place)


def name_solutions(app: Sphinx, doctree) -> None:
    """A cell that is folded as a whole is a solution, and says so, unless it says more."""
    for cell in doctree.findall(nodes.container):
        if cell.get("hide_mode") == "all" and cell["prompt_show"].startswith("Show code"):
            cell["prompt_show"], cell["prompt_hide"] = "Solution", "Hide the solution"


def search_from_files(app: Sphinx, pagename: str, *_) -> None:
    """Let search answer on `file://` too, where a browser refuses to fetch the summaries."""
    if pagename == "search":
        app.add_js_file(None, body=('if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'))


def drop_font_preloads(app: Sphinx, exception: Exception | None) -> None:
    """Remove the theme's early requests for icon fonts, which fail on `file://`.

    The style sheet asks for the same fonts a moment later, in a way that works everywhere.
    """
    if exception or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        less = re.sub(r'<link rel="preload" as="font"[^>]*>\n?', "", text)
        if less != text:
            page.write_text(less, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", prepare_kernels)
    app.connect("config-inited", silence_thebe)
    app.add_js_file("book-keys.js", loading_method="defer")
    app.add_js_file("book-tables.js", loading_method="defer")
    app.connect("doctree-read", name_solutions)
    app.connect("env-check-consistency", number_ledger)
    app.connect("html-page-context", add_to_head)
    app.connect("html-page-context", search_from_files)
    app.connect("build-finished", write_vega)
    app.connect("build-finished", drop_font_preloads)
    formulas.setup(app)
    pictures.setup(app)
    laboratory.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
