"""How alike two layers are, of one network or of two, as matrices: difference of modularity (Section 5.1 of the paper),
linear CKA, edges that their graphs share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from modlib._checks import array, checked, shown, size_in_bytes, whole_number
from modlib._tensors import as_tensor, full_precision
from modlib.features import iter_features, layers_of
from modlib.graph import DynamicGraph
from modlib.models.inputs import as_inputs, rows_of, samples
from modlib.modularity import check_labels

COLUMNS = 2**14  # features centred at a time: bounds the memory, and the sums between are in float64


def modularity_difference(q, other=None) -> np.ndarray:
    """``D_ij = |Q_i - Q_j|``: how much further apart the classes lie in one layer than in another.

    Args:
        q: (L,) modularities, such as ``curve.q`` or the ``mean`` of :class:`modlib.CurveDraws`.
        other: (L',) those of another network on the same images, to compare with; by default ``q`` itself.

    Returns:
        (L, L') float64, without the features of any layer; of a network with itself symmetric, zero on the diagonal.

    Raises:
        ValueError: if ``q`` or ``other`` is not a row of finite numbers.

    >>> modularity_difference([0.1, 0.3, 0.8]).round(2)
    array([[0. , 0.2, 0.7],
           [0.2, 0. , 0.5],
           [0.7, 0.5, 0. ]])
    """
    rows = []
    for name, each in {"q": q, "other": q if other is None else other}.items():
        rows.append(array(name, each, 1, "(L,) modularities (of draws, their mean)").astype(float))
        if not len(rows[-1]):
            raise ValueError(f"{name} must hold the modularity of a layer or more; got none")
    return np.abs(np.subtract.outer(*rows))


@checked
def shared_edges(graph: DynamicGraph, y=None, other: DynamicGraph | None = None) -> np.ndarray:
    """How many directed edges every two snapshots have in common.

    Args:
        graph: the snapshots of L layers.
        y: (N,) integer labels; with them, only edges inside a class count.
        other: those of another network on the same N images, to compare with; by default ``graph`` itself.

    Returns:
        (L, L') integers; of a graph with itself symmetric, with the edges of each snapshot on the diagonal.

    >>> from modlib.graph import knn_graph
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.1, 1.0], [0.0, 1.0]])
    >>> two = DynamicGraph(("a", "b"), (knn_graph(x, k=1), knn_graph(x[[0, 2, 1, 3]], k=1)))
    >>> shared_edges(two).tolist(), shared_edges(two, [0, 0, 1, 1])[0, 0].item()
    ([[4, 0], [0, 4]], 4)
    """
    snapshots = graph.graphs + (() if other is None else other.graphs)
    if len({snapshot.n for snapshot in snapshots}) > 1:
        raise ValueError(f"other must be of the same images; got N={other[0].n} beside N={graph[0].n}")
    keys = []
    for snapshot in snapshots:
        ends = np.arange(snapshot.n)[:, None], snapshot.neighbors
        real = snapshot.weights > 0
        if y is not None:
            y = check_labels(y, snapshot.n)
            real = real & (y[ends[0]] == y[ends[1]])
        keys.append((ends[0] * snapshot.n + ends[1])[real])
    edges, place = np.unique(np.concatenate(keys), return_inverse=True)
    layer = np.repeat(np.arange(len(keys)), [len(each) for each in keys])
    has = sp.csr_array((np.ones(len(place), np.int64), (layer, place)), shape=(len(keys), len(edges)))
    first = len(graph)
    return (has[:first] @ has[0 if other is None else first :].T).toarray()


@checked
def linear_cka(
    model: nn.Module,
    x,
    layers: Sequence[str] | str | None = None,
    *,
    other: nn.Module | None = None,
    minibatch: int | None = None,
    memory: int | str = "4GiB",
    **options,
) -> np.ndarray:
    """Linear centred kernel alignment (Kornblith et al. 2019) between all pairs of layers, of one network or of two.

    With the linear kernels K_i = X_i X_i^T of features X_i (N, M_i), whose HSIC is an inner product of two (N, N)
    matrices, each layer's features are seen once and forgotten:

        CKA_ij = HSIC(K_i, K_j) / sqrt(HSIC(K_i, K_i) HSIC(K_j, K_j)).

    In full, HSIC(K, K') = <HKH, HK'H> with H = I - 11^T/N, exactly; it is biased upwards where N is small beside M.
    By minibatches (Nguyen et al. 2021, Eqs. 2 and 3), each HSIC is the mean over batches of the unbiased HSIC_1 (Song
    et al. 2012), so memory does not grow with N. Batches are taken in the order of the images: shuffle those that are
    sorted, by class or otherwise, or a batch is no sample of the whole.

    Args:
        model: any ``torch.nn.Module``.
        x: (N, 3, H, W) images, or whatever else :func:`modlib.iter_features` takes.
        layers: names of modules; by default those of :func:`modlib.layer_names` that run, in the order in which they run.
        other: another network, with its own default layers, to compare with on the same images; by default ``model`` itself.
        minibatch: images of a batch, at least 4; a last batch that is not full is left out. By default the full CKA.
        memory: bytes, or a size, for features and kernels together: 8 L N^2 bytes of kernels, and at least one layer's
            features.
        **options: of :func:`modlib.iter_features` (``batch_size``, ``output``, ``reduce``, ``forward``,
            ``progress``).

    Returns:
        (L, L') float64, of a network with itself symmetric and 1 on the diagonal; in [0, 1], but for minibatches only up
        to their noise.

    Raises:
        ValueError: for a minibatch outside 4..N, a layer that gives all images the same features, and as
            :func:`modlib.iter_features` does.
        MemoryError: if ``memory`` holds neither the kernels nor one layer.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=60)
    >>> linear_cka(modlib.load_model("resnet20"), images.x).shape
    (10, 10)
    """
    storage = options.get("storage", "float32")
    if not isinstance(storage, str) or storage != "float32":
        raise ValueError("storage must be 'float32': CKA compares the lengths of features, too, which 'float16' may change")
    x = as_inputs(x)
    tapped = [(model, layers_of(model, x, layers, **options))]
    if other is not None:
        if not isinstance(other, nn.Module):
            raise ValueError(f"other must be a torch.nn.Module; got {type(other).__name__}")
        tapped.append((other, layers_of(other, x, None, **options)))
    names = [name for _, each in tapped for name in each]
    n = samples(x)
    size = n if minibatch is None else whole_number("minibatch", minibatch, 4, n, f"for N={n} images")
    kernels = 8 * len(names) * size**2
    room = size_in_bytes(memory) - kernels
    if room <= 0:
        raise MemoryError(
            f"memory={memory} does not hold {len(names)} kernels of {size:,} x {size:,}, which take {kernels:,} bytes. "
            "Give more memory, or a (smaller) minibatch"
        )
    hsic = np.zeros((len(names), len(names)))
    for start in range(0, n - size + 1, size):
        batch = rows_of(x, slice(start, start + size))
        hsic += _hsic((f for each in tapped for f in _features(*each, batch, memory=room, **options)), minibatch is not None)
    first = len(tapped[0][1])
    return _normalise(hsic, names)[:first, 0 if other is None else first :]


def _features(model: nn.Module, layers: list[str], x, **options) -> Iterator[torch.Tensor]:
    with closing(iter_features(model, x, layers, **options)) as stream:
        for _, features in stream:
            yield features


@checked
def cka_of(features: Iterable, *, unbiased: bool = False) -> np.ndarray:
    """Linear CKA between matrices of features of the same N samples; see :func:`linear_cka`.

    Args:
        features: L arrays or tensors (N, M), each with its own M; a generator of them is read once. Or those of
            :func:`modlib.iter_features`, with their names.
        unbiased: by HSIC_1 instead of the exact, biased HSIC.

    Returns:
        (L, L) float64. Rotating, scaling or shifting a matrix of features changes nothing.

    >>> x = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0], [4.0, 4.0]])
    >>> cka_of([x, 5 * x[:, ::-1]]).round(6)
    array([[1., 1.],
           [1., 1.]])
    """
    if not isinstance(features, Iterable) or getattr(features, "ndim", 1) == 0:
        raise ValueError(f"features must be matrices (N, M) of one layer or more; got {shown(features)}")
    features = features.values() if isinstance(features, Mapping) else features
    named = (x[1] if isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str) else x for x in features)
    hsic = _hsic((as_tensor(x, "features") for x in named), unbiased)
    if not isinstance(hsic, np.ndarray):
        raise ValueError("features must be matrices (N, M) of one layer or more; got none")
    return _normalise(hsic, range(len(hsic)))


@torch.no_grad()
def _hsic(features: Iterable[torch.Tensor], unbiased: bool) -> np.ndarray:
    """(L, L) HSIC of linear kernels, but for a factor that CKA does not see."""
    kernels = []
    for x in features:
        if x.is_complex():
            raise ValueError("features must be real numbers; got complex ones. Give their parts: torch.view_as_real(x).flatten(1)")
        x = x if x.dtype == torch.float64 else x.float()
        if x.ndim != 2 or len(x) < (4 if unbiased else 2) or kernels and len(x) != len(kernels[0]):
            raise ValueError(
                f"features must be matrices (N, M) of the same N samples, at least {4 if unbiased else 2}; "
                f"got shape {tuple(x.shape)}" + (f" beside N={len(kernels[0])}" if kernels else "")
            )
        kernel, square = np.zeros((len(x), len(x))), 0.0
        # A power of two, exact, keeps products of very large or small features in range; the kernel, in float64, has it back
        # (but where even that has no room for it: features in float64, of which no minibatches come).
        most = 120 if x.dtype == torch.float32 else 1000
        power = -int(torch.frexp(x.abs().max()).exponent.clamp(-most, most)) if x.numel() else 0
        for part in x.split(COLUMNS, dim=1):
            part = part * 2.0**power
            # Centring the features centres the kernel without cancelling large numbers against each other. HSIC_1 does
            # not see it: it is blind to what is added to a whole row and column.
            centred = part - part.mean(0)
            with full_precision():
                kernel += (centred @ centred.T).double().cpu().numpy()
            square += float(torch.linalg.vector_norm(part)) ** 2
        if np.trace(kernel) <= (8 * torch.finfo(x.dtype).eps) ** 2 * square:
            kernel[:] = 0  # nothing but the rounding of the mean
        kernel *= 4.0**-power if abs(power) <= 120 else 1
        kernels.append(_u_centred(kernel) if unbiased else kernel)
    return sum(rows @ rows.T for rows in map(np.stack, zip(*kernels, strict=True)))  # row by row: no copy of all kernels


def _u_centred(kernel: np.ndarray) -> np.ndarray:
    """The matrix A for which HSIC_1(K, K') = <A, A'> / (n (n - 3)) (Szekely & Rizzo 2014); equal to the three terms of
    Song et al., and never negative for K = K'."""
    n = len(kernel)
    np.fill_diagonal(kernel, 0)
    rows = kernel.sum(0) / (n - 2)
    kernel = kernel - rows - rows[:, None] + rows.sum() / (n - 1)
    np.fill_diagonal(kernel, 0)
    return kernel


def _normalise(hsic: np.ndarray, names: Sequence) -> np.ndarray:
    norms = np.sqrt(np.diag(hsic))
    if not (norms > 0).all():  # also NaN
        layer = list(names)[int(np.argmin(norms > 0))]
        raise ValueError(f"layer {layer!r} gives all samples the same features, or infinite ones: CKA is undefined")
    return hsic / norms / norms[:, None]
