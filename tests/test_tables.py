"""Words and tables of recorded results: what is counted, what is told apart, and what stays "not measured"."""

import re

import numpy as np
import pandas as pd
import pytest
from pruned import pruned_record

from modlib.book import tables
from modlib.book.records import recorded_imagenet
from modlib.campaign.figures import FIGURES
from modlib.paper import paper_values
from modlib.results import Records, measurement, write_result


@pytest.fixture
def record(tmp_path):
    """Write a record of curves of a network with Q (layers,) at N = 500, k = 3."""

    def write(model="vgg11", dataset="cifar10", weights="trained", scale="full", q=(0.1, 0.2, 0.8)):
        settings = {"model": model, "dataset": dataset, "scale": scale, "weights": weights, "seed": 0}
        settings |= {"recipe": "fast", "epochs": 15} if weights == "trained" else {}
        settings |= {"images": "imagenette"} if dataset == "imagenet" else {}
        layers = [str(i) for i in range(len(q))]
        draws = np.stack([np.asarray(q) - 0.01, np.asarray(q) + 0.01])[None, None]
        coords = {"n": [500], "k": [3], "draw": [1, 2], "layer": layers, "conv": layers, "relu": layers}
        values = {"q": (["n", "k", "draw", "layer"], draws), "accuracy": ([], 91.46)}
        write_result(measurement("curves", settings, coords, values), tmp_path / f"{model}-{dataset}-{weights}-{scale}.json")

    return write


def test_a_cell_holds_accuracy_and_training_or_says_that_there_is_none(record, tmp_path):
    record("vgg11")
    record("resnet20", "cifar100")
    record("vgg16", weights="untrained")
    record("vgg19", scale="smoke")
    table = tables.measured(Records.read(tmp_path))
    assert table.loc["VGG11", "CIFAR-10"] == "91.5 %, fast, 15 epochs" == table.loc["ResNet20", "CIFAR-100"]
    assert (table == "not measured").sum().sum() == table.size - 2
    assert len(table) == 10  # the nine of Fig. 4 and the thin one


def test_what_is_left_to_do(record, tmp_path):
    count = len(FIGURES["fig4"].networks)

    def todo(figure):
        return tables.todo(Records.read(tmp_path), figure)

    assert todo("fig4").startswith(f"**Measured: 0 of {count}.** The rest: `python -m modlib reproduce fig4 ")
    record("vgg16")
    record("vgg16", "cifar100", scale="smoke")
    record("resnet18", weights="untrained")
    assert f"1 of {count}." in todo("fig4") and f"1 of {len(FIGURES['a2'].networks)}." in todo("a2")
    for model, dataset in FIGURES["fig4"].networks:
        record(model, dataset)
    assert todo("fig4") == f"**Measured: {count} of {count}.**"
    assert "--images FOLDER" in todo("fig5")


def test_imagenet_records_are_called_by_their_weights(record, tmp_path):
    assert recorded_imagenet(Records.read(tmp_path)) == {} and tables.imagenet_table(Records.read(tmp_path)).empty
    assert "0 of 6." in tables.todo(Records.read(tmp_path), "fig5")
    record("resnet50", "imagenet", weights="keras")
    assert "1 of 6." in tables.todo(Records.read(tmp_path), "fig5")
    record("resnet50", "imagenet", weights="torchvision")
    record("resnet18", "imagenet", weights="torchvision", scale="smoke")
    assert tables.imagenet_table(Records.read(tmp_path)).loc["ResNet50, Keras's weights"].tolist() == [
        "imagenette", 500, "0.100", "0.800 (layer 3)", "0.800",
    ]  # fmt: skip
    found = recorded_imagenet(Records.read(tmp_path))
    assert [*found] == ["ResNet50, torchvision's weights", "ResNet50, Keras's weights"]
    assert [r.settings["weights"] for r in found.values()] == ["torchvision", "keras"]
    assert "2 of 6." in tables.todo(Records.read(tmp_path), "fig5")
    assert set(tables.evidence(Records.read(tmp_path))["settings"]) == {"torchvision, seed 0", "keras, seed 0"}


def test_a_figure_of_many_variants_is_not_done_with_one(tmp_path):
    count = len(FIGURES["fig10"].networks) * len(FIGURES["fig10"].variants("vgg11"))
    path = pruned_record(tmp_path, "vgg11", "last", 2, lost=0.5)
    assert f"1 of {count}." in tables.todo(Records.read(tmp_path), "fig10")
    (tmp_path / "again.json").write_bytes(path.read_bytes())
    assert f"1 of {count}." in tables.todo(Records.read(tmp_path), "fig10")


