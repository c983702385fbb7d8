"""Datasets from folders and archives at hand: nothing is unpacked to the disk, and no file may ask for more than an image takes."""

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from modlib.data.datasets import DATASETS

Sets = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> uint8 (N, 3, H, W), int64 (N,)
TINY_CLASSES = Path(__file__).parents[1] / "assets" / "data" / "tinyimagenet50.json"  # WordNet id -> name
TINY_IMAGES = {"train": 500, "val": 50}  # of each class
CIFAR100_IMAGES = {"train": 500, "test": 100}
LARGEST = 2**22  # bytes of one file in an archive: an image of 64 x 64 has 12,288, the list of labels half a million
WHOLE = 2**31  # bytes of all that is read, and of a tar file unpacked: Tiny-ImageNet has 3e8


class Fetched(NamedTuple):
    """Both sets of a dataset; its class names where they are not modlib's own; what the name of these images adds."""

    sets: Sets
    classes: list[str] | None = None
    note: str = ""


def read_archive(name: str, archive: Path) -> Fetched:
    """A dataset from a folder, zip or tar file at hand.

    Raises:
        ValueError: if there is no way to read this dataset from an archive.
        OSError: if the archive is damaged, holds another dataset, or asks for too much memory; the sentence names it.
    """
    readers = {"cifar100": _cifar100_folders, "tinyimagenet50": _tiny_imagenet}
    if name not in readers:
        known = " and ".join(readers)
        raise ValueError(f"archive={str(archive)!r}: only {known} are read from an archive; leave it out for {name}")
    try:
        return readers[name](archive)
    except Exception as error:  # zipfile, tarfile, zlib, lzma and Pillow have a dozen kinds for what is not whole
        said = str(error) or type(error).__name__
        named = said if str(archive) in said else f"archive={str(archive)!r} cannot be read: {said}"
        raise OSError(named) from None


def _cifar100_folders(archive: Path) -> Fetched:
    """CIFAR-100 as PNGs in train/CLASS and test/CLASS, as image folders of it are shared.

    Folders have lost the order of the original; a fixed seed draws one, so that the first N are a sample of all classes.
    """
    found: dict[str, dict[str, dict[str, bytes]]] = {split: {} for split in CIFAR100_IMAGES}
    for path, content in _members(archive):
        if match := re.search(r"(train|test)/([^/]+)/([^/]+\.png)$", path):
            split, label, file = match.groups()
            found[split].setdefault(label, {})[file] = content()
    classes, sets = sorted(found["train"]), {}
    for split, each in CIFAR100_IMAGES.items():
        counts = {label: len(files) for label, files in found[split].items()}
        if counts != dict.fromkeys(classes, each) or len(classes) != 100:
            wrong = [f"{label}: {count}" for label, count in sorted(counts.items()) if count != each]
            raise OSError(
                f"{archive} does not hold CIFAR-100: {each} {split} images are expected in {split}/CLASS/*.png for each of 100 "
                f"classes; it has {len(counts)} classes, of which {len(wrong)} are wrong ({', '.join(wrong[:3])})"
            )
        in_order = [found[split][c][file] for c in tqdm(classes, f"decoding {split}") for file in sorted(found[split][c])]
        x = np.stack([_pixels(content, DATASETS["cifar100"].size) for content in in_order])
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


def _tiny_imagenet(archive: Path) -> Fetched:
    """The 50 classes of assets/data/tinyimagenet50.json: 500 training images each, and the 50 validation images as test.

    One image of each class in turn, in the order of their numbers: the first N are balanced. Both layouts are read:
    train/WNID/images/*.JPEG with val/images and val_annotations.txt, and a folder a class in train and val.
    """
    classes = json.loads(TINY_CLASSES.read_text())
    found: dict[tuple[str, str], dict[int, bytes]] = {(split, c): {} for split in ("train", "val") for c in classes}
    loose, labels = {}, {}  # validation images in one folder, and their labels
    for path, content in _members(archive):
        if path.endswith("val_annotations.txt"):
            labels = dict(line.split("\t")[:2] for line in content().decode().splitlines())
        elif match := re.search(r"(train|val)/(?:(n\d{8})/)?(?:images/)?([^/]*?(\d{1,9})\.JPEG)$", path):
            split, wnid, file, number = match.groups()
            if wnid is None:
                loose[file] = (int(number), content())
            elif wnid in classes:
                found[split, wnid][int(number)] = content()
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
        turns = [content for turn in zip(*lists, strict=True) for content in turn]
        x = np.stack([_pixels(content, DATASETS["tinyimagenet50"].size) for content in tqdm(turns, f"decoding {split}")])
        sets["test" if split == "val" else split] = (x, np.tile(np.arange(len(classes)), each))
    return Fetched(sets, list(classes.values()))


def _pixels(content: bytes, size: int) -> np.ndarray:
    """uint8 (3, size, size) of a PNG or JPEG that has this size; what claims another is not decoded."""
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        if image.size != (size, size):
            raise OSError(f"it holds an image of {image.width} x {image.height} pixels instead of {size} x {size}")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # some are greyscale


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file of a folder, zip or tar file: its path inside, and a function that reads it."""
    budget = [WHOLE]

    def content(name: str, opened: Callable[[], io.BufferedIOBase]) -> bytes:
        with opened() as file:
            data = file.read(LARGEST + 1)
        budget[0] -= len(data)
        if len(data) > LARGEST or budget[0] < 0:
            limits = f"{name} has more than {LARGEST:,} bytes, or all more than {WHOLE:,}"
            raise OSError(f"{archive} asks for too much memory ({limits})")
        return data

    if archive.is_dir():
        for path in archive.rglob("*"):
            if path.is_file():
                yield path.as_posix(), partial(content, path.name, partial(path.open, "rb"))
    elif not archive.is_file():
        raise OSError(f"archive={str(archive)!r}: no such file or folder")
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield from ((name, partial(content, name, partial(file.open, name))) for name in file.namelist())
    else:
        with archive.open("rb") as raw:
            opened = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}.get(raw.read(2), open)
        with opened(archive, "rb") as stream:
            try:
                tar = tarfile.open(fileobj=_Bounded(stream), mode="r:")
            except tarfile.ReadError:
                raise OSError(f"archive={str(archive)!r} is neither a folder nor a zip or tar file") from None
            with tar:
                yield from ((m.name, partial(content, m.name, partial(tar.extractfile, m))) for m in tar if m.isfile())


class _Bounded:
    """A stream that ends with an error where it is longer, or asked for more at once, than a dataset is."""

    def __init__(self, stream):
        self.stream, self.tell = stream, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2 * LARGEST or self.stream.tell() + size > WHOLE:
            raise OSError("it asks for too much memory")
        return self.stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if position > WHOLE:
            raise OSError("it is too long")
        return self.stream.seek(position, whence)
