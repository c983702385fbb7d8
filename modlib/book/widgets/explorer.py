"""The modularity explorer: recorded curves on every page, and curves computed on request where a kernel runs."""

import copy
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from torch import nn

from modlib._checks import checked, one_of
from modlib._tensors import place
from modlib.book.widgets.base import Widget, still, unpack
from modlib.book.widgets.series import CLEAN, PARTS, new_series, printed_curves, series_of
from modlib.data import Images, load_images
from modlib.data.datasets import SPLITS
from modlib.graph import dynamic_graph
from modlib.models import MODELS, build_model, layer_names
from modlib.modularity import check_labels, modularity
from modlib.results import FOLDER, Records, Result
from modlib.zoo import load_model, registry

DRAWS = 5
LIVE_K = (*range(1, 21), 25, 30, 40, 50)  # one search for neighbours serves them all
OWN = "your model"


@checked
def explore(model=None, images: Images | None = None, *, results: Iterable[Result] | None = None) -> Widget:
    """Modularity curves to move through: network, images, weights, attack, N, k, and what counts as a layer.

    Recorded curves are shown without a kernel, beside the paper's where it printed one. With a kernel, settings that
    were not recorded are computed while the page waits; the next move cancels.

    Args:
        model: a ``torch.nn.Module`` of yours (its curve of the first 500 images is computed at once; the explorer works on
            a copy, as it is now), or the name of a recorded network to begin with.
        images: what a model of yours is measured on; by default the embedded CIFAR-10 sample.
        results: recorded curves and training runs to offer, other records are passed over; by default all of modlib's.

    Returns:
        widget; ``setting`` says where its controls stand.

    Raises:
        ValueError: for a name that was not recorded, images without a model, a model that cannot be copied, or as
            :func:`modularity_curve` does.

    >>> explore("resnet20").setting["model"]
    'resnet20'
    """
    series, words = series_of(Records.read(FOLDER) if results is None else Records(results))
    own = None
    if isinstance(model, nn.Module):
        try:  # whoever goes on using or training the model meets none of the explorer's doings
            model = copy.deepcopy(model)
        except Exception as error:
            raise ValueError(f"model cannot be copied, and explore computes on a copy, in the background: {error}") from error
        own = (model, load_images("cifar10") if images is None else images)
        series = [_first_curve(*own), *series]
    elif images is not None:
        raise ValueError("images are for a model of yours; give the model as well: explore(model, images)")
    if not series:
        raise ValueError("there is no recorded curve to show; give a model: explore(model)")
    names = [each["model"] for each in series]
    usual = "resnet20" if "resnet20" in names else names[0]
    wanted = OWN if own else one_of("recorded network", usual if model is None else model, names)
    return Explorer(series, words, series[names.index(wanted)], own)


