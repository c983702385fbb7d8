"""What :func:`modlib.attacks.attack` asks of its arguments; each sentence names the argument, the value and the way out."""

import math

import torch
from torch import nn

from modlib._checks import unknown, whole_number
from modlib.attacks.algorithms import TARGETS
from modlib.data import Images


def check_settings(name: str, defaults: dict, given: dict) -> dict:
    """All settings of an attack: those given, checked against the kind of their default, and the defaults."""
    checked = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            raise unknown(f"setting of {name}", key, defaults)
        if isinstance(defaults[key], str):
            if value not in TARGETS:
                raise unknown(key, value, TARGETS)
        elif isinstance(defaults[key], bool):
            if not isinstance(value, bool):
                raise ValueError(f"{key} must be True or False; got {key}={value!r}")
        elif isinstance(defaults[key], int):
            value = whole_number(key, value, 1)
        else:
            try:
                value = float(value)
            except (TypeError, ValueError):
                value = math.nan
            if not (math.isfinite(value) and (value >= 0 or key == "theta")):
                raise ValueError(f"{key} must be a number of at least 0; got {key}={given[key]!r}")
        checked[key] = value
    return checked


def check_images(images: Images) -> None:
    if not isinstance(images, Images) or not len(images):
        raise ValueError(f"images must be modlib.Images, one or more; got {len(images)} in {type(images).__name__}")
    low, high = images.x.min(), images.x.max()
    if images.x.dtype.name != "uint8" and not (images.x.dtype.kind == "f" and low >= 0 and high <= 1):
        raise ValueError(
            f"images.x must be uint8, or floats in [0, 1]; got {images.x.dtype} from {low} to {high}. "
            "Undo a normalisation: the model does its own"
        )
    if images.y.dtype.kind not in "iu" or images.y.min() < 0:
        raise ValueError(f"images.y must be integers >= 0; got {images.y.dtype} from {images.y.min()}")


def check_model(model: nn.Module, images: Images, first: torch.Tensor) -> int:
    """The number of classes, if the model takes the first of the images and has room for all labels."""
    try:
        with torch.no_grad():
            logits = model(first)
    except RuntimeError as error:
        raise ValueError(f"model cannot take images.x of shape {images.x.shape}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise ValueError("model must give one row of logits an image, shape (N, C)")
    if images.y.max() >= logits.shape[1]:
        raise ValueError(
            f"images.y must be in 0..{logits.shape[1] - 1}, the classes of the model; got {images.y.max()} at index "
            f"{images.y.argmax()}"
        )
    return logits.shape[1]
