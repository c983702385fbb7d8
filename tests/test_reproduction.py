"""Ours beside the paper's: differences of known records, and rules that can say no."""

import numpy as np
import pytest

from modlib.pruning import find_redundant
from modlib.curves import Curve
from modlib.reproduction import beside_paper, best_record, claims, plateau_share, recorded_curve
from modlib.results import measurement, paper_values, write_result

LAYERS = [f"features.{i}" for i in range(8)]


def record(folder, q, model="vgg11", dataset="cifar10", weights="trained", recipe="fast", epochs=15, scale="full"):
    """A record of curves with the same Q (layers,) at N = 500 and 1000, k = 3, in two draws that lie 0.01 apart."""
    settings = {"model": model, "dataset": dataset, "scale": scale, "weights": weights, "recipe": recipe, "epochs": epochs}
    layers = [str(i) for i in range(len(q))]
    draws = np.stack([np.asarray(q) - 0.005, np.asarray(q) + 0.005])
    coords = {"n": [500, 1000], "k": [1, 3], "draw": [1, 2], "layer": layers, "conv": layers, "relu": layers[::-1]}
    values = {"q": (["n", "k", "draw", "layer"], np.broadcast_to(draws, (2, 2, *draws.shape))), "accuracy": ([], 91.0)}
    return write_result(measurement("curves", settings, coords, values), folder / f"{model}{dataset}{weights}{recipe}{epochs}{scale}.json")


def test_the_paper_itself_lies_at_no_distance(tmp_path):
    printed = np.array(paper_values("fig4")["vgg11/cifar10"])
    record(tmp_path, printed)
    table = beside_paper(tmp_path).set_index(["figure", "curve"])
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
    table = beside_paper(tmp_path)
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

    table = beside_paper(tmp_path).set_index(["figure", "curve"])
    assert table.loc[("fig6a", "resnet18/pgd"), "rms"] == pytest.approx(0, abs=1e-6)
    assert table.loc[("fig6a", "resnet18/fgsm"), "ours"] == "not measured"
    row = table.loc["fig9", "vgg19_3/cifar10"]
    assert (row["rms"], row["accuracy"]) == (pytest.approx(0.01, abs=1e-6), 92.5)


def test_the_stand_in_for_imagenet50_is_named(tmp_path):
    record(tmp_path, paper_values("fig4")["vgg11/imagenet50"], dataset="tinyimagenet50")
    row = beside_paper(tmp_path).set_index("curve").loc["vgg11/imagenet50"]
    assert row["ours"] == "vgg11 on tinyimagenet50, fast, 15 epochs" and row["rms"] == pytest.approx(0, abs=1e-6)


def test_the_papers_recipe_comes_first_then_the_longest_training_and_never_a_trial(tmp_path):
    q = np.linspace(0, 0.7, 8)
    record(tmp_path, q, scale="smoke", recipe="paper", epochs=500)
    assert best_record("curves", "vgg11", "cifar10", tmp_path, weights="trained") is None
    for recipe, epochs in (("fast", 6), ("fast", 20), ("paper", 10)):
        record(tmp_path, q, recipe=recipe, epochs=epochs)
        assert best_record("curves", "vgg11", "cifar10", tmp_path, weights="trained").settings["epochs"] == epochs


def test_a_recorded_curve_is_that_of_its_reading_and_the_papers_n(tmp_path):
    record(tmp_path, np.linspace(0, 0.7, 8), dataset="cifar100")
    found = best_record("curves", "vgg11", "cifar100", tmp_path)
    curve = recorded_curve(found)
    assert (curve.n, curve.k, curve.q.shape) == (1000, 3, (2, 8))
    np.testing.assert_allclose(curve.mean, np.linspace(0, 0.7, 8), atol=1e-6)
    np.testing.assert_allclose(recorded_curve(found, at="relu").mean, curve.mean[::-1])


