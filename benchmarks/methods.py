"""Other ways to Q of one layer's features, for comparison; each takes float32 features (N, M), labels and k."""

import networkx as nx
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors
from sknetwork.clustering import get_modularity

import modlib


def ours(x: torch.Tensor, y, k: int, **options) -> float:
    return modlib.modularity(modlib.knn_graph(x, k, **options), y)


def straightforward(x: torch.Tensor, y, k: int) -> float:
    """As one writes it down: normalise, full product, pick the k largest of each row, dense adjacency, networkx."""
    unit = x / x.norm(dim=1, keepdim=True)
    similar = (unit @ unit.T).numpy()
    np.fill_diagonal(similar, -np.inf)
    directed = np.zeros_like(similar)
    for i, row in enumerate(similar):
        for j in sorted(range(len(row)), key=row.__getitem__, reverse=True)[:k]:
            directed[i, j] = max(row[j], 0)
    return _networkx((directed + directed.T) / 2, y)


def _networkx(adjacency, y) -> float:
    graph = nx.from_numpy_array(adjacency)
    return nx.community.modularity(graph, [np.flatnonzero(y == c).tolist() for c in np.unique(y)])


def scikit(x: torch.Tensor, y, k: int) -> float:
    """scikit-learn's brute-force search and scikit-network's modularity."""
    search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(x.numpy())
    distance, index = search.kneighbors()
    return get_modularity(sp.csr_matrix(_symmetric(1 - distance, index)), y)


def igraph(x: torch.Tensor, y, k: int) -> float:
    """Our search and igraph's modularity."""
    from igraph import Graph

    a = sp.triu(modlib.knn_graph(x, k).adjacency()).tocoo()
    graph = Graph(n=len(y), edges=np.column_stack([a.row, a.col]))
    return graph.modularity(list(map(int, y)), weights=a.data)


def faiss(x: torch.Tensor, y, k: int) -> float:
    """The exact inner-product search of faiss on unit vectors, and our modularity."""
    import faiss

    unit = np.ascontiguousarray(x / x.norm(dim=1, keepdim=True))
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    similar, found = index.search(unit, k + 1)
    other = found != np.arange(len(found))[:, None]
    other[other.all(1), -1] = False
    return modlib.modularity(_symmetric(similar[other].reshape(-1, k), found[other].reshape(-1, k)), y)


def _symmetric(weights, index) -> sp.csr_array:
    n, k = index.shape
    directed = sp.csr_array((np.maximum(weights, 0).ravel(), index.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return (directed + directed.T) / 2


OTHERS = {"straightforward": straightforward, "scikit-learn and scikit-network": scikit, "igraph": igraph, "faiss": faiss}
