"""A network as ONNX graphs that run without torch: features of every layer, and the gradient by the pixels."""

import copy
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from modlib._checks import checked, room_for, shown, whole_number
from modlib._tensors import exactly, plain
from modlib.data import write_atomically
from modlib.data.datasets import CLASSES, DATASETS
from modlib.data.files import as_json, check_json
from modlib.features import iter_features
from modlib.models.outputs import as_rows, first_tensor, tapped_module

RESERVED = ("images", "labels", "logits", "gradient", "loss")  # names of inputs and outputs, which no layer may have


@checked
def export_onnx(
    model: nn.Module,
    folder: str | Path,
    name: str,
    *,
    size: Sequence[int] | None = None,
    layers: Sequence[str] | str | None = None,
    gradient: bool = False,
    weights: bool = True,
    **about,
) -> dict:
    """Write ``name.onnx``, on request ``name-gradient.onnx``, and the file ``weights`` that both read.

    ``name.onnx`` takes ``images`` float32 (N, 3, H, W), as the model does: pixels in [0, 1]. It gives the features of each layer
    (N, M), under the layer's name, and ``logits`` (N, C). ``name-gradient.onnx`` takes ``labels`` int64 (N,) as well; it gives
    ``gradient`` (N, 3, H, W), the derivative of each image's own cross-entropy by its pixels, ``loss`` (N,) and ``logits``.
    Both compute in evaluation mode and float32. The gradient is there for networks of convolutions, batch normalisation, ReLU,
    pooling, addition, linear modules and what only moves numbers.

    No weights are in a graph: it names them as ``model.state_dict()`` does, and reads them from ``weights``, as :func:`tensors`
    says. Other numbers in that file make it another network of the same architecture.

    Before they are written, both graphs run on three random images, and must give what torch gives.

    Args:
        model: any module that takes a batch of images and returns logits.
        folder: where the files go; of one network each, since ``weights`` is.
        size: (channels, H, W) of an image; by default that of the dataset of which a network of modlib is.
        layers: names of modules, by default those of :func:`modlib.layer_names` that run.
        gradient: write the second graph, too.
        weights: write the file of weights.
        **about: what else the graphs say of themselves in their ``metadata_props``, what is no string as JSON. By default
            ``name``, ``layers``, ``weights_sha256``; of a network of modlib ``dataset`` and, where they are known, ``classes``.

    Returns:
        dict with ``graph``, ``gradient`` and ``weights`` (paths, or None), ``layers`` and ``tensors`` (see :func:`tensors`).

    Raises:
        ValueError: for a module that has no such graph, by its name and type; a folder that holds another network's graph.
        ImportError: without the packages onnx and onnxruntime.

    >>> import tempfile, modlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = export_onnx(modlib.load_model("resnet20"), folder, "resnet20", gradient=True)
    >>> written["layers"][:3], written["tensors"][1]
    (['conv1', 'layer1.0', 'layer1.1'], {'name': 'bn1.weight', 'shape': [16], 'offset': 1728})
    """
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"a network is exported with the package {package}: pip install onnx onnxruntime")
    from modlib.models.export import graphs, trial

    about = as_json(about)
    check_json("about", about)
    network = copy.deepcopy(plain(model)).cpu().float().eval()
    folder = _folder(folder, name, gradient, weights)
    images = torch.rand(3, *_size(network, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), exactly(torch.device("cpu")):
        names = [*dict(iter_features(network, images, layers))]  # those that can be tapped
        _tap(network, names)
        right = dict(zip(["logits", *names], network(images), strict=True))
    if right["logits"] is None or right["logits"].ndim != 2:
        raise ValueError(f"model must return logits (N, C); got {shown(right['logits'])}")
    place, state = tensors(network), network.state_dict()
    packed = b"".join(state[each["name"]].contiguous().numpy().tobytes() for each in place)

    graph, constants = graphs.forward(network, images[:2], [*right], place)
    files = {name: graph}
    trial.forward(name, graph, packed, images, right)
    if gradient:
        files[f"{name}-gradient"] = graphs.gradient(graph, constants, network)
        trial.gradient(f"{name}-gradient", files[f"{name}-gradient"], packed, images, network)
    about = {"name": name, "layers": names, "weights_sha256": hashlib.sha256(packed).hexdigest(), **_dataset(network), **about}
    folder.mkdir(parents=True, exist_ok=True)
    for stem, proto in files.items():
        for key, value in about.items():
            proto.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
        write_atomically(folder / f"{stem}.onnx", proto.SerializeToString())
    if weights:
        write_atomically(folder / graphs.WEIGHTS, packed)
    paths = {"graph": folder / f"{name}.onnx", "gradient": folder / f"{name}-gradient.onnx" if gradient else None}
    return {**paths, "weights": folder / graphs.WEIGHTS if weights else None, "layers": names, "tensors": place}


def tensors(model: nn.Module) -> list[dict]:
    """Name, shape and offset in bytes of each tensor in the file of weights: float32 (little-endian), one after another, in the
    order of the state_dict.

    What is counted in whole numbers, such as the batches of a batch normalisation, has no place there.

    >>> tensors(nn.Linear(3, 2))
    [{'name': 'weight', 'shape': [2, 3], 'offset': 0}, {'name': 'bias', 'shape': [2], 'offset': 24}]
    """
    place, offset = [], 0
    for name, tensor in plain(model).state_dict().items():
        if tensor.is_floating_point():
            place.append({"name": name, "shape": [*tensor.shape], "offset": offset})
            offset += 4 * tensor.numel()
    return place


def _folder(folder: str | Path, name: str, gradient: bool, weights: bool) -> Path:
    if not name or Path(name).name != name:
        raise ValueError(f"name must be the name of a file, without its folder; got name={name!r}")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder {str(folder)!r} is a file; name a folder")
    written = {f"{name}.onnx", *([f"{name}-gradient.onnx"] if gradient else [])}
    others = {path.name for path in folder.glob("*.onnx")} - written
    if weights and others:
        raise ValueError(f"folder {str(folder)!r} holds {min(others)}, whose weights would be replaced; name a folder of its own")
    room_for(folder)
    return folder


def _dataset(network: nn.Module) -> dict:
    """The dataset of a network of modlib, and the names of its classes."""
    known = getattr(network, "architecture", None)
    if not isinstance(known, dict) or known.get("dataset") not in DATASETS:
        return {}
    classes = CLASSES.get(known["dataset"], ())
    named = {"classes": classes} if len(classes) == known["num_classes"] else {}
    return {"dataset": known["dataset"], **named}


def _size(network: nn.Module, size: Sequence[int] | None) -> list[int]:
    if size is None:
        if not (known := _dataset(network)):
            raise ValueError("size of an image is not known; give size=(channels, H, W), such as (3, 224, 224)")
        width = DATASETS[known["dataset"]].size
        return [3, width, width]
    if len(size) != 3:
        raise ValueError(f"size must be (channels, H, W) of an image; got size={size!r}")
    return [whole_number("size", each, 1) for each in size]


def _tap(network: nn.Module, names: list[str]) -> None:
    """Let a network return its logits and the features of its layers."""
    if taken := {*names} & {*RESERVED}:
        raise ValueError(f"layer {min(taken)!r} has the name of an input or output of the graph; rename the module")
    forward, rows = network.forward, {}
    for name in names:
        module = tapped_module(network, name)
        module.register_forward_hook(lambda module, _, given, name=name: rows.update({name: as_rows(given, name, module)}))
    network.forward = lambda x: (first_tensor(forward(x)), *(rows[name] for name in names))
