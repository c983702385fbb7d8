"""The keys of the book's exercises, computed from the library."""

from functools import cache

import networkx as nx
import numpy as np
import torch
from scipy.stats import spearmanr

from modlib import build_model, dynamic_graph, iter_features, knn_graph, load_images, load_model, modularity, significance
from modlib.attacks import AUTHORS_STATISTICS
from modlib.book.records import attack_curves, recorded_attacks
from modlib.book.statistics import plateau_share
from modlib.cost import cost
from modlib.modularity import communities
from modlib.paper import paper_values
from modlib.pruning import find_redundant
from modlib.results import FOLDER, Records
from modlib.similarity import cka_of


@cache
def _graphs():
    """Chapters 1 and 3: the first 500 images, ResNet20, k = 20."""
    images = load_images("cifar10", n=500)
    return images.y, dynamic_graph(load_model("resnet20"), images.x, k=20)


def _biggest_step():
    y, graph = _graphs()
    return int(np.diff(modularity(graph.nearest(3), y)).argmax()) + 1


def _smallest_term():
    y, graph = _graphs()
    return int(modularity(graph.nearest(3)[-1], y, per_class=True).argmin())


def _last(k=20):
    y, graph = _graphs()
    return modularity(graph[-1].nearest(k), y)


def _bridged(ends=2):
    return [12 / (12 + ends * w) - 1 / 2 for w in (0, 1, 2.5, 6, 1000)]


def _merging():
    club = nx.karate_club_graph()
    met = nx.to_numpy_array(club)
    found = sorted(nx.community.greedy_modularity_communities(club, weight="weight"), key=lambda c: (0 not in c, 33 not in c))
    labels = np.array([next(c for c, who in enumerate(found) if i in who) for i in club])
    pairs = ((0, 1), (0, 2), (1, 2))
    return [modularity(met, np.where(labels == b, a, labels)) - modularity(met, labels) for a, b in pairs]


def _edges(layer):
    return _graphs()[1].nearest(3)[layer].directed().toarray() > 0


def _returned():
    chosen = _edges(-1)
    return (chosen & chosen.T).sum() / chosen.sum()


def _largest_hub():
    return int(np.bincount(_graphs()[1].nearest(3)[0].neighbors.ravel()).max())


def _first_to_last():
    first, last = _edges(0), _edges(-1)
    return (first & last).sum() / first.sum()


def _twice(power=2, whole=np.mean):
    """Chapter 4: the paper's two curves of VGG16 on CIFAR-10."""
    apart = np.subtract(paper_values("fig4")["vgg16/cifar10"], paper_values("fig6a")["vgg16"]["normal"])
    return whole(abs(apart) ** power) ** (1 / power)


def _repeats():
    plan = find_redundant(paper_values("fig4")["resnet152/cifar100"], layers=[str(i) for i in range(51)])
    flat, first = {int(name) for name in plan.remove}, {1, 4, 12, 48}
    repeated = set(range(1, 51)) - first
    return [len(flat & repeated) / len(repeated), len(flat & first) / len(first)]


def _firm():
    curves = [paper_values("fig4")[f"vgg16/{name}"] for name in ("cifar10", "cifar100", "imagenet50")]
    shares = {tol: [plateau_share(q, tol, 6) for q in curves] for tol in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)}
    return [tol for tol, (a, b, c) in shares.items() if a > b > c]


def _same_depth():
    run = Records.read(FOLDER).best("curves", "resnet20", "cifar10", weights="trained")
    target = run.curve(200, 3).mean
    return min(run.coords["k"], key=lambda k: np.mean((run.curve(1000, k).mean - target) ** 2))


def _above_chance():
    images = load_images("cifar10", n=500)
    graph = knn_graph(images.x.reshape(500, -1) / 255, k=3)
    mean, std = significance.null_moments(graph, images.y)
    return (modularity(graph, images.y) - mean) / std


