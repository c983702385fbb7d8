"""Old import paths: each documented name is found, is the same thing, and says where it is now."""

import importlib
import subprocess
import sys
import warnings

import pytest

import modlib
from modlib._moved import GONE, MODULES, NAMES

# What the book documented before its parts had rooms of their own: on the page of the library, on How to use this book, and
# in the imports of more than one chapter. Old place -> names.
DOCUMENTED = {
    "modlib.campaign": ["Unit"],
    "modlib.claims": ["claims", "plateau_share"],
    "modlib.experiments": ["Step", "reproduce"],
    "modlib.explorer": ["explore"],
    "modlib.figures": ["FIGURES"],
    "modlib.graph_explorer": ["explore_graph"],
    "modlib.graph_lab": ["graph_lab"],
    "modlib.pruning_explorer": ["explore_pruning"],
    "modlib.report": ["MISSING", "proper"],
    "modlib.reproduction": ["DATASETS", "beside_paper", "best_record", "recorded_curve"],
    "modlib.results": ["paper_values"],
    "modlib.scale": ["measure"],
    "modlib.structure": ["blocks", "mantel", "stages"],
}
# Names that are found where they were, although they live elsewhere.
KEPT = {
    "modlib": ["explore"],
    "modlib.plots": ["layout"],
    "modlib.pruning": ["Cost", "cost", "fine_tune", "layer_costs", "seconds"],
    "modlib.training": ["RECIPES", "accuracy", "train"],
}


@pytest.mark.parametrize("module, name", [(module, name) for module, names in DOCUMENTED.items() for name in names])
def test_an_old_name_is_found_and_says_where_it_is_now(module, name):
    old = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is now modlib\.[\w.]+$") as said:
        found = getattr(old, name)
    assert said[0].filename == __file__  # the warning points at the line that has to change
    place = str(said[0].message).split(" is now ")[1]
    assert found is not None
    assert place.rpartition(".")[2] in (name, "best", "curve")


@pytest.mark.parametrize("module, name", [(module, name) for module, names in KEPT.items() for name in names])
def test_names_that_stayed_in_reach_say_nothing(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(importlib.import_module(module), name) is not None


def test_the_lines_of_old_notebooks_run_as_they_stand():
    lines = """
        from modlib.graph_lab import graph_lab
        from modlib import experiments, report
        from modlib.claims import claims
        from modlib.reproduction import best_record, recorded_curve
        from modlib.results import find_results, paper_values
        from modlib.scale import measure
        assert report.proper("vgg16") == "VGG16"
        record = best_record("curves", "resnet20", "cifar10", weights="trained")
        assert recorded_curve(record).q.shape == (5, 10)
        assert "claim" in claims() and experiments.reproduce
        assert len(paper_values("fig4")["resnet18/cifar10"]) == 9
    """
    with pytest.warns(DeprecationWarning):
        exec("\n".join(line.strip() for line in lines.splitlines()), {})


def test_what_never_was_there_is_still_missing():
    for module in ("modlib.structure", "modlib.results", "modlib.scale", "modlib.campaign"):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
            assert importlib.import_module(module).nothing
    with pytest.raises(ImportError):
        importlib.import_module("modlib.nothing")
    with pytest.raises(AttributeError):
        assert modlib.nothing


def test_no_module_stands_in_the_way_of_an_old_path_and_none_is_imported_for_it():
    program = "import sys, modlib, modlib.graph_lab; print('modlib.book.widgets.lab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    assert {old.rpartition(".")[0] for old in NAMES} <= GONE | {"modlib.campaign", "modlib.results", "modlib.scale"}
    for old in GONE:
        assert type(importlib.import_module(old).__loader__).__name__ == "_OldPaths", old
    for new in MODULES.values():
        importlib.import_module(new)
