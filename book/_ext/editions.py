"""Write the .ipynb of each chapter from its .md, as JupyterLab and Colab show it: python book/_ext/editions.py notebooks/*.md

These know nothing of MyST. So roles become links to the published page, admonitions quotations, numbered equations and captions
plain Markdown; and what the page folds away (tags hide-input, hide-cell, remove-input) is folded there, too.
"""

import re
import sys
import tomllib
from pathlib import Path

import jupytext
import nbformat
from pybtex.database import parse_file
from pybtex.richtext import Text

ROOT = Path(__file__).parents[2]
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def published() -> str:
    """Address of the published book: GitHub's pages of the one repository that pyproject.toml names."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    owner, name = urls["Repository"].rstrip("/").split("/")[-2:]
    return f"https://{owner}.github.io/{name}"


class Book:
    """What links lead to: titles of pages, labelled sections, equations and figures, references."""

    def __init__(self, root: Path = ROOT):
        self.base = published()
        self.titles, self.sections, self.numbers = {}, {}, {}
        for path in sorted([*root.glob("notebooks/*.md"), *root.glob("book/**/*.md")]):
            page, text = str(path.relative_to(root).with_suffix("")), path.read_text()
            heading = re.search(r"^# (.+)$", re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL), re.MULTILINE)
            self.titles[page] = heading[1] if heading else page
            for label, title in re.findall(r"^\(([\w-]+)\)=\n+#+ (.+)$", text, re.MULTILINE):
                self.sections[label] = (title, f"{self.base}/{page}.html#{label}")
            for kind in (r"^(?::label: |\$\$ \()([\w-]+)\)?$", r"^    name: (fig-[\w-]+)$"):
                for count, label in enumerate(re.findall(kind, text, re.MULTILINE), 1):
                    self.numbers[label] = (f"{int(path.stem[:2])}.{count}" if path.stem[:2].isdigit() else str(count), page)
        self.references = parse_file(str(root / "book" / "references.bib")).entries

    def page(self, target: str) -> str:
        """The page that a chapter calls by this path: "../book/notation", "03-dynamic-graph"."""
        return target.removeprefix("../") if target.startswith("../") else f"notebooks/{target}"

    def cite(self, keys: str, kind: str) -> str:
        cited = []
        for key in keys.split(","):
            entry = self.references[key.strip()]
            names = [
                str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names]))) for person in entry.persons["author"]
            ]
            who = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
            link = f"{self.base}/book/bibliography.html"
            year = entry.fields["year"]
            cited.append(f"{who} ([{year}]({link}))" if kind == "t" else f"[{who}, {year}]({link})")
        return ", ".join(cited) if kind == "t" else f"({'; '.join(cited)})"

    def role(self, name: str, body: str) -> str:
        """A role as plain Markdown."""
        words, target = re.fullmatch(r"(?:(.*?)\s*<)?([^<>]+)>?", body, re.DOTALL).groups()
        if name == "doc":
            page = self.page(target)
            return f"[{words or self.titles[page]}]({self.base}/{page}.html)"
        if name.startswith("cite"):
            return self.cite(target, name.removeprefix("cite").removeprefix(":"))
        if name == "term":
            return f"[{words or target}]({self.base}/book/glossary.html#term-{target.replace(' ', '-')})"
        if name == "ref":
            title, link = self.sections[target]
            return f"[{words or title}]({link})"
        number, page = self.numbers[target]
        link = f"{self.base}/{page}.html#{'equation-' * (name == 'eq')}{target}"
        return f"[({number})]({link})" if name == "eq" else f"[Figure {number}]({link})"

    def text(self, source: str) -> str:
        """Markdown of MyST as plain Markdown."""
        source = re.sub(r"^\(([\w-]+)\)=$", r'<a id="\1"></a>', source, flags=re.MULTILINE)
        source = re.sub(r"^```\{math\}\n(.*?)^```$", self._math, source, flags=re.MULTILINE | re.DOTALL)
        source = re.sub(r"^\$\$\n(.*?)\n\$\$ \(([\w-]+)\)$", self._dollars, source, flags=re.MULTILINE | re.DOTALL)
        source = re.sub(r"^```\{dropdown\} (.*?)\n(.*?)^```$", self._dropdown, source, flags=re.MULTILINE | re.DOTALL)
        source = re.sub(r"^(:{3,})\{(\w+)\}(.*?)\n(.*?)^\1$", self._admonition, source, flags=re.MULTILINE | re.DOTALL)
        source = re.sub(r"\{([a-z:]+)\}`([^`]+)`", lambda found: self.role(*found.groups()), source)
        return re.sub(r"\\$", "  ", source, flags=re.MULTILINE)  # a line break that every Markdown knows

    def _math(self, found: re.Match) -> str:
        options, body = _options(found[1])
        tag = rf" \tag{{{self.numbers[options['label']][0]}}}" if "label" in options else ""
        return f"$$\n{body.strip()}{tag}\n$$"

    def _dollars(self, found: re.Match) -> str:
        return f"$$\n{found[1].strip()} \\tag{{{self.numbers[found[2]][0]}}}\n$$"

    def _dropdown(self, found: re.Match) -> str:
        return f"<details><summary>{found[1]}</summary>\n\n{_options(found[2])[1].strip()}\n\n</details>"

    def _admonition(self, found: re.Match) -> str:
        title = found[3].strip() or found[2].capitalize()
        body = _options(found[4])[1].strip()
        return "\n".join([f"> **{title}**", ">", *(f"> {line}".rstrip() for line in body.splitlines())])


def _options(body: str) -> tuple[dict[str, str], str]:
    """The options at the head of a directive, and what it holds."""
    head = re.match(r"(?:^:[\w-]+:.*\n)*", body, re.MULTILINE)[0]
    return dict(re.findall(r"^:([\w-]+): ?(.*)$", head, re.MULTILINE)), body[len(head) :]


def edition(path: Path, book: Book) -> nbformat.NotebookNode:
    """The notebook of a chapter."""
    notebook = jupytext.read(path)
    cells, figures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = book.text(cell.source)
            cells.append(cell)
            continue
        shown = cell.metadata.pop("mystnb", {})
        figure = shown.get("figure", {})
        figures += "name" in figure
        if FOLDED & {*cell.metadata.get("tags", [])}:
            title = "Solution" if "hide-cell" in cell.metadata["tags"] else "Code of the figure" if figure else "Code"
            cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
            cell.source = f"# @title {title}\n{cell.source}"
        cells.append(cell)
        if "caption" in figure:
            number = f"**Figure {book.numbers[figure['name']][0]}.** " if figure.get("name") in book.numbers else ""
            cells.append(nbformat.v4.new_markdown_cell(number + book.text(" ".join(figure["caption"].split()))))
    for place, cell in enumerate(cells):
        cell.id = f"cell-{place:03d}"  # the same each time that the notebook is written
    notebook.cells = cells
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


if __name__ == "__main__":
    whole = Book()
    for each in map(Path, sys.argv[1:]):
        written = edition(each, whole)
        nbformat.validate(written)
        each.with_suffix(".ipynb").write_text(nbformat.writes(written, indent=1) + "\n")
