"""Fig. 8 as two linked heatmaps with controls, which answer on a static page, without a kernel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import altair as alt
import numpy as np

from modlib.book.charts.base import HERE, INK, OUR_COLOR, choice, finished, slider
from modlib.book.words import MISSING
from modlib.graph import DynamicGraph
from modlib.models import CONVNETS, stages
from modlib.paper import paper_values
from modlib.results import Records
from modlib.similarity import modularity_difference, shared_edges

RIGHT = 1.1  # where the second panel begins; each is 1 wide and 1 high


@dataclass(frozen=True, eq=False)
class Layers:
    """What two measures say of the layers of one network.

    Attributes:
        names: of the L layers.
        stage: (L,) the stage of each.
        q: (L,) modularity.
        cka: (L, L) linear CKA, where it was measured.
        shared, inside: (L, L) edges that two layers' graphs share, all and those inside classes, where they are known.
    """

    names: tuple[str, ...]
    stage: np.ndarray
    q: np.ndarray
    cka: np.ndarray | None = None
    shared: np.ndarray | None = None
    inside: np.ndarray | None = None

    def with_graphs(self, graph: DynamicGraph, y) -> "Layers":
        """The same with what the graphs of its layers share, under labels (N,)."""
        return replace(self, shared=shared_edges(graph), inside=shared_edges(graph, y))


def recorded_layers(records: Records) -> dict[str, Layers]:
    """Networks on CIFAR-10 whose layer differences are recorded, by their names in :data:`modlib.models.CONVNETS`."""
    found = {model: records.best("similarity", model, "cifar10") for model in (*reversed(CONVNETS),)}
    return {m: Layers(tuple(r.coords["layer"]), stages(m), r["q"], r["cka"]) for m, r in found.items() if r}


def printed_layers() -> dict[str, Layers]:
    """Networks of Fig. 4 on CIFAR-10, by the paper's values of Q."""
    found = {name.split("/")[0]: np.array(q) for name, q in paper_values("fig4").items() if name.endswith("/cifar10")}
    return {m: Layers(tuple(f"layer {i + 1}" for i in range(len(q))), stages(m), q) for m, q in found.items()}


def layer_pairs(networks: Mapping[str, Layers]) -> alt.LayerChart:
    """|Qi - Qj| and 1 - CKA of every two layers, side by side; of one pair both numbers and what their graphs share.

    The pair is that of the two sliders, or the one that is pointed at in either panel; a tap or click on one moves the sliders.

    Args:
        networks: name -> its layers; the first is shown first.

    Raises:
        ValueError: without a network.

    >>> from modlib.results import FOLDER
    >>> layer_pairs(recorded_layers(Records.read(FOLDER))).to_dict()["name"]
    'pairs'
    """
    if not networks:
        raise ValueError("networks must hold at least one; got none")
    tables = {"names": list(networks)} | {key: [] for key in ("layers", "stage", "qs", "ckas", "edges", "insides", "widest")}
    for each in networks.values():
        tables["layers"].append(list(each.names))
        tables["stage"].append(np.asarray(each.stage).tolist())
        tables["qs"].append(np.round(each.q, 4).tolist())
        least = 1 if each.cka is None else each.cka.min()
        tables["widest"].append([float(modularity_difference(each.q).max()), 1 - float(least)])
        for key, matrix in (("ckas", each.cka), ("edges", each.shared), ("insides", each.inside)):
            tables[key].append([] if matrix is None else np.round(matrix, 3).ravel().tolist())
    now = {  # of the network chosen, and of the pair: a and b count from 0
        "at": "indexof(names, network)",
        "count": "length(qs[at])",
        "pointed": "isValid(hover.i) && hover.i[0] >= 0",  # not at the bar, which is of no pair
        "a": "pointed ? min(hover.i[0], count - 1) : min(max(layer_first, 1), count) - 1",
        "b": "pointed ? min(hover.j[0], count - 1) : min(max(layer_second, 1), count) - 1",
        "cell": "a * count + b",
        "both": "length(edges[at]) ? edges[at][cell] : 0",
        "either": "length(edges[at]) ? edges[at][a * count + a] + edges[at][b * count + b] - both : 0",
    }
    say = (
        "network + ', layers ' + (a + 1) + ' (' + layers[at][a] + ') and ' + (b + 1) + ' (' + layers[at][b] + '): Q is '"
        " + format(qs[at][a], '.3f') + ' and ' + format(qs[at][b], '.3f') + ', which differ by '"
        f" + format(abs(qs[at][a] - qs[at][b]), '.3f') + '; CKA ' + (length(ckas[at]) ? 'is ' + format(ckas[at][cell], '.3f')"
        f" : '{MISSING}') + (length(edges[at]) ? '; of the ' + format(either, ',') + ' edges in either graph, '"
        " + format(both / either, '.0%') + ' are in both.' : '.')"
    )
    depth = max(map(len, tables["layers"]))
    return finished(
        alt.layer(*_panels(depth), *_edges()).configure_view(stroke=None), "pairs", 420,
        "network + ', layers i = ' + (a + 1) + ' and j = ' + (b + 1) + ' of ' + count",
        "Two heatmaps over the layers of one network: difference of modularity on the left, 1 minus linear CKA on the right, dark "
        "where two layers differ most. Below, a bar of the edges that the graphs of one pair of layers share. Controls choose the "
        "network and the pair.",
        choice("network", "network ", tables["names"]), tables=tables, now=now, say=say, mark="row",
        columns={"second": "beside layer", "layer": "name", "dq": "|Qi - Qj|", "CKA": "CKA"},
        most={"layer_first": "count", "layer_second": "count"},
    )  # fmt: skip


