"""Charts of records: rendered, they show the recorded numbers, and say where there are none."""

import json
import re

import numpy as np
import pytest

from modlib.book.charts.grid import curves_grid
from modlib.book.charts.pairs import Layers, layer_pairs
from modlib.graph import DynamicGraph, knn_graph
from modlib.paper import paper_values
from modlib.results import Records, measurement, write_result

vl_convert = pytest.importorskip("vl_convert")


def drawn(chart, **params) -> str:
    """The chart as SVG, after its controls were set."""
    spec = json.loads(chart.to_json()) | {"width": 600}
    for param in spec["params"]:
        if param["name"] in params:
            param["value"] = params[param["name"]]
        if "select" in param and "value" in param:  # a selection with a control for each field
            param["value"] = [{field: params.get(field, value) for field, value in param["value"][0].items()}]
    return vl_convert.vegalite_to_svg(spec)


def texts(svg: str) -> list[str]:
    return re.findall(r"<t(?:ext|span)[^>]*>([^<]+)</t(?:ext|span)>", svg)  # a text of several lines has a span for each


def tooltips(svg: str, **wanted) -> list[dict]:
    """What marks say when pointed at, of those that say what is wanted."""
    labels = re.findall(r'aria-label="([^"]*: [^"]*)"', svg.replace("\N{MINUS SIGN}", "-"))
    said = [dict(part.split(": ", 1) for part in label.split("; ")) for label in labels if "; " in label]
    return [each for each in said if wanted.items() <= each.items()]


@pytest.fixture
def folder(tmp_path):
    """One trained network, Q = 0.1 layer + N / 10000 - k / 100; after the ReLU it has all layers but the first two."""
    n, k, draws, layer = np.ix_([200, 500], [1, 3], [-0.01, 0, 0.01], range(1, 9))
    coords = {
        "n": [200, 500],
        "k": [1, 3],
        "draw": [1, 2, 3],
        "layer": list("abcdefgh"),
        "conv": list("abcdefgh"),
        "relu": list("cdefgh"),
    }
    settings = {
        "model": "vgg11",
        "dataset": "cifar10",
        "scale": "full",
        "weights": "trained",
        "recipe": "fast",
        "epochs": 3,
        "seed": 0,
    }
    values = {"q": (["n", "k", "draw", "layer"], 0.1 * layer + n / 10_000 - k / 100 + draws), "accuracy": ([], 91.46)}
    write_result(measurement("curves", settings, coords, values), tmp_path / "a.json")
    return tmp_path


@pytest.mark.parametrize("n, k", [(200, 1), (500, 3)])
@pytest.mark.parametrize("reading, layers", [("conv", range(1, 9)), ("relu", range(3, 9))])
def test_the_grid_shows_the_record_at_its_controls(folder, n, k, reading, layers):
    svg = drawn(curves_grid(Records.read(folder)), n=n, k=k, reading=reading)
    assert "VGG11 91.5 %" in texts(svg)
    assert any(f"N = {n}, k = {k}" in text for text in texts(svg))  # in its own title: not every place has a sentence below
    assert texts(svg).count("not measured") == 9 * 3 - 1
    points = tooltips(svg, network="VGG11", dataset="CIFAR-10")
    points = {int(p["layer"]): p for p in points if "std" in p}
    expected = [0.1 * layer + n / 10_000 - k / 100 for layer in layers]
    assert [float(points[i + 1]["Q"]) for i in range(len(layers))] == pytest.approx(expected, abs=5.1e-4)
    assert {float(p["std"]) for p in points.values()} == {0.01}


def test_the_grid_of_untrained_networks_does_not_show_trained_ones(folder):
    svg = drawn(curves_grid(Records.read(folder)), weights="untrained")
    assert texts(svg).count("not measured") == 9 * 3 and "VGG11" in texts(svg)
    assert not tooltips(svg, network="VGG16")  # nor the paper's, which are trained
    assert "the paper printed no such curves" in texts(svg)


def test_the_papers_curves_are_told_at_every_layer(folder):
    svg = drawn(curves_grid(Records.read(folder)), n=200)
    paper = tooltips(svg, network="VGG19", dataset="CIFAR-10", curve="paper")
    assert [float(p["Q"]) for p in paper if "Q" in p] == pytest.approx(paper_values("fig4")["vgg19/cifar10"], abs=5.1e-4)
    assert "grey: ImageNet50" in texts(svg) and "grey: the paper’s, N = 500 (CIFAR-100: 1000), k = 3" in texts(svg)
    assert "The paper’s have N = 500 (CIFAR-100: 1000) and k = 3." in said(curves_grid(Records.read(folder)), n=200)


