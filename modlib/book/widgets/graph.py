"""The k-NN graph explorer: the graph of every layer, to be moved through on a page without a kernel."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from PIL import Image
from scipy.linalg import orthogonal_procrustes

from modlib._checks import as_array, checked, whole_number
from modlib.book.widgets.base import Widget, pack, still
from modlib.data import Images
from modlib.graph import DynamicGraph
from modlib.modularity import check_labels, modularity
from modlib.plots import CLASS_COLORS

MOST_IMAGES = 3000  # of more, points and edges are neither told apart nor drawn in time
NO_EDGE = 65535  # stands for a neighbour whose similarity makes no edge
THUMBNAIL = 32  # pixels
COLUMNS = 25  # thumbnails in a row of the sheet


@checked
def explore_graph(
    graph: DynamicGraph, images: Images, positions: Sequence[np.ndarray], *, layer: int = 0, k: int = 3, image: int = 0,
    attacked: tuple[DynamicGraph, Images, Sequence[np.ndarray]] | None = None, predicted=None,
) -> Widget:  # fmt: skip
    """The k-NN graph of every layer, with a slider for the layer, one for k and one for the image that is followed.

    Points are images, coloured by class, by predicted class or by the share of their neighbours that has their label; lines
    lead to the k most similar others. Layouts are turned and mirrored to fit the layer before, so that a point can be
    followed. Everything is computed beforehand: about 0.7 MB for 500 images, 10 layers and k up to 20.

    Args:
        graph: snapshots with as many neighbours as the k slider shall reach.
        images: the N images of its nodes.
        positions: L layouts (N, 2), one a layer (see :func:`modlib.plots.layout`).
        layer: index of the layer first shown.
        k: neighbours first shown.
        image: index of the image first followed.
        attacked: graph, images and positions of the same N images after an attack; the page then has a switch.
        predicted: (N,) class that a network gives each image; with ``attacked`` a pair of these, before and after. The page
            then tells it, can colour by it, and tells Q under predicted classes beside Q under the true ones.

    Returns:
        widget; its ``data["versions"]["clean"]["q"]`` is the (L, k) table of modularities that it shows.

    Raises:
        ValueError: if graph, images, positions and predictions do not fit each other, or a class has no name.
    """
    n, reach = graph.graphs[0].n, graph.graphs[0].k
    labels = check_labels(images.y, n)
    layer = whole_number("layer", layer, 0, len(graph) - 1)
    k = whole_number("k", k, 1, reach, "for this graph")
    image = whole_number("image", image, 0, n - 1)
    if n > MOST_IMAGES:
        raise ValueError(f"graph has {n} nodes; at most {MOST_IMAGES} can be explored by hand. Take fewer images")
    least, names = labels.max() + 1, len(images.classes)
    if names < least:
        raise ValueError(f"images must name each class: label {labels.max()} needs {least} names; got {names}")
    sides, layouts = [(graph, images)], [_layouts(positions, len(graph), n)]
    if attacked is not None:
        other, other_images, other_positions = attacked
        if other.layers != graph.layers or (other.graphs[0].n, other.graphs[0].k) != (n, reach):
            raise ValueError(f"attacked must begin with a graph of the same layers, {n} images and k={reach}")
        if not np.array_equal(other_images.y, images.y):
            raise ValueError("attacked images must have the labels of the clean ones, in the same order")
        sides.append((other, other_images))
        layouts.append(_layouts(other_positions, len(graph), n, layouts[0]))
    guesses = [None] * len(sides) if predicted is None else np.atleast_2d(as_array(predicted))
    if predicted is not None and (
        guesses.shape != (len(sides), n) or guesses.dtype.kind not in "iu" or not np.isin(guesses, np.arange(names)).all()
    ):
        twice = ", before and after the attack" if attacked else ""
        raise ValueError(f"predicted must be a class, 0..{names - 1}, for each of {n} images{twice}")
    places = np.array(layouts)
    low, high = places.min(-2, keepdims=True), places.max(-2, keepdims=True)
    span = (high - low).max(-1, keepdims=True)  # each layout fills the unit square, unstretched
    at = (places - (low + high) / 2) / np.where(span > 0, span, 1) + 0.5
    tables = [_version(*side, labels, *rest, names) for side, *rest in zip(sides, at, guesses, strict=True)]
    data = {
        "n": n, "k": reach, "labels": labels.tolist(), "classes": list(images.classes), "colors": CLASS_COLORS,
        "layers": list(graph.layers), "columns": COLUMNS, "versions": dict(zip(("clean", "attacked"), tables, strict=False)),
    }  # fmt: skip
    q = tables[0]["q"][layer][k - 1]
    words = (
        f"k-nearest-neighbour graph of {n} images in layer {layer + 1} of {len(graph)}, {graph.layers[layer]}, "
        f"k = {k}: points coloured by class, lines to the most similar images; modularity Q = {q:.3f}."
    )
    setting = {"layer": layer, "k": k, "image": image, "colour": "class", "only": -1, "images": "clean"}
    shown, xy = graph.graphs[layer].nearest(k), at[0][layer]
    figure, ax = still(f"{graph.layers[layer]}, k = {k}: Q = {q:.3f}", (5, 4.5))
    pairs = np.column_stack([np.repeat(np.arange(n), k), shown.neighbors.ravel()])[shown.weights.ravel() > 0]
    ax.add_collection(LineCollection(xy[pairs], linewidths=0.4, colors="0.6"))
    ax.scatter(*xy.T, c=[CLASS_COLORS[c % len(CLASS_COLORS)] for c in labels], s=9, zorder=2)
    return Widget("graph-explorer", __file__, data, setting, words, figure)


def _version(graph: DynamicGraph, images: Images, labels, places: np.ndarray, guess, classes: int) -> dict:
    """Tables of one set of images: (L, N, k) neighbours, (L, N, 2) places, (L, k) modularities, (L, k, C) terms."""
    snapshots = [[each.nearest(i + 1) for i in range(each.k)] for each in graph.graphs]
    terms = np.zeros((len(graph), graph.graphs[0].k, classes))
    terms[..., : labels.max() + 1] = [[modularity(g, labels, per_class=True) for g in row] for row in snapshots]
    near = np.array([np.where(each.weights > 0, each.neighbors, NO_EDGE) for each in graph.graphs])
    edge = near != NO_EDGE  # of the directed edges to k neighbours, how many join two images of one class:
    same = ((labels[np.where(edge, near, 0)] == labels[:, None]) & edge).sum(1).cumsum(1)
    known = guess is not None and guess.min() < guess.max()  # of one class alone, Q is not defined
    return {
        "neighbours": pack(near, "<u2", 1), "at": pack(places, "<u2", 1 / 65535), "terms": pack(terms),
        "q": terms.sum(2).round(4).tolist(), "same": (same / edge.sum(1).cumsum(1)).round(4).tolist(),
        "sheet": _sheet(images.x), "predicted": [] if guess is None else guess.tolist(),
        "q_predicted": [[round(modularity(g, guess), 4) for g in row] for row in snapshots] if known else [],
    }  # fmt: skip


def _layouts(positions: Sequence[np.ndarray], layers: int, n: int, beside: np.ndarray | None = None) -> np.ndarray:
    """(L, N, 2): each layout centred, of unit size, turned and mirrored to fit the one before, or the one beside."""
    places = np.array([np.asarray(each, float) for each in positions])
    if places.shape != (layers, n, 2):
        raise ValueError(f"positions must be {layers} layouts of shape ({n}, 2); got shape {places.shape}")
    places -= places.mean(1, keepdims=True)
    size = np.sqrt((places**2).sum(2).mean(1))
    places /= np.where(size > 0, size, 1)[:, None, None]
    for i, place in enumerate(places):
        fit = beside[i] if beside is not None else places[i - 1] if i else place
        places[i] = place @ orthogonal_procrustes(place, fit)[0]
    return places


def _sheet(x: np.ndarray) -> str:
    """All images as one picture, ``COLUMNS`` in a row, as a data address."""
    x = np.asarray(x)
    pixels = (255 * x.clip(0, 1)).round().astype(np.uint8) if x.dtype.kind == "f" else x
    pixels = np.repeat(pixels, 3, 1) if pixels.shape[1] == 1 else pixels  # grey
    sheet = Image.new("RGB", (COLUMNS * THUMBNAIL, -(-len(x) // COLUMNS) * THUMBNAIL))
    for i, each in enumerate(pixels):
        thumbnail = Image.fromarray(each.transpose(1, 2, 0)).resize((THUMBNAIL, THUMBNAIL))
        sheet.paste(thumbnail, (i % COLUMNS * THUMBNAIL, i // COLUMNS * THUMBNAIL))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=75)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
