"""The built book: what its files hold, and how they behave in a real browser.

Pages are read from `_toc.yml`, charts and controls from the pages: a new page needs no change here.
Build the book first (`make book`).
"""

import functools
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import numpy as np
import pytest
import yaml
from browser import (
    CONTROL,
    DESKTOP,
    PHONE,
    PICTURE,
    moves_picture,
    pictures,
    serve,
    visit,
    wait_until_drawn,
)
from PIL import Image

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"
BUILT = (HTML / "index.html").exists()
MAX_PAGE = 3_000_000  # bytes, before compression

pytestmark = [pytest.mark.browser]
if not os.environ.get("CI"):  # there, a missing book is a failure
    pytestmark.append(pytest.mark.skipif(not BUILT, reason="the book is not built: make book"))


def pages_of_toc() -> list[str]:
    def names(entry):
        if isinstance(entry, dict):
            for key, value in entry.items():
                if key in ("root", "file"):
                    yield value
                else:
                    yield from names(value)
        elif isinstance(entry, list):
            for item in entry:
                yield from names(item)

    return list(names(yaml.safe_load((ROOT / "_toc.yml").read_text())))


def source(name: str) -> str:
    return (HTML / f"{name}.html").read_text(encoding="utf-8")


PAGES = pages_of_toc()
NOTEBOOKS = [name for name in PAGES if name.startswith("notebooks/")]
PICTURED = [
    name
    for name in PAGES
    if (HTML / f"{name}.html").exists() and re.search(r'class="book-chart"|jupyter\.widget-view', source(name))
]
CHARTED = [name for name in PICTURED if 'class="book-chart"' in source(name)]


class Tags(HTMLParser):
    """The tags of a page, with the attributes of each; `text` holds what is between <style>."""

    def __init__(self, page: str):
        super().__init__()
        self.all, self.styles, self._in_style = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        self._in_style = tag == "style"

    def handle_data(self, data):
        if self._in_style:
            self.styles.append(data)

    def __getitem__(self, tag):
        return [attributes for name, attributes in self.all if name == tag]


# What the files hold


@pytest.mark.parametrize("name", PAGES)
def test_page_is_small_enough(name):
    assert (HTML / f"{name}.html").stat().st_size < MAX_PAGE


@pytest.mark.parametrize("name", PAGES)
def test_page_names_no_foreign_host(name):
    """Only a link that the reader follows may lead elsewhere."""
    tags = Tags(source(name))
    assert tags.all
    addresses = re.findall(r"url\(([^)]*)\)|@import ([^;]*)", "".join(tags.styles))
    named = [a or b for a, b in addresses]
    for tag, attributes in tags.all:
        if tag != "a":
            keys = ("src", "href", "srcset", "data", "poster", "action")
            named += [attributes[key] or "" for key in keys if key in attributes]
    foreign = [n for n in named if re.match(r"""["']?(https?:)?//""", n.strip())]
    assert not foreign


def test_styles_name_no_foreign_host():
    for sheet in HTML.glob("_static/**/*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", text), sheet


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_has_words(name):
    tags = Tags(source(name))
    for image in tags["img"]:
        assert (image.get("alt") or "").strip(), image.get("src")
    for chart in tags["div"]:
        if chart.get("class") == "book-chart":
            assert (chart.get("aria-label") or "").strip()


@functools.cache
def anchors(path: Path) -> set[str]:
    tags = Tags(path.read_text(encoding="utf-8")).all
    return {attributes[key] for _, attributes in tags for key in ("id", "name") if attributes.get(key)}


