"""The widgets' own computing, run in node, against networkx; and what they leave where no script runs."""

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import anywidget
import networkx as nx
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import modlib
from modlib.book.widgets.base import FOLDER, script
from modlib.book.widgets.lab import graph_lab

HERE = Path(__file__).parent


def random_graphs(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    graphs = []
    while len(graphs) < count:
        n, classes = int(rng.integers(2, 15)), int(rng.integers(2, 5))
        graph = nx.gnp_random_graph(n, rng.uniform(0.1, 0.9), seed=int(rng.integers(2**31)))
        groups = rng.integers(0, classes, n)
        if not graph.edges or len(set(groups)) < 2:
            continue
        for i, j in graph.edges:
            graph[i][j]["weight"] = float(rng.uniform(0.1, 5))
        graphs.append({
            "n": n,
            "edges": [[*sorted((i, j)), w] for i, j, w in graph.edges(data="weight")],
            "groups": groups.tolist(),
            "q": nx.community.modularity(graph, [np.flatnonzero(groups == c).tolist() for c in np.unique(groups)]),
            "terms": modlib.modularity(nx.to_numpy_array(graph, nodelist=range(n)), groups, per_class=True).tolist(),
        })  # fmt: skip
    return graphs


def feature_vectors() -> list[dict]:
    """Graphs of random rows; of rows of few whole numbers, which tie; of equal rows; and with rows of zeros."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-1, 3, (60, 4)).astype(np.float32)
    close = np.ones((70, 3)) + rng.normal(0, 1e-4, (70, 3))  # float32 products leave most of these in doubt
    kinds = [rng.normal(size=(300, 50)), whole, np.repeat(rng.normal(size=(8, 6)), 5, 0), close, rng.normal(size=(30, 5000))]
    cases = []
    for x in kinds:
        x, k, labels = x.astype(np.float32), 3, rng.integers(0, 3, len(x))
        graph = modlib.knn_graph(x, k, dead="isolate")
        edge = graph.weights > 0
        cases.append({
            "n": len(x), "m": x.shape[1], "x": x.ravel().tolist(), "k": k, "labels": labels.tolist(),
            "neighbours": graph.neighbors.ravel().tolist(), "weights": graph.weights.ravel().tolist(),
            "q": modlib.modularity(graph, labels),
            "same": (labels[graph.neighbors] == labels[:, None])[edge].mean(),
        })  # fmt: skip
    return cases


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_what_the_pages_compute(tmp_path):
    (tmp_path / "graphs.json").write_text(json.dumps(random_graphs(40)))
    (tmp_path / "features.json").write_text(json.dumps(feature_vectors()))
    run = subprocess.run(
        ["node", "--test", HERE / "widgets.test.mjs"],
        env={**os.environ, "GRAPHS": str(tmp_path / "graphs.json"), "FEATURES": str(tmp_path / "features.json")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# fail 0" in run.stdout and "# skipped 0" in run.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
@pytest.mark.parametrize("name", [path.stem for path in sorted(FOLDER.glob("*.js")) if path.with_suffix(".py").exists()])
def test_a_widget_and_the_shared_modules_share_no_name(tmp_path, name):
    """They travel as one text, so a name may be declared in one of them only."""
    assert "export function el(" in script(FOLDER / name)  # of kit.js, which every widget needs
    (tmp_path / "whole.mjs").write_text(script(FOLDER / name))
    check = subprocess.run(["node", "--check", tmp_path / "whole.mjs"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_a_widgets_script_needs_no_other_file_or_host(path):
    text = script(path)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "") and "import" not in text
    assert len(text) < 40_000


# The graph laboratory


def adjacency(preset: dict) -> np.ndarray:
    a = np.zeros((len(preset["at"]),) * 2)
    for i, j, w in preset["edges"]:
        a[i, j] = a[j, i] = w
    return a


def test_presets_show_what_they_say():
    q = {
        key: modlib.modularity(adjacency(preset), np.array(preset["groups"])) for key, preset in graph_lab().data["presets"].items()
    }
    assert q["triangles"] == pytest.approx(5 / 14)
    assert q["perfect"] == pytest.approx(1 - 1 / 3)
    assert abs(q["random"]) < 0.15
    assert q["worst"] == pytest.approx(-1 / 2)
    assert q["pairs"] > q["ring"] > 0.6  # the resolution limit
    club = nx.karate_club_graph()
    factions = [{i for i in club if club.nodes[i]["club"] == name} for name in ("Mr. Hi", "Officer")]
    assert q["karate"] == pytest.approx(nx.community.modularity(club, factions))


def test_presets_fit_the_picture():
    for preset in graph_lab().data["presets"].values():
        at = np.array(preset["at"])
        assert 0 <= at.min() and at.max() <= 1
        gaps = np.linalg.norm(at[:, None] - at, axis=2) + np.eye(len(at))
        assert gaps.min() > 0.04, preset["title"]  # no node hides another
        i, j = preset["pair"]
        assert i != j and max(i, j) < len(at)


def test_a_graph_of_ones_own_comes_first():
    graph = nx.Graph([("a", "b"), ("b", "c")])
    lab = graph_lab(graph, [7, 7, 3])
    assert next(iter(lab.data["presets"])) == lab.setting["graph"] == "yours"
    assert lab.data["presets"]["yours"]["edges"] == [[0, 1, 1.0], [1, 2, 1.0]]
    assert lab.data["presets"]["yours"]["groups"] == [1, 1, 0]


@pytest.mark.parametrize("graph", [
    nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 3)]),
    nx.Graph([(0, 0), (0, 1), (1, 2), (2, 3)]),
    modlib.knn_graph(np.random.default_rng(0).normal(size=(4, 3)), 2),
], ids=["parallel edges", "a loop", "k-NN"])  # fmt: skip
def test_a_graph_has_the_modularity_that_the_library_gives_it(graph):
    lab = graph_lab(graph, [0, 0, 1, 1])
    given = nx.to_numpy_array(graph) if isinstance(graph, nx.Graph) else graph
    q = modlib.modularity(given, [0, 0, 1, 1])
    assert modlib.modularity(adjacency(lab.data["presets"]["yours"]), [0, 0, 1, 1]) == pytest.approx(q)
    assert f"Q = {q:.3f}" in lab._words


@pytest.mark.parametrize("arguments, says", [
    (dict(start="triangle"), "unknown start 'triangle'; did you mean 'triangles'"),
    (dict(graph=np.zeros((3, 3)), labels=[0, 1, 1]), "no edges"),
    (dict(graph=nx.path_graph(50), labels=[0, 1] * 25), r"2\.\.40 nodes .* got 50"),
    (dict(graph=nx.path_graph(3), labels=[0, 1]), r"shape \(3,\)"),
])  # fmt: skip
def test_what_does_not_fit_the_laboratory_is_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        graph_lab(**arguments)


def test_a_still_and_words_stand_in_where_no_script_runs():
    forms = graph_lab()._repr_mimebundle_()[0]
    assert "Q = 0.357" in forms["text/plain"]
    with Image.open(io.BytesIO(base64.b64decode(forms["image/png"]))) as still:
        pixels = np.asarray(still.convert("RGB"))
    assert pixels.shape[1] > 400 and (pixels == (0, 114, 178)).all(2).any()  # the blue of the first community
    assert len(json.dumps(graph_lab().get_state())) < 60_000


def test_ipywidgets_7_shows_words_and_still_too(monkeypatch):
    monkeypatch.setattr(anywidget.AnyWidget, "_ipython_display_", lambda self, **_: None, raising=False)  # as there
    forms, _ = DisplayFormatter().format(graph_lab())
    assert forms["image/png"] and forms["text/plain"] == graph_lab()._words
