"""Second implementations, as plain as they can be: the definitions, in float64, node by node."""

import numpy as np


def cosine(features) -> np.ndarray:
    """All similarities r_j . r_k / (|r_j| |r_k|)."""
    x = np.asarray(features, np.float64)
    lengths = np.sqrt((x * x).sum(1))
    return x @ x.T / np.outer(lengths, lengths)


def nearest(features, k: int) -> tuple[list[list[int]], np.ndarray]:
    """Each node's k most similar others, ties to the lower index, and the weights of the edges to them."""
    s = cosine(features)
    nodes = range(len(s))
    neighbors = [sorted((j for j in nodes if j != i), key=lambda j: (-s[i, j], j))[:k] for i in nodes]
    return neighbors, np.array([[max(s[i, j], 0) for j in row] for i, row in enumerate(neighbors)])


def directed(features, k: int) -> np.ndarray:
    """D, dense (N, N): row i holds the out-edges of node i."""
    neighbors, weights = nearest(features, k)
    d = np.zeros((len(weights),) * 2)
    for i, row in enumerate(neighbors):
        d[i, row] = weights[i]
    return d


def modularity(a, labels) -> float:
    """Eq. 1 as it stands, with 2W the sum of the whole symmetric matrix."""
    total, strength = a.sum(), a.sum(1)
    return (
        sum(a[i, j] - strength[i] * strength[j] / total for i in range(len(a)) for j in range(len(a)) if labels[i] == labels[j])
        / total
    )
