"""Makes cifar10-sample.webp and .json: ``python make_sample.py`` with modlib installed; fetches CIFAR-10 if need be."""

import json
from pathlib import Path

from PIL import Image

from modlib.data import load_images
from modlib.data.downloads import pixel_hash

here = Path(__file__).parent
sample = load_images("cifar10", n=2_500, split="test")
mosaic = sample.x.reshape(50, 50, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(1600, 1600, 3)
Image.fromarray(mosaic).save(here / "cifar10-sample.webp", lossless=True, quality=100, method=6)
about = {"sha256": pixel_hash(sample.x, sample.y), "labels": sample.y.tolist()}
(here / "cifar10-sample.json").write_text(json.dumps(about) + "\n")
