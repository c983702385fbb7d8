"""What the modules of a network return, as one row of features a sample."""

from collections.abc import Callable, Mapping
from operator import attrgetter, itemgetter

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from modlib._checks import shown


class Untappable(ValueError):
    """A layer that gives no features."""


class SecondAxis(Untappable):
    """A layer whose samples lie along the second axis of what it gives."""


def tapped_module(model: nn.Module, name: str) -> nn.Module:
    """The module whose output is that of a layer.

    torch's attention never calls its ``out_proj``, whose weights it multiplies by itself: what comes out of that is what
    the attention returns.
    """
    parent, _, own = name.rpartition(".")
    if own == "out_proj" and isinstance(model.get_submodule(parent), nn.MultiheadAttention):
        return model.get_submodule(parent)
    return model.get_submodule(name)


def first_tensor(given) -> torch.Tensor | None:
    """The first tensor in what a module returns: a tensor, or a tuple, a mapping or an object that holds some."""
    if isinstance(given, torch.Tensor):
        return given
    if isinstance(given, Mapping):
        given = given.values()
    elif not isinstance(given, (tuple, list)):
        slots = [getattr(given, name, None) for name in getattr(type(given), "__slots__", ())]  # as of a dataclass
        given = [*getattr(given, "__dict__", {}).values(), *slots]
    return next((found for part in given if (found := first_tensor(part)) is not None), None)


def as_rows(
    given, name: str, module: nn.Module, output: int | str | Callable | None = None, reduce: str | Callable | None = None,
    single: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Features (N, M) of what a layer returns for a batch, or a ``single`` sample; see :func:`modlib.iter_features` for
    ``output`` and ``reduce``.

    Raises:
        Untappable: if there is no tensor with one row or more of numbers a sample.
    """
    given = given if output is None else _chosen(given, name, output)
    tensor = first_tensor(given)
    packed = next((part for part in (given if type(given) is tuple else [given]) if isinstance(part, PackedSequence)), None)
    if packed is not None and tensor is packed.data:
        how = "the state after the last step: output=lambda given: given[1][-1] (of an LSTM given[1][0][-1])"
        raise Untappable(f"layer {name!r} gives a PackedSequence, whose rows are steps, no samples. Take {how}")
    if tensor is None or tensor.ndim < 2:
        got = type(given).__name__ if tensor is None else f"a tensor of shape {tuple(tensor.shape)}"
        raise Untappable(f"layer {name!r} gives no tensor of features, but {got}; tap one of the modules inside it, or say output=")
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    if tensor.ndim == 3 and _sequence_first(module) and not callable(output):
        tensor = tensor.transpose(0, 1)
    if single and tensor.ndim == 3 and tensor.shape[1] == 1 < len(tensor) and not callable(output):
        raise SecondAxis(
            f"layer {name!r} gives {tuple(tensor.shape)} for one sample: its samples lie along the second axis. Say "
            "output=lambda given: given.transpose(0, 1)"
        )
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if callable(reduce):
        tensor = _by(lambda: reduce(tensor), f"reduce does not take what layer {name!r} gives, of shape {tuple(tensor.shape)}")
        if not isinstance(tensor, torch.Tensor) or tensor.ndim < 2:
            raise Untappable(f"reduce must give a tensor (N, ...) of two axes or more; got {shown(tensor)} for layer {name!r}")
    elif reduce == "mean" and tensor.ndim > 2:
        tensor = tensor.mean(1) if tensor.ndim == 3 else tensor.flatten(2).mean(2)  # of tokens (N, T, D); of maps (N, C, ...)
    elif reduce == "cls" and tensor.ndim == 3:
        tensor = tensor[:, 0]
    elif reduce not in (None, "mean") and tensor.ndim > 2:
        raise Untappable(
            f"reduce must be 'mean', 'cls' (of layers that give tokens (N, T, D)) or a function; got {reduce!r} "
            f"for layer {name!r}, which gives shape {tuple(tensor.shape)}"
        )
    return tensor.flatten(1)


def _chosen(given, name: str, output: int | str | Callable):
    if callable(output):
        take = output
    else:
        output = output if isinstance(output, str) else int(output)
        take = attrgetter(output) if isinstance(output, str) and not isinstance(given, Mapping) else itemgetter(output)
    return _by(lambda: take(given), f"output={shown(output)} is not in what layer {name!r} returns, a {type(given).__name__}")


def _by(rule: Callable, otherwise: str):
    try:
        return rule()
    except Exception as error:  # of somebody else's function, or class
        raise Untappable(f"{otherwise} ({error})") from error


def _sequence_first(module: nn.Module) -> bool:
    """Whether a recurrent, attention or transformer module of torch returns (T, N, D), as it does without ``batch_first``."""
    if not type(module).__module__.startswith("torch.nn"):
        return False
    return not next((part.batch_first for part in module.modules() if hasattr(part, "batch_first")), True)
