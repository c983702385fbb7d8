"""The k-NN explorer: what its chart shows is what networkx computes, at the place of every slider."""

import base64
import io
import json
import re

import altair as alt
import networkx as nx
import numpy as np
import pytest
import vl_convert
from PIL import Image

import modlib
from modlib import DynamicGraph, knn_graph
from modlib.explorer import explore_graph


def snapshots(images, layers: int, k: int) -> DynamicGraph:
    """Graphs of noisy class vectors: less noise, more modularity."""
    rng = np.random.default_rng(0)
    classes = np.eye(10)[images.y]
    graphs = (knn_graph(classes + noise * rng.normal(size=classes.shape), k) for noise in np.linspace(2, 0.2, layers))
    return DynamicGraph(tuple(f"layer{i}" for i in range(layers)), tuple(graphs))


@pytest.fixture(scope="module")
def images():
    return modlib.load_images("cifar10", n=40)


@pytest.fixture(scope="module")
def graph(images):
    return snapshots(images, 3, 6)


@pytest.fixture(scope="module")
def positions():
    return [np.random.default_rng(i).normal(0, 10**i, (40, 2)) for i in range(3)]


def by_networkx(graph, labels) -> float:
    groups = [np.flatnonzero(labels == c).tolist() for c in np.unique(labels)]
    return nx.community.modularity(nx.from_scipy_sparse_array(graph.adjacency()), groups)


def picture(chart: alt.LayerChart) -> str:
    return vl_convert.vegalite_to_svg(chart.to_dict())


def test_specification_is_valid_and_described(graph, images, positions):
    chart = explore_graph(graph, images, positions)
    spec = chart.to_dict(validate=True)
    assert "40 images" in spec["description"] and "3 layers" in spec["description"]
    bindings = {p["name"]: p["bind"] for p in spec["params"] if "bind" in p}
    assert (bindings["layer"]["min"], bindings["layer"]["max"]) == (0, 2)
    assert (bindings["k"]["min"], bindings["k"]["max"]) == (1, 6)
    assert spec["usermeta"]["labels"]["layer"] == ["layer0", "layer1", "layer2"]
    json.dumps(spec, allow_nan=False)


def test_modularity_of_every_slider_position_is_networkxs(graph, images, positions):
    q = explore_graph(graph, images, positions).usermeta["q"]
    assert np.shape(q) == (3, 6)
    for layer in range(3):
        for k in range(1, 7):
            assert q[layer][k - 1] == pytest.approx(by_networkx(graph[layer].nearest(k), images.y), abs=5.1e-5)


@pytest.mark.parametrize("layer, k", [(0, 1), (1, 3), (2, 6)])
def test_the_picture_tells_the_chosen_layer_and_k(graph, images, positions, layer, k):
    svg = picture(explore_graph(graph, images, positions, layer=layer, k=k))
    q = by_networkx(graph[layer].nearest(k), images.y)
    (title,) = set(re.findall(r"(layer\d), k = (\d+): Q = ([−-]?[\d.]+)", svg))
    assert title[:2] == (f"layer{layer}", str(k))
    assert float(title[2].replace("−", "-")) == pytest.approx(q, abs=6e-4)
    lines = re.findall(r'aria-roledescription="rule mark"', svg)
    dots = re.findall(r'aria-roledescription="circle"', svg)
    assert (len(lines), len(dots)) == (40 * k, 40)


def test_names_in_the_chart_are_the_graphs(graph, images, positions):
    params = {p["name"]: p["value"] for p in explore_graph(graph, images, positions).to_dict()["params"]}
    assert params["neighbours"] == [g.neighbors.tolist() for g in graph.graphs]
    for layer, each in enumerate(graph.graphs):
        for k in (1, 4):
            share = np.mean(images.y[each.neighbors[:, :k]] == images.y[:, None])
            assert params["same"][layer][k - 1] == pytest.approx(share, abs=1e-4)


def test_positions_are_brought_to_the_unit_square(graph, images, positions):
    params = {p["name"]: p["value"] for p in explore_graph(graph, images, positions).to_dict()["params"]}
    for table, axis in (("px", 0), ("py", 1)):
        for layer, row in enumerate(params[table]):
            assert min(row) == 0 and max(row) == 1
            assert np.corrcoef(row, positions[layer][:, axis])[0, 1] > 0.999


def test_one_point_on_top_of_all_others_is_no_trouble(graph, images):
    spec = explore_graph(graph, images, [np.zeros((40, 2))] * 3).to_dict()
    json.dumps(spec, allow_nan=False)


def test_thumbnails_are_the_images(graph, images, positions):
    nodes = explore_graph(graph, images, positions).to_dict()["data"]["values"]
    assert [node["class"] for node in nodes] == [images.classes[y] for y in images.y]
    for i, (node, x) in enumerate(zip(nodes, images.x, strict=True)):
        with Image.open(io.BytesIO(base64.b64decode(node["image"].split(",")[1]))) as thumbnail:
            shown = np.asarray(thumbnail.convert("RGB")).transpose(2, 0, 1).astype(float)
        assert shown.shape == x.shape
        assert abs(shown - x).mean() < 12  # a lossy picture of it
        assert abs(shown - images.x).mean((1, 2, 3)).argmin() == i  # and of no other


def test_a_chart_of_a_whole_experiment_fits_a_page():
    images = modlib.load_images("cifar10", n=500)
    positions = [np.random.default_rng(i).normal(size=(500, 2)) for i in range(10)]
    chart = explore_graph(snapshots(images, 10, 20), images, positions)
    assert len(chart.to_json(indent=None)) < 2_000_000


@pytest.mark.parametrize("change, says", [
    (dict(layer=3), r"layer must be .* 0\.\.2; got layer=3"),
    (dict(k=7), r"k must be .* 1\.\.6; got k=7"),
    (dict(positions=[np.zeros((40, 2))] * 2), r"positions must be 3 layouts of shape \(40, 2\); got shape \(2, 40, 2\)"),
    (dict(positions=[np.zeros((39, 2))] * 3), r"got shape \(3, 39, 2\)"),
    (dict(images=modlib.load_images("cifar10", n=39)), r"shape \(40,\); got shape \(39,\)"),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_a_sentence(graph, images, positions, change, says):
    with pytest.raises(ValueError, match=says):
        explore_graph(**{"graph": graph, "images": images, "positions": positions, **change})
