"""Modularity Q of a graph under labels (Eq. 1 of the paper, in Newman's standard normalisation)."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch

from modlib._checks import as_array, check_seed, checked, number, shown
from modlib.graph import DynamicGraph, KnnGraph

IDS = 10_000  # labels from here on (and from N on) are names of classes, not numbers: they are numbered in their order

NO_EDGES = "graph has no edges: no similarity between any two samples is positive, so Q is undefined"


@checked
def modularity(graph, labels, *, per_class: bool = False) -> float | np.ndarray:
    """How much heavier the edges inside the classes are than chance would have them.

    Q = 1/2W sum_ij (a_ij - s_i s_j / 2W) delta(c_i, c_j), with 2W = sum_ij a_ij and s_i = sum_j a_ij. From directed
    weights d with A = (D + D^T)/2 no adjacency matrix is needed: 2W = sum d, s_i = (out_i + in_i)/2 and

        Q = sum_c [ (sum of d inside class c) / 2W - (S_c / 2W)^2 ],    S_c = sum of s_i in class c.

    O(N k) time and memory, in float64. Q lies in [-1/2, 1 - sum_c (S_c/2W)^2], so at most 1 - 1/C for C classes.
    The paper prints W as the sum over all pairs and divides by 2W, which would halve the first term and quarter the
    second; its figures follow the standard form.

    Args:
        graph: a :class:`KnnGraph`, a symmetric, non-negative (N, N) adjacency, dense or scipy.sparse, an undirected graph of
            networkx, or a :class:`DynamicGraph` of L snapshots. As in networkx, a loop of its graphs counts twice in
            the strength of its node; in a matrix a_ii is what it is.
        labels: (N,) integers >= 0 of at least two classes, or their names (text), which are numbered in alphabetical order.
            For a graph of networkx in the order of ``graph.nodes``, or a mapping node -> label.
        per_class: give the C = max(labels) + 1 terms of the sum instead of their sum. (Where max(labels) is at least N and
            10,000, labels are ids with gaps: C is then the number of classes there are, in rising order of their ids.)

    Returns:
        float, or (C,) float64 array that sums to it; (L,) or (L, C) for a dynamic graph.

    Raises:
        ValueError: for labels of another length, non-integer or negative ones or fewer than two classes, an
            adjacency that is not square, symmetric, finite and non-negative, and a graph without edges.

    >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    >>> modularity(two_pairs, [0, 0, 1, 1])
    0.5
    >>> modularity(two_pairs, [0, 1, 0, 1], per_class=True)
    array([-0.25, -0.25])
    """
    if isinstance(graph, DynamicGraph):
        return np.array([modularity(snapshot, labels, per_class=per_class) for snapshot in graph.graphs])
    source, target, weight, n = edges(graph)
    if isinstance(labels, Mapping) and hasattr(graph, "nodes"):
        if missing := [node for node in graph.nodes if node not in labels]:
            raise ValueError(f"labels must name the class of every node of the graph; that of {shown(missing[0])} is missing")
        labels = [labels[node] for node in graph.nodes]
    labels = check_labels(labels, n)
    classes = labels.max() + 1
    total = weight.sum()
    if not total > 0:
        raise ValueError(NO_EDGES)

    strength = (np.bincount(source, weight, n) + np.bincount(target, weight, n)) / 2
    inside = labels[source] == labels[target]
    within = np.bincount(labels[source[inside]], weight[inside], classes) / total
    terms = within - (np.bincount(labels, strength, classes) / total) ** 2
    return terms if per_class else float(terms.sum())


def communities(graph, *, resolution: float = 1.0, seed: int = 0) -> np.ndarray:
    """Communities that the graph has by itself, without labels: those that the Louvain method finds.

    Louvain (Blondel et al., 2008; networkx) moves nodes and then whole communities as long as Q grows. What it finds is good,
    not the best (which no known method finds in reasonable time), and depends on the order of the nodes, hence on ``seed``.
    Compare Q under labels with Q under these communities, and the two partitions with each other.

    Args:
        graph: what :func:`modlib.modularity` takes.
        resolution: above 1 finds smaller communities, below 1 larger ones; Q itself is that of 1.
        seed: of the order in which nodes are visited.

    Returns:
        (N,) int64: the number of each sample's community, the largest 0; (L, N) for a dynamic graph of L layers.

    Raises:
        ValueError: for a graph without edges, and as :func:`modlib.modularity` does; for a resolution that is not above 0.

    >>> communities(np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]))
    array([0, 0, 1, 1])
    """
    import networkx

    if isinstance(graph, DynamicGraph):
        return np.array([communities(snapshot, resolution=resolution, seed=seed) for snapshot in graph.graphs])
    if number("resolution", resolution) == 0:
        raise ValueError("resolution must be above 0; got resolution=0")
    seed = check_seed(seed)
    source, target, weight, n = edges(graph)
    if not weight.sum() > 0:
        raise ValueError(NO_EDGES)
    a = sp.coo_array((weight, (source, target)), shape=(n, n)).tocsr()
    undirected = (a + a.T) / 2
    undirected.setdiag(undirected.diagonal() / 2)  # which networkx counts twice
    undirected.eliminate_zeros()
    undirected = networkx.from_scipy_sparse_array(undirected)
    found = networkx.community.louvain_communities(undirected, resolution=resolution, seed=seed)
    numbers = np.empty(n, np.int64)
    for i, members in enumerate(sorted(found, key=lambda members: (-len(members), min(members)))):
        numbers[list(members)] = i
    return numbers


def check_labels(labels, n: int) -> np.ndarray:
    """``labels`` as int64 (n,), or a ValueError that says what is wrong with them."""
    y = as_array(labels)
    if y.shape != (n,):
        came = f"shape {y.shape}" if y.dtype != object else shown(labels)
        way = ". Of a one-hot array, take argmax(1)" if y.ndim == 2 else ""
        raise ValueError(f"labels must be one integer a sample, shape ({n},); got {came}{way}")
    if n == 0:
        raise ValueError("labels must name at least two classes; there are no samples")
    if y.dtype.kind in "US" or y.dtype == object and all(isinstance(label, str) for label in y):
        y = np.unique(y.astype(str) if y.dtype == object else y, return_inverse=True)[1]
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"labels must be integers; got dtype {y.dtype}. Number the classes from 0")
    if y.min() < 0:
        raise ValueError(f"labels must be >= 0; got {y.min()} at index {y.argmin()}. Number the classes from 0")
    if y.min() == y.max():
        raise ValueError(f"labels must name at least two classes; all {n} samples are of class {y[0]}")
    return np.unique(y, return_inverse=True)[1] if y.max() >= max(n, IDS) else y.astype(np.int64)


def edges(graph) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Source, target and float64 weight, up to a common factor, of every directed edge; and the number of nodes."""
    if isinstance(graph, KnnGraph):
        weights = graph.weights.ravel().astype(float)
        return np.repeat(np.arange(graph.n), graph.k), graph.neighbors.ravel(), _scaled(weights), graph.n
    if any(each.__module__.startswith("networkx.") for each in type(graph).__mro__):
        graph = _of_networkx(graph)
    try:
        matrix = graph if sp.issparse(graph) else as_array(graph)
        if matrix.dtype.kind == "c":
            raise TypeError
        a = sp.coo_array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        came = type(graph).__name__ + (
            " that is sparse. See to_dense()" if getattr(graph, "layout", torch.strided) != torch.strided else ""
        )
        raise ValueError(f"graph must be a KnnGraph or an (N, N) adjacency matrix; got {came}") from None
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"graph must be a square (N, N) adjacency matrix; got shape {a.shape}")
    if not np.isfinite(a.data).all() or (a.data < 0).any():
        raise ValueError("graph must have finite weights >= 0; modularity of signed graphs is another quantity")
    if abs(a - a.T).max() > 1e-9 * a.data.max(initial=0):
        raise ValueError("graph must be symmetric; for a directed adjacency D pass (D + D.T) / 2")
    return a.row, a.col, _scaled(a.data), a.shape[0]


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Q does not see a common factor; a power of two, exact, keeps sums of the largest floats finite."""
    return np.ldexp(weights, -np.frexp(weights.max(initial=0))[1])


def _of_networkx(graph) -> sp.sparray:
    """The adjacency, in which parallel edges add up and loops count twice, as in networkx."""
    import networkx

    if not len(graph):
        raise ValueError("graph must have nodes; it has none")
    try:
        a = networkx.to_scipy_sparse_array(graph, dtype=float, format="csr")
    except (TypeError, ValueError) as error:
        raise ValueError(f"graph must have numbers as its weights ({error})") from None
    return a + sp.diags_array(a.diagonal())
