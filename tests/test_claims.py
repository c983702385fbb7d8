"""The paper's claims: rules that can say no."""

import numpy as np
import pytest
from records import record

from modlib.claims import claims, plateau_share
from modlib.curves import Curve
from modlib.pruning import find_redundant
from modlib.results import measurement, write_result


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
