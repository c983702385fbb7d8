"""Networks that others trained: found, fetched, held against their hash, loaded without executing anything, and what they are."""

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import Evil
from hosting import answering, sends
from torch.nn import functional as F

import modlib
from modlib import build_model, load_model
from modlib.cost import accuracy
from modlib.data import cache_folder
from modlib.data.datasets import DATASETS
from modlib.models import MODELS, sources
from modlib.models.sources import SOURCES, File
from modlib.zoo import save_model

AKAMASTER = os.environ.get("MODLIB_AKAMASTER")  # a folder with the files of that repository, for who has them
EVERY = [(source, *network) for source, each in SOURCES.items() for network in each.files]


def saved(content) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


def renamed_back(source, model) -> dict:
    """A model's weights as its source names and wraps them."""
    state = model.state_dict()
    if source == "akamaster":
        old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        return {"best_prec1": 90.0, "state_dict": {"module." + k.replace("fc.", "linear."): v for k, v in old.items()}}
    return state


@pytest.mark.parametrize("source, name, dataset", EVERY)
def test_every_known_network_can_be_built_and_says_what_it_is(source, name, dataset):
    each = SOURCES[source]
    file = each.files[name, dataset]
    assert name in MODELS and dataset in DATASETS
    assert file.url.startswith(("https://", "npm:")) and 50 < file.accuracy < 100
    assert set(file.sha256) <= set("0123456789abcdef") and len(file.sha256) in ((0,) if source == "timm" else (8, 64))
    assert source == "keras" or file.sha256[:8] in file.url
    assert each.licence and each.about
    with torch.device("meta"):
        model = build_model(name, dataset, **each.architecture(name, dataset))
    assert model.architecture.items() >= json.loads(json.dumps(each.architecture(name, dataset))).items()


@pytest.fixture
def published(monkeypatch):
    """Serve ``content`` as a network's file; gives the requests."""

    def serve(source, name, dataset, content, sha256=None):
        digits = hashlib.sha256(content).hexdigest()[:8] if sha256 is None else sha256
        context = answering(sends(content))
        address, asked = context.__enter__()
        opened.append(context)
        suffix = Path(SOURCES[source].files[name, dataset].url).suffix
        monkeypatch.setitem(SOURCES[source].files, (name, dataset), File(f"{address}/file-{digits}{suffix}", digits, 90.0))
        return asked

    opened = []
    yield serve
    for context in opened:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("source, name, dataset", [
    ("akamaster", "resnet20", "cifar10"), ("chenyaofo", "resnet20", "cifar100"), ("chenyaofo", "vgg11", "cifar10"),
    ("timm", "resnet18", "cifar100"),
])  # fmt: skip
def test_a_network_is_fetched_once_and_computes_what_its_source_computes(published, source, name, dataset):
    theirs = build_model(name, dataset, **SOURCES[source].architecture(name, dataset), seed=3).train()
    theirs(torch.rand(8, 3, 32, 32))  # statistics of its own
    theirs.eval()
    asked = published(source, name, dataset, saved(renamed_back(source, theirs)))
    before = torch.random.get_rng_state()
    for _ in range(2):
        model = load_model(name, dataset, weights=source)
    assert len(asked) == 1 and [p.name for p in cache_folder().iterdir() if p.name != ".lock"][0].startswith(f"{source}-{name}-")
    assert not model.training and model.source == source and torch.equal(torch.random.get_rng_state(), before)
    x = torch.rand(3, 3, 32, 32)
    mean, std = SOURCES[source].pixels[dataset]
    normalised = (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    plain = build_model(name, dataset, **SOURCES[source].architecture(name, dataset) | {"pixels": ((0, 0, 0), (1, 1, 1))})
    plain.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(model(x), plain(normalised))
    again = load_model(name, weights=save_model(model, cache_folder() / "mine.safetensors"))
    with torch.inference_mode():
        assert torch.equal(again(x), model(x))  # how it normalises is saved with it


def test_a_shortcut_with_a_convolution_is_option_b(rng):
    model = build_model("resnet20", shortcut="conv", seed=0)
    side = model.layer2[0].downsample
    x = torch.from_numpy(rng.normal(size=(2, 16, 8, 8)).astype("float32"))
    with torch.inference_mode():
        expected = F.batch_norm(F.conv2d(x, side[0].weight, stride=2), side[1].running_mean, side[1].running_var)
        torch.testing.assert_close(side(x), expected)
    assert model.layer1[0].downsample is None
    with pytest.raises(ValueError, match="shortcut='conv' is for resnet20, .*; vgg11 has no choice"):
        build_model("vgg11", shortcut="conv")
    with pytest.raises(ValueError, match="unknown shortcut 'cnov'; did you mean 'conv'"):
        build_model("resnet20", shortcut="cnov")


def test_another_file_than_the_known_one_is_refused_and_not_kept(published):
    content = saved(build_model("vgg11", seed=0).state_dict())
    published("chenyaofo", "vgg11", "cifar10", content, sha256="00000000")
    with pytest.raises(OSError, match="weights of vgg11 on cifar10 by chenyaofo .*does not begin with 00000000.*nothing was kept"):
        load_model("vgg11", weights="chenyaofo")
    assert [p.name for p in cache_folder().iterdir()] == [".lock"]


def test_a_file_in_the_cache_that_changed_is_refused_by_name(published):
    published("akamaster", "resnet20", "cifar10", saved(renamed_back("akamaster", build_model("resnet20", seed=0))))
    load_model("resnet20", weights="akamaster")
    path = cache_folder() / "akamaster-resnet20-cifar10.th"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"akamaster-resnet20-cifar10\.th is not the file that is known"):
        load_model("resnet20", weights="akamaster")


