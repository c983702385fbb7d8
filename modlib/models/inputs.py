"""What networks are given: whatever a reader has at hand, as tensors, cut into batches."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from modlib._tensors import as_floats, as_tensor, place, weights_of

Inputs = torch.Tensor | tuple | dict  # tensors of N samples each: one, several in order, or several by name
LABELS = ("label", "labels", "y", "target", "targets")  # of the entries of a data set: what is no input


def as_inputs(x) -> Inputs:
    """Whatever a network can be given, as tensors with the samples along their first axes.

    An array or a tensor; a tuple of them, for several inputs; a mapping of them, for inputs by name (what is no array in it
    goes to the network as it is); a ``DataLoader`` or ``Dataset``, which is read once, without its labels.

    Raises:
        ValueError: for anything else, and for inputs that do not hold the same number of samples, one or more.
    """
    if isinstance(x, (DataLoader, Dataset)) or type(x).__module__.startswith("datasets."):
        x = _collected(x)
    if isinstance(x, Mapping):
        given = {str(key): _entry(value, f"x[{key!r}]") for key, value in x.items()}
    elif isinstance(x, tuple) and all(hasattr(part, "shape") for part in x):
        given = tuple(as_tensor(part, f"x[{i}]") for i, part in enumerate(x))
    else:
        given = as_tensor(x)
    tensors = parts(given)
    shapes = [tuple(t.shape) for t in tensors.values()]
    if not shapes or not all(shape[:1] == shapes[0][:1] and shape[0] > 0 if shape else False for shape in shapes):
        raise ValueError(f"x must hold one or more samples, along the first axis of each input; got {describe(given)}")
    if isinstance(given, torch.Tensor) and given.ndim < 2:
        raise ValueError(f"x must be a batch such as images (N, 3, H, W); got shape {shapes[0]}")
    for name, t in tensors.items():
        whole = not t.is_floating_point() and not t.is_complex() and t.dtype not in (torch.uint8, torch.bool)
        if whole and t.ndim > 3:
            raise ValueError(
                f"{name} must be uint8 pixels or floats; got {t.dtype} from {int(t.long().min())} to {int(t.long().max())}. Divide "
                "them by the largest value that a pixel can have, such as 255 or 65535: (x / 65535).astype('float32')"
            )
    return given


def _entry(value, name: str):
    """An array as a tensor; what else a network is told by name, such as a number or None, as it is."""
    if getattr(value, "ndim", 0) > 0 or isinstance(value, list):
        return as_tensor(value, name)
    return value.item() if isinstance(value, torch.Tensor) else value


def _collected(x) -> Inputs:
    """All inputs of a DataLoader or Dataset, in their order."""
    kind = type(x).__name__
    loader = x if isinstance(x, DataLoader) else DataLoader(x, batch_size=250)
    with torch.random.fork_rng(devices=[]):
        if not _in_order(loader):
            raise ValueError(
                f"x is a {kind} that shuffles: its samples would not be in the order of their labels. Give shuffle=False"
            )
    try:
        with torch.random.fork_rng(devices=[]):  # a DataLoader draws a number, even if nothing is random
            batches = [_without_labels(batch, kind) for batch in loader]
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"x is a {kind} whose items make no batch ({error}). Let it give tensors of one shape") from None
    if not batches:
        raise ValueError(f"x is a {kind} without samples")
    try:
        if isinstance(batches[0], Mapping):
            return {key: torch.cat([as_tensor(batch[key]) for batch in batches]) for key in batches[0]}
        if isinstance(batches[0], (tuple, list)):  # several inputs
            return tuple(torch.cat([as_tensor(each) for each in column]) for column in zip(*batches, strict=True))
        return torch.cat([as_tensor(batch) for batch in batches])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"x is a {kind} whose batches do not fit together ({error}). Pad them to one shape") from None


def _in_order(loader: DataLoader) -> bool:
    """Whether a loader gives its samples as they lie in the data set."""
    if isinstance(loader.dataset, IterableDataset):
        return True
    drawn = loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
    if type(getattr(drawn, "sampler", loader.sampler)) is SequentialSampler:
        return True
    most = len(loader.dataset) + 1
    numbers = [int(i) for each in islice(drawn, most) for i in (each if isinstance(each, Iterable) else [each])]
    return numbers == sorted(numbers)


def _without_labels(batch, kind: str):
    if isinstance(batch, Mapping):
        texts = [
            key for key, value in batch.items() if isinstance(value, (list, tuple)) and {type(each) for each in value} == {str}
        ]
        return {key: value for key, value in batch.items() if key not in (*LABELS, *texts)}
    if isinstance(batch, (tuple, list)):
        if len(batch) > 2:
            raise ValueError(
                f"x is a {kind} of {len(batch)} things a sample, of which the network's inputs are not known. Give them as a "
                "mapping of tensors by the names of its arguments"
            )
        return batch[0]
    return batch


def parts(x: Inputs) -> dict[str, torch.Tensor]:
    """The tensors of inputs, by what an error calls them."""
    if isinstance(x, torch.Tensor):
        return {"x": x}
    items = x.items() if isinstance(x, dict) else enumerate(x)
    return {f"x[{key!r}]": value for key, value in items if isinstance(value, torch.Tensor)}


def samples(x: Inputs) -> int:
    """The number of samples N."""
    return len(next(iter(parts(x).values())))


def describe(x: Inputs) -> str:
    """Shapes and types, for an error."""
    held = [f"{name} of shape {tuple(t.shape)} and type {t.dtype}" for name, t in parts(x).items()]
    kind = "" if isinstance(x, torch.Tensor) else f"a {type(x).__name__} with "
    return kind + (", ".join(held) or "no arrays")


def hint(x: Inputs) -> str:
    """What may be meant, where a network does not take its inputs."""
    for t in parts(x).values():
        if t.ndim == 4 and t.shape[3] in (1, 3, 4) and t.shape[1] not in (1, 3, 4):
            return ". (Images are (N, C, H, W): a tensor's permute(0, 3, 1, 2), an array's transpose(0, 3, 1, 2))"
        if t.dtype == torch.uint8 and t.ndim < 4:
            return ". (uint8 are pixels, and divided by 255; token ids must be of another type: astype('int64'))"
        if not t.is_floating_point() and t.dtype != torch.uint8:
            return ". (Whole numbers other than uint8 are token ids; pixels must be uint8, or floats in [0, 1])"
    return ""


def rows_of(x: Inputs, rows: slice) -> Inputs:
    """Some of the samples."""
    return _each(x, lambda t: t[rows])


def copied(x: Inputs) -> Inputs:
    """The same in memory of its own, whatever becomes of the reader's."""
    return _each(x, lambda t: t.detach().clone())