@pytest.mark.parametrize("name", PAGES)
def test_links_inside_the_book_resolve(name):
    page = HTML / f"{name}.html"
    for link in Tags(source(name))["a"]:
        parts = urlsplit(link.get("href") or "")
        if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_file(), link["href"]
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in anchors(target), link["href"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_opens_on_colab(name):
    assert (ROOT / f"{name}.ipynb").is_file()
    links = [link.get("href") or "" for link in Tags(source(name))["a"]]
    assert any("colab" in link and link.endswith(f"/{name}.ipynb") for link in links)


# How they behave


@pytest.fixture(scope="module", params=["file", "http"])
def home(request):
    if request.param == "file":
        yield HTML.as_uri()
    else:
        with serve(HTML) as address:
            yield address


@pytest.fixture(scope="module")
def site():
    """The book over http, for what cannot depend on where a page comes from."""
    with serve(HTML) as address:
        yield address


def theme(page) -> str:
    return page.evaluate("document.documentElement.dataset.theme")


def too_small(page) -> list[str]:
    """Charts of fixed width that the screen shrinks until nobody can read them."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".book-chart-picture svg.marks")]
            .map(svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)
            .filter(scale => scale < 0.8)"""
    )


def overflow(page) -> list[str]:
    """Parts of the page that are wider than the screen, or charts wider than their place."""
    return page.evaluate(
        """() => [document.documentElement, document.querySelector("article"),
                  ...document.querySelectorAll(".book-chart, .book-widget")]
            .filter(e => e.scrollWidth > e.clientWidth + 1)
            .map(e => `${e.className || e.tagName}: ${e.scrollWidth} > ${e.clientWidth}`)"""
    )


