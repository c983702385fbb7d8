"""A valid call of every public function, class and method of modlib, and values that are odd wherever they are put."""

import importlib
import re
from collections.abc import Callable
from inspect import isclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

import modlib
from modlib import Curve, CurveDraws, Images, curves, pruning
from modlib.campaign.networks import Unit
from modlib.curves import CurveGrid
from modlib.results import Records, measurement, write_result
from modlib.tracker import ModularityTracker
from modlib.training import RECIPES, train
from modlib.zoo import save_model

PAGE = (Path(__file__).parents[1] / "book" / "api.md").read_text()
N, K = 12, 4


def public() -> dict[str, Callable]:
    """What the page *The library, name by name* describes: name -> function or class; and each method of the classes."""
    found, module = {}, ""
    for kind, what in re.findall(r"^\.\. (py:currentmodule|autofunction|autoclass):: (\S+)$", PAGE, re.MULTILINE):
        module = what if kind == "py:currentmodule" else module
        if kind != "py:currentmodule":
            found[f"{module}.{what}"] = getattr(importlib.import_module(module), what)
    for name, kind in [*found.items()]:
        for key, each in vars(kind).items() if isclass(kind) else ():
            if (key == "__getitem__" or not key.startswith("_")) and (callable(each) or isinstance(each, classmethod)):
                found[f"{name}.{key}"] = getattr(kind, key)
    return found


def odd_values(folder: Path) -> dict[str, object]:
    """What is wrong nearly everywhere, by what it is called here. Made anew for each call: generators are read once."""
    return {
        "None": None,
        "''": "",
        "'x'": "x",
        "'../../x'": "../../x",
        "NUL": "a\0b",
        "long": "x" * 5000,
        "b'x'": b"x",
        "-1": -1,
        "0": 0,
        "1e30": 10**30,
        "1.5": 1.5,
        "-0.5": -0.5,
        "nan": float("nan"),
        "inf": float("inf"),
        "1j": 1j,
        "True": True,
        "'3'": "3",
        "np.nan": np.float32("nan"),
        "np.int64": np.int64(2),
        "[]": [],
        "{}": {},
        "()": (),
        "set": {1, 2},
        "[None]": [None],
        "ragged": [[1], [1, 2]],
        "twice": ["a", "a"],
        "{1: 2}": {1: 2},
        "object": object(),
        "NaN array": np.full(N, np.nan),
        "0-d array": np.array(1.0),
        "empty array": np.zeros((0, 3)),
        "matrix": np.zeros((2, 3)),
        "5-d array": np.zeros((1, 1, 1, 1, 1)),
        "text array": np.array(["a", "b"]),
        "complex array": np.ones(N) * 1j,
        "bool array": np.arange(N) > 3,
        "object array": np.array([None, "a"], object),
        "dates": np.array(["2020-01-01"], "M8[D]"),
        "generator": (i for i in range(3)),
        "endless": (0 for _ in count()),
        "no path": folder / "none" / "x",
        "folder": folder,
        "lambda": lambda: None,
        "class": int,
        "module": np,
        "grad": torch.ones(N, requires_grad=True),
        "meta": torch.ones(N, device="meta"),
        "sparse": torch.eye(N).to_sparse(),
        "network": nn.Identity(),
        "Images": Images(np.zeros((2, 3, 8, 8), np.uint8), np.arange(2), ("a", "b"), "x"),
    }


