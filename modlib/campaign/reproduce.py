"""Campaigns: measure a figure of the paper, one network after another; resumable, and nothing is measured twice."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from modlib._checks import check_seed, checked, number, one_of, room_for, unknown, whole_number
from modlib._tensors import usable
from modlib.campaign.figures import FIGURES, QUEUE, Figure, Task
from modlib.campaign.networks import EXTENTS, Campaign, OutOfTime, Unit, countdown
from modlib.campaign.parallel import BACKENDS, LOSSES, spread
from modlib.data.datasets import SPLITS
from modlib.models import MODELS
from modlib.models.sources import SOURCES
from modlib.results import FOLDER, Records, Result, write_result
from modlib.scale import device as chosen_device, local_results, scale as chosen_scale
from modlib.training import RECIPES

GPU_MINUTES = 15  # of one chapter on a free GPU


@dataclass(frozen=True)
class Step:
    """What became of one unit of a campaign."""

    unit: Unit
    state: str  # "recorded" before, "measured" now, "out of time" or "failed"
    result: Result | None = None  # the record, where there is one
    note: str = ""  # why not, where there is none
    task: str = ""  # which of the queue's it is, where all are measured

    def __str__(self) -> str:
        what = f"{self.unit.model} on {self.unit.dataset}" + f", {self.unit.variant}" * bool(self.unit.variant)
        return ": ".join(filter(None, (self.task, what, self.state, self.note)))


@checked
def reproduce(
    figure: str,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    *,
    recipe: str = "fast",
    epochs: int | None = None,
    tune_epochs: int | None = None,
    tune_recipe: str | None = None,
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
    reported, and the next is taken. Wrong arguments are refused at the call; the work begins with the first step taken.

    Args:
        figure: a key of :data:`modlib.campaign.figures.FIGURES`, or ``"all"``: what is still missing of any, by its own
            recipes and in the order of ``modlib.campaign.figures.QUEUE``.
        models, datasets: only these, any of :data:`modlib.models.MODELS` and of the datasets; by default the figure's.
        variants: only these of the figure's measurements of each network, such as ``"pgd-pixels"`` of fig6a, or of fig5
            those with weights of ``"torchvision"`` or ``"keras"`` (resnet50 only).
        recipe, epochs, batch_size, seed: of :func:`modlib.training.train`; tune_recipe and tune_epochs: of fine-tuning, by
            default the same.
        device, max_minutes: where to train and measure, and when to stop; the same call goes on later.
        scale: ``"full"``, or ``"smoke"`` to try the whole way in seconds. (Its records say so, and lie apart.)
        images: for fig5: a folder of ImageNet images, one folder a class.
        runs, out: folders of the training runs and of the records.
        shipped: pass over what is recorded in modlib itself; False measures that, too.
        weights: measure the networks of another source, a key of :data:`modlib.models.sources.SOURCES`, instead of training any.
        progress, jobs: show bars; units measured at the same time, each in a process of its own.
        backend: who runs them, of joblib's: by default processes on this machine; ``"dask"`` with a ``scheduler``
            (workers of one thread each, that see ``runs`` and ``out`` under the same paths and have modlib installed).

    Yields:
        Step, one a unit; with jobs or a backend as they finish. A unit fails if it takes two workers with it.

    Raises:
        ValueError: for an argument that cannot be, fig5 without images, or Dask without a scheduler.
        OSError: if nothing can be written to ``runs`` or ``out``.
    """
    only = (each if each is None else list(each) for each in (models, datasets, variants))
    task = Task(figure, *only, recipe, epochs, tune_epochs, seed, weights, tune_recipe)
    if figure == "all" and task != Task("all"):
        raise ValueError("figure='all' has its own models, datasets, recipes, seeds and weights: leave them out, or name a figure")
    if (figure == "fig5" or images is not None) and (images is None or not Path(images).is_dir()):
        raise ValueError("fig5 measures ImageNet images, which modlib has not: give images=FOLDER, one folder a class")
    one_of("scale", scale, EXTENTS)
    number("max_minutes", max_minutes or 0), whole_number("batch_size", 1 if batch_size is None else batch_size, 1)
    many = (jobs := whole_number("jobs", jobs, 1, 1000)) > 1 or backend is not None
    others = ("backend", BACKENDS) if scheduler is None else ("backend of a scheduler", ["dask"])
    one_of(others[0], "loky" if backend is None else backend, others[1])
    runs, out = (Path(path, "" if scale == "full" else scale) for path in (runs, out))
    room_for(runs), room_for(out)
    if many:  # workers stand in other folders, and their bars would run into each other
        runs, out, progress, images = runs.absolute(), out.absolute(), False, images and Path(images).absolute()
    common = dict(
        batch_size=batch_size, device=usable(device), scale_name=scale, images=None if images is None else Path(images),
        runs=runs, out=out, known=(out, FOLDER) if shipped else (out,), progress=progress,
    )  # fmt: skip
    began, steps = time.time(), []
    for each in QUEUE if figure == "all" else [task]:
        name = str(each) if figure == "all" else ""
        if name and EXTENTS[scale].epochs:  # a trial
            each = replace(each, epochs=None, tune_epochs=None)
        units, how = _checked(each, scale)
        step = partial(_step, Campaign(**common, **how), FIGURES[each.figure], max_minutes, began, name)
        steps.append(spread(step, partial(_lost, name), units, jobs, backend, scheduler, out) if many else map(step, units))
    return chain.from_iterable(steps)


