"""Train a network, recording loss, accuracies and the modularity curve of every epoch; resumable at any time."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from modlib._checks import unknown, whole_number
from modlib.cost import accuracy
from modlib.curves import modularity_curve
from modlib.data import Images, load_images, write_atomically
from modlib.data.downloads import pixel_hash
from modlib.models import build_model
from modlib.results import Result, measurement, read_result, write_result
from modlib.zoo import load_model, load_state, save_model, sha256


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, by SGD with momentum 0.9."""

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


SCHEDULES = ("steps", "one-cycle")
RECIPES = {
    # Section 4 of the paper gives the rate, batch, decay, epochs and momentum; its code the steps and augmentation.
    "paper": Recipe(epochs=150, batch_size=256, lr=0.01, weight_decay=5e-3, schedule="steps", steps=(50, 100)),
    # One-cycle (Smith & Topin 2019): near the paper's accuracy in a fraction of its epochs.
    "fast": Recipe(
        epochs=20, batch_size=128, lr=0.2, weight_decay=5e-4, schedule="one-cycle", nesterov=True, label_smoothing=0.1
    ),
    # For where an epoch takes minutes. A dozen epochs are too few to settle from a rate of 0.2 or to need much
    # augmentation: rate and crop are near those that Jordan (2024) and Page (2018) found best for about ten.
    "short": Recipe(
        epochs=12, batch_size=128, lr=0.1, weight_decay=5e-4, schedule="one-cycle", nesterov=True, label_smoothing=0.1, crop=2
    ),
}


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
    interruption, to the same weights) and ``result.json`` (loss, train and test accuracy in percent, modularity curve
    of the first 500 test images with k = 3). When done it holds ``model.safetensors``.

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
        ValueError: for an unknown name, recipe or schedule, weights of another network or dataset, data that are not
            uint8, or a folder that holds a run with other settings or data.
        MemoryError: if a step does not fit in the device's memory, with the batch size to try.
    """
    label = recipe if isinstance(recipe, str) else "custom"
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise unknown("recipe", recipe, RECIPES)
        recipe = RECIPES[recipe]
    if epochs is not None:
        recipe = replace(recipe, epochs=whole_number("epochs", epochs, 1))
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, 1)
        recipe = replace(recipe, batch_size=batch_size, lr=recipe.lr * batch_size / recipe.batch_size)
    if recipe.schedule not in SCHEDULES:
        raise unknown("schedule of the recipe", recipe.schedule, SCHEDULES)
    folder = Path(folder or Path("runs", run_name(name, dataset, label, recipe.epochs, seed)))
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing had been drawn
        torch.manual_seed(seed)
        run = _Run(name, dataset, recipe, label, seed, torch.device(device), stages, weights)
    if data:
        for part in data:
            if part.x.dtype != np.uint8:
                raise ValueError(f"data must be uint8 images; got {part.x.dtype} in {part.name!r}")
        run.settings["data_sha256"] = [pixel_hash(part.x, part.y) for part in data]  # the settings of other runs do not name it
    folder.mkdir(parents=True, exist_ok=True)
    run.resume(folder / "checkpoint.pt")

    began, slowest, result = time.monotonic(), 0.0, None
    if len(run.history) < recipe.epochs:
        train_set, test_set = data or (load_images(dataset, split="train"), load_images(dataset, split="test"))
        batches = _Batches(train_set, recipe, run.device)
        sample = test_set[:500]
    for epoch in range(len(run.history), recipe.epochs):
        start = time.monotonic()
        if max_minutes is not None and start - began + slowest > max_minutes * 60:
            break
        try:
            row = run.one_epoch(batches, epoch, progress)
        except torch.OutOfMemoryError:
            half = max(1, recipe.batch_size // 2)
            raise MemoryError(
                f"batch_size={recipe.batch_size} does not fit in the memory of {device}; try batch_size={half}"
            ) from None
        row["test_accuracy"] = accuracy(run.model, test_set, progress=progress)
        curve = modularity_curve(run.model, sample.x, sample.y, k=3)
        row["q"], row["layers"] = curve.q.tolist(), list(curve.layers)
        row["seconds"] = time.monotonic() - start
        slowest = max(slowest, row["seconds"])
        run.history.append(row)
        # The checkpoint last: stopped in between, the next call repeats the epoch and its record.
        result = run.result(len(sample))
        write_result(result, folder / "result.json")
        run.save(folder / "checkpoint.pt")
        if progress:
            tqdm.write(
                f"epoch {epoch + 1}/{recipe.epochs}: loss {row['loss']:.3f}, train {row['train_accuracy']:.2f} %, "
                f"test {row['test_accuracy']:.2f} %, Q {row['q'][0]:.3f} to {row['q'][-1]:.3f}, {row['seconds']:.0f} s"
            )
    if len(run.history) == recipe.epochs:
        save_model(run.model, folder / "model.safetensors")
    if result is None and not run.history:
        raise ValueError(f"max_minutes={max_minutes} leaves no time for one epoch; give more")
    return result or read_result(folder / "result.json")


def run_name(model: str, dataset: str, recipe: str, epochs: int, seed: int) -> str:
    """What a run is called: its folder and its records bear this name."""
    return f"{model}-{dataset}-{recipe}-{epochs}-{seed}"


class _Batches:
    """Shuffled, augmented batches, made on the device: all images lie there once, with their padding."""

    def __init__(self, images: Images, recipe: Recipe, device: torch.device):
        self.recipe = recipe
        self.size = images.x.shape[-1]
        self.x = F.pad(torch.from_numpy(images.x), (recipe.crop,) * 4).to(device)
        self.y = torch.from_numpy(images.y).to(device)

    def __len__(self) -> int:
        return len(self.y) // self.recipe.batch_size or 1

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of float pixels (B, 3, H, W) in [0, 1] and labels; a last one that is not full is left out."""
        order = torch.randperm(len(self.y), generator=generator)
        pixel = torch.arange(self.size)
        channel = torch.arange(3)[None, :, None, None]
        for chosen in order.split(self.recipe.batch_size)[: len(self)]:
            top, left = torch.randint(0, 2 * self.recipe.crop + 1, (2, len(chosen), 1), generator=generator)
            rows, columns = top + pixel, left + pixel
            if self.recipe.flip:
                flipped = torch.rand(len(chosen), 1, generator=generator) < 0.5
                columns = torch.where(flipped, columns.flip(1), columns)
            at = (chosen[:, None, None, None], channel, rows[:, None, :, None], columns[:, None, None, :])
            at = tuple(index.to(self.x.device) for index in at)
            yield self.x[at].float() / 255, self.y[at[0].flatten()]