@pytest.mark.parametrize("source", ["torchvision", "timm", "akamaster", "chenyaofo"])
def test_nothing_in_a_file_is_executed(published, source, tmp_path, monkeypatch):
    name, dataset = next(iter(SOURCES[source].files))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    published(source, name, dataset, saved({"conv1.weight": Evil(tmp_path / "EXECUTED")}))
    with pytest.raises(OSError, match="is not a whole file of weights, or holds more than weights"):
        load_model(name, dataset, weights=source)
    assert not (tmp_path / "EXECUTED").exists()


def test_what_lies_in_torchs_own_cache_is_checked_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = SOURCES["torchvision"].files["resnet18", "imagenet"]
    path = tmp_path / "hub" / "checkpoints" / file.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    path.write_bytes(saved({"conv1.weight": Evil(tmp_path / "EXECUTED")}))
    with pytest.raises(OSError, match=f"{path.name} is not the file that is known"):
        load_model("resnet18", "imagenet")
    assert path.exists() and not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("content, says", [
    ([1, 2], "holds no weights by name but list"), ({"fc.weight": "no tensor"}, "holds no weights by name"),
    ({"state_dict": 3}, "holds no weights by name"), ({"fc.weight": torch.zeros(3)}, "weights of another architecture"),
])  # fmt: skip
def test_files_that_hold_something_else_are_told(tmp_path, content, says):
    path = tmp_path / "resnet18.bin"
    path.write_bytes(saved(content))
    with pytest.raises((OSError, ValueError), match=says):
        load_model("resnet18", weights=path, source="timm")