def _checked(task: Task, scale: str) -> tuple[list[Unit], dict]:
    """The units of a task, and how their networks are trained; a sentence for what cannot be."""
    _names("figure", [task.figure], [*FIGURES, "all"])
    figure, datasets = FIGURES[task.figure], [*SPLITS, *["imagenet"] * (task.figure == "fig5")]
    one_of("recipe", task.recipe, RECIPES), _names("model", task.models, MODELS), _names("dataset", task.datasets, datasets)
    tune_recipe = one_of("tune_recipe", task.recipe if task.tune_recipe is None else task.tune_recipe, RECIPES)
    if task.weights is not None and (task.weights not in SOURCES or task.figure in ("fig5", "fig6b", "a2")):
        raise ValueError(f"weights={task.weights!r}: {', '.join(SOURCES)}, and not for fig5, fig6b, a2; got figure {task.figure!r}")
    own = figure.networks if task.weights is None else [pair for pair in SOURCES[task.weights].files if pair[1] in SPLITS]
    networks = [(m, d) for m, d in own if m in (task.models or MODELS) and d in (task.datasets or datasets)]  # the figure's first
    if task.weights is None:  # any network can be trained on any dataset; others' are those that there are
        networks += [(m, d) for d in task.datasets or dict.fromkeys(d for _, d in own) for m in task.models or ()]
    elif not networks:
        raise unknown(f"network of {task.weights}", f"{task.models} on {task.datasets}", [f"{m} on {d}" for m, d in own])
    units = [Unit(m, d, variant) for m, d in dict.fromkeys(networks) for variant in figure.variants(m)]
    _names("variant", task.variants, list(dict.fromkeys(unit.variant for unit in units)), f" of {task.figure}")
    usual = RECIPES[task.recipe].epochs
    epochs = (EXTENTS[scale].epochs or min(usual, figure.epochs or usual)) if task.epochs is None else task.epochs
    how = {"recipe": task.recipe, "epochs": whole_number("epochs", epochs, 1, 10**6), "seed": check_seed(task.seed)}
    how["tune_epochs"] = how["epochs"] if task.tune_epochs is None else whole_number("tune_epochs", task.tune_epochs, 1, 10**6)
    how |= {"tune_recipe": tune_recipe, "weights": task.weights}
    return [unit for unit in units if not task.variants or unit.variant in task.variants], how


def _names(what: str, names: Sequence[str] | None, known: Sequence[str], of: str = "") -> None:
    if names is not None and not len(names):
        raise ValueError(f"{what}s{of} must be a list of one or more names; got {names!r}. Leave it out for all of the figure's")
    for name in names or ():
        one_of(what + of, name, known)


def _step(campaign: Campaign, figure: Figure, max_minutes: float | None, began: float, task: str, unit: Unit) -> Step:
    """Find the record of a unit in the folders that are known, or measure it."""
    left, tell = countdown(max_minutes, began), partial(Step, unit, task=task)
    try:
        settings = figure.settings(campaign, unit)
        if found := campaign.recorded(figure.experiment, settings):
            return tell("recorded", found[0])
        if left() == 0:
            raise OutOfTime(f"max_minutes={max_minutes} are over")
        result = figure.measure(campaign, unit, left)
        write_result(result, campaign.out / f"{_file(figure.experiment, campaign, unit, settings)}.json")
        return tell("measured", result)
    except OutOfTime as reason:
        return tell("out of time", note=str(reason))
    except Exception as error:  # whatever it is, the others may be measured; an interrupt is none of these
        foreseen = isinstance(error, (ValueError, OSError, MemoryError, ArithmeticError)) and str(error)
        return tell("failed", note=foreseen or f"{type(error).__name__}: {error}")


def _lost(task: str, unit: Unit) -> Step:
    note = f"it took {LOSSES} workers with it, which were killed or ran out of memory. Give it more, or run it alone"
    return Step(unit, "failed", note=note, task=task)


def _file(experiment: str, campaign: Campaign, unit: Unit, settings: dict) -> str:
    whose = settings.get("weights", "trained")
    name = campaign.run(unit) if whose in ("trained", campaign.weights) else f"{unit.model}-{unit.dataset}-{whose}-{campaign.seed}"
    usual = settings.get("tune_epochs") in (None, campaign.epochs) and "tune_recipe" not in settings
    parts = (experiment, name, "" if unit.variant == whose else unit.variant, "" if usual else f"{campaign.tuned}-epochs")
    return "-".join(filter(None, parts))


def measure(*figures: str, **which) -> Records:
    """The records that a page shows: modlib's own and, with MODLIB_SCALE=gpu or full, this machine's in their place.

    Then what these figures show is measured first, into the folder of ``$MODLIB_RESULTS``, from runs in ``runs`` beside it: to the
    end with ``full``, with ``gpu`` what fits in ``GPU_MINUTES``.

    Args:
        figures, which: keys of :data:`modlib.campaign.figures.FIGURES`; ``models`` and ``datasets`` of :func:`reproduce`.
    """
    _names("figure", figures or None, FIGURES)
    if chosen_scale() not in ("gpu", "full"):
        return Records.read(FOLDER)
    device, out = chosen_device(), local_results()
    left = countdown(GPU_MINUTES if chosen_scale() == "gpu" else None)
    for figure in figures:
        print(f"{figure}: measuring on {device}, into {out.name}")
        how = {"device": device, "runs": out.parent / "runs", "out": out, "shipped": False, "max_minutes": left()}
        for step in reproduce(figure, **which, **how):
            print(step, flush=True)
    return Records.read(FOLDER, out)