class _Run:
    """One training run: model, optimizer, schedule and history, which a checkpoint holds together."""

    def __init__(
        self, name: str, dataset: str, recipe: Recipe, label: str, seed: int, device: torch.device, stages=None, weights=None
    ):
        self.recipe, self.device = recipe, device
        # bfloat16 where the hardware multiplies it faster than float32
        fast = {"cuda": True, "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()}  # older torch cannot tell
        self.mixed = fast.get(device.type, False)
        self.settings = {"model": name, "dataset": dataset, "recipe": label, "seed": seed, **asdict(recipe)}
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
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay, nesterov=recipe.nesterov
        )
        self.history: list[dict] = []

    def rate(self, epoch: float) -> float:
        """Learning rate at a moment of training, in epochs."""
        r = self.recipe
        if r.schedule == "steps":
            return r.lr * 0.1 ** sum(epoch > step for step in r.steps)
        peak = 0.25 * r.epochs
        return r.lr * (epoch / peak if epoch < peak else (r.epochs - epoch) / (r.epochs - peak))

    def one_epoch(self, batches: _Batches, epoch: int, progress: bool) -> dict:
        # The seed of each epoch is its own: a resumed run draws what an uninterrupted one would have drawn.
        mixed = self.settings["seed"] * 100_003 + epoch
        generator = torch.Generator().manual_seed(mixed)
        loss_sum = torch.zeros((), device=self.device)
        right = torch.zeros((), device=self.device)
        self.model.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(mixed)  # dropout
            bar = tqdm(batches.epoch(generator), f"epoch {epoch + 1}", len(batches), disable=not progress, leave=False)
            for step, (x, y) in enumerate(bar):
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate(epoch + (step + 1) / len(batches))
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
        return {"loss": loss_sum.item() / seen, "train_accuracy": 100 * right.item() / seen}

    def save(self, path: Path) -> None:
        content = {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        buffer = BytesIO()
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
            found, weights, optimizer, history = (content[key] for key in ("settings", "model", "optimizer", "history"))
        except Exception as error:
            raise OSError(f"{path} is not a checkpoint of modlib ({type(error).__name__}); delete it to start anew") from None
        differs = [
            f"{key} is {found.get(key)!r} there, {self.settings.get(key)!r} here"
            for key in {**self.settings, **found}
            if found.get(key) != self.settings.get(key)
        ]
        if differs:
            raise ValueError(f"{path} is of another run: {'; '.join(differs)}. Name another folder, or delete it to start anew")
        load_state(self.model, weights, str(path))
        self.optimizer.load_state_dict(optimizer)
        self.history = history

    def result(self, n: int) -> Result:
        rows = self.history
        columns = {
            key: (["epoch"], [row[key] for row in rows]) for key in ("loss", "train_accuracy", "test_accuracy", "seconds")
        }
        return measurement(
            "training",
            {**self.settings, "n": n, "k": 3},
            {"epoch": range(1, len(rows) + 1), "layer": rows[0]["layers"]},
            {**columns, "q": (["epoch", "layer"], np.array([row["q"] for row in rows]))},
            self.device,
            accuracy=rows[-1]["test_accuracy"],
            precision="bfloat16" if self.mixed else "float32",
            finished=len(rows) == self.recipe.epochs,
        )
