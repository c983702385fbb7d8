"""What is done of a long piece of work, in a file, so that hours go on where they stopped."""

import hashlib
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modlib.data import write_atomically

Parts = dict[str, tuple[np.ndarray, ...]]  # name -> as many arrays each, such as layer -> (neighbours, weights)


def fingerprint(model: nn.Module, x: torch.Tensor, **settings) -> str:
    """A name for what decides the outcome: the network with its weights, the images, and the settings."""
    digest = hashlib.sha256(f"{model}{sorted(settings.items())}{tuple(x.shape)}{x.dtype}".encode())
    for tensor in (*model.parameters(), *model.buffers(), x):  # all buffers: a state_dict may lack some
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def load(path: str | Path, key: str) -> Parts:
    """The parts that a file holds; none if there is no file.

    Raises:
        ValueError: if it is of another network, other images or other settings.
    """
    if not Path(path).exists():
        return {}
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            held, width = str(file["key"]), int(file["width"])
            parts = {str(name): tuple(file[f"{i}.{j}"] for j in range(width)) for i, name in enumerate(file["names"])}
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"resume={str(path)!r} holds no work to go on with ({error}). Name another file") from None
    if held != key:
        raise ValueError(f"resume={str(path)!r} is of another network, other images or other settings. Name another, or delete it")
    return parts


def save(path: str | Path, key: str, parts: Parts) -> None:
    """Write all parts, all or nothing."""
    arrays = {f"{i}.{j}": array for i, part in enumerate(parts.values()) for j, array in enumerate(part)}
    content = BytesIO()
    np.savez(content, key=key, names=list(parts), width=len(arrays) // len(parts), **arrays)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), content.getvalue())
