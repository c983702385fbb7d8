"""Batches to train on: shuffled and augmented where the images lie."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from modlib.data import Images


class Batches:
    """Shuffled, augmented batches, made on the device: all images lie there once, with their padding.

    Args:
        images: uint8 (N, 3, H, W).
        crop: pixels of zero padding before a random crop to H x W.
        flip: mirror each image with probability 1/2.
    """

    def __init__(self, images: Images, batch_size: int, crop: int, flip: bool, device: torch.device):
        self.batch_size, self.crop, self.flip = batch_size, crop, flip
        self.size = images.x.shape[2:]
        self.x = F.pad(torch.from_numpy(images.x), (crop,) * 4).to(device)
        self.y = torch.from_numpy(np.asarray(images.y, np.int64)).to(device)

    def __len__(self) -> int:
        return len(self.y) // self.batch_size or 1

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of float pixels (B, 3, H, W) in [0, 1] and labels; a last one that is not full is left out."""
        order = torch.randperm(len(self.y), generator=generator)
        height, width = map(torch.arange, self.size)
        channel = torch.arange(3)[None, :, None, None]
        for chosen in order.split(self.batch_size)[: len(self)]:
            top, left = torch.randint(0, 2 * self.crop + 1, (2, len(chosen), 1), generator=generator)
            rows, columns = top + height, left + width
            if self.flip:
                flipped = torch.rand(len(chosen), 1, generator=generator) < 0.5
                columns = torch.where(flipped, columns.flip(1), columns)
            at = (chosen[:, None, None, None], channel, rows[:, None, :, None], columns[:, None, None, :])
            at = tuple(index.to(self.x.device) for index in at)
            yield self.x[at].float() / 255, self.y[at[0].flatten()]


@torch.no_grad()
def check_data(images: Images, model: nn.Module, least: int) -> None:
    """Refuse images on which a network of modlib cannot be trained, or tested.

    Raises:
        ValueError: the sentence says what is expected and what came.
    """
    x, y, where = images.x, np.asarray(images.y), f"in {images.name!r}"
    classes = model.architecture["num_classes"]
    if getattr(x, "dtype", None) != np.uint8:
        raise ValueError(f"data must be uint8 images; got {getattr(x, 'dtype', type(x).__name__)} {where}")
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"data must be images of shape (N, 3, H, W); got {x.shape} {where}")
    if len(x) < least:
        raise ValueError(f"data must hold {least} images or more; got {len(x)} {where}")
    if y.dtype.kind not in "iu" or not 0 <= y.min() <= y.max() < classes:
        raise ValueError(f"labels must be whole numbers in 0..{classes - 1}; got {y.min()} to {y.max()} ({y.dtype}) {where}")
    try:
        model(torch.zeros(1, *x.shape[1:], device=next(model.parameters()).device))
    except RuntimeError as error:
        raise ValueError(f"the network cannot take the {x.shape[2]} x {x.shape[3]} pixels of the data {where}: {error}") from None
