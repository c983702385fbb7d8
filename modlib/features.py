"""Run images through a model and take the features of its layers, one (N, M) matrix a layer."""

import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import psutil
import torch
from torch import nn
from tqdm.auto import tqdm

from modlib._checks import size_in_bytes, unknown, whole_number
from modlib._tensors import as_floats, as_tensor, evaluating, place
from modlib.models import chosen_layers

STORAGE = {"float32": torch.float32, "float16": torch.float16}


class _Enough(Exception):
    """Ends a forward pass behind the last layer that is asked for."""


def iter_features(
    model: nn.Module,
    x,
    layers: Sequence[str] | None = None,
    *,
    batch_size: int = 250,
    memory: int | str | None = None,
    spool: bool = False,
    storage: str = "float32",
    progress: bool = False,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The features of layers, as a stream of (layer name, matrix).

    Features are exact float32 copies, taken the moment a layer returns: an in-place ReLU behind it cannot change them.
    As many layers as fit in ``memory`` are taken in one pass through the model, which ends behind the last of them; with
    more, it takes several passes.
    The model computes where its parameters lie, in evaluation mode and without TF32; its modes and hooks are as before
    when the stream ends or is closed.

    Args:
        model: any module that takes a batch of images.
        x: (N, 3, H, W) images, array or tensor; uint8 is divided by 255, floats keep their values (in the model's precision).
        layers: names of modules, as in ``model.named_modules()``; by default :func:`modlib.layer_names`.
        batch_size: images at a time.
        memory: bytes the features of one pass may fill, or a size such as ``"5GiB"``; by default half of what is free.
        spool: write the features of a layer that ``memory`` does not hold to a temporary file (in ``$TMPDIR``), mapped
            into memory: one such layer at a time, on the CPU, gone with the last reference to it.
        storage: ``"float32"``, or ``"float16"`` for half the memory: features are then rounded to 11 significant bits,
            a relative error of up to 2^-11, and must not exceed 65,504.
        progress: show a bar over the batches.

    Yields:
        (name, features) with features of shape (N, M), M = C * H * W of the layer, on the model's device.

    Raises:
        ValueError: for an unknown layer, one that runs never or several times in a pass, or images of a wrong shape.
        MemoryError: if ``memory`` does not hold the features of one layer, with ``spool`` those of one batch.
        OSError: if the disk does not hold a layer either.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=50)
    >>> [(name, tuple(f.shape)) for name, f in iter_features(modlib.load_model("resnet20"), images.x, ["layer3.2"])]
    [('layer3.2', (50, 4096))]
    """
    x = as_tensor(x)
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"x must be a batch of images (N, 3, H, W); got shape {tuple(x.shape)}")
    if not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise ValueError(f"x must be uint8 pixels or floats; got {x.dtype}. Convert it: x.astype('uint8')")
    if storage not in STORAGE:
        raise unknown("storage", storage, STORAGE)
    stored = STORAGE[storage]
    batch_size = whole_number("batch_size", batch_size, 1)
    names = chosen_layers(model, layers)
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules or not name:
            raise unknown("layer", name, [known for known in modules if known])
    device, precision = place(model, x.device)

    matrices: dict[str, torch.Tensor] = {}  # the features of this pass; the hooks write into them, without a copy between
    shapes: dict[str, tuple[int, int]] = {}  # of the features of this batch

    def hook_for(name, rows):
        def hook(module, inputs, output):
            if not isinstance(output, torch.Tensor) or output.ndim < 2:
                raise ValueError(f"layer {name!r} gives no tensor of features; tap one of the modules inside it")
            if name in shapes:
                raise ValueError(f"layer {name!r} runs several times in one pass; tap modules that run once")
            flat = output.flatten(1)
            shapes[name] = tuple(flat.shape)
            if name in matrices and len(flat) == len(matrices[name][rows]):
                matrices[name][rows] = flat
            if matrices and len(shapes) == len(matrices):
                raise _Enough  # no later layer is asked for in this pass

        return hook

    @torch.no_grad()  # not on the generator: what torch makes of one keeps the last layer alive while the next is taken
    def forward(tapped: Sequence[str], rows: slice) -> None:
        shapes.clear()
        part = x[rows].to(device)
        part = as_floats(part).to(precision)
        hooks = [modules[name].register_forward_hook(hook_for(name, rows)) for name in tapped]
        try:
            # Named, because flags() by itself switches cuDNN off.
            with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
                model(part)
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        for name in tapped:
            if name not in shapes or shapes[name][0] != len(part):
                raise ValueError(f"layer {name!r} gives no features for a batch of {len(part)} images in a forward pass")

    with evaluating(model):
        try:
            forward(names, slice(1))
        except RuntimeError as error:
            raise ValueError(f"model cannot take x of shape {tuple(x.shape)} and type {x.dtype}: {error}") from error
        widths = {name: shapes[name][1] for name in names}
        room = budget(memory, device)
        sizes = {name: stored.itemsize * width for name, width in widths.items()}  # bytes of one sample
        for group in _passes(sizes, len(x), room, min(batch_size, len(x)) if spool else len(x)):
            for name in group:
                shape = len(x), widths[name]
                fits = len(x) * sizes[name] <= room
                matrices[name] = torch.empty(shape, dtype=stored, device=device) if fits else _on_disk(*shape, stored)
            for start in tqdm(range(0, len(x), batch_size), "features", disable=not progress, leave=False):
                forward(group, slice(start, start + batch_size))
            for name in group:
                yield name, matrices.pop(name)


def budget(memory: int | str | None, device: torch.device) -> int:
    """Bytes that features may fill."""
    if memory is not None:
        return size_in_bytes(memory)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return free // 2


def _passes(sizes: dict[str, int], n: int, budget: int, least: int) -> list[list[str]]:
    """Layers in order, cut into runs whose features fit in the budget together; of each, so many samples must."""
    passes, room = [[]], budget
    for name, each in sizes.items():
        if least * each > budget:
            raise MemoryError(
                f"memory={budget:,} bytes does not hold layer {name!r}: {least:,} samples of {each:,} bytes take "
                f"{least * each:,}. Give more memory or {'fewer samples' if least == n else 'a smaller batch_size'}"
            )
        if n * each > room:
            passes.append([])
            room = budget
        passes[-1].append(name)
        room -= n * each
    return [group for group in passes if group]


def _on_disk(n: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """An (n, width) tensor in a file without a name; the system keeps of it in memory what there is room for.

    The file goes with the tensor, even if the process dies.
    """
    size = n * width * dtype.itemsize
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, later a crash
            else:
                file.truncate(size)
            return torch.from_numpy(np.memmap(file, str(dtype).removeprefix("torch."), "r+", shape=(n, width)))
    except OSError as error:
        raise OSError(
            f"{tempfile.gettempdir()} does not hold {size:,} bytes of features ({error.strerror}). "
            "Let TMPDIR name a folder with more room, or give more memory"
        ) from None
