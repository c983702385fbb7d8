"""Interactive figures: they answer on a static page as they do in a notebook, without asking a kernel."""

import base64
import io
from collections.abc import Sequence

import altair as alt
import numpy as np
from PIL import Image

from modlib._checks import whole_number
from modlib.data import Images
from modlib.graph import DynamicGraph, KnnGraph
from modlib.modularity import check_labels, modularity


def explore_graph(
    graph: DynamicGraph, images: Images, positions: Sequence[np.ndarray], *, layer: int = 0, k: int = 3
) -> alt.LayerChart:
    """The k-NN graph of every layer, with a slider for the layer and one for k.

    Points are images, coloured by class and shown on hover; lines lead to the k most similar others. The title tells
    the layer's Q for the chosen k. Everything is computed beforehand, about 1.5 MB for 500 images, 10 layers and k up
    to 20.

    Args:
        graph: snapshots with as many neighbours as the k slider shall reach.
        images: the N images of its nodes.
        positions: L layouts (N, 2), one a layer (see :func:`modlib.plots.layout`); brought to the unit square.
        layer: index of the layer first shown.
        k: neighbours first shown.

    Returns:
        altair chart. Its ``usermeta`` holds ``q``, the (L, k) table of modularities that it shows.

    Raises:
        ValueError: if graph, images and positions do not fit each other.
    """
    n, reach = graph.graphs[0].n, graph.graphs[0].k
    labels = check_labels(images.y, n)
    layer = whole_number("layer", layer, 0, len(graph) - 1)
    k = whole_number("k", k, 1, reach, "for this graph")
    points = np.array([_unit_square(p) for p in positions]).round(3)
    if points.shape != (len(graph), n, 2):
        raise ValueError(f"positions must be {len(graph)} layouts of shape ({n}, 2); got shape {points.shape}")
    snapshots = [[each.nearest(i) for i in range(1, reach + 1)] for each in graph.graphs]
    q = [[round(modularity(g, labels), 4) for g in row] for row in snapshots]
    same = [[_same_class(g, labels) for g in row] for row in snapshots]

    def slider(name: str, title: str, low: int, high: int, value: int) -> alt.Parameter:
        return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=1, name=title))

    tables = {
        "names": list(graph.layers),
        "px": points[..., 0].tolist(),
        "py": points[..., 1].tolist(),
        "neighbours": [
            [row[:edges].tolist() for row, edges in zip(g.neighbors, (g.weights > 0).sum(1), strict=True)]
            for g in graph.graphs
        ],
        "q": q,
        "same": same,
    }
    say = (
        f"'Layer ' + (layer + 1) + ' of {len(graph)} (' + names[layer] + '), k = ' + k + ': Q = ' + "
        "format(q[layer][k - 1], '.3f') + '. ' + format(same[layer][k - 1], '.0%') + ' of the edges join images of one class.'"
    )
    nodes = alt.Data(
        values=[{"id": i, "class": images.classes[labels[i]], "image": _thumbnail(images.x[i])} for i in range(n)]
    )

    def at(row: str, field: str = "datum.id") -> dict[str, str]:
        return {"x" + row: f"px[layer][{field}]", "y" + row: f"py[layer][{field}]"}

    axis = dict(axis=None, scale=alt.Scale(domain=[-0.03, 1.03]))
    lines = (
        alt.Chart(nodes)
        .transform_calculate(near="slice(neighbours[layer][datum.id], 0, k)")
        .transform_flatten(["near"])
        .transform_calculate(**at(""), **at("2", "datum.near"))
        .mark_rule(strokeWidth=0.6, opacity=0.35, color="#808080", tooltip=None)
        .encode(x=alt.X("x:Q", **axis), y=alt.Y("y:Q", **axis), x2="x2:Q", y2="y2:Q")
    )
    dots = (
        alt.Chart(nodes)
        .transform_calculate(**at(""))
        .mark_circle(size=55, opacity=1)
        .encode(
            x=alt.X("x:Q", **axis),
            y=alt.Y("y:Q", **axis),
            color=alt.Color("class:N", scale=alt.Scale(scheme="tableau10"), legend=alt.Legend(orient="bottom", columns=5)),
            tooltip=["image:N", "class:N", "id:Q"],
        )
    )
    return (lines + dots).properties(
        width="container",
        height=440,
        title=alt.Title(alt.expr("names[layer] + ', k = ' + k + ': Q = ' + format(q[layer][k - 1], '.3f')")),
        description=f"k-nearest-neighbour graph of {n} images in each of {len(graph)} layers: points coloured by class, "
        "lines to the most similar images; sliders choose the layer and k.",
        usermeta={"say": say, "labels": {"layer": list(graph.layers)}, "q": q, "embedOptions": {"renderer": "canvas"}},
    ).add_params(
        slider("layer", "Layer ", 0, len(graph) - 1, layer),
        slider("k", "k ", 1, reach, k),
        *(alt.param(name=name, value=table) for name, table in tables.items()),
    )


def _same_class(graph: KnnGraph, labels: np.ndarray) -> float:
    """Share of the directed edges that join two images of one class."""
    same = (labels[graph.neighbors] == labels[:, None])[graph.weights > 0]
    return round(float(same.mean()), 4)


def _unit_square(positions: np.ndarray) -> np.ndarray:
    low, high = np.min(positions, 0), np.max(positions, 0)
    return (positions - low) / np.where(high > low, high - low, 1)


def _thumbnail(pixels: np.ndarray) -> str:
    """A (3, H, W) image as a data address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
