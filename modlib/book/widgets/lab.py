"""The graph laboratory: a graph of a few nodes that the reader changes, with modularity recomputed on the page."""

import networkx as nx
import numpy as np
from scipy.sparse import issparse

from modlib._checks import as_array, checked, one_of
from modlib.book.widgets.base import Widget, still
from modlib.graph import KnnGraph
from modlib.modularity import check_labels, modularity

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # as in kit.js
MOST_NODES = 40  # more are not to be told apart, nor tapped, on a phone


@checked
def graph_lab(graph=None, labels=None, *, start: str = "triangles") -> Widget:
    """A small graph whose edges, weights and communities are changed by hand; Q and its terms (Eq. 1) follow at once.

    Args:
        graph: a graph of yours, to be offered first, N <= 40: networkx graph, :class:`modlib.KnnGraph` or symmetric (N, N)
            adjacency. Weights of parallel edges add up; a loop is the entry a_ii, as :func:`modlib.modularity` reads it.
        labels: (N,) integers, the communities of its nodes.
        start: the graph shown first: ``"triangles"``, ``"perfect"``, ``"random"``, ``"karate"``, ``"ring"``,
            ``"pairs"`` or ``"worst"``; a graph of yours comes before it.

    Returns:
        widget; it computes in the browser and needs no kernel.

    Raises:
        ValueError: for an unknown start, a graph that is too large or without edges, or labels that do not fit it.

    >>> sorted(graph_lab().data["presets"])
    ['karate', 'pairs', 'perfect', 'random', 'ring', 'triangles', 'worst']
    """
    presets = {}
    if graph is not None:
        modularity(graph, labels)  # its sentences for what does not fit
        a = graph.adjacency() if isinstance(graph, KnnGraph) else graph
        a = nx.to_numpy_array(a) if isinstance(a, nx.Graph) else a.toarray() if issparse(a) else as_array(a).astype(float)
        if not 2 <= len(a) <= MOST_NODES:
            raise ValueError(f"graph must have 2..{MOST_NODES} nodes to be changed by hand; got {len(a)}")
        presets["yours"] = _preset("Your graph", "", nx.from_numpy_array(a), labels)
    presets |= {name: _preset(*row) for name, row in _presets().items()}
    start = "yours" if one_of("start", start, presets) and graph is not None else start
    first = presets[start]
    xy, groups = np.array(first["at"]), np.array(first["groups"])
    a = np.zeros((len(xy), len(xy)))
    for i, j, w in first["edges"]:
        a[i, j] = a[j, i] = w
    q = modularity(a, groups)
    words = (
        f"A graph of {len(xy)} nodes, {first['title'].lower()}, whose edges, weights and communities can be "
        f"changed, with its modularity, here Q = {q:.3f}, and each term of the sum."
    )
    figure, ax = still(f"{first['title']}: Q = {q:.3f}", (5, 4))
    for i, j, w in first["edges"]:
        look = {"color": "0.35", "linestyle": "-"} if groups[i] == groups[j] else {"color": "0.6", "linestyle": "--"}
        ax.plot(*xy[[i, j]].T, lw=0.6 + w, zorder=1, **look)
    for c in np.unique(groups):
        mark = {"s": 260, "color": COLORS[c % 6], "marker": "osD^vh"[(c + c // 6) % 6], "edgecolors": "white"}
        ax.scatter(*xy[groups == c].T, **mark, zorder=2)
    for i, place in enumerate(xy):
        ax.text(*place, str(i), ha="center", va="center", color="white" if groups[i] % 6 == 0 else "black", fontsize=8, zorder=3)
    ax.set(aspect="equal", xmargin=0.1, ymargin=0.1)
    setting = {"graph": start, "edges": "", "groups": "", "from": "", "to": ""}
    return Widget("graph-lab", __file__, {"presets": presets}, setting, words, figure)


def _presets() -> dict[str, tuple]:
    """Title, words, graph, communities and places of the nodes, and the pair of nodes first chosen."""
    triangles = nx.Graph([(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (4, 5)])
    where = {0: (-2, 0.9), 1: (-2, -0.9), 2: (-0.6, 0), 3: (0.6, 0), 4: (2, 0.9), 5: (2, -0.9)}
    thirds, tenths = np.repeat([0, 1, 2], 4), np.arange(30) // 3
    perfect, random = nx.disjoint_union_all([nx.complete_graph(4)] * 3), nx.gnm_random_graph(12, 18, seed=4)
    club, ring, worst = nx.karate_club_graph(), nx.ring_of_cliques(10, 3), nx.complete_bipartite_graph(5, 5)
    factions = [int(club.nodes[i]["club"] != "Mr. Hi") for i in club]
    facing = {i: (i // 5 * 1.4, -(i % 5) * 0.5) for i in range(10)}
    return {
        "triangles": ("Two triangles", "The graph from the beginning of the chapter. Q = 5/14.",
                      triangles, [0, 0, 0, 1, 1, 1], where, (2, 3)),
        "perfect": ("Perfect communities", "Every edge lies inside: Q reaches its ceiling, 1 − 1/3.",
                    perfect, thirds, _rosette(thirds), (3, 4)),
        "random": ("Random edges", "18 edges drawn by lot between 12 nodes: Q is near zero.",
                   random, thirds, _rosette(thirds), (0, 4)),
        "karate": ("Karate club", "34 members and the two factions into which the club split.",
                   club, factions, nx.kamada_kawai_layout(club, weight=None), (0, 33)),
        "ring": ("Ring of cliques", "Ten triangles in a ring, one community each. Now take “Ring of cliques, in pairs”.",
                 ring, tenths, _rosette(tenths), (0, 28)),
        "pairs": ("Ring of cliques, in pairs", "The same graph, each two neighbouring triangles one community: Q is higher.",
                  ring, tenths // 2, _rosette(tenths), (0, 28)),
        "worst": ("As bad as it gets", "Every edge runs between the two communities: Q = −1/2, the floor.",
                  worst, np.repeat([0, 1], 5), facing, (0, 5)),
    }  # fmt: skip


def _rosette(groups: np.ndarray) -> dict[int, tuple[float, float]]:
    """Positions on small circles, one a community, around a large one."""
    count, places = groups.max() + 1, {}
    small = 0.45 if count < 5 else 0.24
    for c in range(count):
        members, middle = np.flatnonzero(groups == c), 2 * np.pi * c / count + np.pi / 2
        turn = middle + np.pi + 2 * np.pi * (np.arange(len(members)) + 0.5) / len(members)
        xy = np.array([np.cos(middle), np.sin(middle)]) + small * np.column_stack([np.cos(turn), np.sin(turn)])
        places.update(zip(members.tolist(), map(tuple, xy), strict=True))
    return places


def _preset(title: str, about: str, graph: nx.Graph, groups, places: dict | None = None, pair=(0, 1)) -> dict:
    """A graph as the page reads it: positions in the unit square, edges as (i, j, weight) with i < j."""
    place = {name: i for i, name in enumerate(graph)}
    groups = np.unique(check_labels(groups, len(place)), return_inverse=True)[1]
    places = places or nx.spring_layout(graph, seed=0)
    xy = np.array([places[name] for name in place], float)
    xy = (xy - (xy.min(0) + xy.max(0)) / 2) / (np.ptp(xy, 0).max() or 1) + 0.5
    lines = [(*sorted((place[i], place[j])), float(w)) for i, j, w in graph.edges(data="weight", default=1)]
    return {
        "title": title, "about": about, "edges": [list(line) for line in sorted(lines)],
        "groups": groups.tolist(), "at": xy.round(3).tolist(), "pair": list(pair),
    }  # fmt: skip
