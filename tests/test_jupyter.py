"""The explorer with a kernel, in JupyterLab driven by Chromium: it computes what was not recorded."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browser import chromium
from playwright.sync_api import Page, TimeoutError

import modlib

pytestmark = pytest.mark.browser
WAIT = 120_000  # ms: JupyterLab and a kernel start, and two cores compute

CELL = """
import modlib, torch

class Moody(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = modlib.load_model("resnet20")

    def forward(self, x):
        if len(x) == 200:
            raise RuntimeError("two hundred are too many")
        return self.network(x)

modlib.explore(Moody(), modlib.load_images("cifar10", n=500))
"""


def _address(server: subprocess.Popen, folder: Path, log: Path) -> str:
    """Where the server answers. (It writes where before it listens there.)"""
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        for written in folder.glob("jpserver-*.json"):
            try:
                address = json.loads(written.read_text())["url"]
                urllib.request.urlopen(f"{address}api", timeout=60).read()
                return address
            except (ValueError, OSError):  # half written; nobody there yet
                pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a notebook with CELL in a JupyterLab of its own."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks" / "explore.ipynb")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    options = ["--allow-root", "--no-browser", "--port=0", "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder / 'notebooks'}"],
            env={**os.environ, **{name: str(folder / name) for name in names}}, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        address = _address(server, folder / "JUPYTER_RUNTIME_DIR", log)
        yield f"{address}doc/tree/explore.ipynb"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _run_first_cell(page: Page) -> None:
    """Run it, and make sure that it runs: keys pressed while JupyterLab still builds the page can be lost."""
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")  # the kernel is there
    begun = page.locator(".jp-InputArea-prompt", has_text=re.compile(r"\[[*\d]\]")).first
    for _ in range(10):
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+Enter")
        try:
            return begun.wait_for(timeout=10_000)
        except TimeoutError:
            pass
    pytest.fail("the cell does not run: " + page.locator("body").inner_text())


def test_what_was_not_recorded_is_computed_and_an_error_is_a_sentence(lab):
    network, images = modlib.load_model("resnet20"), modlib.load_images("cifar10", n=500)
    complaints = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(lab)
        _run_first_cell(page)
        explorer = page.locator(".ml-explorer")
        try:
            explorer.wait_for()
        except TimeoutError:
            pytest.fail("no explorer, but: " + page.locator(".jp-Notebook").inner_text())
        n_slider = explorer.locator("input[name=n]")

        def idle():
            page.wait_for_function("document.querySelector('.ml-explorer .ml-busy').hidden")

        def check(n: int):
            """The sentence says what modlib computes here."""
            page.wait_for_function(f"document.querySelector('.ml-explorer .ml-say').textContent.includes('N = {n}')")
            idle()
            words = " ".join(explorer.locator(".ml-say").all_inner_texts()).replace("\u2212", "-")
            draws = [images[i : i + n] for i in range(0, 500 - n + 1, n)]
            q = np.mean([modlib.modularity_curve(network, part.x, part.y).q for part in draws], 0)
            said = [float(number) for number in re.findall(r"-?\d\.\d{3}", words)]
            assert said[:2] == pytest.approx([q[0], q[-1]], abs=6e-4), words
            assert "Computed now" in explorer.locator(".ml-note").inner_text()

        page.wait_for_function("document.querySelector('.ml-explorer input[name=n]').max > 0")  # the kernel has answered
        check(500)
        n_slider.press("Home")
        check(100)
        n_slider.press("ArrowRight")
        error = explorer.locator(".ml-error")
        error.filter(has_text="two hundred are too many").wait_for()
        n_slider.press("ArrowRight")
        check(300)
        assert not error.inner_text()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):  # each move cancels the one before
            n_slider.press(key)
        check(400)
    assert not complaints
