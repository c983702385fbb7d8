"""What a network costs and is worth: MACs, parameters, seconds; accuracy."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from tqdm.auto import tqdm

from modlib._checks import checked, number, whole_number
from modlib._tensors import evaluating, exactly, place, plain
from modlib.data import Images
from modlib.models.inputs import as_inputs, batch_of, call, check_pixels, rows_of
from modlib.models.outputs import first_tensor

# Products that torch's counter has no formula for: FLOPs from the shapes of what goes in and what comes out.
_FORMULAS = {
    torch.ops.aten.mv: lambda a, *_, **__: 2 * math.prod(a),
    torch.ops.aten.addmv: lambda _, a, *__, **___: 2 * math.prod(a),
    torch.ops.aten.dot: lambda a, *_, **__: 2 * math.prod(a),
}
_MULTIPLIES = ("mm", "matmul", "conv", "linear", "attention", "attn", "rnn", "lstm", "gru", "fft", "cdist", "trilinear", "einsum")


@checked
@dataclass(frozen=True)
class Cost:
    """What one sample costs a network.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products (the paper, after thop, calls them FLOPs; a
            FLOP count is twice as high), those of attention and of recurrent modules among them. Normalisation, activations,
            pooling and biases are not counted.
        params: parameters.
        layers: module name -> ``{"macs": ..., "params": ...}`` of the module itself, without its parts, for each
            that has any, in order; they sum to the whole. ``pandas.DataFrame(cost.layers).T`` is the table.
        uncounted: operators that multiply in a way of their own (quantised, scripted in another language), whose MACs are not
            among these. None, as a rule.
    """

    macs: int
    params: int
    layers: dict[str, dict[str, int]]
    uncounted: tuple[str, ...] = ()


class _Uncounted(TorchDispatchMode):
    """Notes the operators that look like products and have no formula."""

    def __init__(self):
        super().__init__()
        self.names: dict[str, None] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        packet = operator._overloadpacket
        name = str(packet).removeprefix("aten.")
        foreign = operator.namespace not in ("aten", "prim", "prims", "profiler")
        if packet not in flop_registry and packet not in _FORMULAS and (foreign or any(word in name for word in _MULTIPLIES)):
            self.names.setdefault(name)
        return operator(*args, **kwargs or {})


@contextmanager
def _one_by_one(device: torch.device) -> Iterator[None]:
    """Attention and recurrent modules by plain products, which torch's counter knows, instead of operators of their own."""
    # The functions below torch.backends.*.flags, which cannot be used where TF32 is set by torch's new switches.
    put = torch._C._set_mkldnn_enabled, torch._C._set_cudnn_enabled
    get = torch._C._get_mkldnn_enabled, torch._C._get_cudnn_enabled
    before = [read() for read in get]
    try:
        for write in put:
            write(False)
        with exactly(device), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for write, value in zip(put, before, strict=True):
            write(value)


