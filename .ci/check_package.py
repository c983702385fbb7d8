"""Build wheel and sdist, install the wheel by itself, and run a part of the tests from the unpacked sdist.

    .venv/bin/python .ci/check_package.py [FOLDER]

Nothing is fetched: building and running take the packages of this environment. FOLDER (default: _build/package) is made anew.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[1]
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_build" / "package").resolve()
TESTS = "api charts cli data graph modularity moved package results rooms widgets"
USE = """
import sys, modlib
from modlib.book.widgets.explorer import explore
from modlib.book.widgets.lab import graph_lab
images = modlib.load_images("cifar10", n=60)
model = modlib.load_model("resnet20")
curve = modlib.modularity_curve(model, images.x, images.y, k=3)
for widget in graph_lab(), explore(model, images):
    assert len(widget._esm) > 1000 and len(widget._css) > 1000, "the widget has no script or style"
assert len(modlib.find_results()) > 100 and curve.q[-1] > 0.3
assert modlib.find_results("curves", model="resnet20")[0].curve().q.shape == (5, 10)
from modlib import results
assert results.measurement("a", {}, {}, {}).evidence["modlib"] == modlib.__version__
assert modlib.__file__.startswith(sys.prefix), modlib.__file__
"""


def run(*command, cwd=FOLDER, **environment) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


shutil.rmtree(FOLDER, ignore_errors=True)
FOLDER.mkdir(parents=True)
source = FOLDER / "source"  # a copy: building leaves folders behind
skipped = ("_build", ".git", ".venv", "__pycache__", "*.egg-info", "runs", ".pytest_cache", ".hypothesis")
shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*skipped))
for kind in ("sdist", "wheel"):
    said = run(sys.executable, "-c", f"from setuptools.build_meta import *; build_{kind}({str(FOLDER)!r})", cwd=source)
    if "would be ignored" in said or "Deprecat" in said:
        sys.exit(f"building the {kind} warns:\n{said}")
(wheel,), (sdist,) = FOLDER.glob("*.whl"), FOLDER.glob("*.tar.gz")

inside = zipfile.ZipFile(wheel)
missing = {p.relative_to(source).as_posix() for p in (source / "modlib").rglob("*") if p.is_file()} - {*inside.namelist()}
assert not missing, f"not in the wheel: {missing}"
(metadata,) = [name for name in inside.namelist() if name.endswith("dist-info/METADATA")]
about = Metadata.from_email(inside.read(metadata), validate=True)
assert BytesParser().parsebytes(inside.read(metadata))["Name"] == about.name == "graph-modularity"
assert about.license_expression == "BSD-3-Clause" and about.description_content_type == "text/markdown" and about.description

environment = FOLDER / "env"
venv.create(environment, symlinks=True, with_pip=True)
(site,) = environment.glob("lib/python*/site-packages")
# The packages that modlib needs are this environment's; of these, not the modlib that is installed there in place.
(site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
python = environment / "bin" / "python"
alone = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel, **alone)
run(python, "-W", "error", "-c", USE, **alone)
for command in ([environment / "bin" / "graph-modularity"], [python, "-m", "modlib"]):
    assert "conv1" in run(*command, "curve", "resnet20", "--n", "60", **alone)

with tarfile.open(sdist) as archive:
    archive.extractall(FOLDER, filter="data")
(unpacked,) = [path for path in FOLDER.glob("graph_modularity-*") if path.is_dir()]
tests = [f"tests/test_{name}.py" for name in TESTS.split()]
print(run(sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *tests, cwd=unpacked, PYTHONPATH=str(unpacked)))
for path in (wheel, sdist):
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
