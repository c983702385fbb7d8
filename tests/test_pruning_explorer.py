"""The pruning explorer: its numbers are the costs of really pruned networks, and its accuracies those of the records."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pruned import curve_record, pruned_record, skeleton

from modlib import layer_names
from modlib.book.widgets.pruning import TOLERANCES, explore_pruning
from modlib.cost import cost
from modlib.paper import paper_values
from modlib.pruning import find_redundant, prune, random_plan, removable
from modlib.results import FOLDER, Records

MODELS = ("vgg11", "resnet20", "resnet56", "resnet18")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    for model in MODELS:
        depth = len(layer_names(skeleton(model)))
        curve_record(folder, model, np.linspace(0.1, 0.8, depth) - 0.05 * (np.arange(depth) % 4 == 3))
    pruned_record(folder, "vgg11", "last", 1, lost=0.5)
    pruned_record(folder, "vgg11", "last", 1, lost=2.5, start="scratch")
    pruned_record(folder, "vgg11", "last", 3, lost=1.25)
    pruned_record(folder, "vgg11", "last", 2, lost=9, seed=1)  # of another network than the curve's: not offered
    return folder


@pytest.fixture(scope="module")
def networks(folder):
    return explore_pruning(records=Records.read(folder), printed=False).data["networks"]


@pytest.mark.parametrize("model", MODELS)
def test_costs_of_layers_that_go_together_add_up(networks, model):
    """Random sets of layers, as many as can go at once: what the page subtracts is what the pruned network lacks."""
    network, whole = networks[f"{model}-cifar10"], skeleton(model)
    most = sum(not why for why in removable(whole).values()) - (model in ("resnet20", "resnet56", "resnet18"))
    assert (network["whole"]["macs"], network["whole"]["params"]) == (cost(whole).macs, cost(whole).params)
    for count in sorted({1, most // 2, most}):
        names = random_plan(whole, count, seed=count).remove
        left = cost(prune(whole, names))
        off = [network["layers"].index(name) for name in names]
        for kind in ("macs", "params"):
            assert network["whole"][kind] - sum(network[kind][i] for i in off) == getattr(left, kind), names


def test_what_can_go_and_what_the_rule_names_are_the_librarys(folder, networks):
    for model in MODELS:
        network, whole = networks[f"{model}-cifar10"], skeleton(model)
        assert dict(zip(network["layers"], network["why"], strict=True)) == removable(whole)
        curve = Records.read(folder).best("curves", model, "cifar10").curve()
        for tol, plan in zip(TOLERANCES, network["plans"], strict=True):
            expected = find_redundant(curve, tol, whole)
            assert tuple(network["layers"][i] for i in plan["remove"]) == expected.remove
            assert tuple(network["words"][i] for i in plan["verdicts"]) == expected.verdicts


def test_variants_are_those_of_the_records(networks):
    first, second, third = networks["vgg11-cifar10"]["variants"]
    assert (first["removed"], first["pruned"], first["start"]) == ([7], 89.5, "inherited weights")
    assert (second["removed"], second["pruned"], second["start"]) == ([7], 87.5, "")
    assert (third["removed"], third["behind"], third["at_once"]) == ([5, 6, 7], None, 40.0)
    assert len(third["q"]) == 5 and third["title"] == "3 layers: the last"
    assert networks["resnet20-cifar10"]["variants"] == []


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_what_the_page_computes(networks, tmp_path):
    """The page's own arithmetic, in node, against pruned networks; what it refuses, against what prune refuses."""
    cases = []
    for model in MODELS:
        name, whole = f"{model}-cifar10", skeleton(model)
        layers = layer_names(whole)
        for seed in range(3):
            off = [layers.index(each) for each in random_plan(whole, 2, seed).remove]
            left = cost(prune(whole, [layers[i] for i in off]))
            refused = []
            for i in sorted({*range(len(layers))} - {*off}):
                try:
                    prune(whole, [layers[each] for each in (*off, i)])
                except ValueError as error:
                    refused.append([i, str(error).split("cannot go: ")[1].split(". Those")[0]])
            cases.append({"network": name, "off": off, "macs": left.macs, "params": left.params, "refused": refused})
    (tmp_path / "cases.json").write_text(json.dumps({"networks": networks, "cases": cases}))
    run = subprocess.run(
        ["node", "--test", Path(__file__).parent / "pruning-explorer.test.mjs"],
        env={**os.environ, "CASES": str(tmp_path / "cases.json")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# fail 0" in run.stdout and "# skipped 0" in run.stdout


def test_the_recorded_networks_are_offered():
    widget = explore_pruning("resnet20-cifar10", tol=0.0)
    network = widget.data["networks"]["resnet20-cifar10"]
    record = Records.read(FOLDER).best("curves", "resnet20", "cifar10", weights="trained")
    whole = {"macs": record["macs"], "params": record["params"], "accuracy": record["accuracy"], "tuned": []}
    assert network["whole"] == whole
    np.testing.assert_allclose(network["q"], record.curve().mean, atol=5.1e-5)
    assert widget.setting == {"network": "resnet20-cifar10", "off": "", "layer": 2, "tol": 0.0}
    forms = widget._repr_mimebundle_()[0]
    assert forms["image/png"] and "of the MACs" in forms["text/plain"]
    assert len(json.dumps(widget.get_state())) < 150_000


def test_a_pruned_network_is_compared_with_the_whole_one_fine_tuned_as_long():
    network = explore_pruning("vgg11-cifar10", printed=False).data["networks"]["vgg11-cifar10"]
    assert network["whole"]["tuned"] == [[2, 86.42]] and all(each["removed"] for each in network["variants"])
    tuned = [each["pruned"] + each["behind"] for each in network["variants"] if each["tune_epochs"] == 2]
    assert tuned == pytest.approx([86.42] * len(tuned), abs=0.011) and tuned


def test_the_papers_curves_end_the_menu():
    networks = explore_pruning("vgg19-cifar10-paper").data["networks"]
    papers = [name for name in networks if name.endswith("-paper")]
    assert len(papers) == 27 and [*networks][-27:] == papers
    network = networks["vgg19-cifar10-paper"]
    assert network["title"] == "VGG19 on CIFAR-10, paper" and not network["variants"] and not network["std"]
    np.testing.assert_allclose(network["q"], paper_values("fig4")["vgg19/cifar10"], atol=5.1e-5)
    expected = find_redundant(np.array(paper_values("fig4")["vgg19/cifar10"]), 0.01).remove
    plan = network["plans"][TOLERANCES.index(0.01)]
    can_go = {i + 1 for i, why in enumerate(network["why"]) if not why}
    assert {i + 1 for i in plan["remove"]} >= {int(name) for name in expected} & can_go
    assert network["whole"]["macs"] == cost(skeleton("vgg19")).macs


@pytest.mark.parametrize("arguments, says", [
    (dict(network="resnet21-cifar10"), "unknown recorded network 'resnet21-cifar10'; did you mean 'resnet20-cifar10'"),
    (dict(tol=0.07), r"unknown tolerance \(tol\) 0.07"),
])  # fmt: skip
def test_what_was_not_recorded_is_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        explore_pruning(**arguments)


def test_without_records_there_is_nothing_to_explore(tmp_path):
    with pytest.raises(ValueError, match="records hold no curve of a trained network"):
        explore_pruning(records=Records.read(tmp_path))
