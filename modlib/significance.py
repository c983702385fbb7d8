"""How sure a number is: modularity against permuted labels and other samples; matrices of layers against renamed layers."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.stats import permutation_test, rankdata, zscore

from modlib._checks import as_array, check_seed, number, shown, symmetric, whole_number
from modlib.graph import DynamicGraph, KnnGraph
from modlib.modularity import check_labels, edges, modularity

MOST = 10**8  # permutations or subsets
CHUNK = 2**22  # numbers held at a time: bounds the memory, does not change the result


def null_model(graph, labels, repeats: int = 1000, seed: int = 0) -> np.ndarray:
    """Q of a graph under permuted labels: the graph and the sizes of the classes stay, all else is chance.

    Args:
        graph: as of :func:`modlib.modularity`; a :class:`modlib.DynamicGraph` has the same permutations in every snapshot.
        labels: (N,) integers >= 0 of at least two classes.
        repeats: number of permutations.
        seed: of the permutations.

    Returns:
        (repeats,) float64, or (L, repeats) for a dynamic graph. ``(1 + sum(null >= q)) / (1 + repeats)`` is the p-value
        of q; :func:`null_moments` has the mean and the standard deviation without any permutation.

    Raises:
        ValueError: as :func:`modlib.modularity` does, and for ``repeats`` below 1.

    >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    >>> np.unique(null_model(two_pairs, [0, 0, 1, 1], repeats=50)).tolist()
    [-0.5, 0.5]
    """
    if isinstance(graph, DynamicGraph):
        return np.array([null_model(snapshot, labels, repeats, seed) for snapshot in graph.graphs])
    modularity(graph, labels)  # its checks
    source, target, weight, n = edges(graph)
    labels = check_labels(labels, n)
    labels = np.unique(labels, return_inverse=True)[1]  # classes that do not occur take no room
    total, classes = weight.sum(), labels.max() + 1
    strength = (np.bincount(source, weight, n) + np.bincount(target, weight, n)) / 2

    rng = np.random.default_rng(check_seed(seed))
    parts = []
    for rows in _chunks(whole_number("repeats", repeats, 1, MOST), len(source) + n):
        permuted = rng.permuted(np.tile(labels, (rows, 1)), axis=1)
        within = (permuted[:, source] == permuted[:, target]) @ weight / total
        cell = permuted + classes * np.arange(rows)[:, None]
        share = np.bincount(cell.ravel(), np.tile(strength, rows), rows * classes).reshape(rows, classes) / total
        parts.append(within - (share**2).sum(1))
    return np.concatenate(parts)


def null_moments(graph, labels) -> tuple[float, float] | tuple[np.ndarray, np.ndarray]:
    """Exact mean and standard deviation of Q over all permutations of the labels; nothing is permuted.

    With B = (A - s s^T / 2W) / 2W, Q is the sum of B_ij over pairs of one label. Rows of B sum to zero, and the
    diagonal always counts. A permutation gives two different nodes one label with probability
    p = sum_c n_c (n_c - 1) / N (N - 1), so

        E[Q] = (1 - p) tr B = -(1 - p) sum_i (s_i / 2W)^2    (without loops),

    about -1/N. The square of Q is a sum over two pairs, which are the same, share one node, or none (Mantel, Cancer
    Research 27, 1967): three probabilities, three sums. O(N k) time.

    Args:
        graph, labels: as of :func:`null_model`.

    Returns:
        Two floats, or two (L,) arrays for a dynamic graph.

    >>> two_pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    >>> mean, std = null_moments(two_pairs, [0, 0, 1, 1])  # Q is 0.5 in one of three labellings, -0.5 in two
    >>> round(mean, 4), round(std, 4)
    (-0.1667, 0.4714)
    """
    if isinstance(graph, DynamicGraph):
        mean, std = np.transpose([null_moments(snapshot, labels) for snapshot in graph.graphs])
        return mean, std
    modularity(graph, labels)  # its checks
    source, target, weight, n = edges(graph)
    sizes = np.bincount(check_labels(labels, n)).astype(float)
    d = sp.csr_array((weight, (source, target)), shape=(n, n))
    a = (d + d.T) / 2
    total, s = a.sum(), a.sum(1)

    diagonal = (a.diagonal() - s * s / total) / total
    trace, rows = diagonal.sum(), (diagonal**2).sum()  # off the diagonal, row i of B sums to -B_ii
    squares = ((a * a).sum() - 2 * s @ (a @ s) / total + (s @ s / total) ** 2) / total**2 - rows

    twos, threes, fours = (_falling(sizes, r) for r in (2, 3, 4))
    one_label = twos.sum() / _falling(n, 2)
    sharing = threes.sum() / max(1, _falling(n, 3))
    apart = (fours.sum() + twos.sum() ** 2 - (twos**2).sum()) / max(1, _falling(n, 4))
    second = one_label * 2 * squares + sharing * 4 * (rows - squares) + apart * (trace**2 - 4 * rows + 2 * squares)
    variance = second - (one_label * trace) ** 2
    return float((1 - one_label) * trace), float(np.sqrt(max(0, variance)))


def subsamples(
    graph: KnnGraph | DynamicGraph, labels, k: int = 3, size: int | None = None, repeats: int = 200, seed: int = 0
) -> np.ndarray:
    """Q of the k-NN graphs of random subsets of the samples, drawn without replacement.

    No similarity is computed again: within a subset, the k nearest neighbours of a sample are the first k members in
    its list of neighbours. Lists must be long enough for that; of 40 neighbours about 20 are in a random half.

    Args:
        graph: a :class:`modlib.KnnGraph` with (several times) more than k neighbours a node, or a :class:`modlib.DynamicGraph` of
            such, which has the same subsets in every snapshot.
        labels: (N,) integers >= 0 of at least two classes.
        k: neighbours in the graphs of the subsets.
        size: samples of a subset; N // 2 by default.
        repeats: number of subsets.
        seed: of the subsets.

    Returns:
        (repeats,) float64, or (L, repeats) for a dynamic graph.

    Raises:
        ValueError: for bad labels, ``size`` not in k + 1 .. N, lists too short, or a subset without edges.

    >>> import modlib
    >>> graph = modlib.KnnGraph(np.array([[1, 2], [0, 2], [1, 0]]), np.ones((3, 2)))
    >>> subsamples(graph, [0, 0, 1], k=1, size=3, repeats=1).round(3).tolist()  # the whole, three edges
    [-0.056]
    """
    if isinstance(graph, DynamicGraph):
        return np.array([subsamples(snapshot, labels, k, size, repeats, seed) for snapshot in graph.graphs])
    if not isinstance(graph, KnnGraph):
        raise ValueError(f"graph must be a KnnGraph or a DynamicGraph, with lists of neighbours; got {type(graph).__name__}")
    n, labels = graph.n, check_labels(labels, graph.n)
    k = whole_number("k", k, 1, graph.k, f"for a graph with {graph.k} neighbours a node")
    size = whole_number("size", n // 2 if size is None else size, k + 1, n, f"for N={n} samples and k={k}")

    labels = np.unique(labels, return_inverse=True)[1]  # classes that do not occur take no room
    of_class = np.eye(labels.max() + 1)[labels]
    same = labels[graph.neighbors] == labels[:, None]
    sums = np.column_stack([same.ravel(), of_class[graph.neighbors.ravel()]])  # of an edge: inside?, class it ends in
    rng = np.random.default_rng(check_seed(seed))
    parts = []
    for rows in _chunks(whole_number("repeats", repeats, 1, MOST), graph.neighbors.size):
        member = rng.permuted(np.tile(np.arange(n) < size, (rows, 1)), axis=1)
        found = member[:, graph.neighbors]
        place = found.cumsum(2, dtype=np.int32)
        if (place[..., -1][member] < k).any():
            raise ValueError(
                f"graph has too few neighbours a node ({graph.k}) to find {k} in every subset of {size} of {n} "
                f"samples; build it with k={min(n - 1, 2 * graph.k)}"
            )
        weight = graph.weights * (found & (place <= k) & member[:, :, None])
        total = weight.sum((1, 2))[:, None]
        if not total.all():
            raise ValueError(f"a subset of {size} samples has no edges, so its Q is undefined; choose a larger size")
        inside, *ends = (weight.reshape(rows, -1) @ sums / total).T
        share = (weight.sum(2) @ of_class / total + np.transpose(ends)) / 2
        parts.append(inside - (share**2).sum(1))
    return np.concatenate(parts)


def confidence_interval(graph, labels, k: int = 3, level: float = 0.95, repeats: int = 400, seed: int = 0) -> np.ndarray:
    """An interval for the Q that other samples of the same number would have on average.

    From the deviations of random halves of the samples. Of a mean, halves drawn without replacement spread around the
    whole just as wholes spread around the truth (the delete-half jackknife; Shao and Wu, Ann. Statist. 17, 1989).
    A bootstrap with replacement would not do: copies of a sample are each other's nearest neighbours.

    Args:
        graph, labels, k, repeats, seed: as of :func:`subsamples`.
        level: share of such intervals that hold the truth.

    Returns:
        (2,) float64, low and high; (L, 2) for a dynamic graph.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=200)
    >>> graph = modlib.dynamic_graph(modlib.load_model("resnet20"), images.x, k=40, layers=["layer3.2"])
    >>> low, high = confidence_interval(graph, images.y, repeats=100)[0]
    >>> bool(low < modularity(graph.nearest(3), images.y)[0] < high)
    True
    """
    if not 0 < number("level", level) < 1:
        raise ValueError(f"level must be a share between 0 and 1; got level={level!r}")
    q = subsamples(graph, labels, k, None, repeats, seed)
    whole = np.expand_dims(modularity(graph.nearest(k), labels), -1)
    n = len(labels)
    deviation = (q - q.mean(-1, keepdims=True)) * np.sqrt((n // 2) / (n - n // 2))
    ends = np.quantile(deviation, [(1 + level) / 2, (1 - level) / 2], axis=-1)
    return whole - np.moveaxis(ends, 0, -1)


def _falling(n, r: int):
    """n (n - 1) ... (n - r + 1): ways to pick r of n in order."""
    return np.prod([n - i for i in range(r)], axis=0)


def _chunks(repeats: int, numbers: int) -> Iterator[int]:
    """How many of the repeats to do at a time, of so many numbers each."""
    step = max(1, CHUNK // numbers)
    yield from (min(step, repeats - done) for done in range(0, repeats, step))


class Outcome(NamedTuple):
    """A statistic, and how it stands among those of other arrangements."""

    statistic: float
    p: float  # share of the arrangements, the actual one among them, whose statistic is as large or larger
    count: int  # arrangements compared


def mantel(a, b, given=None, *, count: int = 9999, seed: int = 0) -> Outcome:
    """Spearman's correlation of two matrices over the same L layers, off the diagonal, with Mantel's permutation test (1967).

    The entries are not independent, since each layer is in L - 1 of them: the test renames the layers of one matrix.

    Args:
        a, b: (L, L), symmetric.
        given: (L, L); correlate what is left of the ranks after regressing on its ranks (partial test, Smouse et al. 1986).
        count: permutations, at random by ``seed``; all L! if these are no more.

    Raises:
        ValueError: for matrices that are not symmetric, of different sizes, smaller than 3, or constant.

    >>> depth = np.abs(np.subtract.outer(range(9), range(9)))
    >>> mantel(depth, depth**2).statistic, mantel(depth, -depth).p
    (1.0, 1.0)
    """
    matrices = [symmetric("a", a), symmetric("b", b), *([] if given is None else [symmetric("given", given)])]
    count, seed = whole_number("count", count, 1, MOST), check_seed(seed)
    if len(matrices[0]) < 3 or len({len(m) for m in matrices}) > 1:
        raise ValueError(f"a, b and given must be over the same layers, at least 3; got {[len(m) for m in matrices]}")
    size, upper = len(matrices[0]), np.triu_indices_from(matrices[0], 1)
    if any(np.ptp(m[upper]) == 0 for m in matrices):
        raise ValueError("a, b and given must not be constant off the diagonal: equal ranks have no correlation")
    ranks = [zscore(rankdata(m[upper])) for m in matrices]
    if given is not None:
        *ranks, known = ranks
        ranks = [zscore(x - (x @ known) / len(x) * known) for x in ranks]
    full = np.zeros((size, size))
    full[upper] = full.T[upper] = ranks[0]

    def correlation(order):
        return full[np.ix_(order, order)][upper] @ ranks[1] / len(ranks[1])

    options = {"permutation_type": "pairings", "alternative": "greater", "random_state": np.random.default_rng(seed)}
    found = permutation_test((np.arange(size),), correlation, vectorized=False, n_resamples=count, **options)
    return Outcome(round(float(found.statistic), 12), float(found.pvalue), len(found.null_distribution) + 1)


def blocks(difference, stage) -> Outcome:
    """Whether a matrix of differences has blocks along the stages, beyond a growth with distance in depth.

    The statistic is the excess of pairs across a border of stages over pairs (i, j) as far apart inside a stage ::

        excess = mean over pairs (i, j) inside a stage of (mean of D over pairs across with the same |i - j|) - D_ij

    and p that of all other ways to cut the L layers into as many stages. A curve that rises evenly has an excess of 0.

    Args:
        difference, stage: (L, L), symmetric; (L,) whole numbers that do not fall.

    Raises:
        ValueError: for a stage that does not fit, or without a border, or where no pair inside has one across to match.

    >>> q = np.repeat([0.1, 0.5, 0.9], 3)
    >>> found = blocks(abs(q - q[:, None]), np.repeat([0, 1, 2], 3))
    >>> round(found.statistic, 2), round(found.p, 3), found.count
    (0.4, 0.036, 28)
    """
    difference = symmetric("difference", difference)
    size, stage = len(difference), as_array(stage)
    if stage.dtype.kind not in "iu" or stage.shape != (size,) or (np.diff(stage) < 0).any():
        raise ValueError(f"stage must give each of the {size} layers a number that does not fall; got {shown(stage.tolist())}")
    cuts = np.flatnonzero(np.diff(stage)) + 1
    whole_number("borders", len(cuts), 1, size - 2, "between stages")

    def excess(cut: np.ndarray) -> np.ndarray:
        """(ways,) of borders (ways, stages - 1): the layer with which each later stage begins."""
        low, high = np.pad(cut, ((0, 0), (1, 0))), np.pad(cut, ((0, 0), (0, 1)), constant_values=size)
        above, count = np.zeros(len(cut)), np.zeros(len(cut))
        for apart in range(1, size):
            sums = np.r_[0, np.cumsum(np.diag(difference, apart))]
            first = np.minimum(low, size - apart)  # of the pairs (k, k + apart) inside a stage, k is in first..last-1
            last = np.maximum(high - apart, first)
            inside, total = (last - first).sum(1), (sums[last] - sums[first]).sum(1)
            across = size - apart - inside
            matched = across > 0
            above += matched * ((sums[-1] - total) / np.maximum(across, 1) * inside - total)
            count += matched * inside
        return np.divide(above, count, out=np.full(len(cut), np.nan), where=count > 0)

    [actual], every = excess(cuts[None]), excess(np.array([*combinations(range(1, size), len(cuts))]))
    if np.isnan(actual):
        raise ValueError(f"stage must have layers as far apart inside as across its borders; got {stage.tolist()}")
    return Outcome(float(actual), float((every >= actual - 1e-12).mean()), len(every))
