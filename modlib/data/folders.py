"""Labelled images from a folder with one folder of images a class."""

import os
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# By the content, whatever the name. No others: of some, such as PostScript, Pillow has another program do the reading.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# Folders that systems and programs make, beside those whose names begin with a dot.
OTHERS = ("__MACOSX", "__pycache__", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information")
STRANGERS = 100_000  # files that are no images, after which a folder is not one of images
LARGEST = 5_000_000  # pixels of a side
LONGEST = 10  # sides to the centre of an image, in its shorter side: what is longer is cut before it is scaled


def listing(folder: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """The files of a folder of images, the class of each as int64, and the names of the classes, in alphabetical order.

    Hidden files and folders are none of a class's. A folder that links lead to several times is read once.

    Raises:
        ValueError: if it does not hold one folder of images a class; if these look like splits, not classes; if a file is
            of two classes.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} must hold one folder of images a class; there is no such folder")
    classes = [each.name for each in _entries(folder) if each.is_dir()]
    splits = [name for name in classes if name.casefold() in SPLITS]
    inside = [name for name in splits if any(each.is_dir() for each in _entries(folder / name))]
    if inside or 1 < len(splits) == len(classes):
        raise ValueError(f"{folder} holds the splits {', '.join(splits)}, not classes; choose one by split={splits[0]!r}")
    if not any(each.name.lower().endswith(SUFFIXES) for name in classes for each in _entries(folder / name)):
        parts = {frozenset(each.name for each in _entries(folder / name) if each.is_dir()) for name in classes}
    else:
        parts = set()
    if len(parts) == 1 and len(*parts) > (len(classes) > 1):  # folders without an image of their own, which hold the same folders
        raise ValueError(
            f"{folder} holds folders of classes, such as {classes[0]!r}, not classes; choose one by split={classes[0]!r}"
        )
    files, labels, owner, strangers = [], [], {}, [0]
    for label, name in enumerate(classes):
        found = [*_images(folder / name, {os.path.realpath(folder)}, strangers)]
        if not found:
            raise ValueError(
                f"{folder} must hold one folder of images a class; {name!r} holds none (known are {', '.join(SUFFIXES)})"
            )
        for path in found:
            real = os.path.realpath(path)
            if owner.setdefault(real, label) != label:
                both = f"{classes[owner[real]]!r} and {name!r}"
                raise ValueError(f"{real} is an image of two classes, {both}; links lead there twice")
        files += found
        labels += [label] * len(found)
    if not files:
        raise ValueError(f"{folder} must hold one folder of images a class; it holds no folders")
    return files, np.array(labels, np.int64), tuple(classes)


def in_turn(labels: np.ndarray) -> np.ndarray:
    """The order that takes one image of each class in turn, as long as there are any."""
    by_class = [np.flatnonzero(labels == c) for c in range(labels.max() + 1)]
    return np.array([i for i in chain.from_iterable(zip_longest(*by_class)) if i is not None])


def _entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder and not hidden, in alphabetical order."""
    with os.scandir(folder) as entries:
        shown = [each for each in entries if not each.name.startswith(".") and each.name not in OTHERS]
    return sorted(shown, key=lambda each: each.name)


def _images(folder: Path, seen: set[str], strangers: list[int]) -> Iterator[Path]:
    """The images of a folder and of the folders in it: its own first, each in alphabetical order."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    inside, met = [], set()
    for entry in _entries(folder):
        if entry.is_dir():
            inside.append(entry)
        elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or not os.path.exists(entry.path)):  # a broken link is told
            target = os.path.realpath(entry.path)
            if target not in met:
                met.add(target)
                yield Path(entry.path)
        else:
            strangers[0] += 1
            if strangers[0] > STRANGERS:
                raise ValueError(f"{folder} is in no folder of images: more than {STRANGERS:,} other files were met on the way")
    for entry in inside:
        yield from _images(Path(entry.path), seen, strangers)


def read(path: Path, size: int) -> np.ndarray:
    """One image as uint8 (3, size, size), upright as its camera noted: shorter side to ``size``, then the centre.

    Greyscale images become RGB.

    Raises:
        OSError: with the file's name, if it is no whole image of a known format.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return _brought_to(image, size)
    except Exception as error:  # Pillow's readers have all kinds of errors for what is not whole; none may lack the name
        said = str(error) or type(error).__name__
        raise OSError(f"cannot read the image {path}: {said}") from None


def _brought_to(image: Image.Image, size: int) -> np.ndarray:
    if max(image.size) > LARGEST:
        raise OSError(f"it has {image.width:,} x {image.height:,} pixels; a side may have {LARGEST:,}")
    deep = image.format == "PPM" and image.mode == "I"  # more than 8 bits, which Pillow brings to 16
    image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:  # Pillow warns if it has to drop a palette's on the way to RGB
        image = image.convert("RGBA")
    if image.mode.startswith("I;16") or deep:  # to 8 bits; convert() would clip instead
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise OSError(f"its pixels are of mode {image.mode}, whose range is not known; save it with 8 or 16 bits")
    longest = LONGEST * min(image.size)
    if max(image.size) > longest:  # 1 x 3,000,000 pixels would become 64 x 192,000,000
        image = _centre(image, min(image.width, longest), min(image.height, longest))
    image = image.convert("RGB")
    scale = size / min(image.size)
    if image.size != (size, size):
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    return np.asarray(_centre(image, size, size)).transpose(2, 0, 1)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
