"""Campaigns: the whole way at tiny size; nothing is done twice; what fails or does not fit the time is told."""

import numpy as np
import pytest
import torch

import modlib
from modlib import experiments, training
from modlib.experiments import FIGURES, SCALES, Scale, measure_curves, reproduce, untrained
from modlib.results import find_results, paper_values

TINY = Scale((20, 30, 40), (1, 3), 2, epochs=1, images=60)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(SCALES, "smoke", TINY)


@pytest.fixture
def go(tmp_path):
    """Run a campaign in a folder of the test's own; gives (model, dataset, state) of its steps."""

    def run(figure, models=("resnet20",), datasets=("cifar10",), **options):
        options = {"scale": "smoke", "runs": tmp_path / "runs", "out": tmp_path / "results", **options}
        run.steps = list(reproduce(figure, models, datasets, **options))
        return [(step.model, step.dataset, step.state) for step in run.steps]

    return run


def test_the_first_networks_are_the_most_telling_and_none_is_forgotten():
    assert FIGURES["fig4"][:5] == [(m, "cifar10") for m in ("vgg16", "resnet18", "vgg11", "resnet56", "vgg19")]
    printed = {(model, dataset.replace("imagenet50", "tinyimagenet50")) for model, dataset in (c.split("/") for c in paper_values("fig4"))}
    assert printed <= set(FIGURES["fig4"]) and len(set(FIGURES["fig4"])) == len(FIGURES["fig4"])
    assert {model for model, _ in FIGURES["fig6b"]} == set(paper_values("fig6b"))


def test_trained_and_measured_once_then_found(go, tmp_path, monkeypatch):
    assert go("fig4") == [("resnet20", "cifar10", "measured")]
    (training_record,) = find_results("training", tmp_path / "results")
    (record,) = find_results("curves", tmp_path / "results")
    assert record.settings == {
        "model": "resnet20", "dataset": "cifar10", "scale": "smoke", "weights": "trained", "recipe": "fast", "epochs": 1, "seed": 0
    }  # fmt: skip
    assert record.coords["n"] == [20, 30]  # the 30 test images hold no more
    assert record["q"].shape == (2, 2, 2, 11)
    assert record["accuracy"] == training_record["test_accuracy"][-1]

    monkeypatch.setattr(experiments, "train", None)
    assert go("fig4") == [("resnet20", "cifar10", "recorded")]
    assert go.steps[0].result == record
    for path in (tmp_path / "results").rglob("curves*.json"):
        path.unlink()
    monkeypatch.undo()
    monkeypatch.setitem(SCALES, "smoke", TINY)
    monkeypatch.setattr(training._Run, "one_epoch", None)  # the finished run is used, not trained again
    assert go("fig4") == [("resnet20", "cifar10", "measured")]
    np.testing.assert_array_equal(go.steps[0].result["q"], record["q"])


def test_another_seed_or_recipe_is_another_record(go):
    go("a2")
    first = go.steps[0].result
    assert go("a2", seed=1) == [("resnet20", "cifar10", "measured")]
    assert (go.steps[0].result["q"] != first["q"]).any()
    assert go("a2", seed=1) == go("a2") == [("resnet20", "cifar10", "recorded")]
    assert go.steps[0].result == first


def test_the_record_holds_what_the_library_gives(go):
    go("a2")
    record = go.steps[0].result
    model, images = untrained("resnet20", "cifar10", 0), modlib.load_images("cifar10")[60:90]
    for at in ("conv", "relu"):
        names = modlib.layer_names(model, at)
        assert record.coords[at] == names
        expected = modlib.repeat_curves(model, images, n=10, k=1, draws=2, layers=names)
        small = measure_curves(model, images, {"dataset": "cifar10"}, Scale((10,), (1, 3), 2))
        np.testing.assert_allclose(small.at("q", n=10, k=1, layer=names), expected.q, atol=1e-6)
    np.testing.assert_allclose(record["per_class"].sum(1), record.at("q", n=30, k=3).mean(0), atol=2e-6)
    assert record["params"] == sum(p.numel() for p in model.parameters())


def test_training_by_epochs_is_recorded(go):
    assert go("fig6b") == [("resnet20", "cifar10", "measured")]
    assert go.steps[0].result["q"].shape == (1, 10)
    assert go("fig6b") == [("resnet20", "cifar10", "recorded")]


def test_out_of_time_goes_on_later(go, monkeypatch):
    assert go("fig4", max_minutes=0) == [("resnet20", "cifar10", "out of time")]
    monkeypatch.setitem(SCALES, "smoke", Scale((20,), (1, 3), 2, epochs=2, images=60))
    whole, ticks = training.time.monotonic, iter(range(0, 10**6, 50))
    monkeypatch.setattr(training.time, "monotonic", lambda: next(ticks))
    assert go("fig4", max_minutes=2) == [("resnet20", "cifar10", "out of time")]
    assert go.steps[0].note == "trained 1 of 2 epochs"
    monkeypatch.setattr(training.time, "monotonic", whole)
    assert go("fig4") == [("resnet20", "cifar10", "measured")]


@pytest.mark.parametrize("error", [OSError("no host"), MemoryError("batch_size=128 does not fit"), FloatingPointError("no longer finite")])
def test_a_network_that_fails_does_not_stop_the_others(go, monkeypatch, error):
    whole = experiments.train

    def fails(model, *arguments, **options):
        if model == "resnet32":
            raise error
        return whole(model, *arguments, **options)

    monkeypatch.setattr(experiments, "train", fails)
    states = go("fig4", models=("resnet32", "resnet20"))
    assert states == [("resnet32", "cifar10", "failed"), ("resnet20", "cifar10", "measured")]
    assert go.steps[0].note == str(error)


def test_imagenet_networks_are_measured_on_a_folder(go, monkeypatch, tmp_path):
    images = modlib.load_images("cifar10", n=40)
    monkeypatch.setattr(experiments, "load_images", lambda folder, size: images)
    monkeypatch.setattr(experiments, "load_model", lambda model, dataset: untrained(model, dataset))
    assert go("fig5", ("resnet18",), None, images=tmp_path / "imagenette") == [("resnet18", "imagenet", "measured")]
    record = go.steps[0].result
    assert (record.settings["weights"], record.settings["images"]) == ("torchvision", "imagenette")
    assert "accuracy" not in record.values  # the folder's classes are numbered otherwise than ImageNet's


@pytest.mark.parametrize("arguments, says", [
    (("fig3",), "unknown figure 'fig3'"),
    (("fig4", ["vgg12"]), "unknown model 'vgg12'"),
    (("fig4", None, ["cifar11"]), "unknown dataset 'cifar11'; did you mean 'cifar10'"),
    (("fig5",), "give images=FOLDER"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        next(reproduce(*arguments))
    with pytest.raises(ValueError, match="unknown scale 'tiny'"):
        next(reproduce("fig4", scale="tiny"))
    with pytest.raises(ValueError, match="unknown recipe 'slow'"):
        next(reproduce("fig4", recipe="slow"))


def test_untrained_networks_come_from_their_seed():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = (untrained("resnet20", "cifar10", seed).conv1.weight for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)
