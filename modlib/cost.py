"""What a network costs and is worth: MACs, parameters, seconds; accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from modlib._tensors import as_floats, as_tensor, evaluating, place
from modlib.data import Images


@dataclass(frozen=True)
class Cost:
    """What one image costs a network.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products (the paper, after thop, calls them FLOPs; a
            FLOP count is twice as high). Normalisation, activations, pooling and biases are not counted.
        params: parameters.
        layers: module name -> ``{"macs": ..., "params": ...}`` of the module itself, without its parts, for each
            that has any, in order; they sum to the whole. ``pandas.DataFrame(cost.layers).T`` is the table.
    """

    macs: int
    params: int
    layers: dict[str, dict[str, int]]


@torch.no_grad()
def cost(model: nn.Module, shape: Sequence[int] = (3, 32, 32)) -> Cost:
    """The cost of one image, counted by torch's operator counter: FLOPs / 2 = MACs.

    For a convolution: H_out * W_out * C_out * (C_in / groups) * kernel area; for a linear module: in * out.

    Args:
        model: any module that takes a batch of images; its modes are as before afterwards.
        shape: (3, H, W) of one image.

    Raises:
        ValueError: if the model cannot take such an image.

    >>> import modlib
    >>> whole = cost(modlib.build_model("resnet56"))
    >>> f"{whole.macs / 1e6:.1f} M MACs, {whole.params / 1e6:.2f} M parameters"
    '125.5 M MACs, 0.85 M parameters'
    """
    device, precision = place(model)
    try:
        image = torch.zeros(1, *shape, dtype=precision, device=device)
    except (TypeError, RuntimeError):
        raise ValueError(f"shape must be the (3, H, W) of one image; got {shape!r}") from None
    modules = dict(model.named_modules())
    macs = dict.fromkeys(modules, 0)
    running = []  # of each module that is running now: the count at its start, and what its parts have taken since
    counter = FlopCounterMode(display=False)

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

    hooks = [module.register_forward_pre_hook(begin) for module in modules.values()]
    hooks += [module.register_forward_hook(end_of(name)) for name, module in modules.items()]
    try:
        with evaluating(model), counter:
            model(image)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"model cannot take an image of shape {tuple(shape)}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    params = dict.fromkeys(modules, 0)
    for name, parameter in model.named_parameters():  # each once, also where modules share it
        params[name.rpartition(".")[0]] += parameter.numel()
    layers = {name: {"macs": macs[name], "params": params[name]} for name in modules if macs[name] or params[name]}
    return Cost(sum(macs.values()), sum(params.values()), layers)


@torch.inference_mode()
def seconds(
    model: nn.Module, shape: Sequence[int] = (3, 32, 32), batch_size: int = 100, min_seconds: float = 1.0
) -> float:
    """Seconds one image takes where the model lies: the median of forward passes of a batch.

    Args:
        model: in the mode to be timed.
        shape: (3, H, W) of one image.
        batch_size: images of a pass; many for throughput, one for latency.
        min_seconds: how long the passes are repeated.
    """
    device, precision = place(model)
    images = torch.zeros(batch_size, *shape, dtype=precision, device=device)
    timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=min_seconds).median / batch_size


@torch.no_grad()
def accuracy(model: nn.Module, images: Images, batch_size: int = 500, progress: bool = False) -> float:
    """Share of images classified correctly, in percent; the model computes in evaluation mode, and is as before in the end.

    Raises:
        ValueError: without an image.

    >>> import modlib
    >>> accuracy(modlib.load_model("resnet20"), modlib.load_images("cifar10", n=200)) > 70
    True
    """
    if not len(images):
        raise ValueError("images must be one or more; got none")
    device, precision = place(model)
    right = 0
    with evaluating(model):
        for start in tqdm(range(0, len(images), batch_size), "testing", disable=not progress, leave=False):
            part = images[start : start + batch_size]
            logits = model(as_floats(as_tensor(part.x).to(device)).to(precision))
            right += int((logits.argmax(1).cpu().numpy() == part.y).sum())
    return 100 * right / len(images)
