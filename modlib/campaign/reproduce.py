"""Campaigns: measure a figure of the paper, one network after another; resumable, and nothing is measured twice."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from modlib._checks import unknown, whole_number
from modlib.campaign.figures import FIGURES, Figure
from modlib.campaign.networks import SCALES, Campaign, OutOfTime, Unit
from modlib.campaign.parallel import LOSSES, spread
from modlib.data.datasets import SPLITS
from modlib.models import MODELS
from modlib.models.sources import SOURCES
from modlib.results import FOLDER, Records, Result, write_result
from modlib.scale import local_results
from modlib.scale import scale as chosen_scale
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
    shipped: bool = True,
    weights: str | None = None,
    progress: bool = False,
    jobs: int = 1,
    backend: str | None = None,
    scheduler: str | None = None,
) -> Iterator[Step]:
    """Measure what a figure or table of the paper shows, the most telling networks first, and record it.

    What is recorded in ``out`` or in modlib itself is passed over; finished training runs and embedded weights of the
    same training are used; what is missing is trained. Stopped at any moment, the same call goes on. What fails is
    reported, and the next is taken.

    Args:
        figure: a key of :data:`modlib.campaign.figures.FIGURES`.
        models: only these networks (any of :data:`modlib.models.MODELS`); by default the figure's.
        datasets: only these datasets; by default the figure's.
        variants: only these of the figure's measurements of each network, such as ``"pgd-pixels"`` of fig6a, or of fig5
            those with weights of ``"torchvision"`` or ``"keras"`` (resnet50 only).
        recipe, epochs, batch_size, seed: of :func:`modlib.training.train`.
        tune_epochs: of training a pruned network; by default as many as the whole one had.
        device: where to train and measure.
        max_minutes: stop in time; the same call goes on later.
        scale: ``"full"``, or ``"smoke"`` to try the whole way in seconds. (Its records say so, and lie apart.)
        images: for fig5: a folder of ImageNet images, one folder a class.
        runs: folder of training runs.
        out: folder of the records.
        shipped: pass over what is recorded in modlib itself; False measures that, too.
        weights: for fig4: measure networks that others trained, a key of :data:`modlib.models.sources.SOURCES`, by default all
            that this source has.
        progress: show bars.
        jobs: units measured at the same time, each in a process of its own.
        backend: who runs them, of joblib's: by default processes on this machine; ``"dask"`` with a ``scheduler``
            (workers of one thread each, that see ``runs`` and ``out`` under the same paths and have modlib installed).
        scheduler: address of Dask's scheduler.

    Yields:
        Step, one a unit; with jobs or a backend in the order in which they finish. Each worker writes its records
        itself, all or nothing. A worker that is lost costs one unit: it is measured again by another, and failed if
        that one is lost too.

    Raises:
        ValueError: for an unknown figure, model, dataset, recipe or scale, fig5 without images, or Dask
            without a scheduler.
    """
    names = [("figure", figure, FIGURES), ("scale", scale, SCALES), ("recipe", recipe, RECIPES)]
    names += [("model", model, MODELS) for model in models or ()]
    names += [("dataset", dataset, [*SPLITS, *(["imagenet"] if figure == "fig5" else [])]) for dataset in datasets or ()]
    for what, value, known in names:
        if value not in known:
            raise unknown(what, value, known)
    if weights is not None and (weights not in SOURCES or figure != "fig4"):
        raise ValueError(f"weights={weights!r}: fig4 can be measured with those of {', '.join(SOURCES)}; got figure {figure!r}")
    units = _units(figure, models, datasets) if weights is None else _theirs(weights, models, datasets)
    for variant in variants or ():
        if variant not in (known := list(dict.fromkeys(unit.variant for unit in units))):
            raise unknown(f"variant of {figure}", variant, known)
    if figure == "fig5" and images is None:
        raise ValueError("fig5 measures ImageNet images, which modlib has not: give images=FOLDER, one folder a class")
    chosen = FIGURES[figure]
    if epochs is None:
        epochs = SCALES[scale].epochs or min(RECIPES[recipe].epochs, chosen.epochs or RECIPES[recipe].epochs)
    epochs = whole_number("epochs", epochs, 1)
    jobs = whole_number("jobs", jobs, 1)
    apart = () if scale == "full" else (scale,)
    many = jobs > 1 or backend is not None
    runs, out = (Path(path, *apart) for path in (runs, out))
    if many:  # workers stand in other folders, and their bars would run into each other
        runs, out, progress, images = runs.absolute(), out.absolute(), False, images and Path(images).absolute()
    campaign = Campaign(
        recipe, epochs, whole_number("tune_epochs", tune_epochs or epochs, 1), batch_size, seed, torch.device(device), scale,
        None if images is None else Path(images), runs, out, (out, FOLDER) if shipped else (out,), progress, weights,
    )  # fmt: skip
    units = [unit for unit in units if not variants or unit.variant in variants]
    step = partial(_step, campaign, chosen, max_minutes, time.time())
    yield from spread(step, _lost, units, jobs, backend, scheduler, out) if many else map(step, units)


def _step(campaign: Campaign, figure: Figure, max_minutes: float | None, began: float, unit: Unit) -> Step:
    """Find the record of a unit in the folders that are known, or measure it."""
    left = None if max_minutes is None else max_minutes - (time.time() - began) / 60
    try:
        settings = figure.settings(campaign, unit)
        if found := campaign.recorded(figure.experiment, settings):
            return Step(unit, "recorded", found[0])
        if left is not None and left <= 0:
            raise OutOfTime(f"max_minutes={max_minutes} are over")
        result = figure.measure(campaign, unit, left)
        write_result(result, campaign.out / f"{_file(figure.experiment, campaign, unit, settings)}.json")
        return Step(unit, "measured", result)
    except OutOfTime as reason:
        return Step(unit, "out of time", note=str(reason))
    except (ValueError, OSError, MemoryError, ArithmeticError, torch.OutOfMemoryError) as error:
        return Step(unit, "failed", note=str(error))


def _lost(unit: Unit) -> Step:
    note = f"it took {LOSSES} workers with it, which were killed or ran out of memory. Give it more, or run it alone"
    return Step(unit, "failed", note=note)


def _units(figure: str, models: Sequence[str] | None, datasets: Sequence[str] | None) -> list[Unit]:
    """Those of the figure's networks, or of those asked for: the figure's among them first."""
    own = FIGURES[figure].networks
    networks = [(m, d) for m, d in own if (not models or m in models) and (not datasets or d in datasets)]
    networks += [(m, d) for d in datasets or dict.fromkeys(d for _, d in own) for m in models or ()]
    return [Unit(m, d, variant) for m, d in dict.fromkeys(networks) for variant in FIGURES[figure].variants(m)]


def _theirs(source: str, models: Sequence[str] | None, datasets: Sequence[str] | None) -> list[Unit]:
    networks = [(m, d) for m, d in SOURCES[source].files if (not models or m in models) and (not datasets or d in datasets)]
    if not networks:
        raise unknown(f"network of {source}", f"{models} on {datasets}", [f"{m} on {d}" for m, d in SOURCES[source].files])
    return [Unit(m, d) for m, d in networks if d in SPLITS]


def _file(experiment: str, campaign: Campaign, unit: Unit, settings: dict) -> str:
    weights = settings.get("weights", "trained")
    name = campaign.run(unit) if weights == "trained" else f"{unit.model}-{unit.dataset}-{weights}-{campaign.seed}"
    tuned = "" if settings.get("tune_epochs") in (None, campaign.epochs) else f"{settings['tune_epochs']}-epochs"
    variant = "" if unit.variant == weights else unit.variant
    return "-".join(part for part in (experiment, name, variant, tuned) if part)


def measure(*figures: str, **which) -> Records:
    """The records that a page shows: modlib's own and, with MODLIB_SCALE=full, those measured on this machine in their place.

    With MODLIB_SCALE=full, what these figures show is measured first, into :func:`modlib.scale.local_results`, from training
    runs in the folder ``runs`` beside it. What stopped goes on where it stopped, and nothing is measured twice.

    Args:
        figures: keys of :data:`modlib.campaign.figures.FIGURES`.
        **which: ``models`` and ``datasets`` of :func:`reproduce`.
    """
    if chosen_scale() != "full":
        return Records.read(FOLDER)
    device, out = "cuda" if torch.cuda.is_available() else "cpu", local_results()
    for figure in figures:
        print(f"{figure}: measuring on {device}, into {out.name}")
        for step in reproduce(figure, **which, device=device, runs=out.parent / "runs", out=out, shipped=False):
            print(step, flush=True)
    return Records.read(FOLDER, out)
