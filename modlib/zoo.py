"""Trained weights by name: embedded ones from a registry, anybody's from a safetensors file."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from modlib._checks import unknown
from modlib.data import ASSETS, write_atomically
from modlib.data.datasets import DATASETS
from modlib.models import MODELS, build_model

FOLDER = ASSETS / "weights"
PRECISIONS = ("float32", "float16", "int8")
SCALE = ".scale"  # behind the name of an int8 tensor: the name of its channels' scales


def registry() -> list[dict]:
    """What is embedded: name, dataset, file, sha256, precision, test accuracy in percent, recipe, and how it was trained."""
    return json.loads((FOLDER / "registry.json").read_text())


def load_model(name: str, dataset: str = "cifar10", *, weights: str | Path | None = None, **architecture) -> nn.Module:
    """A trained network in evaluation mode; it takes (N, 3, H, W) pixels in [0, 1] and gives (N, C) logits.

    Args:
        name: one of :data:`modlib.models.MODELS`.
        dataset: what it was trained on. ``"imagenet"`` fetches torchvision's weights (a download).
        weights: a safetensors file instead; its own record of the architecture, if it has one, is followed.
        **architecture: ``num_classes`` and ``stages`` of :func:`modlib.build_model`, for files without a record.

    Raises:
        ValueError: for an unknown name, a pair that is not embedded, or weights of another architecture.
        OSError: for a damaged file, or weights that cannot be fetched.

    >>> load_model("resnet20").training
    False
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    if architecture and weights is None:
        raise ValueError(f"{', '.join(architecture)} can only be given with weights=FILE; build_model makes untrained networks")
    if str(weights) == "keras":
        raise ValueError("weights='keras' are loaded by modlib.campaign.keras.load_keras_resnet50()")
    if weights is not None:
        return _from_file(name, dataset, Path(weights), architecture)
    if dataset == "imagenet":
        model = build_model(name, dataset)
        from modlib._torchvision import torchvision

        kind = torchvision.models.get_model_weights(name + "_bn" * name.startswith("vgg"))
        try:
            model.load_state_dict(kind.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True))
        except OSError as error:
            other = "; modlib.campaign.keras.load_keras_resnet50() gives others, from another host" if name == "resnet50" else ""
            raise OSError(f"torchvision's weights of {name} could not be fetched ({error}){other}") from None
        return model
    if dataset not in DATASETS:
        raise unknown("dataset", dataset, DATASETS)
    entries = [e for e in registry() if (e["name"], e["dataset"]) == (name, dataset)]
    if not entries:
        have = ", ".join(f"{e['name']} on {e['dataset']}" for e in registry())
        raise ValueError(
            f"no trained weights of {name!r} on {dataset!r} are embedded (embedded: {have}). Train them with "
            f"`python -m modlib train {name} --dataset {dataset}` and pass weights=FILE, or take models.build_model "
            "for an untrained network"
        )
    path = FOLDER / entries[0]["file"]
    if sha256(path) != entries[0]["sha256"]:
        raise OSError(f"{path} is damaged (its sha256 is not the registry's); reinstall modlib")
    return _from_file(name, dataset, path, {})


def save_model(model: nn.Module, path: str | Path, precision: str = "float32") -> Path:
    """Write a model's weights as safetensors, with the architecture they belong to; all or nothing.

    Args:
        precision: how the weights of convolutions and linear modules are stored:
            ``"float32"`` as they are, ``"float16"`` in half the space, ``"int8"`` in a quarter: each output channel's
            weights as whole multiples of 1/127 of the largest of them. Everything else is stored as it is.
            :func:`modlib.load_model` gives float32 whatever the file holds.
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.ndim < 2 or precision == "float32":
            state[name] = tensor
        elif precision == "float16":
            state[name] = tensor.half()
        else:
            rows = tensor.flatten(1)
            scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
            state[name] = (rows / scale).round().to(torch.int8).view(tensor.shape)
            state[name + SCALE] = scale[:, 0]
    record = {"architecture": json.dumps(model.architecture)} if hasattr(model, "architecture") else None
    path = Path(path)
    write_atomically(path, save(state, record))
    return path


def _decoded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The float32 weights of a file that :func:`save_model` wrote in any precision."""
    weights = {}
    for name, tensor in state.items():
        if tensor.dtype == torch.int8 and name + SCALE in state:
            tensor = tensor.float() * state[name + SCALE].view(-1, *[1] * (tensor.ndim - 1))
        if not name.endswith(SCALE):
            weights[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return weights


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
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {}).get("architecture", "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise OSError(f"weights={str(path)!r}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise OSError(f"weights={str(path)!r} is not a whole safetensors file ({error})") from None
    except json.JSONDecodeError:
        record = "not JSON"
    if record and not (isinstance(record, dict) and "name" in record):
        raise ValueError(
            f"weights={str(path)!r} has a record of its architecture that modlib did not write; save it with save_model"
        )
    if record and record["name"] != name:
        raise ValueError(f"weights={str(path)!r} are of {record['name']!r}, not of {name!r}; load them under that name")
    model = build_model(**record) if record else build_model(name, dataset, **architecture)
    load_state(model, _decoded(state), f"weights={str(path)!r}")
    return model


def same_weights(path: Path, model: nn.Module) -> bool:
    """Whether a file of :func:`save_model` holds exactly a model's weights."""
    held, own = load_file(path), model.state_dict()
    return held.keys() == own.keys() and all(torch.equal(held[name], own[name].cpu()) for name in own)


def load_state(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """``model.load_state_dict``, with a sentence instead of a list where it does not fit; the model is then unchanged."""
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
    model.load_state_dict(state)
