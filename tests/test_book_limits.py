"""Chapters that people read: words, screens, tables and decimals of each page, counted as a reader meets them."""

import os
import re
from pathlib import Path

import pytest
from browser import serve, visit

pytestmark = pytest.mark.browser
BOOK = Path(__file__).parents[1] / "_build" / "html"
SCREEN = {"width": 1400, "height": 900}
HALVED = ("04-modularity-curves", "05-adversarial", "07-ablation", "08-layer-difference", "09-pruning")

# What is seen of the article; of its tables those that are not folded and not part of a figure with controls.
SEEN = """() => {
    const article = document.querySelector("article");
    const tables = [...article.querySelectorAll("table")].filter(
        (e) => e.offsetParent !== null && !e.closest(".book-widget, .book-chart, details:not([open])"));
    const figure = article.querySelector(".book-widget, .book-chart");
    const apart = [...article.querySelectorAll(".book-widget, .book-chart, .cell_input, .section-number, .caption-number")];
    return {
        text: article.innerText, apart: apart.map((e) => e.innerText),
        tables: tables.length, screens: article.scrollHeight / innerHeight,
        figure: figure ? figure.getBoundingClientRect().top / innerHeight : null,
    };
}"""


@pytest.fixture(scope="module")
def home():
    if not os.environ.get("CI") and not (BOOK / "notebooks").is_dir():
        pytest.skip("the book is not built: make book")
    with serve(BOOK) as address:
        yield address


def decimals_of(text: str) -> int:
    return len(re.findall(r"(?<![\w.])[-+−]?\d+\.\d+", text))


@pytest.mark.parametrize("chapter", HALVED)
def test_a_chapter_is_a_lecture(browser, home, chapter):
    with visit(browser, home, f"notebooks/{chapter}", viewport=SCREEN) as page:
        seen = page.evaluate(SEEN)
    # Of the text: not of figures with controls, of code, or of the numbers of sections and figures.
    decimals = decimals_of(seen["text"]) - sum(map(decimals_of, seen["apart"]))
    found = {"words": len(seen["text"].split()), "screens": seen["screens"], "tables": seen["tables"], "decimals": decimals}
    limits = {"words": 3500, "screens": 15, "tables": 5, "decimals": 60}
    assert {name: value for name, value in found.items() if value > limits[name]} == {}, found
    assert seen["figure"] is not None and seen["figure"] < 2, "something to move on the first two screens"


def test_something_moves_on_the_first_screen(browser, home):
    with visit(browser, home, "book/index", viewport=SCREEN) as page:
        assert page.evaluate(SEEN)["figure"] < 0.5
