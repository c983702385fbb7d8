"""What :func:`modlib.attacks.attack` asks of its arguments; each sentence names the argument, the value and the way out."""

import numpy as np
import torch
from torch import nn

from modlib._checks import number, one_of, shown, unknown, whole_number
from modlib.attacks.algorithms import TARGETS
from modlib.cost import check_answers
from modlib.data import Images
from modlib.models.inputs import check_pixels
from modlib.models.outputs import first_tensor

MOST = 10**6  # of any setting: more steps have no end, and larger numbers none in float32


def check_settings(name: str, defaults: dict, given: dict) -> dict:
    """All settings of an attack: those given, checked against the kind of their default, and the defaults."""
    known = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            raise unknown(f"setting of {name}", key, defaults)
        if isinstance(defaults[key], str):
            known[key] = one_of(key, value, TARGETS)
        elif isinstance(defaults[key], bool):
            if not isinstance(value, (bool, np.bool_)):
                raise ValueError(f"{key} must be True or False; got {key}={shown(value)}")
            known[key] = bool(value)
        elif isinstance(defaults[key], int):
            known[key] = whole_number(key, value, 1, MOST)
        else:
            known[key] = number(key, value, -MOST if key == "theta" else 0, MOST)
    return known


def check_images(images: Images) -> None:
    if not isinstance(images, Images) or not len(images):
        raise ValueError(f"images must be modlib.Images, one or more; got {shown(images)}")
    if images.x.ndim != 4:
        raise ValueError(f"images.x must be of shape (N, 3, H, W); got shape {images.x.shape}")
    low, high = images.x.min(), images.x.max()
    if images.x.dtype.name != "uint8" and not (images.x.dtype.kind == "f" and low >= 0 and high <= 1):
        raise ValueError(
            f"images.x must be uint8, or floats in [0, 1]; got {images.x.dtype} from {low} to {high}. "
            "Undo a normalisation: the model does its own"
        )
    if images.y.dtype.kind not in "iu" or images.y.min() < 0:
        raise ValueError(f"images.y must be integers >= 0; got {images.y.dtype} from {images.y.min()}")


def check_model(model: nn.Module, images: Images, first: torch.Tensor, by_gradient: bool) -> int:
    """The number of classes, if the model takes the first of the images, can be followed by gradients where an attack needs them,
    and has room for all labels."""
    check_pixels(model, first)
    try:
        logits = first_tensor(model(first.requires_grad_() * 1))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"model cannot take images.x of shape {images.x.shape}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        came = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else "no tensor"
        raise ValueError(f"model must give one row of logits an image, shape (N, C); got {came} for one image")
    if by_gradient and not logits.requires_grad:
        raise ValueError(
            "model must give logits that depend on the pixels by a gradient; this one computes without (under torch.no_grad, or by "
            "operators that have none). Take name='onepixel' or 'localsearch'"
        )
    check_answers(logits, images.y)
    return logits.shape[1]