_X = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.06, RIGHT + 1.01], nice=False, zero=False))
_Y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.4, 1.09], nice=False, zero=False))
_BOX = {"x": _X, "x2": "x2:Q", "y": _Y, "y2": "y2:Q"}


def _each(**lists: str) -> alt.Chart:
    """One row for each element of lists of equal length, which are expressions over the controls."""
    return alt.Chart(alt.Data(values=[{}])).transform_calculate(**lists).transform_flatten(list(lists))


def _text(rows: alt.Chart, **style) -> alt.Chart:
    """The words of rows at their x and y."""
    return rows.mark_text(**({"fontSize": 11, "color": INK} | style)).encode(x=_X, y=_Y, text="words:N")


def _note(when: str, x: float, y: float, words: str, **style) -> alt.Chart:
    """Words at one place, where an expression holds."""
    return _text(_each(x=f"{when} ? [{x}] : []").transform_calculate(y=str(y), words=words), **style)


def _panels(depth: int) -> list[alt.Chart]:
    cells = _each(k="sequence(2 * count * count)").transform_calculate(
        panel="floor(datum.k / (count * count))", i="floor(datum.k / count) % count", j="datum.k % count",
        first="datum.i + 1", second="datum.j + 1", cka="ckas[at][datum.i * count + datum.j]",
        dq="abs(qs[at][datum.i] - qs[at][datum.j])",
    ).transform_filter("!datum.panel || isValid(datum.cka)").transform_calculate(
        different="(datum.panel ? 1 - datum.cka : datum.dq) / widest[at][datum.panel]",
        x=f"{RIGHT} * datum.panel + datum.j / count", x2="datum.x + 1 / count", y="datum.i / count", y2="datum.y + 1 / count",
        pair="datum.first + ' ' + layers[at][datum.i] + ', ' + datum.second + ' ' + layers[at][datum.j]",
        CKA=f"isValid(datum.cka) ? format(datum.cka, '.3f') : '{MISSING}'",
    )  # fmt: skip
    legend = alt.Legend(
        orient="top", title="difference", values=[0, 1], gradientLength=140, titleOrient="left",
        labelExpr="datum.value ? 'largest of the panel' : 'none'",
    )  # fmt: skip
    color = alt.Color("different:Q", scale=alt.Scale(domain=[0, 1], scheme="viridis", reverse=True), legend=legend)
    words = [alt.Tooltip("pair:N", title="layers"), alt.Tooltip("dq:Q", title="|Qi - Qj|", format=".3f"), "CKA:N"]
    hover = alt.selection_point(name="hover", fields=["i", "j"], on="pointerover", clear="pointerout", empty=False)
    # Sliders whose signals a click sets as well: Vega-Lite names them by the selection and its fields.
    pair = alt.selection_point(
        name="layer", fields=["first", "second"], on="click[event.item && event.item.datum && event.item.datum.first]",
        clear=False, value=[{"first": 1, "second": min(4, depth)}],
        bind={"first": slider("layer i ", 1, depth), "second": slider("layer j ", 1, depth)},
    )  # fmt: skip
    heat = cells.mark_rect().encode(**_BOX, color=color, tooltip=words).add_params(hover, pair)
    row = cells.transform_filter("!datum.panel && datum.i == a").transform_calculate(layer="layers[at][datum.j]")
    row = row.mark_rect(fillOpacity=0, stroke="white", strokeWidth=0.7, tooltip=None).encode(**_BOX).properties(name="row")
    frame = cells.transform_filter("datum.i == a && datum.j == b")
    frame = frame.mark_rect(fillOpacity=0, stroke=HERE, strokeWidth=3).encode(**_BOX)

    # Where a stage ends, over each panel: a line across and one upwards.
    ends = _each(k="sequence(1, count)", before="slice(stage[at], 0, -1)", after="slice(stage[at], 1)")
    ends = ends.transform_filter("datum.before != datum.after").transform_calculate(panel="length(ckas[at]) ? [0, 1] : [0]")
    ends = ends.transform_flatten(["panel"]).transform_calculate(left=f"{RIGHT} * datum.panel", end="datum.k / count")
    line = {"color": "white", "strokeWidth": 1.2, "strokeDash": [3, 3]}
    across = ends.transform_calculate(x="datum.left", x2="datum.left + 1", y="datum.end").mark_rule(**line)
    upwards = ends.transform_calculate(x="datum.left + datum.end", y="0", y2="1").mark_rule(**line)
    lines = [across.encode(x=_X, x2="x2:Q", y=_Y), upwards.encode(x=_X, y=_Y, y2="y2:Q")]

    number = {"where": "(datum.k + 0.5) / count", "words": "datum.k + 1", "every": "ceil(count / 10)"}
    numbers = _each(k="sequence(count)").transform_calculate(**number).transform_filter("datum.k % datum.every == 0")
    below = [numbers.transform_calculate(x=f"{left} + datum.where", y="-0.012") for left in (0, RIGHT)]
    labels = [_text(part, baseline="top", fontSize=10) for part in below]
    labels.append(_text(numbers.transform_calculate(x="-0.012", y="datum.where"), align="right", fontSize=10))
    titles = _each(x=f"[0, {RIGHT}]", words="['|Qi \u2212 Qj|', '1 \u2212 CKA']").transform_calculate(y="1.03")
    labels.append(_text(titles, align="left", fontSize=12, fontWeight="bold"))
    return [heat, row, *lines, frame, *labels, _note("!length(ckas[at])", RIGHT + 0.5, 0.5, f"'{MISSING}'", fontStyle="italic")]


