"""Snapshots of a dynamic graph in a file, so that hours of work go on where they stopped."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modlib.data import write_atomically

Snapshots = dict[str, tuple[np.ndarray, np.ndarray]]  # layer -> neighbours, weights


def fingerprint(model: nn.Module, x, **settings) -> str:
    """A name for what decides a graph: the network with its weights, the images, and the settings."""
    digest = hashlib.sha256(f"{model}{sorted(settings.items())}{tuple(x.shape)}{x.dtype}".encode())
    for tensor in (*model.state_dict().values(), torch.as_tensor(np.ascontiguousarray(x))):
        digest.update(np.ascontiguousarray(tensor.detach().cpu().view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def load(path: str | Path, key: str) -> Snapshots:
    """The layers that a file holds; none if there is no file.

    Raises:
        ValueError: if it is of another network, other images or other settings.
    """
    if not Path(path).exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            held, names = str(file["key"]), [str(name) for name in file["layers"]]
            snapshots = {name: (file[f"neighbors{i}"], file[f"weights{i}"]) for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"resume={str(path)!r} holds no snapshots ({error}). Name another file") from None
    if held != key:
        raise ValueError(f"resume={str(path)!r} is of another network, other images or other settings. Name another")
    return snapshots


def save(path: str | Path, key: str, snapshots: Snapshots) -> None:
    """Write all layers, all or nothing."""
    arrays = {f"neighbors{i}": neighbors for i, (neighbors, _) in enumerate(snapshots.values())}
    arrays |= {f"weights{i}": weights for i, (_, weights) in enumerate(snapshots.values())}
    content = BytesIO()
    np.savez(content, key=key, layers=list(snapshots), **arrays)
    write_atomically(Path(path), content.getvalue())
