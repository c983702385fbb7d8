"""How much a page of the book computes, and where: the environment variable MODLIB_SCALE, and a GPU."""

import os
from pathlib import Path

import torch

from modlib._checks import unknown
from modlib._moved import forward

SCALES = ("smoke", "book", "gpu", "full")  # seconds, on fewer samples; the default; records measured live: what fits, or all
__getattr__ = forward(__name__)  # what older versions had here


def scale() -> str:
    """One of :data:`SCALES`: ``$MODLIB_SCALE``, or ``"book"``.

    Raises:
        ValueError: for any other value.
    """
    name = os.environ.get("MODLIB_SCALE") or "book"
    if name not in SCALES:
        raise unknown("MODLIB_SCALE", name, SCALES)
    return name


def choose(book: int, smoke: int) -> int:
    """The size of a live run: a number of images, draws or epochs.

    >>> choose(book=500, smoke=100)  # unless MODLIB_SCALE is smoke
    500
    """
    return smoke if scale() == "smoke" else book


def device() -> torch.device:
    """Where a page computes: a GPU where torch sees one. A model that is moved there takes its images along.

    >>> device().type in ("cpu", "cuda")
    True
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def local_results() -> Path:
    """Where records measured on this machine go: ``$MODLIB_RESULTS``, or ``results`` in the working folder."""
    return Path(os.environ.get("MODLIB_RESULTS") or "results").absolute()
