"""Trained weights: they come back as they were saved, and what does not fit or is not whole is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import modlib
from modlib import build_model, load_model, zoo
from modlib.results import measurement, write_result
from modlib.training import accuracy
from modlib.zoo import load_state, save_model


def same_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def model():
    """A small ResNet with weights and statistics of its own."""
    torch.manual_seed(5)
    model = build_model("resnet20", num_classes=7, stages=(1, 1, 2)).train()
    model(torch.rand(8, 3, 16, 16))
    return model.eval()


def test_weights_come_back_with_their_architecture(model, tmp_path):
    path = save_model(model, tmp_path / "w.safetensors")
    again = load_model("resnet20", weights=path)
    assert same_weights(again, model)
    assert again.architecture == model.architecture
    assert not again.training and not any(module.training for module in again.modules())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(x), model(x))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_channels_last_weights_are_saved_as_any(model, tmp_path):
    path = save_model(model.to(memory_format=torch.channels_last), tmp_path / "w.safetensors")
    assert same_weights(load_model("resnet20", weights=path), model)


def test_a_foreign_file_without_a_record_takes_the_architecture_as_arguments(model, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(model.state_dict(), path)
    again = load_model("resnet20", weights=path, num_classes=7, stages=(1, 1, 2))
    assert same_weights(again, model)
    with pytest.raises(ValueError, match="w.safetensors.* weights of another architecture than PixelThinResNet"):
        load_model("resnet20", weights=path)


def test_a_record_of_another_network_is_refused(model, tmp_path):
    path = save_model(model, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="w.safetensors.* are of 'resnet20', not of 'resnet56'; load them under that name"):
        load_model("resnet56", weights=path)


def change(state, key, value):
    return {k: v for k, v in {**state, key: value}.items() if v is not None}


@pytest.mark.parametrize("key, value, says", [
    ("fc.bias", None, "fc.bias is missing"),
    ("extra", torch.ones(1), "extra is not of this model"),
    ("fc.bias", torch.ones(9), r"fc.bias has shape \(9,\) instead of \(7,\)"),
])  # fmt: skip
def test_state_that_does_not_fit_is_refused_and_changes_nothing(model, key, value, says):
    target = build_model("resnet20", num_classes=7, stages=(1, 1, 2))
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ValueError, match=f"here: weights of another architecture than PixelThinResNet: {says}"):
        load_state(target, change(model.state_dict(), key, value), "here")
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize("spoil", [lambda b: b[:-10], lambda b: b[:20], lambda b: b"", lambda b: b"no weights at all" * 9])
def test_a_file_that_is_not_whole_is_refused(model, tmp_path, spoil):
    path = save_model(model, tmp_path / "w.safetensors")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(OSError, match="w.safetensors.* is not a whole safetensors file"):
        load_model("resnet20", weights=path)


def test_no_file_and_no_name(tmp_path):
    with pytest.raises(OSError, match="none.safetensors.*no such file"):
        load_model("resnet20", weights=tmp_path / "none.safetensors")
    with pytest.raises(OSError, match="not a whole safetensors file"):
        load_model("resnet20", weights=tmp_path)
    with pytest.raises(ValueError, match="unknown model 'resnet110x'; did you mean 'resnet110'"):
        load_model("resnet110x")
    with pytest.raises(ValueError, match="no trained weights of 'resnet110' on 'tinyimagenet50' .*python -m modlib train"):
        load_model("resnet110", "tinyimagenet50")


@pytest.mark.parametrize("ignored", [dict(stages=(1, 1, 2)), dict(num_classes=7), dict(wieghts="file")])
def test_nothing_that_is_asked_for_is_silently_ignored(ignored):
    with pytest.raises((ValueError, TypeError), match=next(iter(ignored))):
        load_model("resnet20", **ignored)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """An empty folder of embedded weights."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "registry.json").write_text("[]\n")
    monkeypatch.setattr(zoo, "FOLDER", folder)
    return folder


