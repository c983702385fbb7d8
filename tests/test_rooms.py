"""The rooms of modlib: what each is for, and that a room imports only rooms before it.

The list is the rule and its documentation. Read it from the top: images go in, features, graphs, modularity and curves follow,
then what the paper does with curves; ``campaign`` measures the records of the book, ``book`` shows them.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "modlib"
FILES = sorted(path for path in LIBRARY.rglob("*.py") if "assets" not in path.parts)
README = (LIBRARY.parent / "README.md").read_text()

ROOMS = {
    # The chain: from images to a curve.
    "_checks": "sentences of errors that many rooms need",
    "_moved": "old import paths, and where they lead",
    "_torchvision": "torchvision, importable beside every build of torch",
    "data": "labelled images: embedded, downloaded, of a folder",
    "_tensors": "what is done to tensors, whatever they hold",
    "_resumable": "work of many pieces that goes on where it stopped",
    "paper": "what the paper prints, and its settings",
    "models": "networks, and which of their modules are layers",
    "features": "network and inputs -> the features of each layer, one after another",
    "models.export": "a network as ONNX graphs, for a page or another program",
    "graph": "features -> k-NN graph; all layers -> dynamic graph",
    "modularity": "graph and labels -> Q",
    "curves": "Q of every layer; repeated, on a grid of N and k",
    "tracker": "the curve of a network while it trains, in a loop of one's own",
    # What the paper does with curves.
    "significance": "how sure a curve is: chance, intervals",
    "similarity": "how alike two layers are",
    "results": "records of measurements with their evidence: written, read, found",
    "cost": "accuracy, operations, parameters and seconds of a network",
    "zoo": "trained weights by name",
    "training": "training by a recipe, with a curve an epoch",
    "attacks": "adversarial images, and their checks",
    "pruning": "which layers can go, the network without them, fine-tuning",
    "plots": "pictures of curves and graphs",
    "scale": "how much a page computes, and where",
    # The campaign measures what the book shows.
    "campaign": "(its name)",
    "campaign.parallel": "units of work on many processes or machines",
    "campaign.networks": "the networks of a campaign, and its units of work",
    "campaign.curves": "curves, training, similarity: Figs. 4, 5, 6b, 8",
    "campaign.attacks": "attacks: Fig. 6a",
    "campaign.pruning": "pruning: Figs. 9, 10 and Table 1",
    "campaign.figures": "figure -> what is measured for it",
    "campaign.reproduce": "runs a figure's campaign",
    "campaign.embed": "puts a run's weights and records into the library",
    # The book shows it.
    "book": "(its name)",
    "book.words": "names as they are written in prose",
    "book.expect": "holds a reading to its numbers",
    "book.statistics": "tests that the chapters use",
    "book.exercises": "exercises that check themselves",
    "book.records": "records put together for a table or a chart",
    "book.tables": "tables of the pages",
    "book.claims": "what the paper claims, tested",
    "book.benchmarks": "the page Speed and memory",
    "book.charts": "charts of records whose controls filter",
    "book.widgets": "figures that compute on the page or ask a kernel",
    # The doors.
    "modlib": "the public names",
    "__main__": "the command line",
}
ORDER = {room: place for place, room in enumerate(ROOMS)}


def module(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")


PATHS = {module(path): path for path in FILES}


def room(name: str) -> str:
    """The room of a module: its first name below modlib; in campaign and book, and where the list has them, the first two."""
    parts = name.split(".")[1:] or ["modlib"]
    two = ".".join(parts[:2])
    return two if parts[0] in ("campaign", "book") or two in ROOMS else parts[0]


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Modules of modlib that a file imports; those inside functions count."""
    package = PATHS[name].name == "__init__.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*name.split(".")[: len(name.split(".")) - node.level + package], *base.split(".")]).strip(".")
            wanted = [whole if (whole := f"{base}.{alias.name}") in PATHS else base for alias in node.names]
        else:
            continue
        yield from (each for each in wanted if each in PATHS and each != name)


GRAPH = {name: sorted({*imports(name, ast.parse(path.read_text()))}) for name, path in PATHS.items()}


def test_the_reader_of_imports_sees_those_in_functions_and_relative_ones():
    program = "def f():\n    from modlib import zoo, load_model\n    from . import _checks\n    from .graph import knn\n"
    program += "import os, modlib.plots"
    assert {*imports("modlib.curves", ast.parse(program))} == {
        "modlib", "modlib._checks", "modlib.zoo", "modlib.graph.knn", "modlib.plots"
    }  # fmt: skip


def test_every_file_has_a_room_and_every_room_a_file():
    assert {room(name) for name in PATHS} == {*ROOMS}, "a new file needs a line in ROOMS, where its imports allow"


@pytest.mark.parametrize("name", GRAPH)
def test_a_room_imports_only_rooms_before_it(name):
    later = [other for other in GRAPH[name] if ORDER[room(other)] > ORDER[room(name)]]
    assert not later, f"{name} imports {', '.join(later)}, which the list has after it"


def test_no_circles():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(f"files that import each other: {' <- '.join(error.args[1])}")


def test_a_file_is_read_in_one_sitting():
    long = {path.relative_to(LIBRARY).as_posix(): n for path in FILES if (n := len(path.read_text().splitlines())) > 300}
    assert not long, f"above 300 lines: {long}"


def test_the_library_is_a_table_of_contents():
    """At most 20 files and 7 folders, each named in the tree of the README."""
    files = {path.stem for path in FILES if path.parent == LIBRARY}
    folders = {path.relative_to(LIBRARY).parts[0] for path in FILES if path.parent != LIBRARY}
    assert len(files) <= 20 and len(folders) <= 7
    tree = README.split("## Layout")[1].split("\n## ")[0]
    missing = {name for name in files | folders if not name.startswith("_")} - {*re.findall(r"\w+", tree)}
    assert not missing, f"the tree in README.md lacks {missing}"
