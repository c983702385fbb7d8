"""Charts of records: rendered, they show the recorded numbers, and say where there are none."""

import json
import re

import numpy as np
import pytest

from modlib import charts
from modlib.grid import curves_grid
from modlib.claims import plateau_share
from modlib.results import find_results, measurement, write_result

vl_convert = pytest.importorskip("vl_convert")


def drawn(chart, **params) -> str:
    """The chart as SVG, after its controls were set."""
    spec = json.loads(chart.to_json()) | {"width": 600}
    for param in spec["params"]:
        if param["name"] in params:
            param["value"] = params[param["name"]]
    return vl_convert.vegalite_to_svg(spec)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


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


@pytest.mark.parametrize("n, k", [(0, 0), (1, 1)])
@pytest.mark.parametrize("reading, layers", [("conv", range(1, 9)), ("relu", range(3, 9))])
def test_the_grid_shows_the_record_at_its_controls(folder, n, k, reading, layers):
    svg = drawn(curves_grid(folder), n=n, k=k, reading=reading)
    assert "VGG11 91.5 %" in texts(svg)
    assert texts(svg).count("not measured") == 9 * 3 - 1
    points = tooltips(svg, network="VGG11", dataset="CIFAR-10")
    points = {int(p["layer"]): p for p in points if "std" in p}
    expected = [0.1 * layer + (200, 500)[n] / 10_000 - (1, 3)[k] / 100 for layer in layers]
    assert [float(points[i + 1]["Q"]) for i in range(len(layers))] == pytest.approx(expected, abs=5.1e-4)
    assert {float(p["std"]) for p in points.values()} == {0.01}


def test_the_grid_of_untrained_networks_does_not_show_trained_ones(folder):
    svg = drawn(curves_grid(folder), weights="untrained")
    assert texts(svg).count("not measured") == 9 * 3 and "VGG11" in texts(svg)
    assert not [p for p in tooltips(svg) if "std" in p]


def test_an_n_that_a_test_set_does_not_hold_is_not_called_unmeasured(folder):
    coords = {"n": [1000], "k": [3], "draw": [1, 2], "layer": ["a", "b"], "conv": ["a", "b"], "relu": ["a", "b"]}
    settings = {"model": "vgg13", "dataset": "cifar10", "weights": "trained", "recipe": "fast", "epochs": 3}
    values = {"q": (["n", "k", "draw", "layer"], np.full((1, 1, 2, 2), 0.5))}
    write_result(measurement("curves", settings, coords, values), folder / "b.json")
    assert texts(drawn(curves_grid(folder), n=2, k=1)).count("not at this N, k") == 1  # of VGG11


def test_the_grid_without_any_record_is_the_papers(tmp_path):
    svg = drawn(curves_grid(tmp_path))
    assert texts(svg).count("not measured") == 9 * 3


@pytest.mark.parametrize("tol", [0, 2, 5])
def test_plateaus_are_those_of_the_rule(tol):
    curves = charts.printed_curves()
    name = "ResNet34 on CIFAR-100, paper"
    svg = drawn(charts.plateaus(curves), curve=name, tol=tol)
    flat = tooltips(svg, it="plateau or fall")
    count = len(curves[name]) - 1
    assert len(tooltips(svg, it="rises")) + len(flat) == count + 1
    assert len(flat) == round(count * plateau_share(curves[name], charts.TOLERANCES[tol]))
    assert name in texts(svg)


def test_epochs_show_the_curve_and_the_accuracy_of_one_epoch():
    [run] = find_results("training", model="resnet20")
    chart = charts.epochs([run])
    svg = drawn(chart, epoch=7)
    assert "ResNet20, fast, 20 epochs: after epoch 7" in texts(svg)
    shown = {int(p["layer"]): float(p["Q"]) for p in tooltips(svg) if "Q" in p and "layer" in p}
    assert [shown[i] for i in range(1, 11)] == pytest.approx(run.at("q", epoch=7), abs=5.1e-4)
    [accuracy] = [p["test accuracy"] for p in tooltips(svg) if "test accuracy" in p]
    assert float(accuracy.strip("%")) == pytest.approx(run.at("test_accuracy", epoch=7), abs=0.051)
    assert "after epoch 20" in "".join(texts(drawn(chart, epoch=25)))
    with pytest.raises(ValueError, match="at least one training run"):
        charts.epochs([])
