"""Damaged and hostile files, drawn by a seed."""

import json
import os
import struct

import numpy as np

STRANGE = [None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\0", "x" * 300, [], {}, [[]], {"a": 1}, "../../x"]


class Evil:
    """Executes something when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def bytes_damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four random changes: bits, bytes, a part that is lost, doubled, zeroed or another's."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.choice([1, 2, 4, 8, 64, 1000]))
        match rng.integers(7):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at : at + length] = bytes(min(length, len(data) - at))
            case 6:
                number = struct.pack("<Q", int(rng.choice([0, 2**31 - 1, 2**31, 2**63 - 1])))
                data[at : at + 8] = number[: len(data) - at]
    return bytes(data)


def json_damaged(value, rng: np.random.Generator):
    """The same tree with one or two places lost, doubled, or filled with something strange."""
    tree = json.loads(json.dumps(value))
    for _ in range(rng.integers(1, 3)):
        places = [*_places(tree)]
        if not places:
            break
        holder, key = places[rng.integers(len(places))]
        match rng.integers(4):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, holder[key])
            case 2:
                other, place = places[rng.integers(len(places))]
                holder[key] = json.loads(json.dumps(other[place]))
            case _:
                holder[key] = STRANGE[rng.integers(len(STRANGE))]
    return tree


def _places(tree, depth: int = 0):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in [*items][:40]:
        yield tree, key
        yield from _places(value, depth + 1)


def safetensors_parts(content: bytes) -> tuple[dict, bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def safetensors_of(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
