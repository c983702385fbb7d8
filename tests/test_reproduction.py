"""Ours beside the paper's: differences of known records."""

import numpy as np
import pytest
from records import record

from modlib.book.tables import beside_paper
from modlib.paper import paper_values
from modlib.results import Records, measurement, write_result


def test_the_paper_itself_lies_at_no_distance(tmp_path):
    printed = np.array(paper_values("fig4")["vgg11/cifar10"])
    record(tmp_path, printed)
    table = beside_paper(Records.read(tmp_path)).set_index(["figure", "curve"])
    row = table.loc["fig4", "vgg11/cifar10"]
    assert (row["rms"], row["largest"], row["last"]) == pytest.approx((0, 0, 0), abs=1e-6)
    assert (row["accuracy"], row["ours"]) == (91.0, "vgg11 on cifar10, fast, 15 epochs")
    # Fig. 1 shows the same network in another run.
    other = np.array(paper_values("fig1")["vgg11/cifar10"])
    row = table.loc["fig1", "vgg11/cifar10"]
    assert row["rms"] == pytest.approx(np.sqrt(np.mean((printed - other) ** 2)), abs=1e-6)
    assert row["layer"] == abs(printed - other).argmax() + 1
    assert row["last"] == pytest.approx(printed[-1] - other[-1], abs=1e-6)


def test_what_was_not_measured_has_no_numbers(tmp_path):
    table = beside_paper(Records.read(tmp_path))
    assert set(table["ours"]) == {"not measured"}
    assert table[["accuracy", "rms", "largest", "layer", "last"]].isna().all(axis=None)
    printed = sum(len(paper_values(figure)) for figure in ("fig1", "fig4", "fig7a_n", "fig7b_k", "fig9"))
    printed += sum(len(curves) for figure in ("fig6a", "fig6b") for curves in paper_values(figure).values())
    assert len(table) == printed


def test_attacked_and_pruned_networks_stand_beside_theirs(tmp_path):
    how = {"dataset": "cifar10", "scale": "full", "weights": "trained", "recipe": "fast", "epochs": 20, "seed": 0}
    printed = paper_values("fig6a")["resnet18"]["pgd"]
    layers = [str(i) for i in range(9)]
    coords = {"n": [200, 500], "k": [1, 3], "layer": [*layers, "more"], "conv": layers}
    q = np.zeros((2, 2, 10))
    q[1, 1, :9] = printed
    settings = {"model": "resnet18", **how, "attack": "pgd", "protocol": "authors"}
    write_result(measurement("attack", settings, coords, {"q": (["n", "k", "layer"], q)}), tmp_path / "a.json")

    printed = paper_values("fig9")["vgg19_3/cifar10"]["q"]
    coords = {"network": ["whole", "pruned"], "draw": [1, 2], "layer": [str(i) for i in range(13)]}
    values = {"q": (["draw", "layer"], np.stack([printed, printed]) + 0.01), "accuracy": (["network"], [93.0, 92.5])}
    settings = {"model": "vgg19", **how, "criterion": "last", "count": 3, "start": "inherited"}
    write_result(measurement("pruning", settings, coords, values), tmp_path / "p.json")

    table = beside_paper(Records.read(tmp_path)).set_index(["figure", "curve"])
    assert table.loc[("fig6a", "resnet18/pgd"), "rms"] == pytest.approx(0, abs=1e-6)
    assert table.loc[("fig6a", "resnet18/fgsm"), "ours"] == "not measured"
    row = table.loc["fig9", "vgg19_3/cifar10"]
    assert (row["rms"], row["accuracy"]) == (pytest.approx(0.01, abs=1e-6), 92.5)


def test_the_stand_in_for_imagenet50_is_named(tmp_path):
    record(tmp_path, paper_values("fig4")["vgg11/imagenet50"], dataset="tinyimagenet50")
    row = beside_paper(Records.read(tmp_path)).set_index("curve").loc["vgg11/imagenet50"]
    assert row["ours"] == "vgg11 on tinyimagenet50, fast, 15 epochs" and row["rms"] == pytest.approx(0, abs=1e-6)


def test_the_papers_recipe_comes_first_then_the_longest_training_and_never_a_trial(tmp_path):
    q = np.linspace(0, 0.7, 8)
    record(tmp_path, q, scale="smoke", recipe="paper", epochs=500)
    assert Records.read(tmp_path).best("curves", "vgg11", "cifar10", weights="trained") is None
    for recipe, epochs in (("fast", 6), ("fast", 20), ("paper", 10)):
        record(tmp_path, q, recipe=recipe, epochs=epochs)
        assert Records.read(tmp_path).best("curves", "vgg11", "cifar10", weights="trained").settings["epochs"] == epochs


def test_a_recorded_curve_is_that_of_its_reading_and_the_papers_n(tmp_path):
    record(tmp_path, np.linspace(0, 0.7, 8), dataset="cifar100")
    found = Records.read(tmp_path).best("curves", "vgg11", "cifar100")
    curve = found.curve()
    assert (curve.n, curve.k, curve.q.shape) == (1000, 3, (2, 8))
    np.testing.assert_allclose(curve.mean, np.linspace(0, 0.7, 8), atol=1e-6)
    np.testing.assert_allclose(found.curve(at="relu").mean, curve.mean[::-1])