def test_the_grid_offers_values_and_no_places(folder):
    params = curves_grid(Records.read(folder)).to_dict()["params"]
    offered = {param["name"]: param["bind"]["options"] for param in params if "bind" in param}
    assert offered == {"weights": ["trained", "untrained"], "reading": ["conv", "relu"], "n": [200, 500], "k": [1, 3]}


def test_an_n_that_a_test_set_does_not_hold_is_not_called_unmeasured(folder):
    coords = {"n": [1000], "k": [3], "draw": [1, 2], "layer": ["a", "b"], "conv": ["a", "b"], "relu": ["a", "b"]}
    settings = {"model": "vgg13", "dataset": "cifar10", "weights": "trained", "recipe": "fast", "epochs": 3}
    values = {"q": (["n", "k", "draw", "layer"], np.full((1, 1, 2, 2), 0.5))}
    write_result(measurement("curves", settings, coords, values), folder / "b.json")
    assert texts(drawn(curves_grid(Records.read(folder)), n=1000, k=3)).count("not at this N, k") == 1  # of VGG11


def test_the_grid_without_any_record_is_the_papers(tmp_path):
    svg = drawn(curves_grid(Records.read(tmp_path)))
    assert texts(svg).count("not measured") == 9 * 3


@pytest.fixture
def pairs(rng):
    """A network of five layers with everything measured, and one of which Q alone is known."""
    x = rng.random((30, 4))
    graph = DynamicGraph(tuple("abcde"), tuple(knn_graph(x + i * rng.random((30, 4)), k=3) for i in range(5)))
    cka = 1 - abs(np.subtract.outer(range(5), range(5))) / 10
    whole = Layers(tuple("abcde"), np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.3, 0.2, 0.6, 0.8]), cka)
    return {
        "whole": whole.with_graphs(graph, np.arange(30) % 3),
        "short": Layers(("p", "q"), np.array([0, 1]), np.array([0.2, 0.5])),
    }


def said(chart, **params) -> str:
    """The sentence under a chart, as its title."""
    spec = json.loads(chart.to_json())
    spec["title"] = {"text": {"expr": spec["usermeta"]["say"]}}
    for param in spec["params"]:
        if param["name"] in params:
            param["value"] = params[param["name"]]
        if "select" in param and "value" in param:
            param["value"] = [{field: params.get(field, value) for field, value in param["value"][0].items()}]
    return max(texts(vl_convert.vegalite_to_svg(spec | {"width": 600})), key=len)


def test_heatmaps_show_both_measures_of_every_pair(pairs):
    shown = tooltips(drawn(layer_pairs(pairs)))
    cells = {each["layers"]: each for each in shown if "layers" in each}
    assert len(cells) == 25 and len([each for each in shown if "layers" in each]) == 50  # two panels
    assert (cells["2 b, 4 d"]["|Qi - Qj|"], cells["2 b, 4 d"]["CKA"]) == ("0.300", "0.800")
    assert cells["5 e, 1 a"]["CKA"] == cells["1 a, 5 e"]["CKA"] == "0.600"


def test_a_pair_of_layers_is_told_with_the_edges_of_its_graphs(pairs):
    words = said(layer_pairs(pairs), first=2, second=4)
    assert "layers 2 (b) and 4 (d): Q is 0.300 and 0.600, which differ by 0.300; CKA is 0.800" in words
    shared, inside = pairs["whole"].shared, pairs["whole"].inside
    either = shared[1, 1] + shared[3, 3] - shared[1, 3]
    assert f"of the {either} edges in either graph, {shared[1, 3] / either:.0%} are in both" in words
    svg = drawn(layer_pairs(pairs), first=2, second=4)
    bar = {(each["where"], each["ends"]): int(each["edges"]) for each in tooltips(svg) if "where" in each}
    assert sum(bar.values()) == either
    assert bar["in both", "inside a class"] == inside[1, 3]
    assert bar["only in layer 4", "inside a class"] == inside[3, 3] - inside[1, 3]


def test_what_was_not_measured_of_a_pair_is_said(pairs):
    chart = layer_pairs(pairs)
    svg = drawn(chart, network="short", first=5, second=1)  # beyond its layers: the last
    assert {"not measured", "edges of their graphs: not measured"} <= {*texts(svg)}
    assert len([each for each in tooltips(svg) if "layers" in each]) == 4
    assert "short, layers 2 (q) and 1 (p): Q is 0.500 and 0.200" in said(chart, network="short", first=5, second=1)
    assert "CKA not measured." in said(chart, network="short")
    with pytest.raises(ValueError, match="at least one"):
        layer_pairs({})