@pytest.mark.parametrize("arguments, says", [
    (dict(name="resnet20", weights="timm"), "unknown network of timm 'resnet20 on cifar10'; did you mean"),
    (dict(name="resnet20", weights="akamaster", num_classes=7), "num_classes cannot be given with published weights"),
    (dict(name="resnet20", source="akamaster"), "to fetch it, say weights='akamaster'"),
    (dict(name="resnet20", weights="w.th", source="akamastre"), "unknown source of weights 'akamastre'; did you mean 'akamaster'"),
    (dict(name="resnet44"), "Others' are fetched by weights='akamaster' or weights='chenyaofo'"),
    (dict(name=3), "name must be text; got name=3"),
    (dict(name="resnet20", dataset=None), "dataset must be text; got dataset=None"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        load_model(**arguments)


def test_a_published_file_without_its_source_is_told_how_to_be_read(tmp_path):
    (tmp_path / "resnet20.th").write_bytes(saved({"state_dict": {}}))
    with pytest.raises(OSError, match=r"resnet20\.th.* is not a whole safetensors file .*read with source= one of akamaster"):
        load_model("resnet20", weights=tmp_path / "resnet20.th")


@pytest.mark.skipif(not AKAMASTER, reason="MODLIB_AKAMASTER names no folder with that repository's files")
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_the_published_accuracy_comes_out(name):
    """On the embedded images, within four deviations of a draw of that size."""
    [path] = Path(AKAMASTER).glob(f"{name}-*.th")
    model, images = load_model(name, weights=path, source="akamaster"), modlib.load_images("cifar10", n=1500)
    p = SOURCES["akamaster"].files[name, "cifar10"].accuracy / 100
    assert abs(accuracy(model, images) / 100 - p) < 4 * np.sqrt(p * (1 - p) / 1500)


def test_a_source_is_named_wherever_its_network_is_measured(published, tmp_path):
    from modlib.campaign.reproduce import reproduce

    published("akamaster", "resnet20", "cifar10", saved(renamed_back("akamaster", build_model("resnet20", seed=0))))
    made = list(reproduce("fig4", ["resnet20"], weights="akamaster", scale="smoke", out=tmp_path, runs=tmp_path / "runs"))
    assert [step.state for step in made] == ["measured"]
    record = made[0].result
    assert record.settings == {"model": "resnet20", "dataset": "cifar10", "scale": "smoke", "weights": "akamaster"}
    assert "akamaster" in record.evidence["stored"] and record.evidence["licence"] == "BSD-2-Clause"
    assert record.evidence["published"]["sha256"] and not (tmp_path / "runs").exists()
    assert [p.name for p in (tmp_path / "smoke").iterdir()] == ["curves-resnet20-cifar10-akamaster-0.json"]
    again = list(reproduce("fig4", ["resnet20"], weights="akamaster", scale="smoke", out=tmp_path, runs=tmp_path / "runs"))
    assert [step.state for step in again] == ["recorded"]
    for wrong, says in ({"weights": "nobody"}, "weights='nobody'"), ({"figure": "a2", "weights": "timm"}, "got figure 'a2'"):
        with pytest.raises(ValueError, match=says):
            next(reproduce(**{"figure": "fig4"} | wrong))
    with pytest.raises(ValueError, match="unknown network of akamaster"):
        next(reproduce("fig4", ["vgg11"], weights="akamaster"))


def test_a_published_network_is_pruned_and_trained_on(published, tmp_path):
    from modlib.campaign.reproduce import reproduce

    published("akamaster", "resnet20", "cifar10", saved(renamed_back("akamaster", build_model("resnet20", seed=0))))
    where = {"weights": "akamaster", "scale": "smoke", "out": tmp_path, "runs": tmp_path / "runs"}
    asked = ["choice", ["resnet20"], ["cifar10"], ["random-3-inherited"]]
    [step] = reproduce(*asked, tune_recipe="gentle", tune_epochs=1, seed=3, **where)
    assert step.state == "measured", step.note
    chosen = {"criterion": "random", "count": 3, "start": "inherited", "tune_recipe": "gentle", "tune_epochs": 1, "seed": 3}
    whose = {"model": "resnet20", "dataset": "cifar10", "scale": "smoke", "weights": "akamaster"}
    assert step.result.settings == whose | chosen and step.result.evidence["licence"] == "BSD-2-Clause"
    name = "pruning-resnet20-cifar10-akamaster-3-random-3-inherited-gentle-1-epochs.json"
    assert [path.name for path in (tmp_path / "smoke").glob("*.json")] == [name]
    [again] = reproduce(*asked, tune_recipe="gentle", tune_epochs=1, seed=3, **where)
    assert again.state == "recorded"
    for otherwise in ({"tune_epochs": 2}, {"tune_recipe": "fast"}, {"batch_size": 64}, {"seed": 4}):
        how = {"tune_recipe": "gentle", "tune_epochs": 1, "seed": 3} | otherwise
        [other] = reproduce(*asked, max_minutes=0, **how, **where)
        assert other.state == "out of time", otherwise
    with pytest.raises(ValueError, match="unknown tune_recipe 'soft'"):
        reproduce(*asked, tune_recipe="soft", **where)


def test_pickles_are_read_by_one_function_alone():
    """Every torch.load of the package says weights_only=True."""
    package = Path(sources.__file__).parents[1]
    calls = [line for path in package.rglob("*.py") for line in path.read_text().splitlines() if "torch.load(" in line]
    assert calls and all("weights_only=True" in line for line in calls)
    text = "\n".join(path.read_text() for path in package.rglob("*.py"))
    for unsafe in ("pickle.load", "allow_pickle=True", "load_state_dict_from_url", "get_state_dict(", "np.load("):
        assert unsafe not in text.replace("np.load(raw, allow_pickle=False)", ""), unsafe
