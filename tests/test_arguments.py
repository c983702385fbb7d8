"""Every public function of the chain, with wrong kinds of arguments: a sentence that names the argument, never another error."""

import os

import numpy as np
import pytest
import torch

import modlib
from modlib import Curve, attacks, curves, plots, pruning, results, significance, similarity
from modlib.cost import accuracy, cost, seconds
from modlib.tracker import ModularityTracker
from modlib.zoo import save_model


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
    (lambda net: Curve(("a", "b"), np.ones(3), np.ones((3, 1)), 3, 10), r"one entry a layer; got 2, \(3,\) and \(3, 1\)"),
    (lambda net: modlib.CurveDraws(("a", "b"), np.ones(2), 3, 10), r"q must be \(draws, L\) for 2 layers"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(net, call, says):
    with pytest.raises(ValueError, match=says):
        call(net)


@pytest.mark.parametrize("read", [
    lambda path: modlib.load_model("resnet20", weights=path),
    lambda path: modlib.load_model("resnet20", weights=path, source="akamaster"),
    lambda path: modlib.data.store("cifar100", archive=path),
    lambda path: modlib.load_images(path),
    lambda path: results.read_result(path),
    lambda path: results.write_result(modlib.find_results("curves", model="resnet20")[0], path),
    lambda path: modlib.attack(modlib.build_model("resnet20", stages=(1, 1, 1)), IMAGES, "fgsm", resume=path),
])  # fmt: skip
def test_a_pipe_is_not_waited_for_nor_a_device_written_over(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="must be the path of a file or a folder"):
            read(path)


def test_a_graph_that_was_checked_cannot_be_changed():
    """A neighbour out of range would be a crash of the process."""
    with pytest.raises(ValueError, match="read-only"):
        GRAPH.neighbors[0, 0] = 99
    with pytest.raises(ValueError, match="read-only"):
        GRAPH.weights[:] = np.nan
    own = GRAPH.neighbors.copy()
    assert modlib.KnnGraph(own, GRAPH.weights).n == 20 and own.flags.writeable


def test_graphs_and_records_without_anything_are_none():
    with pytest.raises(ValueError, match=r"neighbors must be whole numbers \(N, k\)"):
        modlib.KnnGraph(np.zeros((3, 0), int), np.zeros((3, 0)))
    with pytest.raises(ValueError, match="graphs must be one a layer"):
        modlib.DynamicGraph((), ())
    with pytest.raises(ValueError, match="evidence must hold what JSON knows"):
        results.measurement("curve", {}, {}, {}, accuracy=float("nan"))


def test_what_cannot_be_is_refused_before_the_work(net, tmp_path):
    """Not after hours: also by a tracker, whose first measurement comes behind an epoch."""
    (tmp_path / "file").write_bytes(b"")

    def never(model, batch):
        raise AssertionError("the model has run")

    for wrong in (
        dict(search="x"),
        dict(dead="x"),
        dict(seed=-1),
        dict(sketch=0),
        dict(batch_size=0),
        dict(storage="x"),
        dict(memory="x"),
    ):
        for measure in (modlib.dynamic_graph, lambda *a, **o: ModularityTracker(*a, IMAGES.y, **o)):
            with pytest.raises(ValueError, match=f"{[*wrong][0]}"):
                measure(net, IMAGES.x, forward=never, layers=["conv1"], **wrong)
    for wrong in (dict(resume=tmp_path / "r"), dict(writer=3), dict(layers=["conv9"])):
        with pytest.raises(ValueError, match=[*wrong][0].rstrip("s")):
            ModularityTracker(net, IMAGES.x, IMAGES.y, forward=never, **wrong)
    with pytest.raises(OSError, match="nothing can be written to"):
        modlib.dynamic_graph(net, IMAGES.x, forward=never, resume=tmp_path / "file" / "r")
    with pytest.raises(OSError, match="nothing can be written to"):
        modlib.training.train("resnet20", data=(IMAGES, IMAGES), folder=tmp_path / "file" / "run")


@pytest.mark.parametrize("use", [
    lambda model, path: modlib.modularity_curve(model, IMAGES.x, IMAGES.y),
    lambda model, path: modlib.attack(model, IMAGES, "fgsm"),
    lambda model, path: accuracy(model, IMAGES),
    lambda model, path: seconds(model),
    lambda model, path: save_model(model, path),
    lambda model, path: ModularityTracker(model, IMAGES.x, IMAGES.y),
])  # fmt: skip
def test_a_network_without_numbers_is_told(use, tmp_path):
    with torch.device("meta"):
        model = modlib.build_model("resnet20", stages=(1, 1, 1))
    with pytest.raises(ValueError, match="model must hold numbers; some of its weights are on the device 'meta'"):
        use(model, tmp_path / "w.safetensors")
    assert cost(model).params > 0 and modlib.layer_names(model)  # shapes are enough


@pytest.mark.parametrize("use, says", [
    (lambda model, path: accuracy(model, IMAGES), "model gives logits that are NaN"),
    (lambda model, path: modlib.attack(model, IMAGES, "fgsm"), "model gives logits that are NaN"),
    (lambda model, path: modlib.modularity_curve(model, IMAGES.x, IMAGES.y), "layer 'conv1': features must be finite"),
    (lambda model, path: save_model(model, path), "model must have finite weights, also as float32; conv1.weight has not"),
])  # fmt: skip
def test_a_network_of_nan_has_no_accuracy_and_is_not_saved(use, says, tmp_path):
    model = modlib.build_model("resnet20", stages=(1, 1, 1))
    torch.nn.init.constant_(model.conv1.weight, float("nan"))
    with pytest.raises(ValueError, match=says):
        use(model, tmp_path / "w.safetensors")
    assert not [*tmp_path.iterdir()]


def test_weights_that_a_precision_does_not_hold_are_not_saved(net, tmp_path):
    model = pruning.prune(net, [])  # a copy
    with torch.no_grad():
        model.fc.weight[0, 0] = 1e30
    with pytest.raises(ValueError, match="also as float16; fc.weight has not"):
        save_model(model, tmp_path / "w.safetensors", "float16")


@pytest.mark.parametrize("shift", [10, -10])
def test_labels_that_are_no_class_are_not_counted_as_wrong_answers(net, shift):
    images = modlib.Images(IMAGES.x, IMAGES.y + shift, IMAGES.classes, IMAGES.name)
    with pytest.raises(ValueError, match=r"images\.y must be in 0\.\.9, the classes of the model"):
        accuracy(net, images)


def test_what_is_masked_does_not_count_as_if_it_were_not():
    with pytest.raises(ValueError, match="features must be .* masked"):
        modlib.knn_graph(np.ma.masked_less(X, 0.5))
    with pytest.raises(ValueError, match="labels must be"):
        modlib.modularity(GRAPH, np.ma.masked_equal(Y, 1))


def test_what_is_like_an_array_or_a_tuple_becomes_one(network, pixels):
    """Of the fields of a dataclass: lists, tensors, the keys of a dict."""
    lists = modlib.KnnGraph(GRAPH.neighbors.tolist(), torch.from_numpy(GRAPH.weights.copy()))
    assert (lists.neighbors == GRAPH.neighbors).all() and isinstance(lists.weights, np.ndarray)
    dynamic = modlib.DynamicGraph({"a": 1, "b": 2}.keys(), [GRAPH, lists])
    assert dynamic.layers == ("a", "b") and dynamic["b"] is lists
    assert (similarity.shared_edges(dynamic) == GRAPH.neighbors.size).all()
    curve = modlib.Curve(["a"], [0.5], [[0.2, 0.3]], 1, 20)
    assert curve.layers == ("a",) and curve.q.dtype == float and curve.per_class.shape == (1, 2)
    with pytest.raises(ValueError, match="weights must be an array of numbers; got weights='high'"):
        modlib.KnnGraph(GRAPH.neighbors, "high")


def test_one_layer_by_its_name(network, pixels):
    name = modlib.layer_names(network)[-1]
    assert modlib.dynamic_graph(network, pixels, k=2, layers=name).layers == (name,)
    assert [each for each, _ in modlib.iter_features(network, pixels, {name: 1}.keys())] == [name]
