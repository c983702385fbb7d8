"""What is installed, by which name and from where: nothing is built here (`make check-package` builds)."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_namespace_packages

import modlib

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
ADDRESS = PROJECT["urls"]["Repository"]
PLACEHOLDER = "https://github.com/graph-modularity-book/graph-modularity"  # nobody's, so anybody's: nothing may install from it
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").iterdir() if path.suffix in (".md", ".ipynb"))
TEXTS = [
    path
    for pattern in ("*.*", "Makefile", ".ci/*", ".github/**/*", "book/**/*", "notebooks/*", "modlib/**/*.py", "benchmarks/*")
    for path in sorted(ROOT.glob(pattern))
    if path.suffix in (".md", ".py", ".yml", ".toml", ".txt", ".cff", ".ipynb", ".js", ".bib", "") and path.is_file()
]
NAMES = """Curve CurveDraws DynamicGraph Images KnnGraph attack build_model dynamic_graph explore find_results iter_features
    knn_graph layer_names load_images load_model modularity modularity_curve repeat_curves results_table"""


def setup_cell(path: Path) -> str:
    """The first code cell of a chapter."""
    cell = re.search(r"```\{code-cell\} ipython3\n(.*?)```", path.read_text(), re.DOTALL)[1]
    return re.sub(r"\A(---\n.*?---\n|(:[^\n]*\n)*)\n?", "", cell, flags=re.DOTALL)


SETUPS = {path.stem: setup_cell(path) for path in NOTEBOOKS if path.suffix == ".md"}
SETUP = SETUPS["02-graphs-and-modularity"]  # the others go on after these lines


def pins(text: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def test_the_public_names_are_the_ones_that_notebooks_rely_on():
    assert modlib.__all__ == NAMES.split()
    assert all(hasattr(modlib, name) for name in modlib.__all__)


def test_the_distribution_has_a_name_of_its_own_and_one_version():
    assert PROJECT["name"] == "graph-modularity" and PROJECT["scripts"] == {"graph-modularity": "modlib.__main__:main"}
    assert SETTINGS["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "modlib.__version__"}
    citation, config = (yaml.safe_load((ROOT / name).read_text()) for name in ("CITATION.cff", "_config.yml"))
    assert citation["version"] == config["sphinx"]["config"]["release"] == modlib.__version__
    assert config["html"]["extra_footer"] == f"<p>Version {modlib.__version__}</p>"
    assert f"\n## {modlib.__version__} ({citation['date-released']})\n" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_tells_anybody_to_install_the_other_modlib():
    """`pip install modlib` brings a camera's SDK, and `modlib[cluster]` the same with an extra."""
    telling = re.compile(r"pip3? install(?:\s+-[\w-]+)*\s+[\"'\\]*modlib\b|modlib\[")
    assert telling.search('pip install "modlib[cluster]"') and telling.search("%pip install -q modlib")
    found = {str(path.relative_to(ROOT)): line for path in TEXTS for line in telling.findall(path.read_text())}
    assert not found


def test_the_address_of_the_repository_is_the_same_everywhere():
    config, citation = (yaml.safe_load((ROOT / name).read_text()) for name in ("_config.yml", "CITATION.cff"))
    assert config["repository"]["url"] == citation["repository-code"] == ADDRESS
    ours = re.compile(r"https?://github\.com/[\w.-]+/(?:graph-modularity|modlib)[\w.-]*")
    others = {str(path.relative_to(ROOT)): set(ours.findall(path.read_text())) - {ADDRESS} for path in TEXTS}
    assert not {path: found for path, found in others.items() if found}


@pytest.mark.skipif(ADDRESS != PLACEHOLDER, reason="the address has an owner")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_notebook_installs_from_an_address_that_nobody_owns(path):
    text = path.read_text()
    assert PLACEHOLDER not in text and "git+" not in text
    assert not re.search(r"pip install.*https?:", text)


def test_every_file_below_modlib_is_packaged():
    packages = find_namespace_packages(ROOT, **SETTINGS["tool"]["setuptools"]["packages"]["find"])
    data = SETTINGS["tool"]["setuptools"]["package-data"]
    missing = []
    for path in (ROOT / "modlib").rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        package = ".".join(path.parent.relative_to(ROOT).parts)
        if package not in packages:
            missing.append(path)
        elif path.suffix != ".py":
            roots = {ROOT / name.replace(".", "/"): patterns for name, patterns in data.items()}
            patterns = {f"{root}/{each}".replace("**/", "*") for root in roots for each in roots[root]}
            if not any(fnmatch(str(path), pattern) for pattern in patterns):
                missing.append(path)
    assert not missing, f"neither a package nor package-data in pyproject.toml: {missing}"


