"""The notebooks as JupyterLab and Colab show them: plain Markdown and folded plumbing."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
editions = pytest.importorskip("editions")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def book():
    return editions.Book()


def cells(path, kind):
    return [each for each in json.loads(path.read_text())["cells"] if each["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_myst_is_left(path):
    for cell in cells(path, "markdown"):
        text = "".join(cell["source"])
        assert not re.search(r"\{[a-z]+(:[a-z]+)?\}`|^:::|^\([\w-]+\)=|^```\{", text, re.MULTILINE), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_the_page_folds_is_folded(path):
    for cell in cells(path, "code"):
        folded = editions.FOLDED & {*cell["metadata"].get("tags", [])}
        assert bool(folded) == (cell["metadata"].get("cellView") == "form") == "".join(cell["source"]).startswith("# @title")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_source_makes_of_it(path, book):
    assert editions.nbformat.writes(editions.edition(path.with_suffix(".md"), book), indent=1) + "\n" == path.read_text()


@pytest.mark.parametrize("source, plain", [
    ("see {doc}`../book/notation`", "see [Notation]({base}/book/notation.html)"),
    ("see {doc}`the chapter <09-pruning>`", "see [the chapter]({base}/notebooks/09-pruning.html)"),
    ("{cite:t}`lu2022understanding` say", "Lu et al. ([2022]({base}/book/bibliography.html)) say"),
    ("so it is {cite:p}`lu2022understanding`", "so it is ([Lu et al., 2022]({base}/book/bibliography.html))"),
    ("a {term}`k-NN graph`", "a [k-NN graph]({base}/book/glossary.html#term-k-NN-graph)"),
    (":::{admonition} Mind\n:class: tip\n\none\ntwo\n:::", "> **Mind**\n>\n> one\n> two"),
    ("```{dropdown} More\nbody\n```", "<details><summary>More</summary>\n\nbody\n\n</details>"),
    ("(here)=\n## Title", '<a id="here"></a>\n## Title'),
])  # fmt: skip
def test_roles_and_directives_as_plain_markdown(book, source, plain):
    assert book.text(source) == plain.replace("{base}", book.base)


def test_equations_keep_the_numbers_of_the_page(book):
    label = next(label for label, (number, _) in book.numbers.items() if number == "2.2" and label.startswith("eq"))
    assert book.text(f"```{{math}}\n:label: {label}\nQ = 1\n```") == "$$\nQ = 1 \\tag{2.2}\n$$"
    assert book.text(f"by {{eq}}`{label}`") == f"by [(2.2)]({book.base}/notebooks/02-graphs-and-modularity.html#equation-{label})"
