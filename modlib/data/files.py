"""Files written as a whole or not at all, and what a record in JSON may hold."""

import hashlib
import json
import os
import platform
import re
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil

from modlib._checks import as_array

# part of a write: NAME.HOST-PID-RANDOM.part; the name of the machine as a hash, since it may hold anything
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_PART = re.compile(r"\.(?:(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-)?[0-9a-f]{8}\.part")
DAY = 86_400  # seconds, after which a part that another machine left is nobody's


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside, then rename: a reader never meets half a file, nor do two writers, of any machine.

    The content is on the disk before it gets its name, so that a machine that loses its power keeps the old file or has the
    new one. What an earlier write to the same file left when it was killed is removed.

    Raises:
        OSError: with the name of the file, such as on a full disk; the old file is still there.
    """
    path = Path(path)
    begin = path.name[:180]  # a file's name has at most 255 bytes
    temporary = path.with_name(f"{begin}.{_HOST}-{os.getpid()}-{uuid4().hex[:8]}.part")
    _clean(path.parent, begin)
    try:
        temporary.write_bytes(content)
        _to_disk(temporary)
        temporary.replace(path)
        _to_disk(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)  # of a write that failed


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # whose folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() and error.errno is not None:  # some file systems know no fsync of folders
            raise
    finally:
        os.close(handle)


def _clean(folder: Path, begin: str) -> None:
    """Remove the parts of writes to one file whose process is gone."""
    try:
        names = os.listdir(folder)
    except OSError:  # the write will say so
        return
    for name in names:
        match = _PART.fullmatch(name[len(begin) :]) if name.startswith(begin) else None
        if not match:
            continue
        try:
            if match["host"] == _HOST:
                gone = not psutil.pid_exists(int(match["pid"]))
            else:
                gone = time.time() - os.stat(folder / name).st_mtime > DAY
            if gone:
                os.unlink(folder / name)
        except OSError:  # another writer was faster
            continue


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


def as_json(value):
    """The same in what JSON knows: lists and numbers of Python."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return as_array(value).tolist() if hasattr(value, "tolist") else value


def check_json(name: str, value: object) -> None:
    """Refuse what JSON does not know."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must hold what JSON knows, text, finite numbers, lists and dicts; {error}") from None
