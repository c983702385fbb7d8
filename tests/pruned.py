"""Made-up records of pruned networks: real layers and costs, accuracies as given."""

import numpy as np
import torch

from modlib.cost import cost
from modlib.models import build_model, layer_names
from modlib.pruning import prune
from modlib.results import measurement, write_result


def skeleton(name, dataset="cifar10", **options):
    """A network without the memory and time that its weights take."""
    with torch.device("meta"):
        return build_model(name, dataset, **options)


def pruned_record(folder, model, criterion, removed, lost, *, start="inherited", dataset="cifar10", whole=90.0, **settings):
    """A record of ``model`` without the layers ``removed`` (names, or how many of the last), ``lost`` points below the whole."""
    network = skeleton(model, dataset)
    names = removed if isinstance(removed, (list, tuple)) else layer_names(network)[-removed:]
    shorter = prune(network, names)
    settings = {"recipe": "fast", "epochs": 15, "seed": 0, "tune_epochs": 3, "scale": "full", "weights": "trained", **settings}
    settings |= {
        "model": model,
        "dataset": dataset,
        "criterion": criterion,
        "count": len(names),
        "start": start,
    }
    costs = [cost(each) for each in (network, shorter)]
    layers = layer_names(shorter)
    values = {
        "q": (["draw", "layer"], np.linspace(0.1, 0.7, len(layers)) + np.array([[0.01], [-0.01]])),
        "accuracy": (["network"], [whole, whole - lost]),
        "at_once": ([], 40.0),
        "macs": (["network"], [each.macs for each in costs]),
        "params": (["network"], [each.params for each in costs]),
        "seconds": (["network"], [2e-3, 1e-3]),
    }
    coords = {"network": ["whole", "pruned"], "draw": [1, 2], "layer": layers, "removed": list(names)}
    told = "-".join(str(settings[key]) for key in sorted(settings))
    return write_result(measurement("pruning", settings, coords, values), folder / f"pruning-{told}-{'-'.join(names)}.json")


def curve_record(folder, model, q, **settings):
    """A record of the whole network's curve: Q (layers,) in two draws that lie 0.01 to each side."""
    layers = layer_names(skeleton(model))
    settings = {"model": model, "dataset": "cifar10", "recipe": "fast", "epochs": 15, "seed": 0, **settings}
    settings |= {"scale": "full", "weights": "trained"}
    coords = {"n": [500], "k": [3], "draw": [1, 2], "layer": layers, "conv": layers, "relu": layers}
    draws = np.asarray(q) + np.array([[0.01], [-0.01]])
    values = {"q": (["n", "k", "draw", "layer"], draws[None, None]), "accuracy": ([], 90.0)}
    return write_result(measurement("curves", settings, coords, values), folder / f"curves-{model}.json")
