"""Made-up records whose answers are known."""

import numpy as np

from modlib.results import measurement, write_result


def record(folder, q, model="vgg11", dataset="cifar10", weights="trained", recipe="fast", epochs=15, scale="full"):
    """A record of curves with the same Q (layers,) at N = 500 and 1000, k = 3, in two draws that lie 0.01 apart."""
    settings = {"model": model, "dataset": dataset, "scale": scale, "weights": weights, "recipe": recipe, "epochs": epochs}
    layers = [str(i) for i in range(len(q))]
    draws = np.stack([np.asarray(q) - 0.005, np.asarray(q) + 0.005])
    coords = {"n": [500, 1000], "k": [1, 3], "draw": [1, 2], "layer": layers, "conv": layers, "relu": layers[::-1]}
    values = {"q": (["n", "k", "draw", "layer"], np.broadcast_to(draws, (2, 2, *draws.shape))), "accuracy": ([], 91.0)}
    return write_result(
        measurement("curves", settings, coords, values), folder / f"{model}{dataset}{weights}{recipe}{epochs}{scale}.json"
    )
