"""The paper's networks, and which of a network's modules count as its layers."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from torch import nn

from modlib._checks import check_seed, checked, one_of, shown, whole_number
from modlib.data.datasets import DATASETS
from modlib.models.layers import chosen_layers as chosen_layers
from modlib.models.layers import layer_names as layer_names

_A = [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"]
# What stands in each stage: convolution widths and poolings of a VGG, number of blocks of a ResNet.
VGG = {
    "vgg11": _A,
    "vgg13": [64, 64, "M", 128, 128, *_A[3:]],
    "vgg16": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "vgg19": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}
RESNET = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
THIN_RESNET = {f"resnet{6 * n + 2}": (n, n, n) for n in (3, 5, 7, 9, 18)}  # 20, 32, 44, 56, 110: 16-32-64 channels
CONVNETS = (*VGG, *RESNET, *THIN_RESNET)
TRANSFORMERS = {"vit6": (6,), "cct6": (6,)}  # small ones for small images, beyond the paper; number of blocks
MODELS = (*CONVNETS, *TRANSFORMERS)


@checked
def build_model(
    name: str,
    dataset: str = "cifar10",
    *,
    num_classes: int | None = None,
    stages=None,
    stride_in: str = "conv2",
    shortcut: str = "pad",
    pixels: tuple[Sequence[float], Sequence[float]] | None = None,
    seed: int | None = None,
) -> nn.Module:
    """An untrained network, in evaluation mode, taking (N, 3, H, W) pixels in [0, 1].

    For ``dataset="imagenet"`` these are torchvision's own networks (VGGs with batch normalisation); for the others,
    ResNet18 to 152 have the CIFAR stem (3 x 3, no pooling) and VGGs a 512-512-C classifier. Two small transformers, which
    the paper has not: ``vit6`` (Dosovitskiy et al., 2021) cuts an image into patches of 4 x 4 pixels and adds a class
    token; ``cct6`` (Hassani et al., 2021) makes its tokens by two convolutions and pools them by learned weights.

    Args:
        name: one of :data:`modlib.models.MODELS`.
        dataset: whose classes, pixel statistics and stem it gets: cifar10, cifar100, tinyimagenet50 or imagenet.
        num_classes: another number of classes C than the dataset's.
        stages: another depth: a tuple of blocks a stage for ResNets, the number of blocks for transformers, a list of widths
            and ``"M"`` for VGGs.
        stride_in: which convolution of a ResNet50, 101 or 152's block takes every second pixel where a stage begins:
            ``"conv2"``, as torchvision has it (v1.5), or ``"conv1"``, as in He et al. (2016) (v1).
        shortcut: of a ResNet20 to 110 where the maps become smaller: ``"pad"`` with zeros, as in He et al. (2016), option A,
            or ``"conv"``, a 1 x 1 convolution with batch normalisation, their option B.
        pixels: mean and standard deviation of each channel to normalise by, instead of the dataset's.
        seed: of the initial weights; the random numbers of the process go on as if none had been drawn. By default the
            weights are drawn from these.

    Returns:
        nn.Module whose ``architecture`` attribute holds these arguments.

    Raises:
        ValueError: for an unknown name or dataset, or stages or a stride that do not fit the family.

    >>> model = build_model("resnet56", stages=(2, 3, 6))
    >>> len(layer_names(model))
    12
    """
    one_of("model", name, MODELS)
    if pixels is not None:
        pixels = _check_statistics(pixels)
    info = DATASETS[one_of("dataset", dataset, DATASETS)]
    classes = info.num_classes if num_classes is None else whole_number("num_classes", num_classes, 2, 10**6)
    imagenet = dataset == "imagenet"
    one_of("place of the stride (stride_in)", stride_in, ("conv1", "conv2"))
    if stride_in == "conv1" and RESNET.get(name, [None])[0] != "bottleneck":
        raise ValueError(f"stride_in='conv1' is for resnet50, resnet101 and resnet152; {name} has no choice")
    one_of("shortcut", shortcut, ("pad", "conv"))
    if shortcut == "conv" and name not in THIN_RESNET:
        raise ValueError(f"shortcut='conv' is for {', '.join(THIN_RESNET)}; {name} has no choice")
    if name in VGG:
        stages = _vgg_stages(VGG[name] if stages is None else stages)
    elif imagenet and name not in RESNET:
        raise ValueError(f"model {name!r} is for small images; for ImageNet take one of {', '.join((*VGG, *RESNET))}")
    else:
        stages = _blocks(name, RESNET[name][1] if name in RESNET else {**THIN_RESNET, **TRANSFORMERS}[name], stages)
    from modlib.models import networks

    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(check_seed(seed))
        if name in VGG:
            model = networks.vgg(stages, classes, imagenet)
        elif name in RESNET:
            model = networks.resnet(RESNET[name][0], stages, classes, imagenet)
        elif name in THIN_RESNET:
            model = networks.thin_resnet(stages, classes, shortcut)
        else:
            model = networks.transformer(name, *stages, classes, info.size)
    model.set_pixels(*(pixels or (info.mean, info.std)))
    model.architecture = {"name": name, "dataset": dataset, "num_classes": classes, "stages": list(stages)}
    if stride_in == "conv1":
        for block in (model.layer2[0], model.layer3[0], model.layer4[0]):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
        model.architecture["stride_in"] = stride_in
    if shortcut == "conv":
        model.architecture["shortcut"] = shortcut
    if pixels:
        model.architecture["pixels"] = pixels
    return model.eval()


def _check_statistics(pixels) -> list[list[float]]:
    try:
        mean, std = np.asarray(pixels, float)
        fits = mean.shape == std.shape == (3,) and np.isfinite(mean).all() and (std > 0).all() and np.isfinite(std).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"pixels must be the means and the standard deviations (> 0) of three channels; got {shown(pixels)}")
    return [mean.tolist(), std.tolist()]


def _vgg_stages(stages: Sequence) -> list:
    stages = list(stages) if isinstance(stages, Sequence) else [stages]
    widths = [s for s in stages if s != "M"]
    if not widths or widths[-1] != 512 or not all(isinstance(w, Integral) and w > 0 for w in widths):
        raise ValueError(f'stages of a VGG must be widths and "M", the last width 512; got {stages}')
    return [s if s == "M" else int(s) for s in stages]


def _blocks(name: str, default: Sequence[int], stages: Sequence[int] | None) -> tuple[int, ...]:
    stages = tuple(default) if stages is None else tuple(stages) if isinstance(stages, Sequence) else (stages,)
    if len(stages) != len(default) or not all(isinstance(s, Integral) and s >= 1 for s in stages):
        what = "one number" if len(default) == 1 else f"{len(default)} numbers"
        raise ValueError(f"stages of {name} must be {what} of blocks, each at least 1; got {stages}")
    return tuple(map(int, stages))


def stages(model: str) -> np.ndarray:
    """(L,) the stage of each layer of a convolutional network for small images: how often the maps were made smaller before it.

    >>> stages("vgg11")
    array([0, 1, 2, 2, 3, 3, 4, 4])
    >>> stages("resnet20")
    array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    """
    one_of("convolutional model", model, CONVNETS)
    if model in VGG:
        return np.array([VGG[model][:i].count("M") for i, width in enumerate(VGG[model]) if width != "M"])
    first, *others = RESNET[model][1] if model in RESNET else THIN_RESNET[model]
    return np.repeat(range(1 + len(others)), [1 + first, *others])  # the stem is of the first stage
