"""What is done of a long piece of work, in a file, so that hours go on where they stopped; whole, whenever a process ends."""

import hashlib
import json
import os
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from modlib._checks import room_for
from modlib.data import write_atomically

Parts = dict[str, tuple[np.ndarray, ...]]  # name -> its arrays, such as layer -> (neighbours, weights)
MAGIC = b"modlib's work, 2\n"
ENTRY = struct.Struct("<QQ32s")  # before each part: bytes of its head and of its arrays, and the sha256 of both


class Work:
    """The finished parts of a piece of work, and the file that keeps them.

    The file grows by one entry a part, so that all of it is written once. Where a process was killed in the middle of
    an entry, or another one writes to the same file, it is written anew as a whole.

    Attributes:
        parts: what is done; none if there is no file yet.

    Args:
        path: the file.
        key: names the work: :func:`modlib.models.identity.fingerprint`.

    Raises:
        ValueError: if the file is of another network, other images or other settings, or no such file, or damaged.
    """

    def __init__(self, path: str | Path, key: str):
        self.path, self.key = Path(path), key.encode()
        room_for(self.path.parent)  # before the work that is to go there
        self.parts: Parts = {}
        self.end = 0  # of what this process knows of the file, in bytes
        if not self.path.exists():
            return
        try:
            if not self.path.is_file():
                raise ValueError("it is no file")
            key = self._read()
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"resume={str(path)!r} holds no work to go on with ({error}). Name another file") from None
        if key != self.key:
            raise ValueError(
                f"resume={str(path)!r} is of another network, other images or other settings. Name another, or delete it"
            )

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError("it was not written by this version of modlib")
            if len(key := file.read(len(self.key))) < len(self.key):
                raise ValueError("it is cut off")
            while key == self.key:
                self.end = file.tell()
                if len(lengths := file.read(ENTRY.size)) < ENTRY.size:
                    break
                head, body, digest = ENTRY.unpack(lengths)
                if head + body > size - file.tell():  # a process was killed here
                    break
                content = bytearray(file.read(head + body))
                if hashlib.sha256(content).digest() != digest:
                    raise ValueError("it is damaged")
                name, kinds = json.loads(content[:head])
                self.parts.setdefault(name, tuple(_arrays(kinds, memoryview(content)[head:])))
        return key

    def add(self, parts: Parts) -> None:
        """Keep those that are not kept yet."""
        new = {name: arrays for name, arrays in parts.items() if name not in self.parts}
        if self.end == (self.path.stat().st_size if self.path.exists() else 0) > 0:
            content = b"".join(_entry(name, arrays) for name, arrays in new.items())
            try:
                with self.path.open("ab") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:  # a full disk names no file
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            self.end += len(content)
        else:
            content = MAGIC + self.key + b"".join(_entry(name, arrays) for name, arrays in (self.parts | new).items())
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, content)
            self.end = len(content)
        self.parts |= new


def _entry(name: str, arrays: tuple[np.ndarray, ...]) -> bytes:
    head = json.dumps([name, [[array.dtype.str, array.shape] for array in arrays]]).encode()
    body = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return ENTRY.pack(len(head), len(body), hashlib.sha256(head + body).digest()) + head + body


def _arrays(kinds: list, content: memoryview) -> list[np.ndarray]:
    """The arrays of one entry: views of its bytes, so that no more memory is taken than there are bytes."""
    arrays, start = [], 0
    for kind, shape in kinds:
        kind = np.dtype(kind)
        end = start + kind.itemsize * int(np.prod(shape, dtype=object))
        if kind.hasobject or not start <= end <= len(content):
            raise ValueError("it does not hold the arrays that it names")
        arrays.append(np.frombuffer(content[start:end], kind).reshape(shape))
        start = end
    return arrays


def write_checkpoint(path: Path, content: dict) -> None:
    """Write what torch can save, with the sha256 of the file at its end."""
    buffer = BytesIO()
    torch.save(content, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(path, buffer.getbuffer())


def read_checkpoint(path: Path, settings: dict, device: torch.device) -> dict | None:
    """What :func:`write_checkpoint` wrote, or an earlier modlib, whose files end with torch's archive; None if there is none.

    Raises:
        OSError: if it cannot be read, or a bit of it is wrong.
        ValueError: if its settings are others.
    """
    if not path.exists():
        return None
    content = memoryview(path.read_bytes())
    if content[-22:-18] != b"PK\5\6" and hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise OSError(f"{path} is not a checkpoint of modlib that is whole: its sha256 differs; delete it to start anew")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = {key: content[key] for key in ("settings", "model", "optimizer", "history")}["settings"]
    except Exception as error:  # unpickling knows no bounds
        raise OSError(f"{path} is not a checkpoint of modlib ({type(error).__name__}); delete it to start anew") from None
    differs = [
        f"{key} is {found.get(key)!r} there, {settings.get(key)!r} here"
        for key in {**settings, **found}
        if found.get(key) != settings.get(key)
    ]
    if differs:
        raise ValueError(f"{path} is of another run: {'; '.join(differs)}. Name another folder, or delete it to start anew")
    return content
