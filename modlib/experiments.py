"""The paper's figures as campaigns: train what is missing, measure, record. One network at a time, resumable."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from modlib._checks import unknown
from modlib.curves import curve_grid
from modlib.data import SPLITS, Images, load_images
from modlib.models import MODELS, RESNET, build_model, layer_names
from modlib.pruning import cost
from modlib.results import FOLDER, Result, find_results, measurement, read_result, write_result
from modlib.training import RECIPES, accuracy, run_name, train
from modlib.zoo import load_model, registry

_NINE = ("vgg16", "resnet18", "vgg11", "vgg19", "vgg13", "resnet34", "resnet50", "resnet101", "resnet152")
_CIFAR10 = (*_NINE[:3], "resnet56", *_NINE[3:])
# What each figure needs, most telling network first.
_ALL = [(model, "cifar10") for model in _CIFAR10] + [(m, d) for d in ("cifar100", "tinyimagenet50") for m in _NINE]
FIGURES = {
    "fig4": _ALL,  # curves of trained networks
    "a2": _ALL,  # curves of untrained networks (Appendix A.2)
    "fig5": [(model, "imagenet") for model in RESNET],  # curves of torchvision's ImageNet networks
    "fig6b": [("vgg16", "cifar10"), ("resnet18", "cifar10")],  # curve and accuracy after each epoch
}
FIG6B_EPOCHS = 30
PAPER_N = {"cifar100": 1000}  # Section 4: N = 500 but for CIFAR-100; k = 3 everywhere


@dataclass(frozen=True)
class Scale:
    """How much a campaign measures.

    Attributes:
        n: numbers of samples N; those that the test set does not hold are left out.
        k: numbers of neighbours.
        draws: draws of samples at each N.
        epochs: of training; by default the recipe's.
        images: of the training set, and half as many of the test set; by default all.
    """

    n: tuple[int, ...]
    k: tuple[int, ...]
    draws: int
    epochs: int | None = None
    images: int | None = None


SCALES = {
    "full": Scale((200, 500, 1000, 2000, 5000), (1, 3, 5, 7, 9, 11, 15, 20, 30, 50), 5),
    "smoke": Scale((50, 100), (1, 3), 2, epochs=1, images=1600),  # the whole way in seconds, for nothing but trying it
}


@dataclass(frozen=True)
class Step:
    """What became of one network of a campaign.

    Attributes:
        model: its name.
        dataset: what it was trained on.
        state: ``"recorded"`` before, ``"measured"`` now, ``"out of time"`` or ``"failed"``.
        result: the record, where there is one.
        note: why not, where there is none.
    """

    model: str
    dataset: str
    state: str
    result: Result | None = None
    note: str = ""


class _OutOfTime(Exception):
    pass


def reproduce(
    figure: str,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    *,
    recipe: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    max_minutes: float | None = None,
    scale: str = "full",
    images: str | Path | None = None,
    runs: str | Path = "runs",
    out: str | Path = "results",
    progress: bool = False,
) -> Iterator[Step]:
    """Measure what a figure of the paper shows, network by network in order of priority, and record it.

    A network whose record lies in ``out`` or in modlib itself is passed over; a finished training run or embedded
    weights of the same recipe are used; what is missing is trained. Stopped at any moment, the same call goes on. A
    network that fails is reported, and the next one is taken.

    Args:
        figure: a key of :data:`FIGURES`.
        models: only these networks (any of :data:`modlib.models.MODELS`); by default the figure's.
        datasets: only these datasets; by default the figure's.
        recipe, epochs, batch_size, seed: of :func:`modlib.training.train`.
        device: where to train and measure.
        max_minutes: stop in time; the same call goes on later.
        scale: ``"full"``, or ``"smoke"`` to try the whole way in seconds. (Its records say so.)
        images: for fig5: a folder of ImageNet images, one folder a class named so that sorting keeps the classes.
        runs: folder of training runs.
        out: folder of the records.
        progress: show bars.

    Yields:
        Step, one a network.

    Raises:
        ValueError: for an unknown figure, model, dataset, recipe or scale, or fig5 without images.
    """
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    for model in models or ():
        if model not in MODELS:
            raise unknown("model", model, MODELS)
    for dataset in datasets or ():
        if dataset not in SPLITS and (figure, dataset) != ("fig5", "imagenet"):
            raise unknown("dataset", dataset, SPLITS)
    if figure == "fig5" and images is None:
        raise ValueError("fig5 measures ImageNet images, which modlib has not: give images=FOLDER, one folder a class")

    whole = RECIPES[recipe].epochs
    epochs = epochs or SCALES[scale].epochs or (min(whole, FIG6B_EPOCHS) if figure == "fig6b" else whole)
    apart = () if scale == "full" else (scale,)
    campaign = _Campaign(
        figure, recipe, epochs, batch_size, seed, torch.device(device), scale, images, Path(runs, *apart), Path(out, *apart), progress
    )  # fmt: skip
    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    for model, dataset in _networks(figure, models, datasets):
        found = campaign.recorded(model, dataset)
        if found:
            yield Step(model, dataset, "recorded", found)
            continue
        left = None if end is None else (end - time.monotonic()) / 60
        try:
            if left is not None and left <= 0:
                raise _OutOfTime(f"max_minutes={max_minutes} are over")
            yield Step(model, dataset, "measured", campaign.measure(model, dataset, left))
        except _OutOfTime as reason:
            yield Step(model, dataset, "out of time", note=str(reason))
        except (OSError, MemoryError, ArithmeticError, torch.OutOfMemoryError) as error:
            yield Step(model, dataset, "failed", note=str(error))


def _networks(figure: str, models: Sequence[str] | None, datasets: Sequence[str] | None) -> list[tuple[str, str]]:
    """The figure's networks, or those asked for: the figure's among them first."""
    chosen = [(m, d) for m, d in FIGURES[figure] if (not models or m in models) and (not datasets or d in datasets)]
    asked = [(m, d) for d in datasets or dict.fromkeys(d for _, d in FIGURES[figure]) for m in models or ()]
    return list(dict.fromkeys(chosen + asked))


@dataclass(frozen=True)
class _Campaign:
    figure: str
    recipe: str
    epochs: int
    batch_size: int | None
    seed: int
    device: torch.device
    scale: str
    images: str | Path | None
    runs: Path
    out: Path
    progress: bool

    def settings(self, model: str, dataset: str) -> dict:
        """What identifies the record."""
        which = {"model": model, "dataset": dataset, "scale": self.scale}
        if self.figure == "fig5":
            return {**which, "weights": "torchvision", "images": Path(self.images).name}
        if self.figure == "a2":
            return {**which, "weights": "untrained", "seed": self.seed}
        how = {"recipe": self.recipe, "epochs": self.epochs, "seed": self.seed}
        if self.figure == "fig6b":
            return {"model": model, "dataset": dataset, **how}
        return {**which, "weights": "trained", **how}

    def recorded(self, model: str, dataset: str) -> Result | None:
        experiment = "training" if self.figure == "fig6b" else "curves"
        for folder in (self.out, FOLDER):
            for found in find_results(experiment, folder, **self.settings(model, dataset)):
                return found
        return None

    def measure(self, model: str, dataset: str, minutes: float | None) -> Result:
        if self.figure == "fig6b":
            return self.trained(model, dataset, minutes)[1]
        settings, evidence = self.settings(model, dataset), {}
        if self.figure == "fig4":
            network, run, evidence["weights"] = self.trained(model, dataset, minutes)
            name = run_name(model, dataset, self.recipe, self.epochs, self.seed)
        else:
            name = f"{model}-{dataset}-{settings['weights']}-{settings.get('seed', settings.get('images'))}"
            network = untrained(model, dataset, self.seed) if self.figure == "a2" else load_model(model, dataset)
        test = load_images(self.images, size=224) if self.figure == "fig5" else self.data(dataset)[1]
        result = measure_curves(network.to(self.device), test, settings, SCALES[self.scale], self.progress, **evidence)
        write_result(result, self.out / f"curves-{name}.json")
        return result

    def data(self, dataset: str) -> tuple[Images | None, Images]:
        """(train, test) images; train is None where the whole of it is meant."""
        count = SCALES[self.scale].images
        if count is None:
            return None, load_images(dataset, split="test")
        if dataset == "cifar10":  # the embedded sample holds enough: nothing is downloaded
            return load_images(dataset, count), load_images(dataset)[count : count + count // 2]
        return load_images(dataset, count, split="train"), load_images(dataset, count // 2, split="test")

    def trained(self, model: str, dataset: str, minutes: float | None) -> tuple[nn.Module, Result, str]:
        """The network, the record of its training, and which weights these are."""
        name = run_name(model, dataset, self.recipe, self.epochs, self.seed)
        folder = self.runs / name
        if not (folder / "model.safetensors").exists() and self.scale == "full":
            asked = {"name": model, "dataset": dataset, "recipe": self.recipe, "epochs": self.epochs, "seed": self.seed}
            for entry in registry():
                if asked.items() <= entry.items():
                    return load_model(model, dataset), read_result(FOLDER / f"training-{name}.json"), "embedded"
        train_set, test_set = self.data(dataset)
        run = train(
            model, dataset, self.recipe, folder=folder, epochs=self.epochs, batch_size=self.batch_size,
            seed=self.seed, device=self.device, max_minutes=minutes, progress=self.progress,
            data=None if train_set is None else (train_set, test_set),
        )  # fmt: skip
        if not run.evidence["finished"]:
            raise _OutOfTime(f"trained {len(run.coords['epoch'])} of {run.settings['epochs']} epochs")
        write_result(run, self.out / f"training-{name}.json")
        return load_model(model, dataset, weights=folder / "model.safetensors"), run, "as trained (float32)"


def untrained(model: str, dataset: str, seed: int = 0) -> nn.Module:
    """A network as a seed initialises it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(model, dataset)


