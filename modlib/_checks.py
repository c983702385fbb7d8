"""The sentences for bad input that several rooms share."""

import difflib
import math
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def unknown(what: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not known, with the nearest that is.

    >>> print(unknown("model", "resnet65", ["resnet20", "resnet56"]))
    unknown model 'resnet65'; did you mean 'resnet56'? Known: resnet20, resnet56
    """
    known = list(known)
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    shown = ", ".join(known[:40]) + (f", ... ({len(known)} in all)" if len(known) > 40 else "")
    return ValueError(f"unknown {what} {value!r}{hint} Known: {shown}")


def whole_number(name: str, value: object, low: int, high: int | None = None, of: str = "") -> int:
    """``value`` as an int within [low, high], or a sentence that says what came.

    >>> whole_number("k", 500, 1, 499, "for N=500 samples")
    Traceback (most recent call last):
    ValueError: k must be a whole number in 1..499; got k=500 for N=500 samples
    """
    bounds = f"in {low}..{high}" if high is not None else f"of at least {low}"
    try:
        fits = int(value) == value and low <= value and (high is None or value <= high)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(f"{name} must be a whole number {bounds}; got {name}={value!r} {of}".rstrip())
    return int(value)


def as_path(name: str, value: object) -> Path:
    """``value`` as a Path, or a sentence that says what came.

    >>> as_path("weights", 3)
    Traceback (most recent call last):
    ValueError: weights must be the path of a file or a folder; got weights=3
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name} must be the path of a file or a folder; got {name}={value!r:.80}")
    return Path(value)


def labelled_arrays(coords: dict, values: dict) -> None:
    """Refuse coordinates that name something twice, and values that do not have their shape or are no finite numbers.

    Args:
        coords: dimension -> labels.
        values: name -> ``{"dims": [...], "data": nested list}``.

    >>> labelled_arrays({"layer": ["a", "b"]}, {"q": {"dims": ["layer"], "data": [0.1]}})
    Traceback (most recent call last):
    ValueError: value 'q' must have the shape (2,) of its dims ('layer',); got (1,)
    """
    for dim, labels in coords.items():
        if not isinstance(labels, list) or not all(type(label) in (str, int, float) for label in labels):
            raise ValueError(f"coordinate {dim!r} must be a list of names or numbers")
        if len(set(labels)) < len(labels):
            raise ValueError(f"coordinate {dim!r} must name each label once; got {labels}")
    for name, value in values.items():
        if not isinstance(value, dict) or value.keys() != {"dims", "data"} or not isinstance(value["dims"], list):
            raise ValueError(f"value {name!r} must have dims and data")
        if unknown_dims := [dim for dim in value["dims"] if not isinstance(dim, str) or dim not in coords]:
            raise ValueError(f"value {name!r} has the dimension {unknown_dims[0]!r}, which has no coordinates")
        try:
            array = np.asarray(value["data"])
        except (ValueError, OverflowError):
            raise ValueError(f"value {name!r} must be a regular array of numbers") from None
        shape = tuple(len(coords[dim]) for dim in value["dims"])
        if array.shape != shape:
            raise ValueError(f"value {name!r} must have the shape {shape} of its dims {tuple(value['dims'])}; got {array.shape}")
        if array.dtype.kind not in "bif" and array.size:
            raise ValueError(f"value {name!r} must be numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"value {name!r} must be finite; what was not measured is left out, not recorded as NaN")


def size_in_bytes(value: int | str) -> int:
    """A memory size such as ``"5GiB"`` or ``2_000_000`` in bytes.

    >>> size_in_bytes("5GiB") == 5 * 2**30
    True
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", str(value), re.IGNORECASE)
    if not match or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise ValueError(f"memory must be a positive number of bytes or a size such as '5GiB'; got {value!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def number(name: str, value: object, low: float = 0, high: float | None = None) -> float:
    """``value`` as a finite float within [low, high], or a sentence that says what came.

    >>> number("max_minutes", -1, 0)
    Traceback (most recent call last):
    ValueError: max_minutes must be a number of at least 0; got max_minutes=-1
    """
    bounds = f"in {low}..{high}" if high is not None else f"of at least {low}"
    try:
        fits = low <= float(value) < math.inf and (high is None or value <= high)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits or isinstance(value, str):
        raise ValueError(f"{name} must be a number {bounds}; got {name}={value!r}")
    return float(value)


def room_for(folder: Path) -> None:
    """Refuse a folder to which nothing can be written, before hours of work for it."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, f"nothing can be written to {str(folder)!r}: {error.strerror}", str(there)) from None


def target(name: str, path: Path | None, kinds: Iterable[str] = ()) -> None:
    """Refuse a file that cannot be written, before the work that is to go into it.

    >>> target("--plot", Path("curve.doc"), ("pdf", "png"))
    Traceback (most recent call last):
    ValueError: --plot curve.doc must end with one of .pdf, .png
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"{name} {path} is a folder; name a file in it")
    if kinds and path.suffix.lstrip(".").lower() not in kinds:
        raise ValueError(f"{name} {path} must end with one of {', '.join('.' + kind for kind in sorted(kinds))}")
    room_for(path.parent)
