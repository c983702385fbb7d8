"""Embedding: the weights go in as small as the measured loss allows, and the record says what it cost."""

import numpy as np
import pytest
import torch

import modlib
from modlib import results, training, zoo
from modlib.campaign import embed as compression
from modlib.campaign.embed import embed
from modlib.pruning import fine_tune, prune
from modlib.results import find_results
from modlib.training import RECIPES, Recipe, train

ONE = Recipe(epochs=1, batch_size=64, lr=0.05, weight_decay=5e-4, schedule="one-cycle")


@pytest.fixture(scope="module")
def images():
    """Small ones, 16 x 16."""
    images = modlib.load_images("cifar10", n=300)
    return modlib.Images(np.ascontiguousarray(images.x[..., 8:24, 8:24]), images.y, images.classes, images.name)


@pytest.fixture
def run(tmp_path, images, monkeypatch):
    """A finished training run by a recipe that has a name."""
    monkeypatch.setitem(RECIPES, "one", ONE)
    monkeypatch.setattr(training, "load_images", lambda name, split: images[:100] if split == "train" else images[100:150])
    train("resnet20", recipe="one", folder=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def assets(tmp_path, monkeypatch):
    """Empty folders of embedded weights and recorded results."""
    weights, records = tmp_path / "weights", tmp_path / "results"
    weights.mkdir()
    (weights / "registry.json").write_text("[]")
    monkeypatch.setattr(zoo, "FOLDER", weights)
    for module in (compression, results):
        monkeypatch.setattr(module, "FOLDER", records)
    return records


def test_what_is_embedded_is_what_was_measured(run, images, assets):
    result = embed(run, images)
    assert result.settings["precision"] == "float16"  # small as it is
    model = modlib.load_model("resnet20")
    np.testing.assert_allclose(result.at("q", weights="embedded"), modlib.modularity_curve(model, images.x, images.y).q, atol=1e-6)
    accuracy = modlib.cost.accuracy(model, images)
    assert result.at("accuracy", weights="embedded") == pytest.approx(accuracy, abs=1e-6)
    (entry,) = zoo.registry()
    assert (entry["precision"], entry["epochs"], entry["accuracy"]) == ("float16", 1, accuracy)
    assert result["bytes"].tolist() == [
        (run / "model.safetensors").stat().st_size, (zoo.FOLDER / entry["file"]).stat().st_size
    ]  # fmt: skip
    assert [r.experiment for r in find_results(folder=assets)] == ["compression", "training"]


def test_what_is_not_small_goes_to_int8(monkeypatch, run, images):
    monkeypatch.setattr(compression, "SMALL", 0)
    monkeypatch.setattr(compression, "ALLOWED", {"accuracy": 100, "q": 1})
    assert embed(run, images).settings["precision"] == "int8"


def test_where_too_much_is_lost_the_next_better_precision_is_taken(monkeypatch, run, images):
    monkeypatch.setattr(compression, "SMALL", 0)
    monkeypatch.setattr(compression, "ALLOWED", {"accuracy": 100, "q": 0})
    result = embed(run, images)
    assert result.settings["precision"] == "float32"
    assert (result["q"][0] == result["q"][1]).all()


@pytest.mark.parametrize("how, says", [
    (dict(batch_size=32), "it has batch_size=32, lr=0.025, which the recipe 'one' does not give"),
    (dict(stages=(2, 2, 2)), r"it has stages=\[2, 2, 2\], which"),
    (dict(recipe=ONE), "which the recipe 'custom' does not give"),
    (dict(data=True), "it has data_sha256="),
])  # fmt: skip
def test_a_run_that_is_not_a_recipes_own_is_not_embedded_under_its_name(run, images, tmp_path, how, says):
    if "data" in how:
        how = {"data": (images[:80], images[100:150])}
    train("resnet20", **{"recipe": "one", "folder": tmp_path / "other", **how})
    with pytest.raises(ValueError, match=f"other cannot be embedded by that name: .*{says}"):
        embed(tmp_path / "other", images)
    assert zoo.registry() == [] and not [*(tmp_path / "results").glob("*")]


def test_a_pruned_and_fine_tuned_run_is_not_embedded_as_a_plain_one(run, images, tmp_path):
    model = prune(modlib.load_model("resnet20", weights=run / "model.safetensors"), ["layer3.2"])
    fine_tune(model, recipe="one", folder=tmp_path / "tuned")
    with pytest.raises(ValueError, match=r"it has stages=\[3, 3, 2\], weights_sha256="):
        embed(tmp_path / "tuned", images)


def test_what_is_embedded_was_trained_by_its_recipe_alone():
    for record in find_results("training", results.ASSETS / "results"):
        recipe = RECIPES[record.settings["recipe"]]
        made = {"optimizer": "sgd"} | {key: value for key, value in record.settings.items() if key in vars(recipe)}
        assert made == {
            **vars(recipe), "steps": list(recipe.steps), "epochs": record.settings["epochs"]
        }  # fmt: skip


def test_a_run_that_is_not_finished_is_not_embedded(run, images):
    (run / "model.safetensors").unlink()
    with pytest.raises(OSError, match="model.safetensors.* no such file"):
        embed(run, images)
    assert zoo.registry() == []
    assert torch.load(run / "checkpoint.pt", weights_only=True)["history"]  # the run itself is as it was