@checked
@torch.no_grad()
def cost(model: nn.Module, shape: Sequence[int] = (3, 32, 32), *, x=None) -> Cost:
    """The cost of one sample, counted by torch's operator counter: FLOPs / 2 = MACs.

    For a convolution: H_out * W_out * C_out * (C_in / groups) * kernel area; for a linear module: in * out a position; for
    attention also both products of the positions with each other; for a recurrent module its products at each step.

    Args:
        model: any module that takes a batch of samples; its modes are as before afterwards.
        shape: (3, H, W) of one image.
        x: an example instead, such as token ids, as :func:`modlib.iter_features` takes them; its first sample counts.

    Raises:
        ValueError: if the model cannot take such a sample.

    Warns:
        UserWarning: if an operator multiplies in a way that cannot be counted; ``uncounted`` names it.

    >>> import modlib
    >>> whole = cost(modlib.build_model("resnet56"))
    >>> f"{whole.macs / 1e6:.1f} M MACs, {whole.params / 1e6:.2f} M parameters"
    '125.5 M MACs, 0.85 M parameters'
    """
    model = plain(model, meta=True)
    device, _ = place(model)
    given = _zeros(1, shape) if x is None else rows_of(as_inputs(x), slice(1))
    check_pixels(model, given)
    sample = batch_of(given, slice(1), model)
    modules = dict(model.named_modules())
    macs = dict.fromkeys(modules, 0)
    running = []  # of each module that is running now: the count at its start, and what its parts have taken since
    counter, others = FlopCounterMode(display=False, custom_mapping=_FORMULAS), _Uncounted()

    def begin(module, inputs):
        running.append([counter.get_total_flops(), 0])

    def end_of(name):
        def end(module, inputs, output):
            start, parts = running.pop()
            taken = counter.get_total_flops() - start
            macs[name] += (taken - parts) // 2
            if running:
                running[-1][1] += taken

        return end

    if isinstance(model, torch.jit.ScriptModule) and not isinstance(model, torch.jit.TopLevelTracedModule):
        raise ValueError("model is scripted (torch.jit): no hook sees what runs inside. Give the network that it was made from")
    scripted = {name for name, module in modules.items() if isinstance(module, torch.jit.ScriptModule)}
    seen = {name: m for name, m in modules.items() if name not in scripted or name.rpartition(".")[0] not in scripted or not name}
    hooks = [module.register_forward_pre_hook(begin) for module in seen.values()]
    hooks += [module.register_forward_hook(end_of(name)) for name, module in seen.items()]
    try:
        with evaluating(model), _one_by_one(device), others, counter:
            call(model, sample)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        what = f"an image of shape {tuple(shape)}" if x is None else "the first sample of x"
        raise ValueError(f"model cannot take {what}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    params = dict.fromkeys(modules, 0)
    for name, parameter in model.named_parameters():  # each once, also where modules share it
        params[name.rpartition(".")[0]] += parameter.numel()
    layers = {name: {"macs": macs[name], "params": params[name]} for name in modules if macs[name] or params[name]}
    if others.names:
        warnings.warn(f"MACs are incomplete: {', '.join(others.names)} cannot be counted", stacklevel=4)
    return Cost(sum(macs.values()), sum(params.values()), layers, tuple(others.names))


def check_answers(logits: torch.Tensor, labels: np.ndarray) -> None:
    """Refuse logits (N, C) that decide nothing, and labels that are none of C classes: they would count as wrong answers."""
    if logits.isnan().any():
        raise ValueError("model gives logits that are NaN; its weights are damaged, or its training failed")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        got = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"images.y must be in 0..{logits.shape[1] - 1}, the classes of the model; got {got}")


def _zeros(n: int, shape: Sequence[int]) -> torch.Tensor:
    if not len(shape):
        raise ValueError(f"shape must be the (3, H, W) of one image; got {shape!r}")
    sides = [whole_number("shape", side, 1, 10**5) for side in shape]
    try:
        return torch.zeros(n, *sides)
    except RuntimeError as error:
        raise MemoryError(f"batch_size={n} samples of shape={tuple(sides)} do not fit into memory ({error})") from None


@checked
@torch.inference_mode()
def seconds(model: nn.Module, shape: Sequence[int] = (3, 32, 32), batch_size: int = 100, min_seconds: float = 1.0) -> float:
    """Seconds one image takes where the model lies: the median of forward passes of a batch, in evaluation mode.

    Args:
        model: as it is to be timed; a compiled one is timed compiled.
        shape: (3, H, W) of one image.
        batch_size: images of a pass; many for throughput, one for latency.
        min_seconds: how long the passes are repeated.
    """
    inner = plain(model)
    given = _zeros(whole_number("batch_size", batch_size, 1, 10**6), shape)
    check_pixels(inner, given)
    images = batch_of(given, slice(None), inner)
    min_seconds = number("min_seconds", min_seconds, 0, 3600)
    timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=torch.get_num_threads())
    with evaluating(inner):
        try:
            return timer.blocked_autorange(min_run_time=min_seconds).median / batch_size
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"model cannot take images of shape {tuple(shape)}: {error}") from error


@checked
@torch.no_grad()
def accuracy(model: nn.Module, images: Images, batch_size: int = 500, progress: bool = False) -> float:
    """Share of images classified correctly, in percent; the model computes in evaluation mode, and is as before in the end.

    Raises:
        ValueError: without an image, or for a model that does not give a row of logits an image.

    >>> import modlib
    >>> accuracy(modlib.load_model("resnet20"), modlib.load_images("cifar10", n=200)) > 70
    True
    """
    inner = plain(model)
    if not len(images):
        raise ValueError("images must be modlib.Images, one or more; got none")
    x, batch_size = as_inputs(images.x), whole_number("batch_size", batch_size, 1)
    check_pixels(inner, x)
    right = 0
    with evaluating(inner):
        for start in tqdm(range(0, len(images), batch_size), "testing", disable=not progress, leave=False):
            rows = slice(start, start + batch_size)
            logits = first_tensor(model(batch_of(x, rows, inner)))
            if logits is None or logits.ndim != 2:
                raise ValueError("model must give one row of logits an image, shape (N, C)")
            check_answers(logits, images.y[rows])
            right += int((logits.argmax(1).cpu().numpy() == images.y[rows]).sum())
    return 100 * right / len(images)
