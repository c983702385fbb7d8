"""Trained weights by name: embedded ones from a registry, others' from where they publish them, anybody's from a file.

Nothing in a file is executed, and a file is held against the network it claims to be of before that network is built.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from modlib._checks import checked, one_of, shown, unknown
from modlib._tensors import plain
from modlib.data import ASSETS, write_atomically
from modlib.data.datasets import DATASETS
from modlib.data.files import as_json
from modlib.models import MODELS, VGG, build_model
from modlib.models.sources import SOURCES, published

FOLDER = ASSETS / "weights"
PRECISIONS = ("float32", "float16", "int8")
ARCHITECTURE = ("dataset", "num_classes", "stages", "stride_in", "shortcut", "pixels")  # what a file may say of its network
PICKLES = (".th", ".pt", ".pth", ".bin")  # what others call files that torch.save wrote
SCALE = ".scale"  # behind the name of an int8 tensor: the name of its channels' scales


def registry() -> list[dict]:
    """What is embedded: name, dataset, file, sha256, precision, test accuracy in percent, recipe, and how it was trained."""
    path = FOLDER / "registry.json"
    try:
        entries = json.loads(path.read_text())
        for each in entries:
            name, dataset, file, sha = (each[key] for key in ("name", "dataset", "file", "sha256"))
            if name not in MODELS or dataset not in DATASETS or Path(file).name != file or len(sha) != 64:
                raise ValueError(f"its entry {file!r} is not one of ours")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError(f"{path} is damaged ({error}); reinstall modlib") from None
    return entries


@checked
def load_model(
    name: str, dataset: str = "cifar10", *, weights: str | Path | None = None, source: str | None = None, **architecture
) -> nn.Module:
    """A trained network in evaluation mode; it takes (N, 3, H, W) pixels in [0, 1] and gives (N, C) logits.

    Args:
        name: one of :data:`modlib.models.MODELS`.
        dataset: what it was trained on. ``"imagenet"`` fetches torchvision's weights (a download).
        weights: whose, a key of :data:`modlib.models.sources.SOURCES`: ``"akamaster"``, ``"chenyaofo"``, ``"timm"``,
            ``"torchvision"`` or ``"keras"`` (each fetched once, and normalising pixels as it was trained with). Or a
            safetensors file (``"./keras"`` is always a file); its own record of the architecture, if it has one, is followed.
        source: ``weights`` is a file of this source, at hand, as it is published.
        **architecture: ``num_classes`` and ``stages`` of :func:`modlib.build_model`, for files without a record.

    Raises:
        ValueError: for an unknown name, a pair that is not embedded, or weights of another architecture.
        OSError: for a damaged file, or weights that cannot be fetched.

    >>> load_model("resnet20").training
    False
    """
    one_of("model", name, MODELS)
    one_of("dataset", dataset, DATASETS)
    if unexpected := [key for key in architecture if key not in ARCHITECTURE]:
        raise unknown("argument of load_model", unexpected[0], ["weights", "source", *ARCHITECTURE])
    if architecture and weights is None:
        raise ValueError(f"{', '.join(architecture)} can only be given with weights=FILE; build_model makes untrained networks")
    if source is not None and weights is None:
        raise ValueError(f"source={source!r} says whose file weights=FILE is; to fetch it, say weights={source!r}")
    if weights is None and dataset == "imagenet":
        weights = "torchvision"
    by_name = source is None and isinstance(weights, (str, Path)) and str(weights) in SOURCES
    if source is not None or by_name:
        if architecture:
            raise ValueError(f"{', '.join(architecture)} cannot be given with published weights, whose architecture is known")
        return _published(name, dataset, *((str(weights), None) if by_name else (source, Path(weights))))
    if weights is not None:
        return _from_file(name, dataset, Path(weights), architecture)
    entries = [e for e in registry() if (e["name"], e["dataset"]) == (name, dataset)]
    if not entries:
        have = ", ".join(f"{e['name']} on {e['dataset']}" for e in registry())
        others = [f"weights={key!r}" for key, each in SOURCES.items() if (name, dataset) in each.files]
        fetched = f" Others' are fetched by {' or '.join(others)}." if others else ""
        raise ValueError(
            f"no trained weights of {name!r} on {dataset!r} are embedded (embedded: {have}).{fetched} Train them with "
            f"`python -m modlib train {name} --dataset {dataset}` and pass weights=FILE, or take models.build_model "
            "for an untrained network"
        )
    path = FOLDER / entries[0]["file"]
    if sha256(path) != entries[0]["sha256"]:
        raise OSError(f"{path} is damaged (its sha256 is not the registry's); reinstall modlib")
    return _from_file(name, dataset, path, {})


def _published(name: str, dataset: str, source: str, path: Path | None) -> nn.Module:
    """A network that others trained, fetched or from their file at hand."""
    try:
        state, architecture, file = published(source, name, dataset, path)
    except OSError as error:
        other = "; weights='keras' gives others, from another host" if (name, source) == ("resnet50", "torchvision") else ""
        raise OSError(f"the weights of {name} on {dataset} by {source} could not be had ({error}){other}") from None
    model = build_model(name, dataset, **architecture, seed=0)
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):  # older files lack this count, which only training reads
            state.setdefault(key, torch.zeros_like(value))
    load_state(model, state, file)
    model.source = source
    return model


@checked
def save_model(model: nn.Module, path: str | Path, precision: str = "float32") -> Path:
    """Write a model's weights as safetensors, with the architecture they belong to; all or nothing.

    Args:
        precision: how the weights of convolutions and linear modules are stored:
            ``"float32"`` as they are, ``"float16"`` in half the space, ``"int8"`` in a quarter: each output channel's
            weights as whole multiples of 1/127 of the largest of them. Everything else is stored as it is.
            :func:`modlib.load_model` gives float32 whatever the file holds.
    """
    one_of("precision", precision, PRECISIONS)
    model, path = plain(model), Path(path)
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)  # no memory in common, as of tied weights
        if not torch.isfinite(tensor.half() if precision == "float16" and tensor.ndim > 1 else tensor).all():
            raise ValueError(f"model must have finite weights, also as {precision}; {name} has not, and load_model would refuse it")
        if tensor.ndim < 2 or precision == "float32":
            state[name] = tensor
        elif precision == "float16":
            state[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
            state[name] = (rows / scale).round().to(torch.int8).view(tensor.shape)
            state[name + SCALE] = scale[:, 0]
    record = None
    if hasattr(model, "architecture"):  # (one entry: safetensors writes several in any order)
        record = {"architecture": json.dumps({**model.architecture, "sha256": _weights_hash(state)})}
    write_atomically(path, save(state, record))
    return path


def _decoded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The float32 weights of a file that :func:`save_model` wrote in any precision.

    Raises:
        ValueError: for int8 weights without a scale a channel, or scales without weights.
    """
    weights, scales = {}, {name for name in state if name.endswith(SCALE)}
    for name, tensor in state.items():
        if tensor.dtype == torch.int8:
            scale = state.get(name + SCALE)
            if scale is None or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name} is int8 without a float32 scale for each of its channels ({name + SCALE})")
            scales.remove(name + SCALE)
            tensor = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        if not name.endswith(SCALE):
            weights[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    if scales:
        raise ValueError(f"{min(scales)} is the scale of no int8 weights")
    return weights


def _weights_hash(state: dict[str, torch.Tensor]) -> str:
    """sha256 of names, kinds, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        digest.update(state[name].reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def register(file: str | Path, entry: dict) -> None:
    """Put a file of weights among the embedded ones; an earlier one of the same name and dataset is replaced.

    Args:
        entry: what the registry tells of it; ``file`` and ``sha256`` are added here.
    """
    entry = {**entry, "file": f"{entry['name']}-{entry['dataset']}.safetensors", "sha256": sha256(file)}
    others = [e for e in registry() if (e["name"], e["dataset"]) != (entry["name"], entry["dataset"])]
    write_atomically(FOLDER / entry["file"], Path(file).read_bytes())
    write_atomically(FOLDER / "registry.json", (json.dumps([*others, entry], indent=1) + "\n").encode())


def sha256(path: str | Path) -> str:
    """Of a file's content, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _from_file(name: str, dataset: str, path: Path, architecture: dict) -> nn.Module:
    what = f"weights={str(path)!r}"
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise OSError(f"{what}: no such file") from None
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        theirs = f"; one that was published is read with source= one of {', '.join(SOURCES)}" if path.suffix in PICKLES else ""
        raise OSError(f"{what} is not a whole safetensors file ({error}){theirs}") from None
    try:
        record = json.loads(about.get("architecture", "null"))
    except (ValueError, RecursionError):
        record = "not JSON"
    known = {"name", "sha256", *ARCHITECTURE}
    if record is not None and not (isinstance(record, dict) and "name" in record and record.keys() <= known):
        raise ValueError(f"{what} has a record of its architecture that modlib did not write; save it with save_model")
    saved_as = record and record.pop("sha256", None)
    if record and record["name"] != name:
        raise ValueError(f"{what} are of {record['name']!r}, not of {name!r}; load them under that name")
    for key, value in architecture.items():
        if record and key in record and as_json(record[key]) != as_json(value):
            raise ValueError(f"{key}={shown(value)}: {what} are of a network with {key}={record[key]!r}, as the file says")
    record = record or {"name": name, "dataset": dataset, **architecture}
    try:
        weights = _decoded(state)
        if saved_as not in (None, _weights_hash(state)):
            raise OSError(f"{what} is damaged: its weights are not those that were saved (sha256 differs)")
        _affordable(record, len(weights))
        with torch.device("meta"):  # neither computes nor takes memory
            plan = build_model(**record)
        check_state(plan, weights, what)
    except (TypeError, OverflowError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{what}: no network can be built by the record of its architecture ({error}): {record}") from None
    except ValueError as error:
        raise ValueError(str(error) if what in str(error) else f"{what}: {error}") from None
    model = build_model(**record, seed=0)
    model.load_state_dict(weights)
    return model


def _affordable(record: dict, tensors: int) -> None:
    """Refuse a record that asks for more layers than the file has tensors, before any of them is built."""
    stages = record.get("stages")
    asked = sum(s if isinstance(s, int) else 1 for s in stages) if record["name"] not in VGG and stages else len(stages or ())
    if asked > tensors:
        raise ValueError(f"the record of its architecture asks for {asked} blocks; it holds {tensors} tensors")


def same_weights(path: Path, model: nn.Module) -> bool:
    """Whether a file of :func:`save_model` holds exactly a model's weights."""
    held, own = load_file(path), plain(model).state_dict()
    return held.keys() == own.keys() and all(torch.equal(held[name], own[name].cpu()) for name in own)


def load_state(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """``model.load_state_dict``, with a sentence instead of a list where it does not fit; the model is then unchanged.

    Raises:
        ValueError: for weights of another architecture, of another kind of number, or that are not finite.
    """
    check_state(model, state, source)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """The errors of :func:`load_state`; ``model`` may be on the meta device."""
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{source} holds no weights by name")
    own = model.state_dict()
    wrong = [
        *(f"{key} is missing" for key in own if key not in state),
        *(f"{key} is not of this model" for key in state if key not in own),
        *(
            f"{key} has shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ),
    ]
    if wrong:
        raise ValueError(f"{source}: weights of another architecture than {type(model).__name__}: {wrong[0]} ({len(wrong)} such)")
    for key, value in state.items():
        if value.layout != torch.strided or value.is_floating_point() != own[key].is_floating_point() or value.is_complex():
            raise ValueError(f"{source}: {key} is of kind {value.dtype}, {value.layout}, where {own[key].dtype} belongs")
        if not torch.isfinite(value).all():
            raise ValueError(f"{source}: {key} is not finite; these weights are damaged, or their training failed")
        if key.endswith("running_var") and value.min() < 0:
            raise ValueError(f"{source}: {key} has negative variances; these weights are damaged")
