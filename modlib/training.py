"""Train a network, recording loss, accuracies and the modularity curve of every epoch; resumable at any time."""

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from modlib._checks import check_seed, checked, number, one_of, room_for, whole_number
from modlib._resumable import read_checkpoint, write_checkpoint
from modlib._tensors import quick_bfloat16, usable
from modlib.cost import accuracy
from modlib.curves import modularity_curve
from modlib.data import Images, load_images
from modlib.data.batches import Batches, check_data
from modlib.data.datasets import SPLITS
from modlib.data.downloads import pixel_hash
from modlib.models import build_model
from modlib.paper import K
from modlib.results import Result, measurement, read_result, write_result
from modlib.zoo import load_model, load_state, save_model, sha256


@checked
@dataclass(frozen=True)
class Recipe:
    """How a network is trained; a number out of its range is a ValueError."""

    epochs: int
    batch_size: int  # images
    lr: float  # highest learning rate
    weight_decay: float
    schedule: str  # "steps": x 0.1 after each of `steps`; "one-cycle": up over the first quarter, then down to 0
    steps: tuple[int, ...] = ()  # epochs
    nesterov: bool = False
    label_smoothing: float = 0.0
    crop: int = 4  # pixels of zero padding before the random crop
    flip: bool = True
    optimizer: str = "sgd"  # with momentum 0.9; or "adamw"

    def __post_init__(self):
        for name, low, high in (("epochs", 1, 10**6), ("batch_size", 1, None), ("crop", 0, 1000)):
            whole_number(name, getattr(self, name), low, high)
        for name, low, high in (("lr", 0, None), ("weight_decay", 0, None), ("label_smoothing", 0, 1)):
            number(name, getattr(self, name), low, high)
        one_of("schedule of the recipe", self.schedule, SCHEDULES), one_of("optimizer of the recipe", self.optimizer, OPTIMIZERS)

    def rate(self, epoch: float) -> float:
        """Learning rate at a moment of training, in epochs since its start.

        >>> [round(RECIPES["fast"].rate(epoch), 3) for epoch in (0, 2.5, 5, 20)]
        [0.0, 0.1, 0.2, 0.0]
        """
        epoch = number("epoch", epoch, 0, self.epochs)
        if self.schedule == "steps":
            return self.lr * 0.1 ** sum(epoch > step for step in self.steps)
        peak = 0.25 * self.epochs
        return self.lr * (epoch / peak if epoch < peak else (self.epochs - epoch) / (self.epochs - peak))


SCHEDULES, OPTIMIZERS = ("steps", "one-cycle"), ("sgd", "adamw")
RECIPES = {
    # Section 4 of the paper gives the rate, batch, decay, epochs and momentum; its code the steps and augmentation.
    "paper": Recipe(epochs=150, batch_size=256, lr=0.01, weight_decay=5e-3, schedule="steps", steps=(50, 100)),
    # One-cycle (Smith & Topin 2019): near the paper's accuracy in a fraction of its epochs.
    "fast": Recipe(epochs=20, batch_size=128, lr=0.2, weight_decay=5e-4, schedule="one-cycle", nesterov=True, label_smoothing=0.1),
    # For where an epoch takes minutes. A dozen epochs are too few to settle from a rate of 0.2 or to need much
    # augmentation: rate and crop are near those that Jordan (2024) and Page (2018) found best for about ten.
    "short": Recipe(
        epochs=12, batch_size=128, lr=0.1, weight_decay=5e-4, schedule="one-cycle", nesterov=True, label_smoothing=0.1, crop=2
    ),
    "gentle": Recipe(1, 128, lr=0.01, weight_decay=5e-4, schedule="one-cycle", nesterov=True),  # to fine-tune, at the paper's rate
    # For transformers: as Hassani et al. (2021) train theirs, but for their 200 epochs and mixed images.
    "adamw": Recipe(20, 128, lr=1e-3, weight_decay=0.06, schedule="one-cycle", label_smoothing=0.1, optimizer="adamw"),
}
# "short" brought nearer to the paper, one step after the other: which of them moves a curve?
RECIPES["unsmoothed"] = replace(RECIPES["short"], label_smoothing=0.0)
RECIPES["decayed"] = replace(RECIPES["unsmoothed"], weight_decay=RECIPES["paper"].weight_decay)


class OutOfTime(ValueError):
    """There is no time left to finish a piece of work; the sentence says how far it came."""


