"""The exercises of the book: keys by chapter and number, computed when they are asked for."""

from functools import cache

import networkx as nx
import numpy as np
import torch

from modlib import significance
from modlib.book.checker import PER_CENT, Checker, Exercise
from modlib.book.statistics import plateau_share
from modlib.cost import cost
from modlib.data import load_images
from modlib.graph import dynamic_graph, knn_graph
from modlib.models import build_model
from modlib.modularity import modularity
from modlib.paper import paper_values
from modlib.pruning import find_redundant
from modlib.results import FOLDER, Records
from modlib.similarity import cka_of
from modlib.zoo import load_model


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


EXERCISES = {
    "1.1": Exercise(
        _biggest_step, "compare each layer with the one before it, and give the later of the two",
        near={
            "Difference i of np.diff leads from layer i to layer i + 1.": lambda right: right - 1,
            "The first layer has index 0.": lambda right: right + 1,
        },
    ),
    "1.2": Exercise(
        _smallest_term, "the last layer is the last row of curve.per_class",
        near={"The first class has number 0.": lambda right: right + 1},
    ),
    "1.3": Exercise(
        _last, "one search with k = 20 is enough: look at modlib.dynamic_graph", 1e-4,
        {"That is Q at k = 3.": lambda _: _last(3)} | PER_CENT,
    ),
    "2.1": Exercise(
        _bridged,
        "how much of 2W lies inside, and which share of it does each side hold?", 1e-4,
        {"An edge counts twice in 2W, once from each end; the bridge, too.": lambda _: _bridged(1)},
    ),
    "2.2": Exercise(
        _merging, "the weight between the two communities, and the product of their strengths, both as in the equation", 1e-4,
        {
            "The factor 2 is missing.": lambda right: right / 2,
            "The gain is the new Q minus the old one.": lambda right: -right,
        },
    ),
    "2.3": Exercise(
        lambda: -1 / 3, "put nothing inside the classes; what is left of each term?", 1e-3,
        {
            "The floor of -1/2 needs two classes that hold half of the strength each; here are three.": lambda _: -0.5,
            "That is the expected share inside; it is subtracted.": lambda _: 1 / 3,
        },
    ),
    "3.1": Exercise(
        _returned, "an edge is returned where both D and its transpose have an entry", 1e-4,
        PER_CENT | {"Count both directed edges of a pair, as the denominator does.": lambda right: right / 2},
    ),
    "3.2": Exercise(
        _largest_hub, "count how often each index stands in .neighbors",
        near={"The count is asked for, not the share.": lambda right: right / 499},
    ),
    "3.3": Exercise(
        _first_to_last, "an edge is kept where both layers have an entry; the share of the first layer's edges", 1e-4,
        PER_CENT | {"That is how many are kept; the share is asked for.": lambda right: right * 1500},
    ),
    "4.1": Exercise(
        _twice, "square the differences, average, root", 1e-4,
        {
            "The root is missing.": lambda right: right**2,
            "That is the mean of the absolute differences: square first.": lambda _: _twice(1),
            "That is the largest difference: average over the layers.": lambda _: _twice(1, np.max),
        },
    ),
    "4.2": Exercise(
        _repeats, "the stem is 0, and a stage begins after the blocks of all stages before it; which four are that?", 1e-4,
        PER_CENT | {
            "Repeated blocks first, then first blocks.": lambda right: right[::-1],
            "The stem is no block.": lambda right: [right[0] * 46 / 47, right[1]],
        },
    ),
    "4.3": Exercise(_firm, "three shares for each tolerance; compare twice, and equal is not smaller; a list is asked for"),
    "7.1": Exercise(
        lambda: 49 / 250 - 1 / 10, "how many of its 250 neighbours can be of an image's own class?", 1e-4,
        {
            "Nobody is their own neighbour.": lambda _: 50 / 250 - 1 / 10,
            "What chance would give is not yet subtracted.": lambda _: 49 / 250,
        },
    ),
    "7.2": Exercise(
        _same_depth, "try every recorded k, and take the least distance",
        near={
            "So the formula predicts. Which recorded k is nearest?": lambda _: 19,
            "The same k is not the same depth.": lambda _: 3,
        },
    ),
    "7.3": Exercise(
        _above_chance, "how far Q lies above its mean by chance, in units of its spread by chance", 0.05,
        {"The mean by chance is not yet subtracted.": lambda _: 10.038},
    ),
    "8.1": Exercise(
        lambda: [1, 0], "sort the three differences of a triple, and compare the last with the sum of the others",
        near=PER_CENT | {"The other way round: first D, then 1 - CKA.": lambda right: right[::-1]},
    ),
    "8.2": Exercise(
        _far_apart, "np.triu_indices(len(q), 10) gives the pairs; then the mean of a comparison", 6e-4,
        PER_CENT | {
            "That is the share of the pairs that differ by more.": lambda right: 1 - right,
            "Off by one: at least 10 apart is |i - j| >= 10.": lambda _: _far_apart(11),
        },
    ),
    "8.3": Exercise(
        _noise, "cka_of([one, other], unbiased=...)[0, 1], both ways", 6e-4,
        {
            "The other way round: first the full CKA.": lambda right: right[::-1],
            "That is 1 - CKA; CKA itself is asked for.": lambda right: 1 - right,
        },
    ),
    "9.1": Exercise(
        _named, "`i in named` for each i from 48 - n to 47, and the mean of that", 0.51,
        {
            "Those are shares; percentages are asked for.": lambda right: right / 100,
            "Off by one: the last five are layers 43 to 47, counted from 0.": lambda _: _named(-1),
        },
    ),
    "9.2": Exercise(
        _saved, "sum macs and params of the blocks that go, and divide by those of the whole", 0.051,
        {
            "Those are shares; percentages are asked for.": lambda right: right / 100,
            "That is what is left; what is saved is asked for.": lambda right: 100 - right,
        },
    ),
    "9.3": Exercise(
        _rounding, "a ΔQ printed as 0.01 may be anything from 0.005 to 0.015", 6e-3,
        {"The other way round: the lowest first.": lambda right: right[::-1]},
    ),
}  # fmt: skip
check = Checker(EXERCISES)
