"""Fig. 4 as a grid of small charts with controls, which answer on a static page, without a kernel."""

import altair as alt
import numpy as np

from modlib.book.charts.base import INK, OUR_COLOR, PAPER, choice, finished
from modlib.book.records import recorded_networks
from modlib.book.words import proper
from modlib.paper import DATASETS, OURS, paper_values
from modlib.results import Records, Result

STEPS = 10_000  # curves travel as whole numbers of 1e-4
PITCH = 1.3  # of the rows of panels, in units of Q
WEIGHTS, READINGS = ("trained", "untrained"), ("conv", "relu")
SETTING = {"n": 500, "k": 3}  # shown at first
BESIDE = "(weights == 'trained' && reading == 'conv')"  # where the paper's curves belong


def curves_grid(records: Records) -> alt.LayerChart:
    """Every network on every dataset: the recorded curves and the paper's, a panel each, as in Fig. 4.

    Controls choose N, k, what counts as a layer, and trained or untrained networks for all panels at once. A panel of
    what was not measured says so. The paper's curves are of trained networks, of the layers as in its figures, and at its
    own N and k: they are drawn beside such, and the title says where theirs differ. All panels lie in one view, so that the
    grid is as wide as its place.
    """
    names = recorded_networks(records)
    printed, fig4 = {ours: paper for paper, ours in OURS.items()}, paper_values("fig4")
    panels = [
        {  # x0 and y0 are where the Q = 0 of its first layer lies
            "network": proper(model), "dataset": proper(dataset), "x0": column + 0.04, "y0": (len(names) - 1 - row) * PITCH,
            "paper": fig4.get(f"{model}/{printed.get(dataset, dataset)}", []),
            **{w: _packed(records.best("curves", model, dataset, weights=w)) for w in WEIGHTS},
        }
        for row, model in enumerate(names) for column, dataset in enumerate(DATASETS)
    ]  # fmt: skip
    series = [panel[weights] for panel in panels for weights in WEIGHTS if panel[weights]]
    ns, ks = (sorted({value for each in series for value in each[key]} or {typical}) for key, typical in SETTING.items())
    ends = {w: {at: [[_ends(panels, w, at, n, k) for k in ks] for n in ns] for at in READINGS} for w in WEIGHTS}
    shown = "ends[weights][reading][indexof(ns, n)][indexof(ks, k)]"
    title = (
        "[weights + ' networks' + (reading == 'conv' ? '' : ', layers after the ReLU') + ', N = ' + n + ', k = ' + k,"
        f" {BESIDE} ? 'grey: the paper’s, N = 500 (CIFAR-100: 1000), k = 3' : 'the paper printed no such curves']"
    )
    say = (
        f"'N = ' + n + ', k = ' + k + ': ' + {shown}[0] + ' of {len(panels)} curves of ' + weights + ' networks are measured'"
        f" + ({shown}[0] ? '; on average Q goes from ' + format({shown}[1], '.3f') + ' in the first layer to '"
        f" + format({shown}[2], '.3f') + ' in the last.' : '.')"
        f" + ({BESIDE} ? ' The paper’s have N = 500 (CIFAR-100: 1000) and k = 3.' : ' The paper’s curves are of"
        " trained networks and of the layers as in its figures: they are not drawn here.')"
    )
    layers = ["as in the figures (conv)", "after the ReLU (relu)"]
    menus = [choice("weights", "networks ", WEIGHTS), choice("reading", "layers ", READINGS, labels=layers)]
    for (key, typical), name, values in zip(SETTING.items(), ("N ", "k "), (ns, ks), strict=True):
        menus.append(choice(key, name, values, typical if typical in values else values[0]))
    return finished(
        _grid_layers(panels, len(names)).configure_title(fontSize=11), "grid", 76 * len(names), title,
        f"Small panels, {len(names)} networks by {len(DATASETS)} datasets, each with modularity over layers: recorded as a solid "
        "line with its spread, the paper's in grey and dashed. Controls choose N, k, the layers, and trained or untrained "
        "networks.", *menus, say=say, mark="measured",
        columns={"network": "network", "dataset": "dataset", "depth": "layer", "Q": "Q", "spread": "std"},
        tables={
            "ns": ns, "ks": ks, "ends": ends,
            "columns": [[proper(dataset)] + ["grey: ImageNet50"] * (dataset in OURS.values()) for dataset in DATASETS],
        },
    )  # fmt: skip