def test_ours_beside_the_papers(record, tmp_path):
    printed = np.array(paper_values("fig4")["vgg11/cifar10"])
    shifted = printed + np.array([0] * 7 + [0.08])
    record("vgg11", q=shifted)
    record("vgg11", "tinyimagenet50", q=paper_values("fig4")["vgg11/imagenet50"])
    table, missing = tables.beside(Records.read(tmp_path), "fig4")
    assert table.loc["VGG11, CIFAR-10"].tolist() == [
        "fast, 15 epochs",
        "91.5",
        f"{0.08 / np.sqrt(8):.3f}",
        "0.080 (layer 8)",
        "+0.080",
    ]
    assert table.loc["VGG11, ImageNet50", "training"] == "Tiny-ImageNet-50, fast, 15 epochs"
    assert len(missing) == 25 and "VGG11, CIFAR-10" not in missing
    summary = tables.summary(Records.read(tmp_path)).T["Fig.\N{NO-BREAK SPACE}4"]
    assert summary.tolist() == [27, 2, f"{0.04 / np.sqrt(8):.3f}", "0.080"]
    assert tables.summary(Records.read(tmp_path)).T["Fig.\N{NO-BREAK SPACE}9"]["median RMS"] == "not measured"


def test_findings_count_the_verdicts_that_were_reached():
    rows = [("it rises", "paper", "holds"), ("it rises", "ours", "holds"), ("it rises", "ours", "not measured")]
    rows += [("it rises", "ours", "does not hold")] * 2 + [("it falls", "ours", "not measured")]
    table = tables.findings(pd.DataFrame(rows, columns=["claim", "whose", "verdict"]))
    assert table.loc["it rises"].tolist() == ["holds (1 of 1)", "does not hold (2 of 3), holds (1 of 3)"]
    assert table.loc["it falls"].tolist() == ["not measured", "not measured"]


def test_the_papers_curves_are_named_in_words(tmp_path):
    missing = {name for figure in ("fig6b", "fig7a_n", "fig9") for name in tables.beside(Records.read(tmp_path), figure)[1]}
    assert {"VGG16, layer 9", "VGG16, accuracy", "ResNet18, N = 200", "VGG19 without 1 layer, CIFAR-10"} <= missing
    assert "ResNet152 without 30 layers, ImageNet50" in missing


def test_every_record_but_a_trial_shows_its_evidence(record, tmp_path):
    record("vgg16")
    record("vgg16", weights="untrained")
    record("vgg16", scale="smoke")
    table = tables.evidence(Records.read(tmp_path))
    assert table["settings"].tolist() == ["trained, fast, 15 epochs, seed 0", "untrained, seed 0"]
    assert (table["record"] == "curves: VGG16 on CIFAR-10").all() and table["device"].all()


def test_a_record_that_is_of_no_network_shows_its_evidence_too(tmp_path):
    write_result(measurement("benchmarks", {"scale": "full"}, {}, {"first": ([], 1.0)}), tmp_path / "benchmarks.json")
    assert tables.evidence(Records.read(tmp_path))["record"].tolist() == ["benchmarks"]


def test_caveats_name_figures_as_the_paper_does():
    text = " ".join(tables.source()[1])
    assert "Fig.\N{NO-BREAK SPACE}7a ResNet18" in text and "Fig.\N{NO-BREAK SPACE}4" in text
    assert not re.search(r"fig\d|_", text)


def test_a_curve_whose_record_has_no_accuracy_leaves_it_out(tmp_path):
    q = paper_values("fig6a")["vgg16"]["fgsm"]
    layers = [str(i) for i in range(len(q))]
    settings = {
        "model": "vgg16",
        "dataset": "cifar10",
        "scale": "full",
        "recipe": "fast",
        "epochs": 9,
        "attack": "fgsm",
        "protocol": "authors",
    }
    coords = {"n": [500], "k": [3], "layer": layers, "conv": layers}
    write_result(measurement("attack", settings, coords, {"q": (["n", "k", "layer"], [[q]])}), tmp_path / "a.json")
    table, _ = tables.beside(Records.read(tmp_path), "fig6a")
    assert table.loc["VGG16, FGSM"].tolist() == ["fast, 9 epochs", "", "0.000", "0.000 (layer 1)", "+0.000"]