def measure_curves(
    model: nn.Module, images: Images, settings: dict, scale: Scale, progress: bool = False, **evidence
) -> Result:
    """What the book shows of a network's layers: Q over layers, N, k and draws, and per class; accuracy; cost.

    Layers are those of both readings, ``at="conv"`` and ``at="relu"``, in the order in which they run; the coordinates
    ``conv`` and ``relu`` name the layers of each, so that ``result.at("q", n=500, k=3, layer=result.coords["conv"])``
    holds the draws of one curve.

    Args:
        images: test images; draws are their first batches, or random subsets where they do not hold that many.
        settings: of the record.

    Returns:
        Result "curves" with ``q`` (n, k, draw, layer), ``per_class`` (layer, class; the mean over the draws at the
        paper's N and k), ``accuracy`` in percent, ``macs`` and ``params``.
    """
    readings = {at: layer_names(model, at) for at in ("conv", "relu")}
    layers = [name for name, _ in model.named_modules() if name in {*readings["conv"], *readings["relu"]}]
    n = [each for each in scale.n if each <= len(images)]
    grid = curve_grid(model, images, n, scale.k, scale.draws, layers=layers, progress=progress)
    paper_n = PAPER_N.get(settings["dataset"], 500)
    per_class = grid.per_class[n.index(paper_n if paper_n in n else n[-1]), scale.k.index(3)].mean(0)
    price = cost(model, images.x.shape[1:])
    coords = {"n": n, "k": scale.k, "draw": range(1, scale.draws + 1), "layer": layers, **readings}
    coords["class"] = images.classes[: per_class.shape[1]]
    values = {
        "q": (["n", "k", "draw", "layer"], grid.q),
        "per_class": (["layer", "class"], per_class),
        "macs": ([], price.macs),
        "params": ([], price.params),
    }
    if len(images.classes) == model.architecture["num_classes"]:  # a folder of ImageNet's numbers its classes otherwise
        values["accuracy"] = ([], accuracy(model, images, progress=progress))
    device = next(model.parameters()).device
    return measurement("curves", settings, coords, values, device, images=images.name, **evidence)