def world(folder: Path) -> SimpleNamespace:
    """What the calls need: small networks, images, graphs, curves, records, a finished training."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.Flatten(), nn.Linear(54, 10)
    ).eval()
    w = SimpleNamespace(folder=folder, net=net, thin=modlib.build_model("resnet20", stages=(2, 2, 2)))
    images = modlib.load_images("cifar10", n=N)
    w.images = Images(np.ascontiguousarray(images.x[..., 12:20, 12:20]), images.y, images.classes, "cifar10/sample")
    w.x, w.y, w.layers = w.images.x, w.images.y, ["0", "2"]
    w.features = np.random.default_rng(0).random((N, 6)).astype(np.float32)
    w.graph, w.dynamic = modlib.knn_graph(w.features, K), modlib.dynamic_graph(net, w.x, K)
    w.curve = curves.curve_of(w.dynamic, w.y)
    w.names = tuple(modlib.layer_names(w.thin))
    w.thin_curve = Curve(w.names, np.linspace(0, 0.5, 7), np.zeros((7, 1)), 3, N)
    w.draws = CurveDraws(("0", "2"), np.array([[0.1, 0.2], [0.2, 0.4]]), 3, N)
    w.grid = CurveGrid(("0", "2"), (10,), (1, 3), np.random.default_rng(0).random((1, 2, 2, 2, 10)))
    w.record = measurement("curve", {"k": 3, "model": "resnet20"}, {"layer": ["a", "b"]}, {"q": (["layer"], [0.1, 0.4])})
    w.curves = Records(modlib.find_results("curves", model="resnet20", dataset="cifar10", weights="trained"))
    [w.recorded, *_] = w.curves
    (folder / "records").mkdir()
    write_result(w.record, folder / "records" / "r.json")
    w.records = Records.read(folder / "records")
    w.weights = save_model(w.thin, folder / "w.safetensors")
    w.data = (w.images, w.images)
    w.trained = dict(name="resnet20", stages=(1, 1, 1), folder=folder / "run", data=w.data, epochs=1, batch_size=6)
    train(**w.trained)
    w.tuned = dict(model=pruning.prune(w.thin, ["layer1.1"]), folder=folder / "tuned", data=w.data, epochs=1)
    pruning.fine_tune(**w.tuned)
    w.positions = [np.random.default_rng(i).random((N, 2)) for i in range(2)]
    w.plan = pruning.random_plan(w.thin, 1)
    w.attacked = modlib.attack(net, w.images, "onepixel", max_pixels=20)
    w.tracker = ModularityTracker(net, w.x, w.y, layers=["0"])
    w.tracker.step(1)
    return w


def calls(w: SimpleNamespace) -> dict[str, tuple[Callable, dict]]:
    """Name -> the function and its arguments. A name may have an ending in brackets, where one valid call does not show all."""
    options = dict(batch_size=5, storage="float32", output=None, reduce=None, forward=None, progress=False)
    whole = dict(sketch=None, search="exact", seed=0, dead="refuse", memory="1GiB", resume=None) | options
    pool = dict(images=w.images, seed=0)
    made = {  # (function or class, arguments)
        "modlib.attack": dict(
            model=w.net,
            images=w.images,
            name="fgsm",
            protocol="pixels",
            seed=0,
            n=None,
            batch_size=5,
            max_minutes=1.0,
            resume=None,
            implementation="modlib",
            progress=False,
            eps=0.1,
        ),
        "modlib.attack[pgd]": dict(model=w.net, images=w.images, name="pgd", eps=0.1, nb_iter=2, eps_iter=0.05, rand_init=True),
        "modlib.attack[jsma]": dict(model=w.net, images=w.images, name="jsma", theta=1.0, gamma=0.02, target="next"),
        "modlib.attack[cw]": dict(
            model=w.net,
            images=w.images,
            name="cw",
            confidence=0.0,
            learning_rate=0.01,
            binary_search_steps=1,
            max_iterations=2,
            abort_early=True,
            initial_const=0.001,
        ),
        "modlib.attack[onepixel]": dict(model=w.net, images=w.images, name="onepixel", max_pixels=2),
        "modlib.attack[localsearch]": dict(
            model=w.net, images=w.images, name="localsearch", p=1.0, r=1.5, d=1, t=2, round_ub=1, seed_ratio=0.1, max_nb_seeds=4
        ),
        "modlib.attacks.clip_only": dict(images=w.images),
        "modlib.attacks.Attacked": {key: value for key, value in vars(w.attacked).items()},
        "modlib.Images": dict(x=w.x, y=w.y, classes=w.images.classes, name="x"),
        "modlib.Images.__getitem__": dict(self=w.images, index=1),
        "modlib.load_images": dict(name="cifar10", n=5, seed=None, split=None, size=64),
        "modlib.data.store": dict(name="cifar100", door="torchvision", archive=None),
        "modlib.data.cache_folder": {},
        "modlib.build_model": dict(
            name="resnet20",
            dataset="cifar10",
            num_classes=None,
            stages=(1, 1, 1),
            stride_in="conv2",
            shortcut="pad",
            pixels=None,
            seed=0,
        ),
        "modlib.layer_names": dict(model=w.net, at="conv"),
        "modlib.load_model": dict(name="resnet20", dataset="cifar10", weights=w.weights, source=None),
        "modlib.load_model[architecture]": dict(name="resnet20", weights=w.weights, num_classes=10, stages=[2, 2, 2]),
        "modlib.load_model[source]": dict(name="resnet20", weights="akamaster"),
        "modlib.zoo.save_model": dict(model=w.net, path=w.folder / "saved.safetensors", precision="float32"),
        "modlib.zoo.registry": {},
        "modlib.iter_features": dict(model=w.net, x=w.x, layers=w.layers, memory=None, spool=False) | options,
        "modlib.KnnGraph": dict(neighbors=w.graph.neighbors, weights=w.graph.weights),
        "modlib.KnnGraph.nearest": dict(self=w.graph, k=2),
        "modlib.KnnGraph.directed": dict(self=w.graph),
        "modlib.KnnGraph.adjacency": dict(self=w.graph),
        "modlib.knn_graph": dict(features=w.features, k=3, sketch=None, search="exact", seed=0, dead="refuse"),
        "modlib.knn_graph[sketch]": dict(features=w.features, k=3, sketch=4, seed=0),
        "modlib.graph.knn_graphs": dict(
            features=w.features, k=2, samples=[[0, 1, 2], [2, 4, 5, 6]], sketch=None, search="exact", seed=0, dead="refuse"
        ),
        "modlib.DynamicGraph": dict(layers=("0", "2"), graphs=w.dynamic.graphs),
        "modlib.DynamicGraph.__getitem__": dict(self=w.dynamic, layer=1),
        "modlib.DynamicGraph.nearest": dict(self=w.dynamic, k=2),
        "modlib.DynamicGraph.persistence": dict(self=w.dynamic),
        "modlib.dynamic_graph": dict(model=w.net, x=w.x, k=3, layers=w.layers) | whole,
        "modlib.graph.iter_graphs": dict(model=w.net, x=w.x, k=3, samples=[range(6), range(4, 12)], layers=w.layers) | whole,
        "modlib.modularity": dict(graph=w.graph, labels=w.y, per_class=False),
        "modlib.modularity.communities": dict(graph=w.graph, resolution=1.0, seed=0),
        "modlib.models.export.export_onnx": dict(
            model=w.net, folder=w.folder / "onnx", name="net", size=(3, 8, 8), layers=w.layers, gradient=True, weights=True
        ),
        "modlib.models.export.tensors": dict(model=w.net),
        "modlib.modularity_curve": dict(model=w.net, x=w.x, y=w.y, k=3, layers=w.layers) | whole,
        "modlib.curves.curve_of": dict(graph=w.dynamic, y=w.y),
        "modlib.repeat_curves": dict(model=w.net, n=6, k=3, draws=2) | pool | {"batch_size": 5, "memory": None},
        "modlib.curves.curve_grid": dict(model=w.net, n=[5, 6], k=[1, 3], draws=2) | pool | {"batch_size": 5, "memory": None},
        "modlib.Curve": dict(layers=("0", "2"), q=w.curve.q, per_class=w.curve.per_class, k=3, n=N),
        "modlib.CurveDraws": dict(layers=("0", "2"), q=w.draws.q, k=3, n=N),
        "modlib.curves.CurveGrid": dict(layers=("0", "2"), n=(10,), k=(1, 3), per_class=w.grid.per_class),
        "modlib.curves.CurveGrid.draws": dict(self=w.grid, n=10, k=3),
        "modlib.significance.null_moments": dict(graph=w.graph, labels=w.y),
        "modlib.significance.null_model": dict(graph=w.graph, labels=w.y, repeats=3, seed=0),
        "modlib.significance.subsamples": dict(graph=w.graph, labels=w.y, k=1, size=11, repeats=3, seed=0),
        "modlib.significance.confidence_interval": dict(
            graph=modlib.knn_graph(w.features, 11), labels=w.y, k=1, level=0.9, repeats=3, seed=0
        ),
        "modlib.significance.mantel": dict(a=_matrix(1), b=_matrix(2), given=_matrix(3), count=9, seed=0),
        "modlib.significance.blocks": dict(difference=_matrix(1), stage=[0, 0, 1, 1, 1]),
        "modlib.similarity.modularity_difference": dict(q=w.curve.q, other=w.curve.q),
        "modlib.similarity.linear_cka": dict(model=w.net, x=w.x, layers=w.layers, other=w.net, minibatch=None, memory="1GiB")
        | options,
        "modlib.similarity.cka_of": dict(features=[w.features, w.features**2], unbiased=False),
        "modlib.similarity.shared_edges": dict(graph=w.dynamic, y=w.y, other=w.dynamic),
        "modlib.training.train": w.trained
        | dict(dataset="cifar10", recipe="fast", weights=None, seed=0, device="cpu", max_minutes=None, progress=False),
        "modlib.training.Recipe": vars(RECIPES["fast"]),
        "modlib.training.Recipe.rate": dict(self=RECIPES["fast"], epoch=3.5),
        "modlib.tracker.ModularityTracker": dict(
            model=w.net, x=w.x, y=w.y, every=1, k=3, layers=w.layers, writer=None, batch_size=5
        ),
        "modlib.tracker.ModularityTracker.step": dict(self=w.tracker, step=2),
        "modlib.tracker.ModularityTracker.table": dict(self=w.tracker),
        "modlib.tracker.ModularityTracker.lightning": dict(self=w.tracker),
        "modlib.tracker.ModularityTracker.hugging_face": dict(self=w.tracker),
        "modlib.pruning.find_redundant": dict(curve=w.thin_curve, tol=0.01, model=w.thin, layers=None),
        "modlib.pruning.find_redundant[numbers]": dict(curve=[0.1, 0.2, 0.15], tol=0.01, layers=["a", "b", "c"]),
        "modlib.pruning.rise_plan": dict(curve=w.thin_curve, model=w.thin, count=1),
        "modlib.pruning.random_plan": dict(model=w.thin, count=1, seed=0),
        "modlib.pruning.l1_plan": dict(model=w.thin, count=1),
        "modlib.pruning.Plan": vars(w.plan),
        "modlib.pruning.Plan.table": dict(self=w.plan),
        "modlib.pruning.removable": dict(model=w.thin),
        "modlib.pruning.prune": dict(model=w.thin, plan=["layer1.1"]),
        "modlib.pruning.fine_tune": w.tuned | dict(dataset="cifar10", recipe="fast", seed=0),
        "modlib.pruning.layer_costs": dict(model=w.thin, shape=(3, 8, 8)),
        "modlib.cost.cost": dict(model=w.net, shape=(3, 8, 8), x=None),
        "modlib.cost.cost[x]": dict(model=w.net, x=w.x),
        "modlib.cost.Cost": dict(macs=3, params=2, layers={"a": {"macs": 3, "params": 2}}, uncounted=()),
        "modlib.cost.seconds": dict(model=w.net, shape=(3, 8, 8), batch_size=2, min_seconds=0.001),
        "modlib.cost.accuracy": dict(model=w.net, images=w.images, batch_size=5, progress=False),
        "modlib.explore": dict(model=w.net, images=w.images, results=[]),
        "modlib.explore[name]": dict(model="resnet20"),
        "modlib.book.widgets.graph.explore_graph": dict(
            graph=w.dynamic,
            images=w.images,
            positions=w.positions,
            layer=0,
            k=3,
            image=0,
            attacked=(w.dynamic, w.images, w.positions),
            predicted=[w.y, w.y],
        ),
        "modlib.book.widgets.pruning.explore_pruning": dict(network="resnet20-cifar10", tol=0.01, records=w.curves, printed=False),
        "modlib.book.widgets.lab.graph_lab": dict(graph=w.graph, labels=w.y, start="triangles"),
        "modlib.plots.plot_curve": dict(curves={"a": w.curve}, paper=[0.1, 0.2], title="x", ax=None),
        "modlib.plots.plot_layouts": dict(positions={"a": w.positions[0]}, labels=w.y, classes=w.images.classes, columns=5),
        "modlib.plots.plot_dynamic_graph": dict(graph=w.dynamic, labels=w.y, classes=w.images.classes, layers=None),
        "modlib.plots.layout": dict(features=w.features, method="tsne", seed=0, start=None),
        "modlib.plots.layout[start]": dict(features=w.features, start=w.positions[0]),
        "modlib.find_results": dict(experiment="curve", folder=w.folder / "records", model="resnet20"),
        "modlib.results_table": dict(value="q", experiment="curve", folder=w.folder / "records", model="resnet20"),
        "modlib.results.Result": vars(w.record),
        "modlib.results.Result.__getitem__": dict(self=w.record, name="q"),
        "modlib.results.Result.at": dict(self=w.record, name="q", layer="a"),
        "modlib.results.Result.curve": dict(self=w.recorded, n=500, k=3, at="conv"),
        "modlib.results.Result.table": dict(self=w.record, name="q"),
        "modlib.results.measurement": dict(
            experiment="curve", settings={"k": 3}, coords={"layer": ["a", "b"]}, values={"q": (["layer"], [0.1, 0.4])}, device="cpu"
        ),
        "modlib.results.write_result": dict(result=w.record, path=w.folder / "written.json"),
        "modlib.results.read_result": dict(path=w.folder / "records" / "r.json"),
        "modlib.results.Records": dict(results=[w.record]),
        "modlib.results.Records.read": dict(folders=w.folder / "records"),
        "modlib.results.Records.find": dict(self=w.records, experiment="curve", model="resnet20"),
        "modlib.results.Records.best": dict(self=w.records, experiment="curve", model="resnet20", dataset="cifar10"),
        "modlib.results.Records.table": dict(self=w.records, value="q", experiment="curve"),
        "modlib.paper.paper_values": dict(figure="fig4"),
        "modlib.campaign.reproduce.reproduce": dict(
            figure="fig4",
            models=["resnet20"],
            datasets=["cifar10"],
            variants=None,
            recipe="fast",
            epochs=1,
            tune_epochs=None,
            tune_recipe=None,
            batch_size=None,
            seed=0,
            device="cpu",
            max_minutes=None,
            scale="smoke",
            images=None,
            runs=w.folder / "runs",
            out=w.folder / "out",
            shipped=True,
            weights=None,
            progress=False,
            jobs=1,
            backend=None,
            scheduler=None,
        ),
        "modlib.campaign.reproduce.measure": dict(figures="fig4"),
        "modlib.campaign.reproduce.Step": dict(
            unit=Unit("resnet20", "cifar10"), state="recorded", result=w.record, note="", task=""
        ),
        "modlib.campaign.networks.Unit": dict(model="resnet20", dataset="cifar10", variant=""),
    }
    return made


def _matrix(seed: int) -> np.ndarray:
    a = np.random.default_rng(seed).random((5, 5))
    return a + a.T
