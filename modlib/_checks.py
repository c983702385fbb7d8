"""The sentences for bad input that several rooms share, and the door that holds arguments to their annotations."""

import difflib
import os
import re
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, wraps
from inspect import isclass, signature
from numbers import Real
from pathlib import Path

import numpy as np

LARGEST = sys.float_info.max
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def shown(value: object) -> str:
    """What came, on one line, for an error.

    >>> shown(np.zeros((1, 3))), len(shown("x" * 1000))
    ('array([[0., 0., 0.]])', 85)
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # somebody else's class
        text = f"a {type(value).__name__}"
    return text if len(text) <= 85 else f"{text[:82]}..."


def unknown(what: str, value: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is not known, with the nearest that is.

    >>> print(unknown("model", "resnet65", ["resnet20", "resnet56"]))
    unknown model 'resnet65'; did you mean 'resnet56'? Known: resnet20, resnet56
    """
    known = list(known)
    near = difflib.get_close_matches(str(value)[:80], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(known[:40]) + (f", ... ({len(known)} in all)" if len(known) > 40 else "")
    return ValueError(f"unknown {what} {shown(value)}{hint} Known: {listed}")


def one_of(what: str, value: object, known: Collection[str]) -> str:
    """``value`` if it is one of the names that are known, or the sentence of :func:`unknown`."""
    if not isinstance(value, str) or value not in known:
        raise unknown(what, value, known)
    return value


def listed(name: str, value: object, of: str, kind: type = str) -> list:
    """``value`` as a list of things of a kind, or a sentence; what has no end is none, and a text is no list of letters."""
    if not _sized(value) or not all(isinstance(each, kind) for each in value):
        raise ValueError(f"{name} must be a list of {of}; got {name}={shown(value)}")
    return list(value)


def as_array(value: object) -> np.ndarray:
    """As an array of numpy, a tensor from wherever it lies; what cannot be (ragged, sparse) is an object without axes."""
    if np.ma.is_masked(value):  # what is behind the mask would count
        return np.array(None)
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        return np.asarray(value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value)  # numpy has none
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        return np.array(None)


def array(name: str, value: object, ndim: int | tuple[int, ...], of: str, kinds: str = "iuf", finite: bool = True) -> np.ndarray:
    """``value`` as an array with so many axes of real numbers, or a sentence; a tensor from wherever it lies.

    >>> array("q", [0.1, float("nan")], 1, "(L,) modularities")
    Traceback (most recent call last):
    ValueError: q must be (L,) modularities, finite numbers; got shape (2,), float64 with NaN or infinity
    """
    found = as_array(value)
    fits = found.dtype.kind in kinds and found.ndim in (ndim if isinstance(ndim, tuple) else (ndim,))
    infinite = fits and finite and found.dtype.kind == "f" and not np.isfinite(found).all()
    if not fits or infinite:
        came = shown(value) if found.dtype == object else f"shape {found.shape}, {found.dtype}" + " with NaN or infinity" * infinite
        raise ValueError(f"{name} must be {of}, {'finite ' * finite}numbers; got {came}")
    return found


def symmetric(name: str, matrix: object) -> np.ndarray:
    """``matrix`` as floats (L, L), symmetric, or a sentence."""
    m = array(name, matrix, 2, "(L, L), symmetric").astype(float)
    if m.shape != m.T.shape or not np.allclose(m, m.T):
        raise ValueError(f"{name} must be (L, L), symmetric; got shape {m.shape}")
    return m


def _number(value: object) -> Real | None:
    """``value`` if it is one real number, also in an array or a tensor without axes; True is none."""
    try:
        value = value.item() if getattr(value, "ndim", None) == 0 else value
    except (RuntimeError, ValueError):  # of a device that holds no numbers
        return None
    return value if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) else None


def checked(door):
    """A function, or a dataclass, whose arguments are held to their annotations at once: what they must be, in one sentence.

    A dataclass takes what is like an array or a tuple, such as a tensor or a list, and holds that array or tuple. Bounds and shapes
    are for the body. What is of torch is not looked at here.

    >>> from collections.abc import Sequence
    >>> @checked
    ... def f(x, k: int = 3, layers: Sequence[str] | None = None, *, progress: bool = False): ...
    >>> f(1, "a")
    Traceback (most recent call last):
    ValueError: k must be a whole number; got k='a'
    """
    if isclass(door):
        door.__init__ = _held(door.__init__, _cast)
        return door
    return _held(door, lambda hint, value: value)


