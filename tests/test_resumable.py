"""Files of finished work: they grow by what is new, outlive every kill, and are never read wrong."""

import hashlib
import io
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from modlib import _resumable
from modlib._resumable import Work

KEY = "a" * 64


def part(i: int, size: int = 2000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(i)
    return rng.integers(0, 9, (size, 3)), rng.random((size, 3)).astype("f4"), np.empty((0, 2)), np.array(i / 3)


def same(parts, names) -> bool:
    assert list(parts) == list(names)
    for name, arrays in parts.items():
        for array, expected in zip(arrays, part(int(name)), strict=True):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == expected.dtype and array.flags.writeable
    return True


@pytest.fixture
def file(tmp_path):
    return tmp_path / "work"


def grown(file, count=4):
    work = Work(file, KEY)
    for i in range(count):
        work.add({str(i): part(i)})
    return work


def test_what_was_kept_is_there_again(file):
    grown(file)
    again = Work(file, KEY)
    assert same(again.parts, "0123")
    again.add({str(i): part(i) for i in range(6)})
    assert same(Work(file, KEY).parts, "012345")


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux tells how much a process has written")
def test_every_part_is_written_once(file):
    def written() -> int:
        return int(Path("/proc/self/io").read_text().split("wchar:")[1].split()[0])

    before = written()
    grown(file, 40)
    assert written() - before < 1.1 * file.stat().st_size  # all of it again for each part: 20 times as much


def test_a_file_that_is_cut_off_anywhere_gives_the_whole_parts_before(file, rng):
    grown(file)
    whole, begin = file.read_bytes(), len(_resumable.MAGIC) + len(KEY)
    each = (len(whole) - begin) // 4
    for cut in (begin, begin + 1, begin + each - 1, *rng.integers(begin, len(whole), 20)):
        file.write_bytes(whole[:cut])
        work = Work(file, KEY)
        assert same(work.parts, [str(i) for i in range(4) if sum(_sizes(whole)[: i + 1]) + begin <= cut])
        work.add({str(i): part(i) for i in range(4)})
        assert file.read_bytes() == whole
    for cut in range(begin):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="holds no work to go on with"):
            Work(file, KEY)


def _sizes(whole: bytes) -> list[int]:
    sizes, at = [], len(_resumable.MAGIC) + len(KEY)
    while at < len(whole):
        head, body, _ = _resumable.ENTRY.unpack_from(whole, at)
        sizes.append(_resumable.ENTRY.size + head + body)
        at += sizes[-1]
    return sizes


def test_one_wrong_bit_is_never_read_as_work(file, rng):
    grown(file, 3)
    whole = file.read_bytes()
    for at in rng.integers(0, len(whole), 300):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << rng.integers(8)
        file.write_bytes(spoilt)
        try:
            parts = Work(file, KEY).parts
        except ValueError as error:
            assert "resume=" in str(error)
        else:  # a length too long looks like an entry that was cut off
            assert same(parts, [str(i) for i in range(len(parts))])


@pytest.mark.parametrize("head", [
    b'["0", [["O", [1]]]]', b'["0", [["<f8", [100000000]]]]', b'["0", [["<f8", [-1]]]]', b'["0"]', b"[[[", b"{}", b"[" * 100_000,
    b'["0", [["nonsense", [1]]]]', b'[["0"], []]', b'["0", [["<f8", "a"]]]', b"\xff",
])  # fmt: skip
def test_what_another_program_made_is_refused_in_a_sentence(file, head):
    body = bytes(8)
    entry = _resumable.ENTRY.pack(len(head), len(body), hashlib.sha256(head + body).digest()) + head + body
    file.write_bytes(_resumable.MAGIC + KEY.encode() + entry)
    with pytest.raises(ValueError, match="holds no work to go on with"):
        Work(file, KEY)


def test_other_work_and_files_of_earlier_versions_are_refused_and_left_alone(file):
    grown(file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="is of another network, other images or other settings. Name another, or delete it"):
        Work(file, "b" * 64)
    assert file.read_bytes() == before
    old = io.BytesIO()
    np.savez(old, key=KEY, names=["0"], width=1, **{"0.0": np.zeros(3)})
    for content in (old.getvalue(), b"", b"words"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="not written by this version of modlib.*Name another file"):
            Work(file, KEY)
        assert file.read_bytes() == content
    file.unlink()
    file.mkdir()
    with pytest.raises(ValueError, match="holds no work to go on with"):
        Work(file, KEY)


def test_two_processes_at_one_file_leave_what_one_of_them_did(file):
    one, other = Work(file, KEY), Work(file, KEY)
    one.add({"0": part(0)})
    other.add({"0": part(0)})
    other.add({"1": part(1)})
    one.add({"2": part(2)})
    assert same(Work(file, KEY).parts, "02")  # never entries of both, which need not fit


def test_a_disk_that_is_full_names_the_file_and_loses_nothing(file, monkeypatch):
    work, fsync = grown(file, 2), os.fsync

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        work.add({"2": part(2)})
    monkeypatch.setattr(os, "fsync", fsync)
    work.add({"2": part(2), "3": part(3)})
    assert same(Work(file, KEY).parts, "0123")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kills_at_any_moment_lose_no_finished_part(file, rounds):
    random.seed(0)
    done = kills = 0
    while done < 12 * rounds:
        ready, tell = os.pipe()
        if not (child := os.fork()):
            work = Work(file, KEY)
            os.write(tell, b".")
            for i in range(10_000):
                work.add({str(i): part(i)})
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        time.sleep(random.random() / 50 * (1 + kills / 10))  # on a busy machine later and later
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        held = Work(file, KEY).parts
        assert len(held) >= done and same(held, map(str, range(len(held))))
        done, kills = len(held), kills + 1
        assert kills < 500
