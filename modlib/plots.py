"""Pictures with matplotlib: curves, embeddings of layers, dynamic graphs."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.sparse import triu

from modlib._checks import array, as_array, check_seed, checked, number, one_of, shown, whole_number
from modlib._tensors import as_tensor
from modlib.curves import Curve, CurveDraws
from modlib.graph import DynamicGraph
from modlib.graph.neighbours import in_range
from modlib.modularity import check_labels, modularity

# Colour and marker of one curve after another; colours that colour-blind readers can tell apart (Wong 2011).
STYLES = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"), ("black", "X"),
)  # fmt: skip

# Of the classes, in every picture of the book: Petroff's ten (2021), which stay apart for colour-blind readers, too.
CLASS_COLORS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip


@checked
def plot_curve(curves, *, paper=None, title: str = "", ax: Axes | None = None) -> Axes:
    """Modularity over layers.

    Args:
        curves: a curve, or label -> :class:`modlib.Curve` or :class:`modlib.CurveDraws` (drawn with its spread, one standard
            deviation to each side).
        paper: (L,) values printed in the paper, drawn dashed.
        title: above the picture.
        ax: where to draw; by default a new figure.
    """
    curves = curves if isinstance(curves, Mapping) else {"": curves}
    if not curves or not all(isinstance(each, (Curve, CurveDraws)) for each in curves.values()):
        raise ValueError(f"curves must be modlib.Curve or CurveDraws, one or by label; got {shown(curves)}")
    paper = paper if paper is None else array("paper", paper, 1, "(L,) modularities")
    ax = ax or plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
    for label, curve in curves.items():
        q = curve.mean if hasattr(curve, "mean") else curve.q
        depth = np.arange(1, len(q) + 1)
        color, marker = STYLES[len(ax.lines) % len(STYLES)]
        ax.plot(depth, q, color=color, marker=marker, ms=4, label=label)
        if hasattr(curve, "std"):
            ax.fill_between(depth, q - curve.std, q + curve.std, color=color, alpha=0.25, lw=0)
    if paper is not None:
        ax.plot(np.arange(1, len(paper) + 1), paper, "--", color="0.4", label="paper")
    by_layer(ax, title).set_ylim(min(0, ax.get_ylim()[0]), None)
    if len(curves) > 1 or paper is not None:
        ax.legend(frameon=False)
    return ax


@checked
def layout(features, method: str = "tsne", *, seed: int = 0, start: np.ndarray | None = None) -> np.ndarray:
    """Positions of samples in the plane by the cosine similarity of their features.

    Args:
        features: (N, M) array or tensor.
        method: ``"tsne"`` (scikit-learn) or ``"umap"`` (umap-learn).
        seed: of the embedding.
        start: (N, 2) positions to begin from, such as the layer's before: points then stay near where they were.

    Returns:
        (N, 2) float array.

    Raises:
        ValueError: for features that are not finite, of fewer than four samples, all the same, or zero in a row.
    """
    one_of("layout method", method, ("tsne", "umap"))
    seed = check_seed(seed)
    x = as_array(as_tensor(features, "features"))
    if x.dtype.kind not in "biuf" or x.ndim != 2 or len(x) < 4 or not np.isfinite(x).all():
        raise ValueError(f"features must be a matrix (N, M) of finite numbers of at least four samples; got shape {x.shape}")
    if (x == x[0]).all() or not x.any(1).all():
        raise ValueError("features must not be the same for all samples (a collapsed layer), nor all zeros for one (a dead sample)")
    if start is not None:
        start = array("start", start, 2, "(N, 2) positions").astype(float)
        if start.shape != (len(x), 2) or not start.std(0).all():
            raise ValueError(f"start must be {(len(x), 2)}, a place for each sample and not one for all; got shape {start.shape}")
    threads = torch.get_num_threads()
    kind = torch.float64 if x.dtype.itemsize > 4 else torch.float32
    x = in_range(torch.from_numpy(x).to(kind)).numpy()  # scikit-learn squares them, and dies of what that gives
    x = np.pad(x, ((0, 0), (0, 1))) if x.shape[1] == 1 else x  # its start has two axes
    try:
        return _embedded(x, method, seed, start)
    finally:
        torch.set_num_threads(threads)  # numba sets it for the whole process


def _embedded(x: np.ndarray, method: str, seed: int, start: np.ndarray | None) -> np.ndarray:
    if start is not None:
        start = (start - start.mean(0)) / start.std(0)
    if method == "tsne":
        from sklearn.manifold import TSNE  # takes a second to import: only who asks for it waits

        init = "pca" if start is None else (1e-4 * start).astype(np.float32)  # the scale scikit-learn gives its PCA start
        pull = 12 if start is None else 1  # early exaggeration (12 is the default) would first tear up a given start
        reach = min(30, (len(x) - 1) / 3)  # perplexity (30 is the default): three times as many neighbours are searched
        return TSNE(perplexity=reach, metric="cosine", init=init, random_state=seed, early_exaggeration=pull).fit_transform(x)
    try:
        from umap import UMAP  # compiles for seconds on import: only those who ask for it wait
    except ModuleNotFoundError:
        raise ImportError("layout method 'umap' needs umap-learn: pip install umap-learn") from None

    init = "spectral" if start is None else 5 * start
    with warnings.catch_warnings():  # with a seed UMAP runs on one thread, and says so
        warnings.filterwarnings("ignore", message="n_jobs value")
        return UMAP(metric="cosine", init=init, random_state=seed).fit_transform(x)


@checked
def plot_layouts(positions: dict, labels, classes: Sequence[str], *, columns: int = 5) -> Figure:
    """Scatter plots side by side, coloured by class.

    Args:
        positions: title -> (N, 2).
        labels: (N,) integers.
        classes: name of each class.
        columns: plots in a row.
    """
    labels = _classes_of(labels, classes)
    positions = {str(title): array("positions", xy, 2, "title -> (N, 2)") for title, xy in positions.items()}
    if not positions or any(xy.shape != (len(labels), 2) for xy in positions.values()):
        shapes = [xy.shape for xy in positions.values()]
        raise ValueError(f"positions must be {(len(labels), 2)} for as many labels, one layout or more; got shapes {shapes}")
    figure, axes = panels(len(positions), columns, 1.4, 1.5)
    for ax, (title, xy) in zip(axes, positions.items(), strict=False):
        for c, name in enumerate(classes):
            ax.scatter(*xy[labels == c].T, s=4, color=_color(c), label=name)
        ax.set_title(title, fontsize=9)
        ax.set_axis_off()
    legend_below(figure, axes[0], markerscale=2)
    return figure


@checked
def plot_dynamic_graph(graph: DynamicGraph, labels, classes: Sequence[str], *, layers: Sequence[str] | None = None) -> Figure:
    """Snapshots of a small dynamic graph, nodes around a circle, class by class.

    Dark lines are edges that the snapshot drawn before has too, light ones are new; the width is the edge's weight.

    Args:
        graph: the dynamic graph of a few samples.
        labels: (N,) integers.
        classes: name of each class.
        layers: names of the snapshots to draw; by default all.
    """
    layers = list(graph.layers if layers is None else layers)
    for name in layers:
        one_of("layer", name, graph.layers)
    if not layers:
        raise ValueError("layers must name one layer or more; got none")
    columns = min(len(layers), 2 if len(layers) <= 4 else 4)
    labels = _classes_of(labels, classes)
    check_labels(labels, graph.graphs[0].n)
    angle = np.empty(len(labels))
    angle[np.argsort(labels, kind="stable")] = np.linspace(0, 2 * np.pi, len(labels), endpoint=False)
    xy = np.column_stack([np.cos(angle), np.sin(angle)])
    figure, axes = panels(len(layers), columns, 6.4 / columns, 6.4 / columns)
    before = None
    for ax, name in zip(axes, layers, strict=False):
        a = triu(graph[name].adjacency()).tocoo()
        kept = np.zeros(a.nnz, bool) if before is None else before.tocsr()[a.row, a.col] > 0
        lines = LineCollection(
            xy[np.column_stack([a.row, a.col])], linewidths=0.5 + 2.5 * a.data, colors=np.where(kept, "0.25", "0.75").tolist()
        )
        ax.add_collection(lines)
        for c in np.unique(labels):
            ax.scatter(*xy[labels == c].T, s=70, color=_color(c), zorder=2, edgecolors="white", label=classes[c])
        ax.set_title(f"{name}: Q = {modularity(graph[name], labels):.2f}", fontsize=9)
        ax.set_aspect("equal")
        ax.autoscale_view()
        ax.set_axis_off()
        before = a
    legend_below(figure, axes[0])
    return figure


@checked
def panels(count: int, columns: int = 3, width: float = 2.4, height: float = 2.2, **options) -> tuple[Figure, np.ndarray]:
    """A figure of ``count`` panels of width x height inches, with room for a legend below.

    Args:
        columns: panels in a row; places of the last row that no panel takes stay empty.
        **options: of ``plt.subplots``, such as ``sharey=True``.

    Returns:
        figure, and the (count,) axes.

    >>> figure, axes = panels(5, columns=3)
    >>> len(axes), len(figure.axes)
    (5, 5)
    >>> plt.close(figure)
    """
    count, columns = whole_number("count", count, 1, 1000), min(whole_number("columns", columns, 1), count)
    width, height = number("width", width, 0.1, 100), number("height", height, 0.1, 100)
    rows = -(-count // columns)
    size = (width * columns, height * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    for ax in axes.flat[count:]:
        ax.remove()
    return figure, axes.ravel()[:count]


def by_layer(ax: Axes, title: str = "", ylabel: str = "modularity Q") -> Axes:
    """Axes over layers: whole numbers from 1 on, a light grid, and its titles."""
    ax.set(xlabel="layer", ylabel=ylabel, title=title)
    ax.grid(alpha=0.3)
    ax.locator_params(axis="x", integer=True)
    return ax


def legend_below(figure: Figure, ax: Axes, **options) -> None:
    """One legend for all panels, below them, of what one of the axes shows."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", frameon=False, **{"fontsize": 8, "ncols": 5} | options)


def _classes_of(labels, classes: Sequence[str]) -> np.ndarray:
    """Labels (N,), each of which is the place of a name."""
    labels = array("labels", labels, 1, "(N,), one a sample", "iu")
    if not len(labels) or labels.min() < 0 or labels.max() >= len(classes):
        span = f"{labels.min()} to {labels.max()}" if len(labels) else "none"
        raise ValueError(f"labels must lie in 0..{len(classes) - 1}, the places of the {len(classes)} classes; got {span}")
    return labels


def _color(c: int) -> str:
    return CLASS_COLORS[c % len(CLASS_COLORS)]