def _held(door: Callable, cast: Callable) -> Callable:
    inside = signature(door)

    @cache
    def kinds() -> dict[str, tuple]:
        hints = typing.get_type_hints(door)
        single = [name for name, each in inside.parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        return {name: (hints[name], _members(hints[name])) for name in single if name in hints}

    @wraps(door)
    def call(*arguments, **named):
        try:
            bound = inside.bind(*arguments, **named)
        except TypeError:  # Python's own sentence names what is missing or too much
            return door(*arguments, **named)
        for name, (hint, members) in kinds().items():
            if name not in bound.arguments:
                continue
            value = bound.arguments[name] = cast(hint, was := bound.arguments[name])
            if not any(fits(value) for _, fits in members):
                words = [words for words, _ in members]
                expected = " or ".join(words[:-1]) + ", or None" if words[-1] == "None" else " or ".join(words)
                raise ValueError(f"{name} must be {expected}; got {name}={shown(was)}")
        return door(*bound.args, **bound.kwargs)

    return call


def _cast(hint, value):
    """Of something like it what a field of a dataclass holds."""
    if hint is np.ndarray:
        return as_array(value)
    return tuple(value) if typing.get_origin(hint) is tuple and _sized(value) else value


def _members(hint) -> list[tuple[str, Callable]]:
    """Of an annotation, what it allows: words, and the test."""
    united = typing.get_origin(hint) in (typing.Union, types.UnionType)
    each = [*typing.get_args(hint)] if united else [hint]
    if Path in each:
        each = [kind for kind in each if kind is not str]
    return [_member(kind) for kind in sorted(each, key=lambda kind: kind is types.NoneType)]


def _member(hint) -> tuple[str, Callable]:
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in _KINDS:
        return _KINDS[kind]
    if not isclass(kind) or kind is Iterable or kind.__module__.startswith("torch"):
        return "anything", lambda value: True
    if kind in (dict, Mapping):
        return "a dict", lambda value: isinstance(value, Mapping)
    if issubclass(kind, Collection) and kind is not np.ndarray:
        if kind is tuple and ... not in inner:  # so many, each of its kind
            parts = [_members(each) for each in inner]
            return (
                f"a tuple of {len(parts)}: " + ", ".join(part[0][0] for part in parts),
                lambda value: (
                    _sized(value) and len(value) == len(parts) and all(p[0][1](v) for p, v in zip(parts, value, strict=True))
                ),
            )
        words, fits = _member(inner[0]) if inner else ("things", lambda value: True)
        plural = {"text": "names", "a whole number": "whole numbers", "a number": "numbers"}.get(words, words)
        return f"a list of {plural}", lambda value: _sized(value) and all(map(fits, value))
    if kind is np.ndarray:
        return "an array of numbers", lambda value: isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}", lambda value: isinstance(value, kind)


def _sized(value: object) -> bool:
    """Whether it is a list, or something like one, that has an order and an end; a text is none of letters."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, (str, bytes, Mapping, set, frozenset))
        and getattr(value, "ndim", 1) > 0
    )


def _is_whole(value: Real | None) -> bool:
    return value is not None and value == value // 1


def whole_number(name: str, value: object, low: int, high: int | None = None, of: str = "") -> int:
    """``value`` as an int within [low, high], or a sentence that says what came.

    >>> whole_number("k", 500, 1, 499, "for N=500 samples")
    Traceback (most recent call last):
    ValueError: k must be a whole number in 1..499; got k=500 for N=500 samples
    """
    bounds = f"in {low}..{high}" if high is not None else f"of at least {low}"
    found = _number(value)
    if not _is_whole(found) or found < low or high is not None and found > high:
        raise ValueError(f"{name} must be a whole number {bounds}; got {name}={shown(value)} {of}".rstrip())
    return int(found)


def _is_path(value: object) -> bool:
    """Of a file, a folder, or of nothing yet: a pipe would be waited for without end, a device overwritten."""
    if not isinstance(value, (str, os.PathLike)) or str(value) == "" or "\0" in str(value):
        return False
    return os.path.isfile(value) or os.path.isdir(value) or not os.path.exists(value)


def check_seed(value: object) -> int:
    """A seed that every generator of random numbers takes."""
    return whole_number("seed", value, 0, 2**32 - 1)


def as_path(name: str, value: object) -> Path:
    """``value`` as a Path, or a sentence that says what came.

    >>> as_path("weights", 3)
    Traceback (most recent call last):
    ValueError: weights must be the path of a file or a folder; got weights=3
    """
    if not _is_path(value):
        raise ValueError(f"{name} must be the path of a file or a folder; got {name}={shown(value)}")
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


def number(name: str, value: object, low: float = 0, high: float | None = None) -> float:
    """``value`` as a finite float within [low, high], or a sentence that says what came.

    >>> number("max_minutes", -1, 0)
    Traceback (most recent call last):
    ValueError: max_minutes must be a number of at least 0; got max_minutes=-1
    """
    bounds = f"in {low}..{high}" if high is not None else f"of at least {low}"
    found = _number(value)
    if found is None or not low <= found <= LARGEST or high is not None and found > high:
        raise ValueError(f"{name} must be a number {bounds}; got {name}={shown(value)}")
    return float(found)


_KINDS = {
    types.NoneType: ("None", lambda value: value is None),
    bool: ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    int: ("a whole number", lambda value: _is_whole(_number(value))),
    float: ("a number", lambda value: _number(value) is not None),
    str: ("text", lambda value: isinstance(value, str)),
    Path: ("the path of a file or a folder", lambda value: _is_path(value)),
    Callable: ("a function", callable),
}


def room_for(folder: Path) -> None:
    """Refuse a folder to which nothing can be written, before hours of work for it."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, f"nothing can be written to {str(folder)!r}: {error.strerror}", str(there)) from None


def target(name: str, path: Path | None, kinds: Iterable[str] = ()) -> None:
    """Refuse a file that cannot be written, before the work that is to go into it."""
    if path is None:
        return
    if path.is_dir() or str(path) == "-":  # which elsewhere means the terminal
        raise ValueError(f"{name} {path} is {'a folder; name a file in it' if path.is_dir() else 'no file; name one'}")
    if kinds and path.suffix.lstrip(".").lower() not in kinds:
        raise ValueError(f"{name} {path} must end with one of {', '.join('.' + kind for kind in sorted(kinds))}")
    room_for(as_path(name, path).parent)