class Explorer(Widget):
    """What :func:`explore` gives: a widget that also computes, in a thread of its own, one request at a time."""

    def __init__(self, series: list[dict], words: dict, first: dict, own: tuple[nn.Module, Images] | None):
        self._own = own
        self._lock, self._wanted = threading.Lock(), 0  # the ticket of the request that is wanted now
        self._networks: dict[tuple, tuple[nn.Module, Images]] = {}
        n, k = min(first["n"], key=lambda n: abs(n - 500)), min(first["k"], key=lambda k: abs(k - 3))
        setting = {part: first[part] for part in PARTS} | {"n": n, "k": k, "reading": "conv", "epoch": 0, "layer": 0, "kept": ""}
        shape = (len(first["n"]), len(first["k"]), max(1, len(first["epochs"])), len(first["layers"]))
        mean = unpack(first["mean"]).reshape(shape)[first["n"].index(n), first["k"].index(k), -1]  # at its last epoch
        q = mean[first["readings"]["conv"]]
        model, dataset, weights, attack = (words.get(first[part], first[part]) for part in PARTS)
        attacked = "" if first["attack"] == CLEAN else f", {attack}"
        title = f"the {len(q)} layers of {model} on {dataset}, {weights}{attacked}, N = {n}, k = {k}"
        told = f"Modularity over {title}: from {q[0]:.3f} in the first layer to {q[-1]:.3f} in the last."
        figure, ax = still(title, q=q)
        ax.plot(np.arange(1, len(q) + 1), q, "o-", color="#0072b2")
        data = {"series": series, "paper": printed_curves(), "words": words}
        super().__init__("explorer", __file__, data, setting, told, figure)
        self.on_msg(self._receive)

    def _receive(self, _, message: dict, __) -> None:
        if message["kind"] == "hello":
            self.send({"kind": "alive", **self._offer()})
            return
        self._wanted = message.get("ticket", 0)  # whatever is running stops at its next batch
        if message["kind"] == "ask":
            threading.Thread(target=self._answer, args=(message,), daemon=True).start()

    def _offer(self) -> dict:
        """What can be computed here: networks whose weights and images are at hand."""
        networks = [(each["name"], "trained") for each in registry() if each["dataset"] == "cifar10"]
        networks += [(name, "untrained") for name in sorted({each["model"] for each in self.data["series"]} & {*MODELS})]
        rest = {"dataset": "cifar10", "attack": CLEAN, "readings": {"conv": [], "relu": []}}
        series, most = [{"model": name, "weights": weights} | rest for name, weights in networks], SPLITS["cifar10"]["sample"]
        if self._own:
            series.insert(0, {key: self.data["series"][0][key] for key in (*PARTS, "readings")})
            most = max(most, len(self._own[1]))
        return {"series": series, "n": list(range(100, most + 1, 100)), "k": list(LIVE_K)}

    def _answer(self, message: dict) -> None:
        ticket = message["ticket"]
        with self._lock:  # the request before gives way first
            try:
                self._compute(ticket, **{key: message[key] for key in ("model", "dataset", "weights", "reading", "n")})
            except _Cancelled:
                pass
            except Exception as error:  # whatever went wrong is told on the page, which works on
                self.send({"kind": "error", "ticket": ticket, "words": f"Python could not compute this: {error}"})

    def _compute(self, ticket: int, model: str, dataset: str, weights: str, reading: str, n: int) -> None:
        key = (model, dataset, weights)
        if model != OWN and key not in self._networks:
            network = build_model(model, dataset, seed=0) if weights == "untrained" else load_model(model, dataset)
            self._networks[key] = network, load_images(dataset)
        network, images = self._own if model == OWN else self._networks[key]
        which = {"model": model, "dataset": dataset, "weights": weights, "attack": CLEAN}
        draws, done, steps = min(DRAWS, len(images) // n), [], 0
        if draws == 0:
            raise ValueError(f"N = {n} asks for more images than the {len(images)} there are")

        def count(*_):
            nonlocal steps
            if self._wanted != ticket:
                raise _Cancelled
            steps += 1
            share = (len(done) + min(1, steps / (1 + -(-n // 250)))) / draws
            self.send({"kind": "progress", "ticket": ticket, "share": share, "words": f"Computing draw {len(done) + 1} of {draws}"})

        hook = network.register_forward_pre_hook(count)
        try:
            layers = layer_names(network, at=reading)
            for draw in range(draws):
                steps = 0
                done.append(_table(network, images[draw * n : (draw + 1) * n], layers))
                series = _computed(which, n, layers, reading, done, place(network)[0])
                self.send({"kind": "series", "ticket": ticket, "series": series, "last": draw == draws - 1})
        finally:
            hook.remove()


class _Cancelled(Exception):
    """The page has moved on."""


def _table(network: nn.Module, images: Images, layers: Sequence[str]) -> np.ndarray:
    """(len(k), L) modularities of one draw, for each of LIVE_K that it allows."""
    k = [each for each in LIVE_K if each < len(images)]
    graph, y = dynamic_graph(network, images.x, k[-1], layers), check_labels(images.y, len(images))
    return np.array([modularity(graph.nearest(each), y) for each in k])


def _first_curve(model: nn.Module, images: Images) -> dict:
    if len(images) < 2:
        raise ValueError(f"images must be two or more, to have neighbours; got {len(images)}")
    n, layers = min(500, len(images)), layer_names(model)
    which = {"model": OWN, "dataset": images.name, "weights": "as given", "attack": CLEAN}
    return _computed(which, n, layers, "conv", [_table(model, images[:n], layers)], place(model)[0])


def _computed(which: dict, n: int, layers: Sequence[str], reading: str, draws: list[np.ndarray], device) -> dict:
    return new_series(
        which, np.array(draws), datetime.now(UTC).isoformat(timespec="seconds"), device, computed=True, n=[n],
        k=list(LIVE_K[: len(draws[0])]), layers=list(layers), readings={reading: list(range(len(layers)))},
    )  # fmt: skip