def _edges() -> list[alt.Chart]:
    """A bar from the edges of the first graph alone over those in both to those of the second alone."""
    whole = RIGHT + 0.96  # with a gap of 0.02 on either side of the middle
    a, b = (f"insides[at][{each} * count + {each}] - insides[at][cell]" for each in "ab")
    rest = "edges[at][{0} * count + {0}] - both - ({1})"
    # From the outside of the bar inwards: between classes, inside, and the same mirrored on the right.
    parts = [rest.format("a", a), a, "insides[at][cell]", "both - insides[at][cell]", b, rest.format("b", b)]
    known, middle = "length(edges[at])", whole / 2 + 0.02
    bar = _each(size=f"{known} ? [{', '.join(parts)}] : []", part=f"{known} ? sequence(6) : []")
    bar = bar.transform_window(sort=[alt.SortField("part")], frame=[None, 0], end="sum(size)").transform_calculate(
        group="floor(datum.part / 2)", ends="[0, 1, 1, 0, 1, 0][datum.part] ? 'inside a class' : 'between classes'",
        x2=f"{whole} * datum.end / either + 0.02 * datum.group", x=f"datum.x2 - {whole} * datum.size / either",
        y="-0.32", y2="-0.2", where="datum.group == 1 ? 'in both' : 'only in layer ' + ((datum.group ? b : a) + 1)",
    )  # fmt: skip
    hues = alt.Scale(domain=["inside a class", "between classes"], range=[OUR_COLOR, "#a0a0a0"])
    color = alt.Color("ends:N", scale=hues, legend=alt.Legend(orient="bottom", title="edges", titleOrient="left"))
    return [
        bar.mark_rect().encode(**_BOX, color=color, tooltip=["where:N", "ends:N", alt.Tooltip("size:Q", title="edges")]),
        _note(known, 0, -0.37, "'only in layer ' + (a + 1)", align="left"),
        _note(known, whole + 0.04, -0.37, "'only in layer ' + (b + 1)", align="right"),
        _note(known, middle, -0.14, "'in both: ' + format(both / either, '.0%')", align="center"),
        _note(f"!{known}", middle, -0.26, f"'edges of their graphs: {MISSING}'", fontStyle="italic"),
    ]
