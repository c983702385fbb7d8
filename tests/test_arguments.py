"""Every public function of the chain, with wrong kinds of arguments: a sentence that names the argument, never another error."""

import numpy as np
import pytest

import modlib
from modlib import Curve, attacks, curves, plots, pruning, significance, similarity
from modlib.cost import cost, seconds


@pytest.fixture(scope="module")
def net():
    return modlib.build_model("resnet20", stages=(1, 1, 1))


IMAGES = modlib.load_images("cifar10", n=12)
GRAPH = modlib.knn_graph(np.random.default_rng(0).random((20, 4)), 5)
Y = np.arange(20) % 2
NAN = Curve(("conv1", "layer1.0", "layer2.0", "layer3.0"), np.full(4, np.nan), np.zeros((4, 1)), 3, 100)
X = np.random.default_rng(0).random((9, 30))


@pytest.mark.parametrize("call, says", [
    (lambda net: pruning.rise_plan([1, 2], net, 2), "curve must be modlib.Curve or modlib.CurveDraws"),
    (lambda net: pruning.rise_plan(NAN, net, 2), r"curve must be a Curve, CurveDraws or modularities .*, finite numbers"),
    (lambda net: pruning.random_plan(net, 1, seed="a"), "seed must be"),
    (lambda net: pruning.prune(net, None), "plan must be"),
    (lambda net: modlib.dynamic_graph(net, IMAGES.x, layers=3), "layers must be a list of names"),
    (lambda net: modlib.dynamic_graph(net, IMAGES.x, resume=3), "resume must be the path"),
    (lambda net: modlib.dynamic_graph(net, IMAGES.x, reduce="max"), "reduce must be 'mean', 'cls'"),
    (lambda net: modlib.dynamic_graph(net, IMAGES.x, forward=3), "forward must be a function, or None"),
    (lambda net: modlib.dynamic_graph(net, IMAGES.x)[99], r"layer must be a name or a place in 0\.\.3"),
    (lambda net: modlib.knn_graph(None), "features must be an array"),
    (lambda net: modlib.knn_graph(X + 1j), "features must be real"),
    (lambda net: modlib.knn_graph(X, sketch=2, seed="a"), "seed must be"),
    (lambda net: similarity.cka_of(None), "features must be matrices"),
    (lambda net: similarity.cka_of([]), "features must be matrices"),
    (lambda net: similarity.shared_edges(GRAPH), "graph must be modlib.DynamicGraph"),
    (lambda net: significance.null_model(GRAPH, Y, 5, seed="a"), "seed must be"),
    (lambda net: significance.subsamples(GRAPH.adjacency(), Y), "graph must be a KnnGraph"),
    (lambda net: significance.confidence_interval(GRAPH, Y, level="a"), "level must be a number"),
    (lambda net: significance.confidence_interval(GRAPH, Y, level=1), "level must be"),
    (lambda net: modlib.attack(net, IMAGES, "fgsm", max_minutes="soon"), "max_minutes must be a number, or None"),
    (lambda net: modlib.attack(net, IMAGES, "fgsm", max_minutes=-1), "max_minutes must be"),
    (lambda net: modlib.attack(net, IMAGES, "fgsm", max_minutes=float("nan")), "max_minutes must be"),
    (lambda net: modlib.attack(net, IMAGES, "fgsm", resume=3), "resume must be the path"),
    (lambda net: attacks.clip_only(None), "images must be modlib.Images"),
    (lambda net: modlib.repeat_curves(net, IMAGES.x, n=2), "images must be modlib.Images"),
    (lambda net: curves.curve_grid(net, IMAGES, 5, [3]), "n must be a list"),
    (lambda net: curves.curve_grid(net, IMAGES, [5], []), "k must be a list"),
    (lambda net: cost(net, None), "shape must be a list of whole numbers"),
    (lambda net: seconds(net, min_seconds="a"), "min_seconds must be a number"),
    (lambda net: plots.plot_curve([0.1, 0.2]), "curves must be modlib.Curve"),
    (lambda net: plots.plot_curve({"a": 3}), "curves must be modlib.Curve"),
    (lambda net: modlib.build_model("resnet20", pixels=3), "pixels must be a tuple of 2"),
    (lambda net: modlib.build_model("resnet20", pixels=([0, 0, 0], [0, 0, 0])), "pixels must be the means"),
    (lambda net: modlib.build_model("resnet20", ["a"]), "dataset must be text"),
    (lambda net: modlib.build_model(["resnet20"]), "name must be text"),
    (lambda net: modlib.build_model("resnet20", num_classes=10**30), r"num_classes must be a whole number in 2\.\.1000000"),
    (lambda net: Curve(("a", "b"), np.ones(3), np.ones((3, 1)), 3, 10), "got 2, 3 and 3"),
    (lambda net: modlib.CurveDraws(("a", "b"), np.ones(2), 3, 10), r"q must be \(draws, L\) for 2 layers"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(net, call, says):
    with pytest.raises(ValueError, match=says):
        call(net)
