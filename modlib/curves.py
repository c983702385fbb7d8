"""From images and a model to a modularity curve; repeats, mean and spread; grids over N and k."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from torch import nn

from modlib._checks import check_seed, checked, whole_number
from modlib._tensors import plain
from modlib.data import Images
from modlib.graph import DynamicGraph, dynamic_graph, iter_graphs
from modlib.graph.knn import check_k
from modlib.models.inputs import as_inputs, samples
from modlib.modularity import check_labels, modularity


@checked
@dataclass(frozen=True, eq=False)
class Curve:
    """Modularity of every layer.

    Attributes:
        layers: names of the L layers, first layer first.
        q: (L,) modularity Q of each layer's graph.
        per_class: (L, C) each class's term of Q; a row sums to q.
        k: neighbours of each node.
        n: number of samples N.
    """

    layers: tuple[str, ...]
    q: np.ndarray
    per_class: np.ndarray
    k: int
    n: int

    def __post_init__(self):
        whole_number("k", self.k, 1), whole_number("n", self.n, 0)
        shapes = f"{len(self.layers)}, {self.q.shape} and {self.per_class.shape}"
        if self.q.shape != (len(self.layers),) or self.per_class.ndim != 2 or len(self.per_class) != len(self.layers):
            raise ValueError(f"layers, q (L,) and per_class (L, C) must have one entry a layer; got {shapes}")


@checked
@dataclass(frozen=True, eq=False)
class CurveDraws:
    """Modularity of every layer in several draws of samples.

    Attributes:
        layers: names of the L layers, first layer first.
        q: (draws, L) modularity of each layer in each draw.
        k: neighbours of each node.
        n: number of samples N of a draw.
    """

    layers: tuple[str, ...]
    q: np.ndarray
    k: int
    n: int

    def __post_init__(self):
        whole_number("k", self.k, 1), whole_number("n", self.n, 0)
        if self.q.ndim != 2 or len(self.layers) != self.q.shape[1]:
            raise ValueError(f"q must be (draws, L) for {len(self.layers)} layers; got shape {np.shape(self.q)}")

    @property
    def mean(self) -> np.ndarray:
        """(L,) mean over the draws."""
        return self.q.mean(0)

    @property
    def std(self) -> np.ndarray:
        """(L,) standard deviation over the draws, of the sample, divided by draws - 1."""
        return self.q.std(0, ddof=1)


def modularity_curve(model: nn.Module, x, y, k: int = 3, layers: Sequence[str] | str | None = None, **options) -> Curve:
    """The modularity of a network's layers on labelled images: images -> features -> graphs -> Q.

    Args:
        model: any ``torch.nn.Module``.
        x: (N, 3, H, W) images, uint8 or float in [0, 1]; or tokens, several inputs, inputs by name, a ``DataLoader`` or
            ``Dataset``, as :func:`modlib.iter_features` takes them.
        y: (N,) integer labels, or names of classes.
        k: neighbours of each node, 1 <= k < N.
        layers: names of modules; by default those of :func:`modlib.layer_names` that run, in the order in which they run.
        **options: of :func:`modlib.dynamic_graph` (``memory``, ``resume``, ``sketch``, ``dead``, ``batch_size``, ``output``,
            ``reduce``, ``forward``, ``progress``).

    Raises:
        ValueError: as :func:`iter_features`, :func:`knn_graph` and :func:`modularity` do, labels and k before the model runs.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=100)
    >>> curve = modularity_curve(modlib.load_model("resnet20"), images.x, images.y)
    >>> len(curve.layers), bool(curve.q[-1] > curve.q[0])
    (10, True)
    """
    plain(model)  # a sentence where it is none
    x = as_inputs(x)
    y = check_labels(y, samples(x))
    return curve_of(dynamic_graph(model, x, k, layers, **options), y)


@checked
def curve_of(graph: DynamicGraph, y) -> Curve:
    """The modularity curve of a dynamic graph under labels (N,)."""
    per_class = modularity(graph, y, per_class=True)
    return Curve(graph.layers, per_class.sum(1), per_class, graph.graphs[0].k, graph.graphs[0].n)


@checked
@dataclass(frozen=True, eq=False)
class CurveGrid:
    """Modularity of every layer for several numbers of samples and of neighbours, in several draws.

    Attributes:
        layers: names of the L layers, first layer first.
        n: numbers of samples N.
        k: numbers of neighbours.
        per_class: (len(n), len(k), draws, L, C) each class's term of Q.
    """

    layers: tuple[str, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    per_class: np.ndarray

    def __post_init__(self):
        shape = (len(self.n), len(self.k), len(self.layers))
        if self.per_class.ndim != 5 or self.per_class[:, :, 0, :, 0].shape != shape:
            raise ValueError(
                f"per_class must be (n, k, draws, layers, C) for n, k and layers of {shape}; got {self.per_class.shape}"
            )

    @property
    def q(self) -> np.ndarray:
        """(len(n), len(k), draws, L) modularity."""
        return self.per_class.sum(-1)

    @checked
    def draws(self, n: int, k: int) -> CurveDraws:
        """The draws at one of the settings.

        Raises:
            ValueError: for a setting that is not in the grid.
        """
        for name, value, known in (("n", n, self.n), ("k", k, self.k)):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not in the grid; it has {', '.join(map(str, known))}")
        return CurveDraws(self.layers, self.q[self.n.index(n), self.k.index(k)], k, n)


@checked
def repeat_curves(
    model: nn.Module, images: Images, n: int = 500, k: int = 3, draws: int = 5, seed: int | None = None, **options
) -> CurveDraws:
    """Curves of several draws of n samples: what of a curve is the network, and what the choice of images.

    Args:
        images: the pool, of at least ``draws * n`` samples: no two draws share one.
        seed: shuffle the pool by this seed; without it the draws are the pool's first batches of n in order, which is
            the protocol of the authors' code.
        **options: of :func:`modlib.dynamic_graph`.

    >>> import modlib
    >>> draws = repeat_curves(modlib.load_model("resnet20"), modlib.load_images("cifar10"), n=100, draws=3)
    >>> draws.q.shape, draws.mean.shape
    ((3, 10), (10,))
    """
    draws = whole_number("draws", draws, 2, of="(a spread needs two)")
    n = whole_number("n", n, 2, len(images) // draws, f"for {draws} draws without overlap from {len(images)} images")
    return curve_grid(model, images, [n], [k], draws, seed, **options).draws(n, k)


@checked
def curve_grid(
    model: nn.Module,
    images: Images,
    n: Sequence[int],
    k: Sequence[int],
    draws: int = 5,
    seed: int | None = None,
    **options,
) -> CurveGrid:
    """Curves over a grid of N and k.

    Every image goes through the network once. One search for neighbours, at the largest k, serves every k, and where the
    draws overlap much, each pair of images is compared once for all draws and all N.

    Args:
        images: the pool. Where it holds ``draws * n`` samples the draws are as in :func:`modlib.repeat_curves`; where it does
            not, each draw is a random subset of its own. Such draws share images, so their spread is too small.
        n: numbers of samples N.
        k: numbers of neighbours, each smaller than every N.
        **options: of :func:`modlib.dynamic_graph`.

    >>> import modlib
    >>> images = modlib.load_images("cifar10")
    >>> curve_grid(modlib.load_model("resnet20"), images, n=[50, 100], k=[1, 3, 9], draws=2).q.shape
    (2, 3, 2, 10)
    """
    for name, values in (("n", n), ("k", k)):
        if not len(values):
            raise ValueError(f"{name} must be a list of one number or more; got {name}={values!r}")
    draws = whole_number("draws", draws, 1, 10_000)
    seed = seed if seed is None else check_seed(seed)
    n = tuple(whole_number("n", each, 2, len(images), f"for {len(images)} images") for each in n)
    k = tuple(check_k(each, min(n), "n") for each in k)
    known = check_labels(images.y, len(images))
    classes = int(known.max()) + 1
    chosen = [np.sort(part) for each in n for part in _draw(len(images), each, draws, seed)]
    used = np.unique(np.concatenate(chosen))
    labels = [check_labels(known[part], len(part)) for part in chosen]
    samples = [np.searchsorted(used, part) for part in chosen]
    layers, columns = [], []
    with closing(iter_graphs(model, images.x[used], max(k), samples, **options)) as stream:
        for name, graphs in stream:
            layers.append(name)
            columns.append(np.zeros((len(chosen), len(k), classes)))
            for terms, graph, y in zip(columns[-1], graphs, labels, strict=True):
                for row, each in zip(terms, k, strict=True):
                    row[: y.max() + 1] = modularity(graph.nearest(each), y, per_class=True)  # a draw may lack the last classes
    per_class = np.stack(columns, 2).reshape(len(n), draws, len(k), len(layers), classes).swapaxes(1, 2)
    return CurveGrid(tuple(layers), n, k, per_class)


def _draw(total: int, n: int, draws: int, seed: int | None) -> list[np.ndarray]:
    """Indices of the draws: batches of the pool in its order, or shuffled by a seed; random subsets if it is too small."""
    if draws * n > total:
        return [np.random.default_rng([seed or 0, i]).choice(total, n, replace=False) for i in range(draws)]
    order = np.arange(total) if seed is None else np.random.default_rng(seed).permutation(total)
    return [order[i * n : (i + 1) * n] for i in range(draws)]