def test_what_is_imported_is_declared():
    """Every package that a file of modlib imports is a dependency, or an extra that is imported where it is needed."""
    known = {"PIL": "pillow", "sklearn": "scikit-learn", "umap": "umap-learn", "IPython": None}  # (IPython: only in a notebook)
    imported = set()
    for path in (ROOT / "modlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    asked = {known.get(name, name) for name in imported - {*sys.stdlib_module_names, "modlib"}} - {None}
    extras = [each for group in PROJECT["optional-dependencies"].values() for each in group]
    declared = {Requirement(each).name for each in [*PROJECT["dependencies"], *extras]}
    assert asked <= declared, f"imported, not declared: {asked - declared}"
    assert {Requirement(each).name for each in PROJECT["dependencies"]} <= asked, "declared, not imported"


def test_bounds_are_lower_ones_and_the_tested_environment_keeps_them():
    tested = pins((ROOT / "requirements.txt").read_text())
    for line in [*PROJECT["dependencies"], *(x for group in PROJECT["optional-dependencies"].values() for x in group)]:
        asked = Requirement(line)
        assert [each.operator for each in asked.specifier] == [">="], line
        assert tested[canonicalize_name(asked.name)] in asked.specifier, line
    build = Requirement(SETTINGS["build-system"]["requires"][0])
    assert tested["setuptools"] in build.specifier and "<" in {each.operator for each in build.specifier}


def test_every_pinned_package_but_torch_has_its_hashes():
    tested, hashed = pins((ROOT / "requirements.txt").read_text()), (ROOT / "requirements-hashes.txt").read_text()
    assert pins(hashed) == {name: version for name, version in tested.items() if name not in ("torch", "torchvision")}
    for entry in re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", hashed, flags=re.MULTILINE)):
        assert re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n?", entry), entry[:60]


def test_the_workflow_names_its_actions_by_commit():
    for path in (ROOT / ".github" / "workflows").iterdir():
        used = re.findall(r"uses: (.*)", path.read_text())
        assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each) for each in used), used


def test_importing_modlib_imports_nothing_slow():
    slow = {"torchvision", "sklearn", "matplotlib", "altair", "anywidget", "ipywidgets", "networkx", "joblib", "pandas", "umap"}
    program = f"import sys, modlib; print(*sorted({slow!r} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == ""


def run_setup(monkeypatch, found: list[bool], module: ModuleType) -> list[str]:
    """Run the setup cell where ``modlib`` is this module, or is missing as often as ``found`` says; what it asks of pip."""
    asked, answers = [], iter(found)

    class Shell:
        def run_line_magic(self, name, line):
            asked.append(f"%{name} {line}")

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: (next(answers) or None) if name == "modlib" else find_spec(name))
    monkeypatch.setitem(sys.modules, "modlib", module)
    exec(TransformerManager().transform_cell(SETUP), {"get_ipython": Shell})
    return asked


def test_the_setup_cell_is_the_same_in_every_chapter_and_short():
    assert all(cell.startswith(SETUP.rstrip("\n")) for cell in SETUPS.values()), "copy the lines of chapter 2"
    assert len(SETUPS) == 10 and len(SETUP.splitlines()) <= 12


def test_the_setup_cell_installs_what_is_missing_with_its_dependencies(monkeypatch):
    assert run_setup(monkeypatch, [True], modlib) == []
    assert run_setup(monkeypatch, [False, True], modlib) == ["%pip install --quiet graph-modularity"]


def test_the_setup_cell_says_what_to_do_where_it_cannot_be_had(monkeypatch):
    with pytest.raises(ImportError, match="does not have graph-modularity: %pip install its wheel, or the folder of a clone"):
        run_setup(monkeypatch, [False, False], modlib)


def test_the_setup_cell_knows_the_other_modlib(monkeypatch):
    with pytest.raises(ImportError, match="a camera's SDK.*%pip uninstall -y modlib, %pip install graph-modularity, restart"):
        run_setup(monkeypatch, [True], ModuleType("modlib"))
