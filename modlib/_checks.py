"""The sentences for bad input that several rooms share."""

import difflib
import math
import re
from collections.abc import Iterable
from numbers import Real
from pathlib import Path

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


def number(name: str, value: object, low: float = 0, high: float = math.inf) -> float:
    """``value`` as a float within [low, high], or a sentence that says what came.

    >>> number("max_minutes", "soon")
    Traceback (most recent call last):
    ValueError: max_minutes must be a number of at least 0; got max_minutes='soon'
    """
    if isinstance(value, Real) and low <= value <= high:
        return float(value)
    bounds = f"of at least {low}" if high == math.inf else f"in {low}..{high}"
    raise ValueError(f"{name} must be a number {bounds}; got {name}={value!r}")


def path(name: str, value: object) -> Path:
    """``value`` as the path of a file, or a sentence that says what came."""
    if not isinstance(value, (str, Path)):
        raise ValueError(f"{name} must be the path of a file; got {name}={value!r}")
    return Path(value)


def size_in_bytes(value: int | str) -> int:
    """A memory size such as ``"5GiB"`` or ``2_000_000`` in bytes.

    >>> size_in_bytes("5GiB") == 5 * 2**30
    True
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", str(value), re.IGNORECASE)
    if not match or match[2].upper() not in _UNITS or float(match[1]) <= 0:
        raise ValueError(f"memory must be a positive number of bytes or a size such as '5GiB'; got {value!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])
