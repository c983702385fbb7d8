"""How much a page of the book computes: the environment variable MODLIB_SCALE."""

import os
from pathlib import Path

import torch

from modlib._checks import unknown

SCALES = ("smoke", "book", "full")  # seconds, on fewer samples; the default; records measured live, on a GPU


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


def local_results() -> Path:
    """Where :func:`measure` writes: ``$MODLIB_RESULTS``, or ``results`` in the working folder."""
    return Path(os.environ.get("MODLIB_RESULTS") or "results").absolute()


def measure(*figures: str, **which) -> None:
    """With MODLIB_SCALE=full, measure what these figures show; otherwise do nothing.

    Records go to :func:`local_results`, training runs to the folder ``runs`` beside it, and
    :func:`modlib.find_results` takes a local record in place of modlib's own of the same name. What stopped goes on
    where it stopped, and nothing is measured twice.

    Args:
        figures: keys of :data:`modlib.figures.FIGURES`.
        **which: ``models`` and ``datasets`` of :func:`modlib.experiments.reproduce`.
    """
    if scale() != "full":
        return
    from modlib.experiments import reproduce  # which reads records, and those ask for the scale

    device, out = "cuda" if torch.cuda.is_available() else "cpu", local_results()
    for figure in figures:
        print(f"{figure}: measuring on {device}, into {out.name}")
        for step in reproduce(figure, **which, device=device, runs=out.parent / "runs", out=out, shipped=False):
            print(step, flush=True)