@checked
def train(
    name: str,
    dataset: str = "cifar10",
    recipe: str | Recipe = "fast",
    *,
    folder: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    stages: Sequence | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    max_minutes: float | None = None,
    data: tuple[Images, Images] | None = None,
    progress: bool = False,
) -> Result:
    """Train a network of the paper and record how it went.

    After every epoch ``folder`` holds a whole ``checkpoint.pt`` (from which the same call goes on after any
    interruption, with as many threads to the same weights) and ``result.json`` (loss, train and test accuracy in
    percent, modularity curve of the first 500 test images with k = 3). When done it holds ``model.safetensors``.

    Args:
        name: one of :data:`modlib.models.MODELS`.
        dataset: cifar10, cifar100 or tinyimagenet50.
        recipe: a name in :data:`RECIPES`, or a Recipe.
        folder: by default ``runs/NAME-DATASET-RECIPE-EPOCHS-SEED``.
        epochs: another number of epochs than the recipe's.
        batch_size: another number of images a step than the recipe's; the learning rate is scaled in proportion.
        stages: another depth, as in :func:`modlib.build_model`.
        weights: start from a safetensors file, in the network it is of, instead of from random weights.
        seed: of the initial weights, the order and the augmentation.
        device: where to train; images and augmentation live there too.
        max_minutes: stop at the end of the epoch after which the next would pass this; a later call goes on.
        data: (train, test) images, uint8, instead of the dataset's.
        progress: show bars.

    Returns:
        Result of the epochs done so far; ``result.evidence["finished"]`` says whether all are.

    Raises:
        ValueError: for an argument that cannot be, weights of another network or dataset, data that the network cannot
            be trained on, or a folder that holds a run with other settings or data.
        OutOfTime: if there is no time for even one epoch (a ValueError).
        OSError: for a damaged checkpoint.
        MemoryError: if a step does not fit in the device's memory, with the batch size to try.

    Warns:
        UserWarning: if a run goes on with another number of threads, or precision, than it had.
    """
    label = "custom" if isinstance(recipe, Recipe) else str(recipe)
    if not isinstance(recipe, Recipe):
        recipe = RECIPES[one_of("recipe", recipe, RECIPES)]
    if epochs is not None:
        recipe = replace(recipe, epochs=whole_number("epochs", epochs, 1, 10**6))
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, 1)
        recipe = replace(recipe, batch_size=batch_size, lr=recipe.lr * batch_size / recipe.batch_size)
    if data is None:
        one_of("dataset", dataset, SPLITS)
    if max_minutes is not None:
        number("max_minutes", max_minutes, 0)
    device, seed = usable(device), check_seed(seed)
    folder = Path("runs", run_name(name, dataset, label, recipe.epochs, seed)) if folder is None else Path(folder)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been drawn
        torch.manual_seed(seed)
        run = _Run(name, dataset, recipe, label, seed, device, stages, weights)
    if data is not None:
        for part, least in zip(data, (1, K + 1), strict=True):
            check_data(part, run.model, least)
        run.settings["data_sha256"] = [pixel_hash(part.x, part.y) for part in data]  # the settings of other runs do not name it
    room_for(folder), folder.mkdir(parents=True, exist_ok=True)
    run.resume(folder / "checkpoint.pt")

    began, slowest, result = time.monotonic(), 0.0, None
    if len(run.history) < recipe.epochs:
        train_set, test_set = data or (load_images(dataset, split="train"), load_images(dataset, split="test"))
        batches = Batches(train_set, recipe.batch_size, recipe.crop, recipe.flip, device)
        sample = test_set[:500]
    for epoch in range(len(run.history), recipe.epochs):
        start = time.monotonic()
        if max_minutes is not None and start - began + slowest > max_minutes * 60:
            break
        try:
            row = run.one_epoch(batches, epoch, progress)
        except torch.OutOfMemoryError:
            size = recipe.batch_size
            sentence = f"batch_size={size} does not fit in the memory of {device}; try batch_size={max(1, size // 2)}"
            raise MemoryError(sentence) from None
        row["test_accuracy"] = accuracy(run.model, test_set, progress=progress)
        curve = modularity_curve(run.model, sample.x, sample.y, k=K)
        row["q"], row["layers"], row["n"] = curve.q.tolist(), list(curve.layers), len(sample)
        row["seconds"] = time.monotonic() - start
        slowest = max(slowest, row["seconds"])
        run.history.append(row)
        run.save(folder / "checkpoint.pt")
        result = run.record(folder)
        if progress:
            tqdm.write(
                f"epoch {epoch + 1}/{recipe.epochs}: loss {row['loss']:.3f}, train {row['train_accuracy']:.2f} %, "
                f"test {row['test_accuracy']:.2f} %, Q {row['q'][0]:.3f} to {row['q'][-1]:.3f}, {row['seconds']:.0f} s"
            )
    if not run.history:
        raise OutOfTime(f"max_minutes={max_minutes} leaves no time for one epoch; give more")
    return result or run.record(folder)


def run_name(model: str, dataset: str, recipe: str, epochs: int, seed: int) -> str:
    """What a run is called: its folder and its records bear this name."""
    return f"{model}-{dataset}-{recipe}-{epochs}-{seed}"


