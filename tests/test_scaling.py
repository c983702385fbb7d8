"""The chart of Q against reach: it shows what it was given, and says how far the settings lie from one line."""

import json
import re

import numpy as np
import pytest

from modlib.book.charts.scaling import scaling

vl_convert = pytest.importorskip("vl_convert")

SETTINGS = [(n, k) for n in (200, 500, 1000) for k in (1, 3, 9)]


@pytest.fixture
def chart():
    """Layer 1 follows the reach alone, layer 2 follows k alone; the other network has one layer more."""
    reach = {(n, k): [-np.log((k + 1) / n) / 10, np.log(k + 1) / 10] for n, k in SETTINGS}
    return scaling({"one": reach, "two": {key: [*q, 0.5] for key, q in reach.items()}})


def shown(chart, **params) -> tuple[str, list[dict]]:
    """The title, and what the points say when pointed at."""
    spec = json.loads(chart.to_json()) | {"width": 500}
    for param in spec["params"]:
        param["value"] = params.get(param["name"], param.get("value"))
    svg = vl_convert.vegalite_to_svg(spec)
    labels = re.findall(r'aria-label="(x: [^"]*; k: [^"]*)"', svg)
    return svg, [dict(part.split(": ", 1) for part in label.split("; ")) for label in labels]


@pytest.mark.parametrize("axis", ["(k + 1) / 2N", "k"])
def test_points_are_the_settings(chart, axis):
    svg, points = shown(chart, layer=1, axis=axis)
    assert f"one, layer 1 of 2: Q against {axis}" in svg
    found = {(int(p["n"].replace(",", "")), int(p["k"])): (float(p["(k + 1) / 2N"]), float(p["Q"])) for p in points}
    assert set(found) == {*SETTINGS}
    for (n, k), (reach, q) in found.items():
        assert reach == pytest.approx((k + 1) / (2 * n), abs=6e-5) and q == pytest.approx(-np.log((k + 1) / n) / 10, abs=6e-4)


def test_a_layer_that_a_network_lacks_is_its_last(chart):
    assert "one, layer 2 of 2" in shown(chart, layer=3)[0] and "two, layer 3 of 3" in shown(chart, layer=3, network="two")[0]


def test_scatter_tells_which_axis_makes_one_line(chart):
    [scatter] = [param.value for param in chart.params if param.name == "scatter"]
    (by_reach, by_k), _ = scatter
    assert by_reach[0] < 1e-3 < 0.05 < by_k[0] and by_k[1] < 1e-3 < 0.05 < by_reach[1]


@pytest.mark.parametrize("networks, says", [({}, "got none"), ({"a": {(200, 3): [0.1]}}, r"got \['a'\]")])
def test_too_few_settings_are_told(networks, says):
    with pytest.raises(ValueError, match=says):
        scaling(networks)