@pytest.mark.parametrize("name", PAGES)
def test_page_on_a_desk(browser, home, name):
    with visit(browser, home, name) as page:
        assert page.locator("article h1").count() == 1
        assert page.locator("input[type=search]").count() == 1
        missing = page.evaluate("() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        assert not missing
        assert not overflow(page)


@pytest.mark.parametrize("name", PAGES)
def test_page_on_a_phone_in_the_dark(browser, home, name):
    with visit(browser, home, name, viewport=PHONE, color_scheme="dark") as page:
        assert theme(page) == "dark"
        page.wait_for_timeout(200)  # charts follow the width after a moment
        assert not overflow(page)
        assert not too_small(page)
        light_panels = page.evaluate(
            """() => [...document.querySelectorAll(".book-chart, .book-widget")].filter(box => {
                for (let e = box; e; e = e.parentElement) {
                    const [r, g, b, a = 1] = getComputedStyle(e).backgroundColor
                        .match(/[\\d.]+/g).map(Number);
                    if (a > 0) return r + g + b > 300;
                }
            }).length"""
        )
        assert not light_panels


@pytest.mark.parametrize("name", PAGES)
def test_a_wide_picture_says_on_a_phone_that_more_of_it_is_there(browser, site, name):
    with visit(browser, site, name, viewport=PHONE) as page:
        for box in page.locator("a.book-wide:visible").all():
            shrunk = "e => e.getBoundingClientRect().width / parseFloat(e.style.width)"
            assert box.locator("img").evaluate(shrunk) > 0.8  # of letters of 8 pt, 11 pixels
            if box.evaluate("e => e.scrollWidth > e.clientWidth + 16"):
                place = box.bounding_box()
                edge = {"x": place["x"] + place["width"] - 3, "y": place["y"] + 1, "width": 2, "height": place["height"] - 2}
                shade = []
                for at in (0, 9999):
                    box.evaluate("(e, at) => (e.scrollLeft = at)", at)
                    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=edge, full_page=True))))
                    shade.append(pixels[..., :3].max())
                assert shade[0] < 200 < shade[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_table_of_words_hides_nothing_on_a_phone(browser, site, name):
    hidden = """() => [...document.querySelectorAll("article table")].filter(table => table.checkVisibility()).flatMap(table => {
        const edge = table.closest(".text_html, .pst-scrollable-table-container")?.getBoundingClientRect().right ?? innerWidth;
        const cells = [...table.querySelectorAll("tbody :is(td, th)")];
        const words = cells.some(cell => cell.textContent.trim().length > 30);
        const cut = cell => cell.scrollWidth > cell.clientWidth + 1 || cell.getBoundingClientRect().right > edge + 1;
        return words ? cells.filter(cut) : [];
    }).map(cell => cell.textContent)"""
    with visit(browser, site, name, viewport=PHONE) as page:
        assert not page.evaluate(hidden)
        cards = page.locator("table.book-cards tbody tr")
        if name == "book/index":
            assert cards.first.get_by_role("cell").count() == 5
        labels = "rows => rows.map(row => [...row.cells].slice(1).map(cell => getComputedStyle(cell, '::before').content))"
        assert all(all(label not in ("none", '""') for label in row) for row in cards.evaluate_all(labels))


@pytest.mark.parametrize("name", PICTURED)
def test_controls_move_the_picture(browser, home, name):
    reset = "saved => (window.bookWidgets || []).forEach((each, i) => each.model.set('setting', saved[i]))"
    with visit(browser, home, name) as page:
        saved = page.evaluate("() => (window.bookWidgets || []).map(each => each.model.get('setting'))")
        for box in pictures(page):
            controls = box.locator(CONTROL).element_handles()
            moved = 0
            for control in controls:
                if not (control.is_visible() and control.is_enabled()):
                    page.evaluate(reset, saved)  # another control has put it away
                if not control.is_visible() or control.evaluate("e => e.type === 'radio' && e.checked"):
                    continue  # replaced by a new one, or chosen by another control
                what = control.evaluate("e => e.outerHTML")
                spoken, called = control.get_attribute("aria-valuetext"), accessible_name(control)
                assert moves_picture(page, box, control), f"nothing moved with {what}"
                assert not re.search(r"\bNaN\b|undefined", box.inner_text()), what
                if control.get_attribute("type") == "range":
                    assert spoken and control.get_attribute("aria-valuetext") != spoken, what
                if control.get_attribute("type") != "button":
                    assert called, f"no name for {what}"
                moved += 1
            assert moved > len(controls) / 2


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_link_to_a_section_lands_on_it(browser, site, name, viewport):
    sections = re.findall(r'<section id="([^"]+)"', source(name))[1:]
    for section in {*sections[:1], *sections[len(sections) // 2 :][:1], *sections[-1:]}:
        with visit(browser, site, name, f"#{section}", viewport=viewport) as page:
            page.wait_for_timeout(500)
            top, left_below = page.evaluate(
                """id => [document.getElementById(id).getBoundingClientRect().top,
                    document.documentElement.scrollHeight - innerHeight - scrollY]""", section,
            )  # fmt: skip
            assert -1 <= top < 100 or left_below < 2, (section, top)  # the last one may be too near the end


@pytest.mark.parametrize("name", PICTURED)
def test_the_first_figure_is_a_few_keys_away(browser, site, name):
    with visit(browser, site, name) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the first interactive figure"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("!!document.activeElement.closest('.book-chart, .book-widget')")


@pytest.mark.parametrize("name", [name for name in PICTURED if name.startswith("notebooks")])
def test_at_most_25_stops_lie_before_the_first_control(browser, site, name):
    with visit(browser, site, name) as page:
        inside = "!!document.activeElement.closest('.book-chart, .book-widget')"
        stops = 0
        while not page.evaluate(inside) and stops < 99:
            page.keyboard.press("Tab")
            stops += 1
        assert stops - 1 <= 25, stops - 1


def test_the_list_of_chapters_comes_behind_the_page(browser, site):
    name = "notebooks/05-adversarial"
    with visit(browser, site, name) as page:
        left, right = (page.locator(place).bounding_box()["x"] for place in (".bd-sidebar-primary", "main"))
        assert left < right
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the third link to skip to
        page.keyboard.press("Tab")
        assert page.evaluate("!!document.activeElement.closest('.bd-sidebar-primary nav')")
    with visit(browser, site, name, viewport=PHONE) as page:
        page.locator(".primary-toggle").first.click()
        page.wait_for_function("() => !!document.activeElement.closest('.bd-sidebar-primary')")


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith(("notebooks/0", "book/notation", "book/ledger"))])
def test_formulas_need_no_script(browser, site, name):
    formulas = re.findall(r'<(span|div) class="math"[^>]*>(.*?)</\1>', source(name), re.DOTALL)
    assert all("<math" in inside or "math-scroll" in inside or "eqno" in inside for _, inside in formulas)
    assert "MathJax" not in source(name) and not re.search(r"\\\(|\\\[", source(name).split("<article")[1].split("<script")[0])
    with visit(browser, site, name) as page:
        if formulas:
            assert page.evaluate("document.fonts.load('16px \"book math\"').then(found => found.length)") == 1
            assert page.evaluate(
                "[...document.querySelectorAll('math')].every(e => e.getBoundingClientRect().width > 0 || !e.checkVisibility())"
            )


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_compiled_from_text(browser, site, name):
    [policy] = [meta["content"] for meta in Tags(source(name))["meta"] if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "unsafe-eval" not in policy and "script-src 'self'" in policy and "object-src 'none'" in policy
    with visit(browser, site, name):  # which fails where something was refused
        pass


@pytest.mark.parametrize("name", PICTURED)
def test_print_shows_stills(browser, site, name):
    with visit(browser, site, name) as page:
        assert not page.locator(".book-still").first.is_visible()
        page.emulate_media(media="print")
        assert page.locator(".book-still").count() == page.locator(".book-chart, .book-widget").count()
        assert all(still.is_visible() for still in page.locator(".book-still img").all())
        assert not page.locator(".book-chart:visible, .book-widget:visible, details.hide > summary:visible").count()
        left_behind = page.evaluate(
            """() => [...document.querySelectorAll("article pre")].filter(pre => {
                const style = box => getComputedStyle(box);
                const boxes = [];
                for (let box = pre; !box.matches("article, section, .cell, .admonition"); box = box.parentElement) boxes.push(box);
                const whole = box => style(box).breakInside === "avoid";
                const framed = box => parseFloat(style(box).borderTopWidth);
                return boxes.some(whole) && boxes.some((box, i) => framed(box) && !boxes.slice(i).some(whole));
            }).length"""
        )
        assert not left_behind, "a frame that may break around code that may not is printed empty"


def test_one_damaged_chart_leaves_the_others(browser, tmp_path):
    names = [name for name in PICTURED if source(name).count('class="book-chart"') > 1]
    if not names:
        pytest.skip("no page has two charts")
    for folder in ("_static", "_images"):
        (tmp_path / folder).symlink_to(HTML / folder)
    (tmp_path / "notebooks").mkdir()
    damaged = re.sub(r'(class="book-chart"[^>]*><script type="application/json">)\{', r"\1{{", source(names[0]), count=1)
    (tmp_path / "notebooks" / "x.html").write_text(damaged)
    page = browser.new_page()
    page.goto(f"{tmp_path.as_uri()}/notebooks/x.html")
    page.wait_for_function("() => bookCharts.filter(chart => chart.view).length === bookCharts.length - 1")
    assert "This chart could not be drawn" in page.locator(".book-chart").first.inner_text()
    page.close()


@pytest.mark.parametrize("name", CHARTED)
def test_a_chart_opens_whatever_its_address_says(browser, site, name):
    with visit(browser, site, name) as page:
        asked = page.evaluate("() => window.bookCharts.flatMap(c => c.bound.map(b => `${c.spec.name}.${b.name}`))")
        for value in ("constructor", "0.5", "-1", "1e9", "<b>x</b>"):
            page.goto(f"{site}/{name}.html?{urlencode({each: value for each in asked})}")
            wait_until_drawn(page)
            told = " ".join(page.locator(".book-chart").all_inner_texts())
            assert not re.search("undefined|NaN|could not", told), value


@pytest.mark.parametrize("name", CHARTED)
def test_a_tap_on_a_pair_of_layers_stays(browser, site, name):
    if '"name":"pairs"' not in source(name):
        pytest.skip("a page without pairs of layers")
    with visit(browser, site, name, viewport=PHONE, has_touch=True) as page:
        chart = page.locator(".book-chart", has=page.locator("input[name=layer_first]"))
        canvas, line = chart.locator("canvas"), chart.locator(".book-chart-say")
        box = canvas.bounding_box()
        canvas.tap(position={"x": box["width"] * 0.25, "y": box["height"] * 0.4})
        page.wait_for_timeout(300)
        first, second = (int(chart.locator(f"input[name=layer_{end}]").input_value()) for end in ("first", "second"))
        assert (first, second) != (1, 4)
        assert re.search(rf"layers {first} \(.*\) and {second} \(", line.inner_text())


@pytest.mark.parametrize("name", CHARTED)
def test_a_slider_ends_where_the_network_ends(browser, site, name):
    with visit(browser, site, name) as page:
        for chart in page.locator(".book-chart:has(select[name=network])").all():
            for network in chart.locator("select[name=network] option").all_inner_texts():
                chart.locator("select[name=network]").select_option(network)
                for slider in chart.locator("input[type=range]").all():
                    slider.press("End")
                    page.wait_for_timeout(100)
                    value = slider.input_value()
                    assert slider.locator("xpath=following-sibling::output").inner_text() == value
                    assert re.search(rf"\b{value}\b", chart.locator(".book-chart-say").inner_text()), (network, value)


def accessible_name(control) -> str:
    return control.evaluate(
        "e => e.getAttribute('aria-label') || [...(e.labels || [])].map(l => l.textContent).join() || e.textContent"
    ).strip()


@pytest.mark.parametrize("name", CHARTED)
def test_sentence_under_a_chart_follows_the_controls(browser, site, name):
    with visit(browser, site, name) as page:
        for chart in page.locator(".book-chart:has(.book-chart-say)").all():
            line = chart.locator(".book-chart-say")
            assert line.get_attribute("aria-live") == "polite"
            heard = {line.inner_text()}
            for control in chart.locator("input:not([type=radio]:checked), select").all():
                moves_picture(page, chart, control)
                heard.add(line.inner_text())
            assert len(heard) > 1, heard


@pytest.mark.parametrize("name", CHARTED)
def test_a_link_leads_to_the_same_chart(browser, site, name):
    """Over http only: a browser keeps no settings in the address of a file."""
    with visit(browser, site, name) as page:
        charts = page.locator(".book-chart").all()
        for chart in charts:
            for control in chart.locator("input:not([type=radio]:checked), select").all():
                moves_picture(page, chart, control)
        page.wait_for_timeout(400)  # the address follows after a moment
        address, told = page.url, page.locator(".book-chart-say").all_inner_texts()
        assert "?" in address
    with visit(browser, site, name, urlsplit(address).query) as page:
        assert page.locator(".book-chart-say").all_inner_texts() == told


@pytest.mark.parametrize("name", CHARTED)
def test_every_chart_has_its_numbers_as_a_table(browser, site, name):
    with visit(browser, site, name) as page:
        for chart in page.locator(".book-chart").all():
            chart.locator("summary").click()
            chart.locator("tbody tr").first.wait_for()
            rows = chart.locator("tbody tr").all_inner_texts()
            assert not [row for row in rows if re.search("undefined|NaN", row)]
            head = chart.locator("thead th").count()
            assert head > 1 and chart.locator("tbody tr").first.locator("th, td").count() == head


@pytest.mark.parametrize("name", PICTURED)
def test_theme_button_redraws_and_keeps_the_controls(browser, site, name):
    with visit(browser, site, name, color_scheme="light") as page:
        for slider in page.locator(".book-chart input[type=range]").all():
            slider.press("ArrowRight")
        boxes = page.locator(".book-chart").all()
        read = """() => [...document.querySelectorAll(".book-chart :is(input, select)")]
            .map(e => ["checkbox", "radio"].includes(e.type) ? e.checked : e.value)"""
        values, before = page.evaluate(read), [box.evaluate(PICTURE) for box in boxes]
        button = page.locator("button.theme-switch-button:visible").first
        for _ in range(3):  # it goes round light, dark and the system's choice
            button.click()
            if theme(page) == "dark":
                break
        assert theme(page) == "dark"
        page.wait_for_timeout(50)
        wait_until_drawn(page)
        assert page.evaluate(read) == values
        assert all(box.evaluate(PICTURE) != was for box, was in zip(boxes, before, strict=True))


def test_search_finds_a_chapter(browser, home):
    with visit(browser, home, "search") as page:
        page.wait_for_load_state("networkidle")  # leaving earlier would abort what is still loading
        page.goto(f"{home}/search.html?q=modularity")
        page.locator("ul.search a").first.wait_for()
