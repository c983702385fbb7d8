"""Execute each notebook alone, in an empty folder and with Colab's versions of the light packages, and look at what it then holds.

    python .ci/colab.py [NOTEBOOK ...]

Makes an environment in _build/colab from colab.txt, and puts the wheel of this checkout into it. MODLIB_SCALE says how much is
computed; here "smoke" unless it is set. Executed notebooks stay in _build/colab.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "_build" / "colab"
PYTHON = FOLDER / "env" / "bin" / "python"
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=1800, kernel_name="python3", allow_errors=True).execute()
nbformat.write(notebook, sys.argv[1])
"""
MYST = re.compile(r"\{[a-z]+(:[a-z]+)?\}`|^:::|^\([\w-]+\)=|^```\{|\{\\\W", re.MULTILINE)  # and letters as BibTeX writes them
WIDGET = "application/vnd.jupyter.widget-view+json"
UNANSWERED = "Not yet: put your answer in place of None."


def prepare() -> None:
    """The environment, which is kept, with what colab.txt names, and the library as it is now."""
    pip = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not PYTHON.exists():
        venv.create(FOLDER / "env", with_pip=True)
    pair = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch")]
    subprocess.run([*pip, "install", "-r", ROOT / ".ci" / "colab.txt", *pair, "nbclient", "nbformat"], check=True)
    source = FOLDER / "source"  # a copy: building leaves folders behind
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "modlib", source / "modlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "install", "--force-reinstall", "--no-deps", source], check=True)
    subprocess.run([*pip, "check"], check=True)


def executed(notebook: Path) -> dict:
    alone = FOLDER / "notebooks" / notebook.stem
    shutil.rmtree(alone, ignore_errors=True)
    alone.mkdir(parents=True)
    shutil.copy(notebook, alone)
    environment = {"MODLIB_SCALE": "smoke", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "MPLBACKEND": "", "PYTHONPATH": "", **os.environ}
    subprocess.run([PYTHON, "-c", EXECUTE, notebook.name], cwd=alone, env=environment, check=True)
    return json.loads((alone / notebook.name).read_text())


def complaints(cells: list[dict]):
    """What a reader in Colab must not see."""
    for place, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from (f"cell {place}: raw {found[0]!r}" for found in MYST.finditer(text))
            continue
        folded = cell["metadata"].get("cellView") == "form" and cell["metadata"]["jupyter"]["source_hidden"]
        if "# @title Solution" in text or "hide-cell" in cell["metadata"].get("tags", []):
            if not folded:
                yield f"cell {place}: an open solution"
        elif "check(" in text and UNANSWERED not in str(cell["outputs"]):
            yield f"cell {place}: an exercise says more than that it waits: {cell['outputs']}"
        for output in cell["outputs"]:
            forms = output.get("data", {})
            if output["output_type"] == "error":
                yield f"cell {place}: {output['ename']}: {output['evalue']}"
            elif output.get("name") == "stderr" and not folded:
                yield f"cell {place}: {''.join(output['text'])[:500]}"
            elif WIDGET in forms and not (len("".join(forms.get("text/plain", ""))) > 60 and "image/png" in forms):
                yield f"cell {place}: a widget without words or without a still: {forms.get('text/plain')}"


if __name__ == "__main__":
    prepare()
    found = 0
    for each in [*map(Path, sys.argv[1:])] or sorted((ROOT / "notebooks").glob("*.ipynb")):
        said = list(complaints(executed(each)["cells"]))
        found += len(said)
        print(each.stem, *said or ["as it should be"], sep="\n  ", flush=True)
    sys.exit(bool(found))
