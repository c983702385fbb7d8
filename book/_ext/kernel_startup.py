"""Runs first in every kernel of the book's build: altair charts become fragments of the page.

The build copies this file into the kernels' startup folder. Everything happens inside one
function, so that a notebook finds no name here that it would miss in another kernel.
"""


def _enable_book_charts():
    import base64
    import html
    import json

    import altair
    import vl_convert

    def page_fragment(spec, **_):
        """The chart as JSON for `book-charts.js`, and as a picture where no script runs."""
        payload = json.dumps(spec, separators=(",", ":")).replace("<", r"\u003c")
        words = html.escape(spec.get("description", ""))
        fragment = (
            f'<div class="book-chart" role="group" aria-label="{words}"><script type="application/json">{payload}</script></div>'
        )
        still = spec
        if spec.get("width") == "container":  # a still has no container to fill
            still = {**spec, "width": 600}
        png = vl_convert.vegalite_to_png(still, scale=1)
        return {
            "text/html": fragment,
            "image/png": base64.b64encode(png).decode(),
            "text/plain": "Chart",
        }

    altair.renderers.register("book", page_fragment)
    altair.renderers.enable("book")


_enable_book_charts()
del _enable_book_charts
