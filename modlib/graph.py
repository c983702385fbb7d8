"""The k-NN graph of one layer (Eq. 3 of the paper) and the dynamic graph of all layers (Section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from modlib._checks import unknown, whole_number
from modlib.features import iter_features

PANEL_BYTES = 256 * 2**20  # similarities held at a time: bounds the memory, does not change the result

TRIANGLE_ROWS = 128  # rows of one product: enough for it to run at full speed


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
        d = sp.csr_array(
            (self.weights.ravel().astype(np.float64), self.neighbors.flatten(), pointers), shape=(self.n, self.n)
        )
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


@dataclass(frozen=True, eq=False)
class DynamicGraph:
    """The snapshots G_1 ... G_L of one dynamic graph: the same N samples, one k-NN graph a layer.

    Attributes:
        layers: names of the L layers, first layer first.
        graphs: their L graphs.
    """

    layers: tuple[str, ...]
    graphs: tuple[KnnGraph, ...]

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, layer: int | str) -> KnnGraph:
        if isinstance(layer, str):
            if layer not in self.layers:
                raise unknown("layer", layer, self.layers)
            layer = self.layers.index(layer)
        return self.graphs[layer]

    def nearest(self, k: int) -> "DynamicGraph":
        """Every snapshot with only its k nearest neighbours a node."""
        return DynamicGraph(self.layers, tuple(graph.nearest(k) for graph in self.graphs))

    def persistence(self) -> np.ndarray:
        """(L - 1,): the share of each snapshot's directed edges that the next snapshot keeps (0 if it has none)."""
        edges = [graph.directed().astype(bool) for graph in self.graphs]
        return np.array([a.multiply(b).sum() / max(a.sum(), 1) for a, b in zip(edges, edges[1:], strict=False)])


@torch.no_grad()
def knn_graph(features, k: int = 3) -> KnnGraph:
    """The cosine k-NN graph of N feature vectors (Eq. 3).

    Each node points to its k most similar others, itself excluded; the weight of the edge is the cosine similarity
    r_j . r_k / (|r_j| |r_k|). Equal similarities go to the lower index; non-positive ones make no edge (weight 0).

    Args:
        features: (N, M) array or tensor, N >= 2 samples of M numbers each; searched on the device it lies on, in
            float32 (float64 where the features are float64).
        k: neighbours of each node, 1 <= k < N.

    Returns:
        KnnGraph with ``neighbors`` and ``weights`` of shape (N, k), on the host.

    Raises:
        ValueError: if ``features`` is not a matrix of at least two rows, holds NaN or infinity or a row of zeros, or
            ``k`` is out of range.

    >>> knn_graph([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], k=1).neighbors.tolist()
    [[1], [0], [1]]
    """
    x = features if isinstance(features, torch.Tensor) else torch.from_numpy(np.require(features, requirements="CW"))
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"features must be a matrix (N, M) of N samples; got shape {tuple(x.shape)}. Flatten each sample")
    n = len(x)
    k = _check_k(k, n, "features")
    if x.dtype != torch.float64:
        x = x.float()
    norms = _norms(x)
    if norms.dtype != x.dtype:  # lengths that float32 products would not survive: make every row a unit vector first
        x, norms = (x / norms[:, None]).to(x.dtype), torch.ones(n, dtype=x.dtype, device=x.device)

    neighbors = np.empty((n, k), np.int64)
    weights = np.empty((n, k), np.float64 if x.dtype == torch.float64 else np.float32)
    rows = max(1, PANEL_BYTES // (n * x.element_size()))
    for start in range(0, n, rows):
        part = slice(start, min(start + rows, n))
        panel = _products(x, part)
        panel /= norms[part, None]
        panel /= norms
        panel[:, part].fill_diagonal_(-torch.inf)  # S_jj: never its own neighbour
        values, index = _top_k(panel, k)
        neighbors[part] = index.cpu().numpy()
        weights[part] = values.clamp_(0, 1).cpu().numpy()  # rounding may pass 1 by an ulp
    return KnnGraph(neighbors, weights)


def _check_k(k: int, n: int, of: str) -> int:
    """k as an int that n samples allow, or a sentence; ``of`` names the argument that holds the samples."""
    if n < 2:
        raise ValueError(f"{of} must hold at least two samples to have neighbours; got N={n}")
    return whole_number("k", k, 1, n - 1, f"for N={n} samples")


def _norms(x: torch.Tensor) -> torch.Tensor:
    """Row lengths; in float64 where some are so long or short that float32 cannot square them. Refuses rows that have
    no direction."""
    norms = torch.linalg.vector_norm(x, dim=1)
    if x.dtype == torch.float32 and not ((norms > 1e-15) & (norms < 1e15)).all():
        norms = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    if not torch.isfinite(norms).all():
        row = int((~torch.isfinite(norms)).nonzero()[0])
        came = x[row][~torch.isfinite(x[row])]
        raise ValueError(
            f"features must be finite; row {row} holds {came[0].item() if len(came) else 'numbers too large to square'}. "
            "Check the model's weights and its input"
        )
    if not norms.all():
        raise ValueError(
            f"features row {int((norms == 0).nonzero()[0])} is all zeros, and a zero vector has no cosine similarity. "
            "Leave the sample out, or tap the layer before its ReLU"
        )
    return norms


def _products(x: torch.Tensor, part: slice) -> torch.Tensor:
    """x[part] @ x.T. Of the whole, only the upper triangle is multiplied and the lower one mirrored: half the work."""
    n = len(x)
    if part.stop - part.start < n:
        return x[part] @ x.T
    whole = x.new_empty(n, n)
    for start in range(0, n, TRIANGLE_ROWS):
        stop = min(start + TRIANGLE_ROWS, n)
        block = x[start:stop] @ x[start:].T
        whole[start:stop, start:] = block
        whole[stop:, start:stop] = block[:, stop - start :].T
    return whole


def _top_k(panel: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of each row, largest first, equal ones by the lower index. (topk leaves the order of ties open.)"""
    values, index = panel.topk(k + 1)
    torn = (values[:, k - 1] == values[:, k]).nonzero()[:, 0]  # ties across the k-th place: sort those rows in full
    values, index = values[:, :k], index[:, :k]
    if len(torn):
        full = panel[torn].sort(dim=1, descending=True, stable=True)
        values[torn], index[torn] = full.values[:, :k], full.indices[:, :k]
    index, order = index.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, index.gather(1, order)


def dynamic_graph(model, x, k: int = 3, layers: Sequence[str] | None = None, **options) -> DynamicGraph:
    """The dynamic graph of images in a network: one k-NN graph a layer (Section 3.2 of the paper).

    Args:
        model: any ``torch.nn.Module``.
        x: (N, 3, H, W) images, uint8 or float in [0, 1].
        k: neighbours of each node.
        layers: names of modules; by default :func:`modlib.layer_names` of the model.
        **options: of :func:`modlib.iter_features` (``batch_size``, ``memory``, ``progress``).

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=50)
    >>> len(dynamic_graph(modlib.load_model("resnet20"), images.x))
    10
    """
    k = _check_k(k, len(x), "x")  # before the model runs
    names, graphs = [], []
    for name, features in iter_features(model, x, layers, **options):
        try:
            graphs.append(knn_graph(features, k))
        except ValueError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
        names.append(name)
    return DynamicGraph(tuple(names), tuple(graphs))
