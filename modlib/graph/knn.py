"""The k-NN graph of one layer (Eq. 3 of the paper)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from modlib._checks import as_array, check_seed, checked, one_of, whole_number
from modlib._tensors import as_tensor
from modlib.graph.neighbours import descend, nearest, sketched


@checked
@dataclass(frozen=True, eq=False)
class KnnGraph:
    """A weighted k-nearest-neighbour graph of N nodes, as every node's list of out-edges.

    Attributes:
        neighbors: int64 (N, k), the k most similar other nodes of each node, most similar first; equal similarities
            in order of index.
        weights: float (N, k), their cosine similarities in [0, 1]. A similarity of zero or below makes no edge:
            its weight is 0.
    """

    neighbors: np.ndarray
    weights: np.ndarray

    def __post_init__(self):
        neighbors, weights = self.neighbors, self.weights
        if neighbors.ndim != 2 or not neighbors.size or neighbors.shape != weights.shape or neighbors.dtype.kind not in "iu":
            got = f"shapes {neighbors.shape} and {weights.shape}"
            raise ValueError(f"neighbors must be whole numbers (N, k), and weights as many numbers; got {got}")
        if not 0 <= neighbors.min() <= neighbors.max() < len(neighbors):
            raise ValueError(f"neighbors must lie in 0..{len(neighbors) - 1}; got {neighbors.min()} to {neighbors.max()}")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError("weights must be finite numbers >= 0; a similarity of zero or below makes no edge: its weight is 0")
        for name in ("neighbors", "weights"):  # as they were checked, they stay
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def n(self) -> int:
        """Number of nodes N."""
        return len(self.neighbors)

    @property
    def k(self) -> int:
        """Number of neighbours of each node."""
        return self.neighbors.shape[1]

    def nearest(self, k: int) -> "KnnGraph":
        """The same graph with only the k nearest neighbours of each node: one search serves every smaller k."""
        k = whole_number("k", k, 1, self.k, f"for a graph with {self.k} neighbours a node; build it with a larger k")
        return KnnGraph(self.neighbors[:, :k], self.weights[:, :k])

    def directed(self) -> sp.csr_array:
        """D, (N, N) sparse float64: row i holds the out-edges of node i."""
        pointers = np.arange(0, self.n * self.k + 1, self.k)
        d = sp.csr_array((self.weights.ravel().astype(np.float64), self.neighbors.flatten(), pointers), shape=(self.n, self.n))
        d.eliminate_zeros()  # in place: flatten() has made a copy
        return d

    def adjacency(self) -> sp.csr_array:
        """A = (D + D^T) / 2, (N, N) sparse float64: mutual edges weigh s, one-way edges s / 2.

        >>> knn_graph([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], k=1).adjacency().toarray().round(3)
        array([[0.   , 0.995, 0.   ],
               [0.995, 0.   , 0.05 ],
               [0.   , 0.05 , 0.   ]])
        """
        d = self.directed()
        return ((d + d.T) / 2).tocsr()


def knn_graph(
    features, k: int = 3, *, sketch: int | None = None, search: str = "exact", seed: int = 0, dead: str = "refuse"
) -> KnnGraph:
    """The cosine k-NN graph of N feature vectors (Eq. 3).

    Each node points to its k most similar others, itself excluded; the weight of the edge is the cosine similarity
    ``r_j . r_k / (|r_j| |r_k|)``. Similarities that differ by less than 1e-12 are equal and go to the lower index;
    non-positive ones make no edge (weight 0).

    The search is exact: it multiplies in float32 and decides in float64 what float32 leaves in doubt, so that the
    neighbours do not depend on the device, the number of threads or how the work is divided; weights do by up to 2e-6.

    Args:
        features: (N, M) array or tensor, N >= 2 samples of M numbers each; searched on the device it lies on, in
            float32 (float64 where the features are float64).
        k: neighbours of each node, 1 <= k < N.
        sketch: an approximation: project the features at random onto so many numbers first. A similarity r is then
            estimated, with a standard deviation of about (1 - r^2) / sqrt(sketch). It takes one gathered addition a
            feature, about as long as a hundred multiply-adds, and saves N/2 (1 - sketch/M) multiply-adds a feature: it
            pays from N of a few hundred where M is several times the sketch.
        search: ``"exact"``, whose time grows with N^2 M; or ``"pynndescent"``, which finds most of the nearest
            neighbours in time nearly proportional to N M, for N beyond 100,000 (on the CPU; needs that package).
        seed: of the sketch and of pynndescent.
        dead: what becomes of samples whose features are all zero, as behind a dead ReLU: ``"refuse"`` them, or
            ``"isolate"`` them: they are similar to nothing, so they have no edges.

    Returns:
        KnnGraph with ``neighbors`` and ``weights`` of shape (N, k), on the host.

    Raises:
        ValueError: if ``features`` is not a matrix of at least two rows, holds NaN or infinity or (but for ``"isolate"``) a
            row of zeros, or ``k`` is out of range; for an unknown search.

    >>> knn_graph([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], k=1).neighbors.tolist()
    [[1], [0], [1]]
    """
    return knn_graphs(features, k, None, sketch=sketch, search=search, seed=seed, dead=dead)[0]


@checked
@torch.no_grad()
def knn_graphs(
    features, k: int, samples: Sequence | None, *, sketch: int | None = None, search: str = "exact", seed: int = 0,
    dead: str = "refuse",
) -> list[KnnGraph]:  # fmt: skip
    """The graphs of several samples of the same feature vectors, which may overlap.

    Where they overlap much, as draws and nested samples do, all pairs of vectors are multiplied once for all of them.

    Args:
        features, k, sketch, search, seed, dead: of :func:`modlib.knn_graph`; features in float16 are stored as they are and
            multiplied in float32.
        samples: indices of feature vectors, an array of rising integers each; None is one sample of all.

    Returns:
        one KnnGraph a sample, whose nodes are counted within the sample.

    Raises:
        ValueError: as :func:`modlib.knn_graph`, and for samples that do not rise or leave 0 .. N - 1.

    >>> halves = knn_graphs([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]], 1, [[0, 1], [2, 3]])
    >>> [graph.neighbors.tolist() for graph in halves]
    [[[1], [0]], [[1], [0]]]
    """
    x = as_tensor(features, "features")
    if x.is_complex():
        raise ValueError("features must be real numbers; got complex ones. Give their parts: torch.view_as_real(x).flatten(1)")
    check_search(sketch, search, seed, dead)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"features must be a matrix (N, M) of N samples; got shape {tuple(x.shape)}. Flatten each sample")
    samples = check_samples(samples, len(x))
    k = check_k(k, min(map(len, samples)), "features")
    if x.dtype not in (torch.float64, torch.float16):
        x = x.float()
    if sketch is not None:
        x = sketched(x, sketch, seed)
    zero = ~(x != 0).any(1) if dead == "isolate" else x.new_zeros(len(x), dtype=torch.bool)
    if zero.any():
        x = torch.cat([x, zero[:, None].to(x.dtype)], 1)  # a direction of their own, at right angles to all others
    found = nearest(x, k, samples) if search == "exact" else [descend(x[sample], k, seed) for sample in samples]
    found = [(neighbors.cpu().numpy(), weights.clamp(0, 1).cpu().numpy()) for weights, neighbors in found]
    for (neighbors, weights), sample in zip(found, samples, strict=True):
        for i in np.flatnonzero(zero.cpu().numpy()[sample]):
            neighbors[i], weights[i] = np.delete(np.arange(min(k + 1, len(sample))), i if i <= k else k), 0
    return [KnnGraph(*each) for each in found]  # (Rounding may pass 1 by an ulp: hence the clamp.)


def check_search(sketch: int | None, search: str, seed: int, dead: str) -> None:
    """Refuse what :func:`knn_graph` cannot do, before features are computed for it."""
    one_of("treatment of dead samples (dead)", dead, ("refuse", "isolate"))
    one_of("search", search, ("exact", "pynndescent"))
    check_seed(seed), whole_number("sketch", 1 if sketch is None else sketch, 1)


def check_samples(samples: Sequence | None, n: int) -> list[np.ndarray]:
    """Rising int64 indices of n vectors; all of them without samples."""
    if samples is None:
        return [np.arange(n)]
    checked = []
    for i, sample in enumerate(samples):
        sample = as_array(sample)
        if sample.ndim != 1 or not np.issubdtype(sample.dtype, np.integer) or (np.diff(sample) <= 0).any():
            raise ValueError(f"samples must be arrays of rising integers; samples[{i}] is not. Sort it: np.unique(sample)")
        if len(sample) and not 0 <= sample[0] <= sample[-1] < n:
            raise ValueError(f"samples must lie in 0..{n - 1}; samples[{i}] goes from {sample[0]} to {sample[-1]}")
        checked.append(sample.astype(np.int64))
    if not checked:
        raise ValueError("samples must hold at least one array of indices; got none. None stands for one sample of all")
    return checked


def check_k(k: int, n: int, of: str) -> int:
    """k as an int that n samples allow, or a sentence; ``of`` names the argument that holds the samples."""
    if n < 2:
        raise ValueError(f"{of} must hold at least two samples to have neighbours; got N={n}")
    return whole_number("k", k, 1, n - 1, f"for N={n} samples")