def _grid_layers(panels: list[dict], rows: int) -> alt.LayerChart:
    """Everything that the grid draws; a transform that depends on a control writes to a field of its own."""
    base = alt.Chart(alt.Data(values=panels)).transform_calculate(
        series="datum[weights]", ni="datum.series ? indexof(datum.series.n, n) : -1",
        ki="datum.series ? indexof(datum.series.k, k) : -1", found="datum.ni >= 0 && datum.ki >= 0",
        count="datum.series ? length(datum.series[reading]) : 0",
    )  # fmt: skip

    def across(count: str) -> str:
        return f"datum.x0 + 0.92 * (datum.depth - 1) / max(1, datum.{count} - 1)"

    top = alt.Axis(
        orient="top", values=[i + 0.5 for i in range(len(DATASETS))], labelExpr="columns[floor(datum.value)]", domain=False,
        labelFontWeight="bold", labelFontSize=11, labelPadding=18, labelLineHeight=12, labelOverlap=False, grid=False, ticks=False,
    )  # fmt: skip
    side = alt.Axis(
        values=[row * PITCH + q for row in range(rows) for q in (0, 0.5)], tickCount=3 * rows,
        labelExpr=f"abs(datum.value % {PITCH} - 0.5) < 0.1 ? '0.5' : '0'", labelOverlap=False, ticks=False, domain=False,
    )  # fmt: skip
    x = alt.X("x:Q", title=None, scale=alt.Scale(domain=[0, len(DATASETS)], nice=False), axis=top)
    y = alt.Y("y:Q", title=None, scale=alt.Scale(domain=[-0.08, rows * PITCH - 0.02], nice=False, zero=False), axis=side)
    hues = alt.Scale(domain=["ours", "paper"], range=[OUR_COLOR, PAPER["color"]])
    legend = alt.Legend(orient="bottom", title=None, symbolType="stroke", symbolStrokeWidth=3)
    curve = alt.Color("curve:N", scale=hues, legend=legend)
    panel = ["network:N", "dataset:N"]
    at = "(datum.ni * length(datum.series.k) + datum.ki) * datum.series.layers + datum.layer"
    ours = base.transform_filter("datum.found").transform_calculate(
        layer="datum.series[reading]", depth="sequence(1, datum.count + 1)",
    ).transform_flatten(["layer", "depth"]).transform_calculate(
        Q=f"datum.series.mean[{at}] / {STEPS}", spread=f"datum.series.std[{at}] / {STEPS}", curve="'ours'",
        x=across("count"), y="datum.y0 + datum.Q", low="datum.y - datum.spread", high="datum.y + datum.spread",
    )  # fmt: skip
    words = [*panel, alt.Tooltip("depth:Q", title="layer"), alt.Tooltip("Q:Q", format=".3f")]
    band = ours.mark_area(opacity=0.3, color=OUR_COLOR).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", detail=panel)
    line = ours.mark_line(strokeWidth=1.8).encode(x=x, y=y, detail=panel, color=curve)
    printed = base.transform_filter(BESIDE).transform_calculate(
        layers="length(datum.paper)", depth="sequence(1, length(datum.paper) + 1)",
    ).transform_flatten(["paper", "depth"]).transform_calculate(
        Q="datum.paper", x=across("layers"), y="datum.y0 + datum.paper", curve="'paper'",
    )  # fmt: skip
    dashed = printed.mark_line(strokeWidth=1.4, strokeDash=PAPER["strokeDash"]).encode(x=x, y=y, detail=panel, color=curve)
    # Larger than they look: a finger or a pointer finds them.
    theirs = printed.mark_circle(size=160, opacity=0).encode(x=x, y=y, tooltip=[alt.Tooltip("curve:N"), *words])
    points = ours.mark_circle(size=160, opacity=0).properties(name="measured")
    points = points.encode(x=x, y=y, tooltip=[*words, alt.Tooltip("spread:Q", title="std", format=".3f")])

    def text(height: float, words: str, chosen: str = "true", **style) -> alt.Chart:
        placed = base.transform_filter(chosen).transform_calculate(x="datum.x0", y=f"datum.y0 + {height}", words=words)
        return placed.mark_text(align="left", fontSize=10, color=INK, **style).encode(x=x, y=y, text="words:N")

    accuracy = "datum.series && isNumber(datum.series.accuracy) ? ' ' + format(datum.series.accuracy, '.1f') + ' %' : ''"
    label = text(1.08, f"datum.network + ({accuracy})", fontWeight="bold")
    missing = text(0.87, "datum.series ? 'not at this N, k' : 'not measured'", "!datum.found", fontStyle="italic")
    walls = base.transform_filter("datum.x0 > 1 && datum.y0 == 0").transform_calculate(x="floor(datum.x0)")
    return walls.mark_rule(color=INK, opacity=0.4).encode(x=x) + band + dashed + line + theirs + points + label + missing


def _packed(record: Result | None) -> dict | None:
    """Mean and spread over the draws, flat over N, k and layers; which layers each reading takes."""
    if record is None:
        return None
    coords, dims = record.coords, record.values["q"]["dims"]
    q = np.moveaxis(record["q"], [dims.index(dim) for dim in ("draw", "n", "k", "layer")], range(4))
    mean, std = (np.rint(STEPS * part).astype(int).ravel().tolist() for part in (q.mean(0), q.std(0, ddof=1)))
    packed = {"n": coords["n"], "k": coords["k"], "layers": len(coords["layer"]), "mean": mean, "std": std}
    packed |= {at: [coords["layer"].index(name) for name in coords[at]] for at in READINGS}
    return packed | ({"accuracy": round(float(record["accuracy"]), 2)} if "accuracy" in record.values else {})


def _ends(panels: list[dict], weights: str, at: str, n: int, k: int) -> list[float]:
    """How many panels show a curve at this setting, and their mean Q in the first and in the last layer."""
    ends = []
    for series in (panel[weights] for panel in panels):
        if series and n in series["n"] and k in series["k"]:
            start = (series["n"].index(n) * len(series["k"]) + series["k"].index(k)) * series["layers"]
            ends.append([series["mean"][start + series[at][end]] for end in (0, -1)])
    return [len(ends), *np.round(np.mean(ends, 0) / STEPS, 4).tolist()] if ends else [0, 0, 0]