def batch_of(x: Inputs, rows: slice, model: nn.Module) -> Inputs:
    """Some of the samples as the model takes them, in memory of their own: it may change them.

    uint8 becomes floats in [0, 1]; floats take the precision of the model where it has no weights in theirs; other whole
    numbers, such as token ids, become int64.
    """
    device, precision = place(model, next(iter(parts(x).values())).device)
    own = {t.dtype for t in weights_of(model)} | {precision}

    def moved(t: torch.Tensor) -> torch.Tensor:
        t = t[rows]
        if t.dtype == torch.uint8:
            return as_floats(t.to(device)).to(precision)
        if t.is_floating_point():
            return t.to(device, t.dtype if t.dtype in own else precision, copy=True)
        return t.to(device, t.dtype if t.is_complex() or t.dtype == torch.bool else torch.int64, copy=True)

    return _each(x, moved)


def _each(x: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, tuple):
        return tuple(change(t) for t in x)
    return {key: change(value) if isinstance(value, torch.Tensor) else value for key, value in x.items()}


def call(model: nn.Module, batch: Inputs):
    """What the network makes of a batch, given by position or by name."""
    return model(**batch) if isinstance(batch, dict) else model(*batch) if isinstance(batch, tuple) else model(batch)


def check_pixels(model: nn.Module, x: Inputs) -> None:
    """Refuses images that a network of modlib, which takes pixels in [0, 1], would misread.

    (LocalSearch of the protocol ``"authors"`` leaves [0, 1] by a little.)
    """
    if not hasattr(model, "set_pixels") or not isinstance(x, torch.Tensor):
        return
    channels = model.mean.shape[1]
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"model takes images (N, {channels}, H, W); got x of shape {tuple(x.shape)}")
    low, high = (0, 1) if x.dtype == torch.uint8 or x.is_meta else (x.min().item(), x.max().item())
    if low < -0.25 or high > 1.25:
        raise ValueError(
            f"model takes pixels in [0, 1] and normalises them itself; got x from {low:.3g} to {high:.3g}. "
            "Give uint8 pixels, divide by 255, or leave the normalisation out"
        )
