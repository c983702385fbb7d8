"""What every run of a network needs: inputs as tensors, where and how precisely it computes, evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from modlib.data import Images


def place(model: nn.Module, default: torch.device | str = "cpu") -> tuple[torch.device, torch.dtype]:
    """The device and the precision that a model computes in; of one without tensors the default, and float32."""
    tensors = [*model.parameters(), *model.buffers()]
    precision = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    return tensors[0].device if tensors else torch.device(default), precision


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; at the end every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def as_tensor(x) -> torch.Tensor:
    """An array as a tensor, without a copy where torch can do without; tensors as they are."""
    if isinstance(x, Images):
        raise ValueError("x must be an array or a tensor; got Images. Give their pixels: images.x")
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.require(x, requirements="CW"))


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as floats in [0, 1]; floats as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def usable(device: torch.device | str) -> torch.device:
    """The device, or a sentence if torch cannot compute there."""
    try:
        torch.zeros(1, device=device).item()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = "it holds no numbers" if str(device) == "meta" else str(error).splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used: {reason}") from None
