"""Campaigns: measure a figure of the paper, one network after another; resumable, and nothing is measured twice."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from modlib._checks import unknown, whole_number
from modlib.campaign import SCALES, Campaign, OutOfTime, Unit
from modlib.data import SPLITS
from modlib.figures import FIGURES
from modlib.models import MODELS
from modlib.results import FOLDER, Result, find_results, write_result
from modlib.training import RECIPES


@dataclass(frozen=True)
class Step:
    """What became of one unit of a campaign.

    Attributes:
        unit: model, dataset, and which of the figure's measurements of it.
        state: ``"recorded"`` before, ``"measured"`` now, ``"out of time"`` or ``"failed"``.
        result: the record, where there is one.
        note: why not, where there is none.
    """

    unit: Unit
    state: str
    result: Result | None = None
    note: str = ""

    def __str__(self) -> str:
        what = f"{self.unit.model} on {self.unit.dataset}" + f", {self.unit.variant}" * bool(self.unit.variant)
        return f"{what}: {self.state}" + f": {self.note}" * bool(self.note)


def reproduce(
    figure: str,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    *,
    recipe: str = "fast",
    epochs: int | None = None,
    tune_epochs: int | None = None,
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
    """Measure what a figure or table of the paper shows, the most telling networks first, and record it.

    What is recorded in ``out`` or in modlib itself is passed over; finished training runs and embedded weights of the
    same training are used; what is missing is trained. Stopped at any moment, the same call goes on. What fails is
    reported, and the next is taken.

    Args:
        figure: a key of :data:`modlib.figures.FIGURES`.
        models: only these networks (any of :data:`modlib.models.MODELS`); by default the figure's.
        datasets: only these datasets; by default the figure's.
        variants: only these of the figure's measurements of each network, such as ``"pgd-pixels"`` of fig6a.
        recipe, epochs, batch_size, seed: of :func:`modlib.training.train`.
        tune_epochs: of training a pruned network; by default as many as the whole one had.
        device: where to train and measure.
        max_minutes: stop in time; the same call goes on later.
        scale: ``"full"``, or ``"smoke"`` to try the whole way in seconds. (Its records say so, and lie apart.)
        images: for fig5: a folder of ImageNet images, one folder a class.
        runs: folder of training runs.
        out: folder of the records.
        progress: show bars.

    Yields:
        Step, one a unit.

    Raises:
        ValueError: for an unknown figure, model, dataset, recipe or scale, or fig5 without images.
    """
    names = [("figure", figure, FIGURES), ("scale", scale, SCALES), ("recipe", recipe, RECIPES)]
    names += [("model", model, MODELS) for model in models or ()]
    names += [("dataset", dataset, [*SPLITS, *(["imagenet"] if figure == "fig5" else [])]) for dataset in datasets or ()]
    for what, value, known in names:
        if value not in known:
            raise unknown(what, value, known)
    units = _units(figure, models, datasets)
    for variant in variants or ():
        if variant not in (known := list(dict.fromkeys(unit.variant for unit in units))):
            raise unknown(f"variant of {figure}", variant, known)
    if figure == "fig5" and images is None:
        raise ValueError("fig5 measures ImageNet images, which modlib has not: give images=FOLDER, one folder a class")
    chosen = FIGURES[figure]
    if epochs is None:
        epochs = SCALES[scale].epochs or min(RECIPES[recipe].epochs, chosen.epochs or RECIPES[recipe].epochs)
    epochs = whole_number("epochs", epochs, 1)
    apart = () if scale == "full" else (scale,)
    campaign = Campaign(
        recipe, epochs, whole_number("tune_epochs", tune_epochs or epochs, 1), batch_size, seed, torch.device(device), scale,
        None if images is None else Path(images), Path(runs, *apart), Path(out, *apart), progress,
    )  # fmt: skip

    end = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    for unit in units:
        if variants and unit.variant not in variants:
            continue
        settings = chosen.settings(campaign, unit)
        found = [r for folder in (campaign.out, FOLDER) for r in find_results(chosen.experiment, folder, **settings)]
        if found:
            yield Step(unit, "recorded", found[0])
            continue
        left = None if end is None else (end - time.monotonic()) / 60
        try:
            if left is not None and left <= 0:
                raise OutOfTime(f"max_minutes={max_minutes} are over")
            result = chosen.measure(campaign, unit, left)
            write_result(result, campaign.out / f"{_file(chosen.experiment, campaign, unit, settings)}.json")
            yield Step(unit, "measured", result)
        except OutOfTime as reason:
            yield Step(unit, "out of time", note=str(reason))
        except (ValueError, OSError, MemoryError, ArithmeticError, torch.OutOfMemoryError) as error:
            yield Step(unit, "failed", note=str(error))


def _units(figure: str, models: Sequence[str] | None, datasets: Sequence[str] | None) -> list[Unit]:
    """Those of the figure's networks, or of those asked for: the figure's among them first."""
    own = FIGURES[figure].networks
    networks = [(m, d) for m, d in own if (not models or m in models) and (not datasets or d in datasets)]
    networks += [(m, d) for d in datasets or dict.fromkeys(d for _, d in own) for m in models or ()]
    return [Unit(m, d, variant) for m, d in dict.fromkeys(networks) for variant in FIGURES[figure].variants(m)]


def _file(experiment: str, campaign: Campaign, unit: Unit, settings: dict) -> str:
    weights = settings.get("weights", "trained")
    name = campaign.run(unit) if weights == "trained" else f"{unit.model}-{unit.dataset}-{weights}-{campaign.seed}"
    tuned = "" if settings.get("tune_epochs") in (None, campaign.epochs) else f"{settings['tune_epochs']}-epochs"
    return "-".join(part for part in (experiment, name, unit.variant, tuned) if part)