def _far_apart(least=10):
    q = np.array(paper_values("fig4")["resnet152/cifar10"])
    i, j = np.triu_indices(len(q), least)
    return np.mean(abs(q[i] - q[j]) < 0.05)


def _noise():
    one, other = np.random.default_rng(0).normal(size=(2, 100, 1000))
    return [cka_of([one, other], unbiased=each)[0, 1] for each in (False, True)]


def _named(first=0):
    named = {int(layer) - 1 + first for layer in find_redundant(paper_values("fig4")["resnet152/cifar10"]).remove}
    return [100 * len(named & {*range(48 - n, 48)}) / n for n in (5, 11, 16, 21, 26, 30)]


def _saved():
    with torch.device("meta"):
        whole, short = (cost(build_model("resnet56", **depth)) for depth in ({}, {"stages": (2, 3, 6)}))
    return [100 * (1 - short.macs / whole.macs), 100 * (1 - short.params / whole.params)]


def _rounding():
    bar = paper_values("fig10")["cifar10"]["vgg11_1"]
    return [bar["dAcc"] / (bar["dQ"] + 0.005), bar["dAcc"] / (bar["dQ"] - 0.005)]


def _clipped():
    mean, std = (np.array(each).reshape(3, 1, 1) for each in AUTHORS_STATISTICS["cifar10"])
    pixels = load_images("cifar10", n=500).x / 255
    return ((pixels < mean) | (pixels > mean + std)).mean()


def _selected():
    of = recorded_attacks(Records.read(FOLDER), "resnet20")
    (after, before), (clip_after, clip_before) = (attack_curves(of[name, "authors"]) for name in ("jsma", "clip"))
    return [before[-1] - clip_before[-1], after[-1] - clip_after[-1]]


@cache
def _training():
    run = Records.read(FOLDER).best("training", "resnet20", "cifar10")
    return run["q"], run["test_accuracy"]


def _faithful():
    q, reached = _training()
    return int(np.argmax([spearmanr(column, reached).statistic for column in q.T]))


def _changes():
    q, reached = _training()
    return spearmanr(np.diff(q[:, -1]), np.diff(reached)).statistic


def _half_way():
    q, reached = _training()
    gained = [values - values[0] for values in (q[:, -1], reached)]
    return [1 + int(np.argmax(each >= each[-1] / 2)) for each in gained]


@cache
def _transformer():
    """Chapter 10: CCT6 on the first 500 images."""
    return load_model("cct6"), load_images("cifar10", n=500)


def _row_lengths():
    names = {"vit6": 65, "cct6": 64}  # tokens: patches and the class token, or the maps of the convolutions
    return [tokens * build_model(name).encoder.ln.normalized_shape[0] for name, tokens in names.items()]


def _relative():
    model, images = _transformer()
    every = [features for each in (model, load_model("resnet20")) for _, features in iter_features(each, images.x)]
    return int(cka_of(every)[7, 8:].argmax())


def _labels_that_fit():
    model, images = _transformer()
    last = dynamic_graph(model, images.x, k=3)[-1]
    return modularity(last, images.y) / modularity(last, communities(last))


KEYS = {
    "1.1": _biggest_step, "1.2": _smallest_term, "1.3": _last, "2.1": _bridged, "2.2": _merging, "2.3": lambda: -1 / 3,
    "3.1": _returned, "3.2": _largest_hub, "3.3": _first_to_last, "4.1": _twice, "4.2": _repeats, "4.3": _firm,
    "5.1": _clipped, "5.2": lambda: 1 - (0.5**2 + 0.3**2 + 0.2**2), "5.3": _selected,
    "6.1": _faithful, "6.2": _changes, "6.3": _half_way,
    "7.1": lambda: 49 / 250 - 1 / 10, "7.2": _same_depth, "7.3": _above_chance,
    "8.1": lambda: [1, 0], "8.2": _far_apart, "8.3": _noise, "9.1": _named, "9.2": _saved, "9.3": _rounding,
    "10.1": _row_lengths, "10.2": _relative, "10.3": _labels_that_fit,
}  # fmt: skip
