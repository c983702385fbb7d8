"""MODLIB_SCALE: smoke computes less, book is the default, full measures what a page shows; the notebooks ask for it."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

from modlib import find_results, scale
from modlib.campaign import reproduce as experiments
from modlib.campaign.figures import FIGURES
from modlib.results import FOLDER, read_result

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAME = "training-resnet20-cifar10-fast-20-0.json"


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Set the scale; gives the folder of the local results."""

    def set_scale(name):
        monkeypatch.setenv("MODLIB_SCALE", name)
        monkeypatch.setenv("MODLIB_RESULTS", str(tmp_path / "results"))
        return tmp_path / "results"

    return set_scale


@pytest.fixture
def calls(monkeypatch):
    """What was asked of the campaign, instead of measuring."""
    made = []
    monkeypatch.setattr(experiments, "reproduce", lambda *names, **options: made.append((*names, options)) or ["a step"])
    return made


def test_the_default_is_the_book(monkeypatch):
    monkeypatch.delenv("MODLIB_SCALE", raising=False)
    assert scale.scale() == "book"
    monkeypatch.setenv("MODLIB_SCALE", "")
    assert scale.scale() == "book"


def test_another_value_is_refused_by_whatever_asks(at):
    at("large")
    for ask in (scale.scale, lambda: scale.choose(2, smoke=1), lambda: experiments.measure("fig4")):
        with pytest.raises(ValueError, match="unknown MODLIB_SCALE 'large'.*Known: smoke, book, gpu, full"):
            ask()


def test_only_smoke_takes_fewer(at):
    sizes = {name: at(name) and scale.choose(500, smoke=100) for name in scale.SCALES}
    assert sizes == {"smoke": 100, "book": 500, "gpu": 500, "full": 500}


@pytest.mark.parametrize("name", ["smoke", "book"])
def test_nothing_is_measured_below_full(at, calls, name, capsys):
    at(name)
    experiments.measure("fig4", "a2")
    assert not calls and not capsys.readouterr().out


def test_full_measures_the_figures_of_the_page(at, calls, capsys):
    out = at("full")
    experiments.measure("fig4", "a2", models=["vgg11"])
    where = {"device": scale.device(), "runs": out.parent / "runs", "out": out}
    options = {"models": ["vgg11"], **where, "shipped": False, "max_minutes": None}
    assert calls == [("fig4", options), ("a2", options)]
    assert capsys.readouterr().out.count("a step") == 2


def test_on_a_free_gpu_a_chapter_measures_for_a_quarter_of_an_hour(at, calls):
    at("gpu")
    experiments.measure("fig4", "a2")
    assert [14 < options["max_minutes"] <= 15 for _, options in calls] == [True, True]


def test_full_shows_what_was_measured_here(at):
    out = at("full")
    shipped = read_result(FOLDER / NAME)
    assert experiments.measure().find("training", model="resnet20") == [shipped]
    here(out / NAME, device="this one")
    here(out / NAME.replace("20-0", "20-1"), device="another seed")
    found = experiments.measure().find("training", model="resnet20")
    assert [r.evidence["device"] for r in found] == ["this one", "another seed"]
    assert find_results("training", model="resnet20") == [shipped]  # what a reader asks for does not depend on the scale
    at("book")
    assert experiments.measure().find("training", model="resnet20") == [shipped]


def here(path, **evidence):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / NAME, path)
    content = json.loads(path.read_text())
    content["evidence"] |= evidence
    path.write_text(json.dumps(content))


def called(notebook):
    """The calls in the cells of a notebook: of which function, and the call itself."""
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse(re.sub(r"^( *)%pip.*$", r"\1pass", code, flags=re.MULTILINE))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def asked(notebook, function):
    return [call for name, call in called(notebook) if name == function]


def figures_of(calls):
    return {each.value for call in calls for each in call.args if isinstance(each, ast.Constant)}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_with_images_computes_less_at_smoke(notebook):
    sizes = [{each.arg: each.value.value for each in call.keywords} for call in asked(notebook, "scale.choose")]
    assert all(0 < size["smoke"] < size["book"] for size in sizes)
    assert sizes or not asked(notebook, "modlib.load_images")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_networks_go_to_the_gpu(notebook):
    networks = [ast.unparse(call) for name, call in called(notebook) if name in ("modlib.load_model", "modlib.build_model")]
    moved = {name.removesuffix(".to"): ast.unparse(call.args[0]) for name, call in called(notebook) if name.endswith(".to")}
    counted = ["modlib.build_model('resnet56')"] if notebook.stem == "09-pruning" else []  # which never runs
    assert [each for each in networks if moved.get(each) not in ("device", "scale.device()")] == counted
    assert not asked(notebook, "torch.from_numpy"), "it stays on the CPU"
    numpy = [name for name, _ in called(notebook) if name.endswith(".numpy")]
    assert all(name.endswith(".cpu().numpy") for name in numpy), "numpy cannot read a GPU"


def counted_on(notebook):
    """The figures whose missing records the chapter's ledger page counts."""
    page = notebook.parents[1] / "book" / "ledger" / f"{notebook.stem[:2]}.md"
    lines = page.read_text().splitlines() if page.exists() else []
    told = [line for line in lines if "tables.todo(" in line or line.startswith("for figure in")]
    return {name for line in told for name in re.findall(r'"(\w+)"', line)}


def test_the_ledger_counts_what_is_missing():
    assert set().union(*map(counted_on, NOTEBOOKS)) >= {"fig4", "fig5", "fig6a", "fig6b", "fig8", "fig9", "fig10", "table1"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_chapter_can_measure_the_figures_whose_records_it_counts(notebook):
    measured = figures_of(asked(notebook, "measure"))
    assert counted_on(notebook) - {"fig5"} <= measured <= set(FIGURES)  # the images of Fig. 5 have to be the reader's
