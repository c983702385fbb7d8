"""Files written as a whole or not at all."""

import hashlib
import os
import platform
import re
import time
from pathlib import Path
from uuid import uuid4

import psutil

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
