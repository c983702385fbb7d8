"""Run images through a model and take the features of its layers, one (N, M) matrix a layer."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn
from tqdm.auto import tqdm

from modlib._checks import checked, one_of, size_in_bytes, unknown, whole_number
from modlib._tensors import evaluating, exactly, own_chance, place, plain
from modlib.models import chosen_layers
from modlib.models.inputs import Inputs, as_inputs, batch_of, call, check_pixels, describe, hint, parts, samples
from modlib.models.outputs import SecondAxis, Untappable, as_rows, tapped_module

STORAGE = {"float32": torch.float32, "float16": torch.float16}


class _Enough(BaseException):
    """Ends a forward pass behind the last layer that is asked for; no ``except Exception`` of a network holds it up."""


@checked
def iter_features(
    model: nn.Module,
    x,
    layers: Sequence[str] | str | None = None,
    *,
    batch_size: int = 250,
    memory: int | str | None = None,
    spool: bool = False,
    storage: str = "float32",
    output: int | str | Callable | None = None,
    reduce: str | Callable | None = None,
    forward: Callable | None = None,
    progress: bool = False,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The features of layers, as a stream of (layer name, matrix).

    Features are exact float32 copies, taken the moment a layer returns: an in-place ReLU behind it cannot change them.
    As many layers as fit in ``memory`` are taken in one pass through the model, which ends behind the last of them; with
    more, it takes several passes.
    The model computes where its parameters lie, in evaluation mode and without TF32; its modes, hooks and buffers, its inputs, and
    the switches and random numbers of the process are as before when the stream ends or is closed. Of a compiled or parallel
    model the plain one inside runs.

    Args:
        model: any module that takes a batch of samples.
        x: (N, 3, H, W) images, array or tensor; uint8 is divided by 255, floats keep their values (in the model's precision),
            other whole numbers are token ids. Or a tuple of arrays (several inputs), a mapping of them (inputs by name), a
            ``DataLoader`` or ``Dataset`` (in its order, without its labels). Samples lie along the first axis.
        layers: names of modules, as in ``model.named_modules()``; by default those of :func:`modlib.layer_names` that run, in
            the order in which they run.
        batch_size: samples at a time.
        memory: bytes the features of one pass may fill, or a size such as ``"5GiB"``; by default half of what is free.
        spool: write the features of a layer that ``memory`` does not hold to a temporary file (in ``$TMPDIR``), mapped
            into memory: one such layer at a time, on the CPU, gone with the last reference to it.
        storage: ``"float32"``, or ``"float16"`` for half the memory: features are then rounded to 11 significant bits,
            a relative error of up to 2^-11 (for numbers far smaller than the largest of their row, 2^-22 of that). Rows whose
            largest number lies outside [1/8, 65504] are multiplied by a power of two first: their directions stay.
        output: which of what a layer returns is its features: a place in a tuple, a name in a mapping or object, or a function
            of it; by default the first tensor.
        reduce: what becomes of the features of a sequence (N, T, D) or of maps (N, C, H, W): by default all are kept, as in the
            paper; ``"mean"`` over positions, ``"cls"`` (the first token), or a function of the tensor.
        forward: ``forward(model, batch)`` runs the model in its own way; by default ``model(batch)``.
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
    model, x = plain(model), as_inputs(x)
    stored, batch_size = STORAGE[one_of("storage", storage, STORAGE)], whole_number("batch_size", batch_size, 1)
    names, memory = _known(model, x, layers), memory if memory is None else size_in_bytes(memory)
    how = {"output": output, "reduce": reduce}
    return _stream(model, x, names, layers is None, batch_size, memory, spool, stored, how, forward, progress)


def _stream(
    model: nn.Module, x: Inputs, names: list[str], by_default: bool, batch_size: int, memory: int | None, spool: bool,
    stored: torch.dtype, how: dict, forward: Callable | None, progress: bool,
) -> Iterator[tuple[str, torch.Tensor]]:  # fmt: skip
    """The features, once the arguments of :func:`iter_features` are known to be right."""
    n, (device, _) = samples(x), place(model, next(iter(parts(x).values())).device)
    matrices: dict[str, torch.Tensor] = {}  # the features of this pass; the hooks write into them, without a copy between
    shapes: dict[str, tuple[int, int]] = {}  # of the features of this batch

    def hook_for(name: str, rows: slice):
        def hook(module, inputs, given):
            if name in shapes:
                raise Untappable(f"layer {name!r} runs several times in one pass; name modules that run once: layers=[...]")
            features = as_rows(given, name, module, **how, single=len(range(n)[rows]) == 1)
            shapes[name] = tuple(features.shape)
            if name in matrices and len(features) == len(matrices[name][rows]):
                matrices[name][rows] = _in_range(features) if stored == torch.float16 else features
            if ends and len(shapes) == len(matrices):
                raise _Enough  # no later layer is asked for in this pass

        return hook

    def run(tapped: Sequence[str], rows: slice) -> None:
        shapes.clear()
        _run(model, x, rows, {name: hook_for(name, rows) for name in tapped}, forward)
        count = len(range(n)[rows])
        for name in tapped if not by_default or matrices or not shapes else shapes:  # of the default layers, those that run
            if name not in shapes or shapes[name][0] != count:
                made = f"its first axis, after output and reduce, is {shapes[name][0]}" if name in shapes else ""
                why = made or "it does not run, or where no hook sees it"
                raise Untappable(f"layer {name!r} gives no features for a batch of {count} images in a forward pass: {why}")

    ends = False
    with evaluating(model):
        singly = _first(model, x, n, batch_size, lambda rows: run(names, rows))
        names = [*shapes] if by_default else names  # in the order in which they run
        widths = {name: shapes[name][1] for name in names}
        others = {module for key, module in model.named_modules() if key not in names}
        # A pass that ends early leaves modules that have begun: where somebody else's hooks wait for their end, it does not.
        ends = not any(m._forward_hooks for m in others) and not nn.modules.module._global_forward_hooks
        room = budget(memory, device)
        sizes = {name: stored.itemsize * width for name, width in widths.items()}  # bytes of one sample
        for group in _passes(sizes, n, room, min(batch_size, n) if spool else n):
            for name in group:
                shape = n, widths[name]
                fits = n * sizes[name] <= room
                matrices[name] = torch.empty(shape, dtype=stored, device=device) if fits else _on_disk(*shape, stored)
            for start in tqdm(range(0, n, batch_size), "features", disable=not progress, leave=False):
                # Where one sample alone is no batch, nor is what may be left in the end: the last batch is then a whole one, too.
                start = start if singly else max(0, min(start, n - batch_size))
                run(group, slice(start, min(start + batch_size, n)))
            for name in group:
                yield name, matrices.pop(name)


@torch.no_grad()  # not on the generator: what torch makes of one keeps the last layer alive while the next is taken
def _run(model: nn.Module, x: Inputs, rows: slice, hooks: dict[str, Callable], forward: Callable | None) -> None:
    """One batch through the model, up to the first :class:`_Enough`, with hooks on some of its modules."""
    batch = batch_of(x, rows, model)
    handles = [tapped_module(model, name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        with exactly(device := place(model)[0]), own_chance(device, rows.start or 0):
            (call if forward is None else forward)(model, batch)
    except _Enough:
        pass
    except Exception as error:
        if forward is None or isinstance(error, Untappable):
            raise
        raise Untappable(f"forward cannot run the model on a batch: {error}") from error
    finally:
        for handle in handles:
            handle.remove()


def _first(model: nn.Module, x: Inputs, n: int, batch_size: int, run: Callable[[slice], None]) -> bool:
    """Try one sample, or a whole batch where the model takes no single one; whether it does."""
    try:
        run(slice(1))
        return True
    except SecondAxis:
        raise
    except Exception as single:
        try:
            run(slice(min(batch_size, n)))
            return False
        except Exception as error:
            for each in (single, error):
                if isinstance(each, Untappable):
                    raise each from None
            raise ValueError(f"model cannot take {describe(x)}: {error}{hint(x)}") from error


def layers_of(
    model: nn.Module,
    x: Inputs,
    layers: Sequence[str] | str | None,
    *,
    forward: Callable | None = None,
    batch_size: int = 250,
    **_others,
) -> list[str]:
    """The layers that are asked for; by default those of :func:`modlib.layer_names` that run, in the order in which they do.
    Of the options of :func:`iter_features`, two matter here.

    Raises:
        ValueError: for an unknown layer, a model that modlib cannot look into, or inputs that it does not take.
    """
    model = plain(model)
    names = _known(model, x, layers)
    if layers is not None:
        return names
    ran: dict[str, None] = {}

    def run(rows: slice) -> None:
        ran.clear()
        _run(model, x, rows, {name: lambda *_, name=name: ran.setdefault(name) for name in names}, forward)

    with evaluating(model):
        _first(model, x, samples(x), batch_size, run)
    if not ran:
        raise ValueError(f"none of the layers {', '.join(names[:5])} of the model runs where a hook sees it. Name its layers")
    return list(ran)


def _known(model: nn.Module, x: Inputs, layers: Sequence[str] | str | None) -> list[str]:
    """The layers that are asked for, which the model must have; by default those of :func:`modlib.layer_names`."""
    check_pixels(model, x)
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("model is scripted (torch.jit): no hook sees what runs inside. Give the network that it was made from")
    names = chosen_layers(model, layers)
    known = {name: module for name, module in model.named_modules() if name}
    for name in names:
        if name not in known:
            raise unknown("layer", name, known)
        if isinstance(known[name], torch.jit.ScriptModule):
            raise ValueError(f"layer {name!r} is scripted (torch.jit), where no hook sees it. Tap a module before or behind it")
    return names


def _in_range(features: torch.Tensor) -> torch.Tensor:
    """Rows that float16 would round more coarsely than 11 bits, or cannot hold, times a power of two of their own."""
    features = features.float()
    largest = features.abs().amax(1, keepdim=True)
    outside = torch.isfinite(largest) & (largest > 0) & ((largest < 1 / 8) | (largest > 65504))
    if not outside.any():
        return features
    power = (1 - torch.frexp(largest).exponent).clamp(-126, 127)  # brings the largest into [1, 2)
    return torch.where(outside, torch.ldexp(features, power), features)


def budget(memory: int | str | None, device: torch.device) -> int:
    """Bytes that features may fill."""
    if memory is not None:
        return size_in_bytes(memory)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else min(psutil.virtual_memory().available, container_room())
    return free // 2


def container_room(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a container (control groups, version 2 or 1) still lets its processes take; a huge number without limit."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            given, taken = (root / limit).read_text().strip(), int((root / used).read_text())
            lines = dict(line.split() for line in (root / used).with_name("memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if given.isdigit():  # else "max"; files that are only cached are let go where memory is asked for
            return max(0, int(given) - taken + int(lines.get(cache, 0)))
    return 2**63


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