@pytest.mark.parametrize("q, after, share", [
    ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 0), ([0.5, 0.4, 0.3, 0.2, 0.1], 1, 1), ([0.1, 0.2, 0.205, 0.4, 0.4], 1, 1 / 2),
    ([0.1, 0.2, 0.205, 0.4, 0.4], 3, 1 / 2), ([0.3, 0.1, 0.1, 0.4, 0.5], 3, 0),
])  # fmt: skip
def test_share_of_layers_on_a_plateau(q, after, share):
    assert plateau_share(q, after=after) == share
    curve = Curve(tuple("abcde"), np.array(q), np.array(q)[:, None], 3, 500)
    assert plateau_share(q) == len(find_redundant(curve).remove) / 4


def verdicts(folder, claim: str) -> dict[str, object]:
    table = claims(folder)
    table = table[table["claim"].str.contains(claim) & (table["whose"] == "ours")]
    return dict(zip(table["tested on"], table["holds"], strict=True))


def test_claims_on_the_papers_own_curves(tmp_path):
    """What can be seen in Fig. 4 and 6b: every curve rises, and deeper VGGs have longer plateaus on CIFAR-10."""
    table = claims(tmp_path)
    printed = table[table["whose"] == "paper"].set_index("tested on")
    rises = printed[printed["claim"].str.contains("increases with depth")]
    assert len(rises) == 3 and rises["holds"].all()
    assert printed.loc["VGG on cifar10", "holds"]
    assert table[table["whose"] == "ours"]["holds"].isna().all()


def test_a_rise_with_depth_can_be_refused(tmp_path):
    assert verdicts(tmp_path, "increases with depth")["cifar10"] is None
    record(tmp_path, np.linspace(0, 0.8, 8))
    assert verdicts(tmp_path, "increases with depth")["vgg11 on cifar10"] is True
    record(tmp_path, np.linspace(0.8, 0, 13), model="vgg16")
    assert verdicts(tmp_path, "increases with depth")["vgg11, vgg16 on cifar10"] is False


def test_plateaus_with_depth_and_data_can_be_refused(tmp_path):
    rising, flat = np.linspace(0, 0.8, 16), np.r_[np.linspace(0, 0.8, 8), np.full(8, 0.8)]
    record(tmp_path, rising[:8], model="vgg11")
    record(tmp_path, flat, model="vgg19")
    assert verdicts(tmp_path, "the deeper the network")["VGG on cifar10"] is True
    assert verdicts(tmp_path, "vanish")["vgg19"] is None
    record(tmp_path, rising, model="vgg19", dataset="cifar100")
    assert verdicts(tmp_path, "vanish")["vgg19"] is True
    record(tmp_path, flat, model="vgg19", dataset="tinyimagenet50")
    assert verdicts(tmp_path, "vanish")["vgg19"] is False
    record(tmp_path, rising[:8], model="vgg11", dataset="tinyimagenet50")
    record(tmp_path, rising, model="vgg19", dataset="tinyimagenet50")
    assert verdicts(tmp_path, "the deeper the network")["VGG on tinyimagenet50"] is False


def test_training_claims_can_be_refused(tmp_path):
    def training(first, last, accuracy):
        epochs = range(1, len(first) + 1)
        values = {"q": (["epoch", "layer"], np.stack([first, last], 1)), "test_accuracy": (["epoch"], accuracy)}
        settings = {"model": "vgg16", "dataset": "cifar10", "recipe": "fast", "epochs": len(first)}
        write_result(measurement("training", settings, {"epoch": epochs, "layer": ["a", "b"]}, values), tmp_path / "t.json")
        return verdicts(tmp_path, "shallow")["vgg16"], verdicts(tmp_path, "deep layers")["vgg16"]

    up = np.linspace(0.1, 0.7, 8)
    assert training(np.full(8, 0.1), up, 100 * up) == (True, True)
    assert training(up, up, 100 * up[::-1]) == (False, False)