def finished_run(folder, model, seed=0, reached=80.0):
    folder.mkdir(exist_ok=True)
    settings = {"model": "resnet20", "dataset": "cifar10", "recipe": "fast", "seed": seed}
    values = {"test_accuracy": (["epoch"], [50, reached])}
    write_result(measurement("training", settings, {"epoch": [1, 2]}, values), folder / "result.json")
    save_model(model, folder / "model.safetensors")
    return folder


def test_an_embedded_run_is_loaded_by_name(model, library, tmp_path):
    entry = zoo.embed(finished_run(tmp_path / "run", model), library)
    assert (entry["name"], entry["dataset"], entry["accuracy"], entry["epochs"]) == ("resnet20", "cifar10", 80.0, 2)
    assert zoo.registry() == [entry]
    assert same_weights(load_model("resnet20"), model)
    with pytest.raises(ValueError, match=r"no trained weights .*\(embedded: resnet20 on cifar10\)"):
        load_model("resnet20", "cifar100")


def test_embedding_again_replaces_the_entry(model, library, tmp_path):
    zoo.embed(finished_run(tmp_path / "run", build_model("resnet20")), library)
    zoo.embed(finished_run(tmp_path / "run", model, seed=1, reached=90.0), library)
    (entry,) = zoo.registry()
    assert (entry["seed"], entry["accuracy"]) == (1, 90.0)
    assert same_weights(load_model("resnet20"), model)


def test_embedded_weights_that_changed_are_refused(model, library, tmp_path):
    entry = zoo.embed(finished_run(tmp_path / "run", model), library)
    path = library / entry["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=f"{entry['file']} is damaged .*reinstall modlib"):
        load_model("resnet20")


def test_a_run_that_is_not_finished_is_not_embedded(model, library, tmp_path):
    run = finished_run(tmp_path / "run", model)
    (run / "model.safetensors").unlink()
    with pytest.raises(OSError):
        zoo.embed(run, library)
    assert zoo.registry() == []


# ---------------------------------------------------------------------------------- the weights that are embedded

EMBEDDED = zoo.registry()
by_name = pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry["file"])


def test_registry_tells_what_it_holds():
    assert "resnet20" in {entry["name"] for entry in EMBEDDED if entry["dataset"] == "cifar10"}
    assert {path.name for path in zoo.FOLDER.glob("*.safetensors")} == {entry["file"] for entry in EMBEDDED}
    asked = {"name", "dataset", "file", "sha256", "accuracy", "epochs", "recipe", "seed", "device", "date", "command"}
    assert all(asked <= set(entry) for entry in EMBEDDED)
    assert "/" not in json.dumps([entry["command"] for entry in EMBEDDED])  # no folder of the machine


@by_name
def test_embedded_weights_are_finite_and_of_their_architecture(entry):
    state = load_file(zoo.FOLDER / entry["file"])
    assert all(torch.isfinite(value).all() for value in state.values())
    assert load_model(entry["name"], entry["dataset"]).architecture["name"] == entry["name"]


@by_name
def test_embedded_weights_are_as_accurate_as_recorded(entry):
    """On a part of the test set, within four deviations of a draw of that size."""
    if entry["dataset"] != "cifar10":
        pytest.skip("no sample of this dataset is embedded")
    images = modlib.load_images("cifar10", n=1500)
    p = entry["accuracy"] / 100
    reached = accuracy(load_model(entry["name"]), images) / 100
    assert abs(reached - p) < 4 * np.sqrt(p * (1 - p) / len(images))


@by_name
def test_curve_of_embedded_weights_rises_and_that_of_random_ones_does_not(entry):
    if entry["dataset"] != "cifar10":
        pytest.skip("no sample of this dataset is embedded")
    images = modlib.load_images("cifar10", n=500)
    trained = modlib.modularity_curve(load_model(entry["name"]), images.x, images.y)
    torch.manual_seed(0)
    random = modlib.modularity_curve(build_model(entry["name"]), images.x, images.y)
    assert trained.q[-1] > trained.q[0] + 0.3
    assert trained.q[-1] > random.q.max() + 0.3
    assert trained.q.max() <= 0.9 + 1e-9  # 1 - 1/C
