"""Sphinx extension: what the live laboratory loads when a reader starts it, in ``_static/live``.

Graphs of networks, their weights, the embedded images, and the runtime that computes with them: onnxruntime-web, one thread of
WebAssembly. ``manifest.json`` tells the page what is there. Hosts of static pages compress neither weights nor WebAssembly, so
these are compressed here.
"""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import modlib
import numpy as np
import onnxruntime
from modlib import zoo
from modlib.cost import cost
from modlib.data.downloads import npm_package
from modlib.models.export import export_onnx
from modlib.plots import CLASS_COLORS
from PIL import Image
from pieces import product, write_pieces
from sphinx.application import Sphinx
from sphinx.util import logging
from static_page import outputs_key

HERE = Path(__file__).parent
logger = logging.getLogger(__name__)

NETWORKS = ("resnet20", "resnet56", "vgg11")
UNTRAINED = ("resnet20", "resnet56")  # vgg11's, float32, would be 36 MB: more than all else here
PART, COLUMNS = 500, 25  # images a file: who asks for 500 waits for no more; and a row of its mosaic
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
FILES = {  # the API with its loader, and what that loads
    "files": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "gpu": ("ort.jspi.bundle.min.mjs", "ort-wasm-simd-threaded.jspi.wasm"),
}


def write_live(app: Sphinx, exception: Exception | None) -> None:
    """Copy into the built site what is made once for a state of the library."""
    if exception or app.builder.format != "html":
        return
    cache = Path(app.outdir).parent / "live"
    made = cache / "site"
    key = hashlib.sha256(outputs_key(Path(app.srcdir)).encode())
    for each in ("live.py", "pieces.py"):
        key.update((HERE / each).read_bytes())
    if not (cache / "key").exists() or (cache / "key").read_text() != key.hexdigest():
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        manifest = {"networks": [network(name, made) for name in NETWORKS], "images": images(made)}
        (made / "product.onnx").write_bytes(product())
        write_manifest(made, manifest | {"product": described(made / "product.onnx"), "runtime": None})
        (cache / "key").write_text(key.hexdigest())
    manifest = json.loads((made / "manifest.json").read_text())
    if manifest["runtime"] is None:
        try:
            write_manifest(made, manifest | {"runtime": runtime(cache, made)})
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("CI"):
                raise
            logger.info("the live laboratory is not in this build: %s", " ".join(str(error).split()))
    shutil.copytree(made, Path(app.outdir) / "_static" / "live", dirs_exist_ok=True)


def write_manifest(folder: Path, manifest: dict) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest) + "\n")


def described(path: Path, **more) -> dict:
    """A file as the manifest tells of it."""
    return {"file": path.name, "bytes": path.stat().st_size, **more}


def compressed(content: bytes, path: Path) -> dict:
    """Write as gzip, the same in every build; the manifest's entry."""
    path = path.with_name(path.name + ".gz")
    path.write_bytes(gzip.compress(content, 9, mtime=0))
    return described(path)


def network(name: str, folder: Path) -> dict:
    """Graphs and weights of a network on CIFAR-10."""
    (entry,) = (each for each in zoo.registry() if (each["name"], each["dataset"]) == (name, "cifar10"))
    model = modlib.load_model(name)
    written = export_onnx(model, folder, name, gradient=True, weights=False)
    write_pieces(written["graph"], folder / f"{name}-layers.json")
    written["graph"].unlink()  # the pieces are all of it
    file = zoo.FOLDER / entry["file"]
    weights = {"trained": compressed(file.read_bytes(), folder / file.name)}
    if name in UNTRAINED:
        path = zoo.save_model(modlib.build_model(name, seed=0), folder / f"{name}-cifar10-untrained.safetensors")
        weights["untrained"] = compressed(path.read_bytes(), path)
        path.unlink()
    return {
        "name": name,
        "gradient": described(written["gradient"]),
        "pieces": described(folder / f"{name}-layers.json"),
        "weights": weights,
        "layers": written["layers"],
        "widths": [features.shape[1] for _, features in modlib.iter_features(model, modlib.load_images("cifar10", n=1).x)],
        "macs": cost(model).macs,
        "tensors": written["tensors"],
    }


def images(folder: Path) -> dict:
    """The embedded images in parts, each a lossless mosaic, row by row, with its labels.

    ``sum`` is that of each pixel times its place + 1 in (N, C, H, W), modulo 2^32: some browsers alter what they decode.
    """
    every = modlib.load_images("cifar10")
    parts = []
    for first in range(0, len(every), PART):
        part = every[first : first + PART]
        path = folder / f"cifar10-{first}.webp"
        n, c, h, w = part.x.shape
        rows = part.x.reshape(n // COLUMNS, COLUMNS, c, h, w).transpose(0, 3, 1, 4, 2)
        Image.fromarray(rows.reshape(n // COLUMNS * h, COLUMNS * w, c)).save(path, lossless=True, quality=75, method=4)
        places = np.arange(1, part.x.size + 1, dtype=np.uint64)
        total = int((part.x.reshape(-1).astype(np.uint64) * places).sum() % 2**32)
        parts.append(described(path, first=first, count=n, columns=COLUMNS, labels=part.y.tolist(), sum=total))
    return {"classes": every.classes, "colors": CLASS_COLORS, "parts": parts}


def runtime(cache: Path, folder: Path) -> dict:
    """The files of onnxruntime-web that the page needs, with their licence; ``gpu`` computes on the graphics processor.

    Raises:
        OSError, SubprocessError: if npm is not there, or does not give the package.
    """
    found = {}
    with tarfile.open(npm_package(RUNTIME, cache, RUNTIME_SHA256)) as tar:
        for kind, names in FILES.items():
            found[kind] = []
            for name in names:
                content = tar.extractfile(f"package/dist/{name}").read()
                if name.endswith(".wasm"):
                    found[kind].append(compressed(content, folder / name))
                else:
                    (folder / name).write_bytes(content)
                    found[kind].append(described(folder / name))
    licence = Path(onnxruntime.__file__).parent / "LICENSE"  # MIT, of the same project; the npm package lacks it
    shutil.copyfile(licence, folder / "onnxruntime-LICENSE.txt")
    return {"files": found["files"], "gpu": {"files": found["gpu"]}}


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", write_live)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