class _Run:
    """One training run: model, optimizer and history, which a checkpoint holds together."""

    def __init__(self, name: str, dataset: str, recipe: Recipe, label: str, seed: int, device, stages=None, weights=None):
        self.recipe, self.device, self.mixed = recipe, device, quick_bfloat16(device)
        self.settings = {"model": name, "dataset": dataset, "recipe": label, "seed": seed, **asdict(recipe)}
        if recipe.optimizer == "sgd":  # the settings of other runs do not name it
            del self.settings["optimizer"]
        depth = {} if stages is None else {"stages": list(stages)}
        model = load_model(name, dataset, weights=weights, **depth) if weights else build_model(name, dataset, **depth)
        wanted = {"dataset": dataset, **depth}
        if any(model.architecture[key] != value for key, value in wanted.items()):
            raise ValueError(f"weights={str(weights)!r} are of a network with {model.architecture}, not with {wanted}")
        if stages is not None or weights:  # the settings of other runs do not name these
            self.settings["stages"] = model.architecture["stages"]
        if weights:
            self.settings["weights_sha256"] = sha256(weights)
        self.model = model.to(device, memory_format=torch.channels_last)
        weights, decay = self.model.parameters(), {"weight_decay": recipe.weight_decay}
        if recipe.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(weights, recipe.lr, **decay)
        else:
            self.optimizer = torch.optim.SGD(weights, recipe.lr, 0.9, nesterov=recipe.nesterov, **decay)
        self.history: list[dict] = []

    def one_epoch(self, batches: Batches, epoch: int, progress: bool) -> dict:
        mixed = self.settings["seed"] * 100_003 + epoch  # a resumed run draws what an uninterrupted one would have drawn
        generator = torch.Generator().manual_seed(mixed)
        loss_sum, right = torch.zeros(2, device=self.device)
        self.model.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(mixed)  # dropout
            bar = tqdm(batches.epoch(generator), f"epoch {epoch + 1}", len(batches), disable=not progress, leave=False)
            for step, (x, y) in enumerate(bar):
                for group in self.optimizer.param_groups:
                    group["lr"] = self.recipe.rate(epoch + (step + 1) / len(batches))
                x = x.contiguous(memory_format=torch.channels_last)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                    logits = self.model(x)
                    loss = F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                loss_sum += loss.detach() * len(y)
                right += (logits.argmax(1) == y).sum()
        seen = len(batches) * min(self.recipe.batch_size, len(batches.y))
        if not torch.isfinite(loss_sum):
            raise FloatingPointError(f"the loss is no longer finite in epoch {epoch + 1}; lower the recipe's lr={self.recipe.lr}")
        return {"loss": loss_sum.item() / seen, "train_accuracy": 100 * right.item() / seen, **self.arithmetic}

    @property
    def arithmetic(self) -> dict:
        """What decides the rounding of a sum, and with it the last digits of the weights."""
        precision = {"precision": "bfloat16" if self.mixed else "float32"}
        return precision | ({"threads": torch.get_num_threads()} if self.device.type == "cpu" else {})

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        write_checkpoint(path, {"settings": self.settings, **state, "history": self.history})

    def resume(self, path: Path) -> None:
        content = read_checkpoint(path, self.settings, self.device)
        if content is None:
            return
        load_state(self.model, content["model"], str(path))
        self.optimizer.load_state_dict(content["optimizer"])
        self.history = content["history"]
        for key, here in self.arithmetic.items():
            if len(self.history) < self.recipe.epochs and (was := self.history[-1].get(key, here)) != here:
                differs = f"{path} was made with {key}={was} and goes on with {key}={here}"
                way = "torch.set_num_threads or OMP_NUM_THREADS sets the threads"
                warnings.warn(f"{differs}: the weights will differ a little from an unbroken run's. {way}", stacklevel=4)

    def record(self, folder: Path) -> Result:
        """What the checkpoint holds, as ``result.json``: after the weights, so that none is finished without."""
        rows, path = self.history, folder / "result.json"
        if finished := len(rows) == self.recipe.epochs:
            save_model(self.model, folder / "model.safetensors")
        names = "loss", "train_accuracy", "test_accuracy", "seconds"
        columns = {name: (["epoch"], [row[name] for row in rows]) for name in names}
        made = {key: list(dict.fromkeys(row.get(key, here) for row in rows)) for key, here in self.arithmetic.items()}
        result = measurement(
            "training",
            {**self.settings, "n": rows[-1].get("n", 500), "k": K},
            {"epoch": range(1, len(rows) + 1), "layer": rows[0]["layers"]},
            {**columns, "q": (["epoch", "layer"], np.array([row["q"] for row in rows]))},
            self.device,
            accuracy=rows[-1]["test_accuracy"],
            finished=finished,
            **{key: each[0] if len(each) == 1 else ", ".join(map(str, each)) for key, each in made.items()},
        )
        with suppress(OSError, ValueError):  # there is none yet, or none that is whole
            held = read_result(path)
            if (held.settings, held.coords, held.values) == (result.settings, result.coords, result.values):
                return held  # with the evidence of when it was measured
        write_result(result, path)
        return result
