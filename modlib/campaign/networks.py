"""What the measurements of all figures share: how much is measured, and the trained networks it is measured on."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from modlib.data import Images, load_images
from modlib.models import layer_names
from modlib.models.sources import SOURCES
from modlib.results import FOLDER, Records, Result, read_result, write_result
from modlib.training import RECIPES, OutOfTime, run_name, train
from modlib.zoo import load_model, registry


@dataclass(frozen=True)
class Extent:
    """How much a campaign measures."""

    n: tuple[int, ...]  # numbers of samples N; those that the test set does not hold are left out
    k: tuple[int, ...]  # numbers of neighbours
    draws: int  # of samples at each N
    epochs: int | None = None  # of training; by default the recipe's
    images: int | None = None  # of the training set, and half as many of the test set; by default all


EXTENTS = {
    "full": Extent((200, 500, 1000, 2000, 5000), (1, 3, 5, 7, 9, 11, 15, 20, 30, 50), 5),
    "smoke": Extent((50, 100), (1, 3), 2, epochs=1, images=1600),  # the whole way in seconds, for nothing but trying it
}


@dataclass(frozen=True)
class Unit:
    """One piece of work: it is measured as a whole, and has a record of its own."""

    model: str
    dataset: str  # what it is trained on
    variant: str = ""  # which of a figure's measurements of this network; empty where there is one


Left = Callable[[], float | None]  # tells how many minutes there are left; None: as many as it takes


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """How a campaign trains and measures; the arguments of :func:`modlib.campaign.reproduce.reproduce`."""

    recipe: str
    epochs: int
    tune_epochs: int
    tune_recipe: str
    seed: int
    batch_size: int | None
    device: torch.device
    scale_name: str
    images: Path | None
    runs: Path
    out: Path
    known: tuple[Path, ...]  # folders in which a record counts as measured
    progress: bool
    weights: str | None = None  # of others' networks, a key of SOURCES, instead of training any

    @property
    def scale(self) -> Extent:
        return EXTENTS[self.scale_name]

    def training(self, unit: Unit) -> dict:
        """The settings that identify a trained network; the size of a batch where it is not the recipe's."""
        whole = {"model": unit.model, "dataset": unit.dataset, "recipe": self.recipe, "epochs": self.epochs, "seed": self.seed}
        return whole | self._batch

    @property
    def _batch(self) -> dict:
        usual = RECIPES[self.recipe].batch_size
        return {} if self.batch_size in (None, usual) else {"batch_size": self.batch_size}

    def settings(self, unit: Unit, weights: str | None = None, **more) -> dict:
        """The settings that identify a record of a network."""
        weights = weights or self.weights or "trained"
        which = {"model": unit.model, "dataset": unit.dataset, "scale": self.scale_name, "weights": weights}
        return which | (self.training(unit) if weights == "trained" else {}) | more

    @property
    def tuning(self) -> dict:
        """The settings that identify a training on, beside those of the network."""
        recipe = {} if self.tune_recipe == self.recipe and not self.weights else {"tune_recipe": self.tune_recipe}
        return recipe | {"tune_epochs": self.tune_epochs} | ({"seed": self.seed, **self._batch} if self.weights else {})

    @property
    def tuned(self) -> str:  # what a training on is called
        return "-".join(str(self.tuning[key]) for key in ("tune_recipe", "tune_epochs") if key in self.tuning)

    def recorded(self, experiment: str, settings: dict) -> list[Result]:
        """The records, in all folders that are known, of an experiment with these settings."""
        found = Records.read(*reversed(self.known)).find(experiment, **settings)
        usual = RECIPES[self.recipe].batch_size
        wanted = settings.get("batch_size", usual)  # a record that names none is of the recipe's
        return [r for r in found if r.settings.get("batch_size", usual) == wanted]

    def run(self, unit: Unit) -> str:
        """The name of its run."""
        name = run_name(unit.model, unit.dataset, self.recipe, self.epochs, self.seed)
        name = f"{unit.model}-{unit.dataset}-{self.weights}-{self.seed}" if self.weights else name
        return name + "".join(f"-batch-{size}" for size in self._batch.values())

    def test_images(self, dataset: str) -> Images:
        count = self.scale.images
        if count is None:
            return load_images(dataset, split="test")
        if dataset == "cifar10":  # the embedded sample holds enough for a trial: nothing is downloaded
            return load_images(dataset)[count : count + count // 2]
        return load_images(dataset, count // 2, split="test")

    def train(self, unit: Unit, left: Left, folder: Path, function: Callable | None = None, **options) -> Result:
        """Train to the end, as the campaign does but for the options, or raise OutOfTime; a later call goes on."""
        count = self.scale.images
        if count is not None:
            split = None if unit.dataset == "cifar10" else "train"
            options["data"] = (load_images(unit.dataset, count, split=split), self.test_images(unit.dataset))
        with alone(folder, left):
            how = {"recipe": self.recipe, "epochs": self.epochs, "seed": self.seed, "batch_size": self.batch_size} | options
            where = {"folder": folder, "device": self.device, "max_minutes": left(), "progress": self.progress}
            result = (function or train)(dataset=unit.dataset, **how, **where)
        if not result.evidence["finished"]:
            raise OutOfTime(f"trained {len(result.coords['epoch'])} of {result.settings['epochs']} epochs")
        return result

    def trained(self, unit: Unit, left: Left) -> tuple[nn.Module, Result | None, dict]:
        """The network on the device, the record of its training, and what is known of its weights.

        From a finished run, else the embedded weights of the same training, else trained now; or as others published it.
        """
        if self.weights:
            whose, network = SOURCES[self.weights], load_model(unit.model, unit.dataset, weights=self.weights)
            known = {"licence": whose.licence, "published": whose.files[unit.model, unit.dataset]._asdict()}
            return network.to(self.device), None, {"stored": whose.about, **known}
        folder = self.runs / self.run(unit)
        asked = {"name" if key == "model" else key: value for key, value in self.training(unit).items()}
        embedded = self.scale.images is None and any(asked.items() <= entry.items() for entry in registry())
        if embedded and not (folder / "model.safetensors").exists():
            record = read_result(FOLDER / f"training-{self.run(unit)}.json")
            return load_model(unit.model, unit.dataset).to(self.device), record, {"stored": "embedded"}
        record = self.train(unit, left, folder, name=unit.model)
        write_result(record, self.out / f"training-{self.run(unit)}.json")
        network = load_model(unit.model, unit.dataset, weights=folder / "model.safetensors").to(self.device)
        return network, record, {"stored": "as trained"}


def countdown(minutes: float | None, begun: float | None = None) -> Left:
    """What is left of so many minutes from a moment on (of ``time.time()``, since workers share it), or from now on."""
    begun = time.time() if begun is None else begun
    return lambda: None if minutes is None else max(0.0, minutes - (time.time() - begun) / 60)


@contextmanager
def alone(folder: Path, left: Left) -> Iterator[None]:
    """Of several workers that need the same run, one trains it and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    minutes = left()
    try:  # the system opens the lock of a process that dies
        held = FileLock(f"{folder}.lock").acquire(timeout=-1 if minutes is None else 60 * minutes)
    except Timeout:
        raise OutOfTime(f"another worker is still training {folder.name}") from None
    with held:
        yield


def all_layers(model: nn.Module) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The layers of both readings in the order in which they run, and those of each reading."""
    readings = {at: layer_names(model, at) for at in ("conv", "relu")}
    either = {*readings["conv"], *readings["relu"]}
    return [name for name, _ in model.named_modules() if name in either], readings
