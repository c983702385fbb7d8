"""What every run of a network needs: arrays as tensors, where and how precisely it computes, evaluation mode for a while."""

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from modlib._checks import shown
from modlib.data import Images


def plain(model: nn.Module, meta: bool = False) -> nn.Module:
    """The network itself, out of what ``torch.compile`` and parallel wrappers put around it.

    Args:
        meta: whether its shapes are enough.

    Raises:
        ValueError: for anything that is no ``torch.nn.Module``, and for one whose weights hold no numbers.
    """
    if isinstance(model, str):
        raise ValueError(f"model must be a torch.nn.Module; got the name {model!r}. Load it: modlib.load_model({model!r})")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if not meta and any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "model must hold numbers; some of its weights are on the device 'meta'. See model.to_empty, and load weights"
        )
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def place(model: nn.Module, default: torch.device | str = "cpu") -> tuple[torch.device, torch.dtype]:
    """The device and the precision that a model computes in; of one without tensors the default, and float32."""
    tensors = [*model.parameters(), *model.buffers()]
    precision = next((t.dtype for t in (*weights_of(model), *tensors) if t.is_floating_point()), torch.float32)
    return tensors[0].device if tensors else torch.device(default), precision


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    """What multiplies the inputs of its modules: more than scales and shifts."""
    return [p for name, p in model.named_parameters() if name.rpartition(".")[2] == "weight" and p.ndim > 1]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; at the end every module is in the mode it was in. Both by ``train()``, which a module may define itself.

    Buffers, which a forward may change whatever the mode, hold in the end what they held.
    """
    modes = {module: module.training for module in model.modules()}
    held = [
        (m, name, b, None if b.is_meta else b.detach().clone()) for m in modes for name, b in m._buffers.items() if b is not None
    ]
    try:
        if any(modes.values()):
            with suppress(NotImplementedError):  # of what torch.export made, which has the mode that it was made in
                model.eval()
        yield
    finally:
        with torch.no_grad(), torch.inference_mode(any(b.is_inference() for _, _, b, _ in held)):
            for module, name, buffer, content in held:
                module._buffers[name] = buffer
                if content is not None and not _same(buffer, content):
                    buffer.copy_(content)
        for module, mode in modes.items():  # parents first: what they set in their parts, the parts set right
            if module.training != mode:
                module.train(mode)
        for module, mode in modes.items():
            if module.training != mode:  # a train() that does not do what it is asked to
                module.training = mode


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.is_sparse
        or a.is_quantized
        or torch.equal(a, b)
        or bool(a.is_floating_point() and torch.allclose(a, b, 0, 0, equal_nan=True))
    )


@contextmanager
def own_chance(device: torch.device, start: int) -> Iterator[None]:
    """What a model draws at random, as behind a dropout that never rests: of its own for each batch, by where that starts.

    The random numbers of the process go on as if none had been drawn.
    """
    gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if gpu else []):
        seed = int.from_bytes(torch.get_rng_state()[:64].numpy().tobytes(), "little") + start
        for generator in [torch.default_generator, *([torch.cuda.default_generators[device.index or 0]] if gpu else [])]:
            generator.manual_seed(seed % 2**63)
        yield


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Float32 computed in float32, by each module's own operators: no TF32, autocast, compiled code or fused attention."""
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        if torch.amp.is_autocast_available(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # else nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))  # hooks are not seen by code compiled before
        try:
            torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole block: its parts would not run
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products and convolutions in float32, whatever the caller allows elsewhere (TF32, bfloat16).

    torch has two sets of switches, old and new, and refuses to read the old ones where the new ones say otherwise. So each
    is changed as the caller has set it; in the end all are as before.
    """
    products, convolutions = _read(torch.get_float32_matmul_precision), _read(lambda: torch.backends.cudnn.allow_tf32)
    switches = _switches()
    before, changed = [switch.fp32_precision for switch in switches], []
    try:
        if products not in (None, "highest"):
            torch.set_float32_matmul_precision("highest")
        if convolutions:
            torch.backends.cudnn.allow_tf32 = False
        for switch in switches:  # what only inherits follows those above it, and is not touched
            if (value := switch.fp32_precision) not in ("none", "ieee"):
                changed.append((switch, value))
                switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, value in reversed(changed):
            switch.fp32_precision = value
        if products not in (None, "highest"):
            torch.set_float32_matmul_precision(products)
        if convolutions:
            torch.backends.cudnn.allow_tf32 = True
        for switch, value in zip(switches, before, strict=True):
            if switch.fp32_precision != value:
                switch.fp32_precision = value


def _read(switch: Callable):
    try:
        return switch()
    except RuntimeError:  # set by the new ones
        return None


def _switches() -> list:
    """torch's new switches (2.9 and later) that products and convolutions obey, from the topmost down."""
    everything, cuda, cpu = torch.backends, torch.backends.cudnn, torch.backends.mkldnn
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return []
    return [everything, cuda, cpu, torch.backends.cuda.matmul, cuda.conv, cuda.rnn, cpu.matmul, cpu.conv, cpu.rnn]


def as_tensor(x, name: str = "x") -> torch.Tensor:
    """An array as a tensor, without a copy where torch can do without; tensors as they are."""
    if isinstance(x, Images):
        raise ValueError(f"{name} must be an array or a tensor; got Images. Give their pixels: images.x")
    if isinstance(x, torch.Tensor):
        if x.layout != torch.strided or x.is_meta:
            raise ValueError(
                f"{name} must be a dense tensor that holds numbers; got one of {x.layout} on {x.device}. See to_dense()"
            )
        return x
    try:
        array = np.asarray(x)
        if np.ma.is_masked(x):
            raise TypeError("some of its numbers are masked")
        if array.dtype.kind not in "biufc":
            raise TypeError(f"numbers of type {array.dtype}" if array.ndim else "no numbers")
        array = array.copy() if min(array.strides, default=0) < 0 else array  # which torch refuses, also of an axis of length 1
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), "CW"))
    except (TypeError, ValueError, RuntimeError) as error:
        several = ". Several inputs are a tuple of arrays: (a, b)" if isinstance(x, list) and "inhomogeneous" in str(error) else ""
        several = ". Stack what it gives: torch.stack(list(x))" if isinstance(x, Iterator) else several
        raise ValueError(f"{name} must be an array or a tensor of numbers; got {type(x).__name__} ({error}){several}") from None


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as floats in [0, 1]; floats as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def usable(device: torch.device | str) -> torch.device:
    """The device, or a sentence if torch cannot compute there."""
    try:
        torch.zeros(1, device=device).item()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:
        reason = "it holds no numbers" if str(device) == "meta" else str(error).splitlines()[0]
        raise ValueError(f"device {shown(str(device))} cannot be used: {reason}") from None


def quick_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 faster than float32; older GPUs only imitate it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()  # older torch cannot tell


def device_name(device: torch.device) -> str:
    """What computes there, as a record names it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = re.findall(r"(?m)^model name\s*:\s*(.*?)\s*$", info.read_text() if info.exists() else "")
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"
