"""The dynamic graph of a network: one k-NN graph a layer over the same samples (Section 3.2 of the paper)."""

from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from modlib import _resumable
from modlib._checks import checked, shown, size_in_bytes, unknown
from modlib._tensors import plain
from modlib.features import iter_features, layers_of
from modlib.graph.knn import KnnGraph, check_k, check_samples, check_search, knn_graphs
from modlib.graph.neighbours import panel_bytes
from modlib.models import chosen_layers
from modlib.models.identity import fingerprint
from modlib.models.inputs import as_inputs
from modlib.models.inputs import samples as samples_in


@checked
@dataclass(frozen=True, eq=False)
class DynamicGraph:
    """The snapshots G_1 ... G_L of one dynamic graph: the same N samples, one k-NN graph a layer.

    Attributes:
        layers: names of the L layers, first layer first.
        graphs: their L graphs.
    """

    layers: tuple[str, ...]
    graphs: tuple[KnnGraph, ...]

    def __post_init__(self):
        if not len(self.graphs) or len({*self.layers}) != len(self.graphs) or len({graph.n for graph in self.graphs}) > 1:
            sizes = ", ".join(str(graph.n) for graph in self.graphs)
            got = f"{len(self.layers)} layers and graphs of {sizes} nodes"
            raise ValueError(f"graphs must be one a layer, of the same samples; got {got}")

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, layer: int | str) -> KnnGraph:
        if isinstance(layer, str):
            if layer not in self.layers:
                raise unknown("layer", layer, self.layers)
            layer = self.layers.index(layer)
        elif not isinstance(layer, Integral) or isinstance(layer, bool) or not -len(self) <= layer < len(self):
            raise ValueError(f"layer must be a name or a place in 0..{len(self) - 1}; got {shown(layer)}")
        return self.graphs[layer]

    def nearest(self, k: int) -> "DynamicGraph":
        """Every snapshot with only its k nearest neighbours a node."""
        return DynamicGraph(self.layers, tuple(graph.nearest(k) for graph in self.graphs))

    def persistence(self) -> np.ndarray:
        """(L - 1,): the share of each snapshot's directed edges that the next snapshot keeps (0 if it has none)."""
        edges = [graph.directed().astype(bool) for graph in self.graphs]
        return np.array([a.multiply(b).sum() / max(a.sum(), 1) for a, b in zip(edges, edges[1:], strict=False)])


def dynamic_graph(model, x, k: int = 3, layers: Sequence[str] | str | None = None, **options) -> DynamicGraph:
    """The dynamic graph of images in a network: one k-NN graph a layer (Section 3.2 of the paper).

    Args:
        model: any ``torch.nn.Module``.
        x: (N, 3, H, W) images, or whatever else :func:`modlib.iter_features` takes.
        k: neighbours of each node.
        layers: names of modules; by default :func:`modlib.layer_names` of the model.
        **options: those of :func:`modlib.knn_graph` (``sketch``, ``search``, ``seed``, ``dead``), of :func:`modlib.iter_features`
            (``batch_size``, ``storage``, ``output``, ``reduce``, ``forward``, ``progress``), and these two:
        memory: bytes, or a size such as ``"5GiB"``, for features and search together; by default half of what is free
            for the features. A layer that it does not hold goes to a temporary file (in ``$TMPDIR``).
        resume: a file that keeps each layer as soon as it is done; the same call goes on after an interruption.

    Raises:
        MemoryError: if ``memory`` does not hold a panel of similarities and one batch of features.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=50)
    >>> len(dynamic_graph(modlib.load_model("resnet20"), images.x))
    10
    """
    layers, graphs = zip(*((name, graph) for name, [graph] in iter_graphs(model, x, k, None, layers, **options)), strict=True)
    return DynamicGraph(layers, graphs)


@checked
def iter_graphs(
    model,
    x,
    k: int,
    samples: Sequence | None,
    layers: Sequence[str] | str | None = None,
    *,
    sketch: int | None = None,
    search: str = "exact",
    seed: int = 0,
    dead: str = "refuse",
    memory: int | str | None = None,
    resume: str | Path | None = None,
    progress: bool = False,
    **options,
) -> Iterator[tuple[str, list[KnnGraph]]]:
    """The k-NN graphs of several samples of the same images, layer after layer, from one pass through the network.

    Args:
        samples: of :func:`knn_graphs`; all else is of :func:`modlib.dynamic_graph`.

    Yields:
        (layer name, one KnnGraph a sample)

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=60)
    >>> stream = iter_graphs(modlib.load_model("resnet20"), images.x, 3, [range(30), range(60)], ["conv1"])
    >>> [(name, [graph.n for graph in graphs]) for name, graphs in stream]
    [('conv1', [30, 60])]
    """
    x = as_inputs(x)
    n = samples_in(x)
    parts = check_samples(samples, n)
    k = check_k(k, min(map(len, parts)), "x")  # before the model runs
    if memory is not None:
        given, panel = size_in_bytes(memory), panel_bytes(n)
        memory = given - panel
        if memory <= 0:
            raise MemoryError(
                f"memory={given:,} bytes does not hold a panel of similarities between {n:,} samples, "
                f"which takes {panel:,}. Give more memory or fewer samples"
            )
    check_search(sketch, search, seed, dead)
    how = {"sketch": sketch, "search": search, "seed": seed, "dead": dead}
    chosen = {} if samples is None else {"samples": [sample.tolist() for sample in parts]}
    read = {"storage": "float32"} | {
        key: options[key] for key in ("storage", "output", "reduce", "forward") if options.get(key) is not None
    }
    if any(getattr(module, "track_running_stats", True) is False for module in plain(model).modules()):
        read["batch_size"] = options.get("batch_size", 250)  # it normalises by the batch
    iter_features(model, x, layers, memory=memory, spool=True, progress=progress, **options).close()  # refuses what cannot be
    kept = None
    if resume is not None:
        kept = _resumable.Work(resume, fingerprint(model, x, k=k, **how, **chosen, **read))
    return _stream(model, x, k, parts, layers, how, kept, memory, progress, options)


def _stream(model, x, k: int, parts: list, layers, how: dict, kept, memory, progress: bool, options: dict) -> Iterator:
    """The graphs, once the arguments of :func:`iter_graphs` are known to be right."""
    done, names = kept.parts if kept else {}, []
    options = options | {"memory": memory, "spool": True, "progress": progress}
    nothing = nullcontext(iter(()))
    cuts = np.cumsum([len(sample) for sample in parts])[:-1]
    resumed = bool(done)
    if resumed:  # the layers in the order in which they run, to tell which of them are left
        names = layers_of(model, x, layers, **options)
        layers = [name for name in names if name not in done]
    total = len(names or chosen_layers(model, layers))
    with (
        nothing if resumed and not layers else closing(iter_features(model, x, layers, **options)) as stream,
        tqdm(total=total, desc="layers", disable=not progress) as bar,
    ):
        while True:
            while names and names[0] in done:
                name = names.pop(0)
                bar.update()
                yield name, list(map(KnnGraph, *(np.split(each, cuts) for each in done[name])))
            if resumed and not names:
                return
            name, features = next(stream, (None, None))
            if name is None:
                return
            try:
                graphs = knn_graphs(features, k, parts, **how)
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from None
            del features  # before the next pass takes room
            if kept:
                kept.add({name: tuple(np.concatenate([getattr(g, part) for g in graphs]) for part in ("neighbors", "weights"))})
            names = names[1:]
            bar.update()
            yield name, graphs
