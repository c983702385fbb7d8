"""Helpers for the tests that open the built book in Chromium."""

import functools
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, ElementHandle, Locator, Page, TimeoutError, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}

# Everything a reader sees of one chart or widget, as text that differs when the picture does.
PICTURE = """box => [...box.querySelectorAll("svg, canvas, [role=status], button")]
    .map(e => e.tagName === "CANVAS" ? e.toDataURL() : e.outerHTML).join()"""

# A control that a reader can use now.
CONTROL = ":is(input:not([type=radio]:checked), select, button):visible:enabled"


@contextmanager
def chromium():
    """The system's Chromium, or Playwright's own where there is none."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=flags)
        yield browser
        browser.close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def serve(folder: Path):
    """Serve a folder over http from this machine; gives the address."""
    handler = functools.partial(QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def visit(browser: Browser, home: str, name: str, query: str = "", **options):
    """Open the page `name` of the book at `home`, with every other host blocked; `query` may be a section, "#its-name".

    On leaving, fail if anything was asked of another host, failed to load, or complained on the
    console, whatever the test did in between.
    """
    complaints = []
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(10_000)

    def is_foreign(url: str) -> bool:
        return not url.startswith((home, "data:", "blob:", "about:"))

    def block(route):
        complaints.append(f"asked another host: {route.request.url}")
        route.abort()

    def on_console(message):
        if message.type in ("error", "warning"):
            complaints.append(f"console {message.type}: {message.text}")

    def on_failure(request):
        # a page left early takes back its request for the icon, which no load event waits for
        if not (request.url.endswith("/favicon.svg") and request.failure == "net::ERR_ABORTED"):
            complaints.append(f"failed: {request.url} {request.failure}")

    context.route(is_foreign, block)
    page = context.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on("requestfailed", on_failure)
    page.on("response", lambda r: r.status >= 400 and complaints.append(f"{r.status}: {r.url}"))
    try:
        page.goto(f"{home}/{name}.html{query and ('' if query.startswith('#') else '?') + query}")
        wait_until_drawn(page)
        yield page
        wait_until_drawn(page)
    finally:
        context.close()
    assert not complaints, "\n".join(complaints)


def wait_until_drawn(page: Page) -> None:
    """Wait for widgets and for each chart to have its picture."""
    page.wait_for_load_state("load")
    page.wait_for_function(
        """() => {
            const charts = window.bookCharts || [], widgets = window.bookWidgets || [];
            const places = 'script[type="application/vnd.jupyter.widget-view+json"]';
            return charts.length === document.querySelectorAll(".book-chart").length
                && charts.every(chart => chart.view)
                && widgets.length === document.querySelectorAll(places).length;
        }"""
    )


def pictures(page: Page) -> list[Locator]:
    """Every chart and widget on the page."""
    return page.locator(".book-chart, .book-widget").all()


def move(control: Locator | ElementHandle) -> None:
    """Use one control as a reader would, so that its value changes."""
    kind = control.evaluate("e => e.type || e.tagName.toLowerCase()")
    control.scroll_into_view_if_needed()
    if kind == "range":
        control.focus()
        at_end = control.evaluate("e => +e.value + +e.step > +e.max")
        control.press("ArrowLeft" if at_end else "ArrowRight")
    elif kind.startswith("select"):
        values = control.evaluate("e => [...e.options].map(o => o.value)")
        now = control.input_value()
        control.select_option(next(value for value in values if value != now))
    else:  # radio, checkbox, button
        control.click()


def moves_picture(page: Page, box: Locator, control: Locator | ElementHandle) -> bool:
    """Move a control; whether the picture beside it changed."""
    before = box.evaluate(PICTURE)
    move(control)
    changed = f"([box, before]) => ({PICTURE})(box) !== before"
    try:
        page.wait_for_function(changed, arg=[box.element_handle(), before], timeout=5_000)
    except TimeoutError:
        return False
    return True
