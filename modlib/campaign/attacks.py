"""How attacked images are measured: Fig. 6a, the strength of an attack, and what smoothed labels have to do with it."""

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from modlib.attacks import ATTACKS, PROTOCOLS, Attacked, attack, clip_only
from modlib.campaign.networks import Campaign, Left, OutOfTime, Unit, all_layers
from modlib.cost import accuracy
from modlib.curves import modularity_curve
from modlib.data import Images
from modlib.graph import iter_graphs
from modlib.models import layer_names
from modlib.modularity import modularity
from modlib.pruning import fine_tune
from modlib.results import Result, measurement
from modlib.training import RECIPES
from modlib.zoo import load_model

SWEPT = ("fgsm", "pgd")  # attacks with a strength eps
LARGEST = 500  # attacked images of a record, and the largest N
STRENGTHS = (1, 2, 4, 8, 16, 32)  # eps x 255; AdverTorch's default, 0.3, is measured with Fig. 6a


def attack_variants(model: str) -> list[str]:
    return [*(f"{name}-{protocol}" for protocol in PROTOCOLS for name in ATTACKS), "clip-authors"]


def strength_variants(model: str) -> list[str]:
    return [f"{name}-pixels-{strength}" for name in SWEPT for strength in STRENGTHS]


def attack_settings(campaign: Campaign, unit: Unit) -> dict:
    name, protocol, *strength = unit.variant.split("-")
    eps = {"eps": float(strength[0]) / 255} if strength else {}
    return campaign.settings(unit, attack=name, protocol=protocol, **eps)


def attacked_curves(campaign: Campaign, unit: Unit, left: Left) -> Result:
    """Curves of 500 attacked images, and of the same images before."""
    network, _, known = campaign.trained(unit, left)
    images, settings = campaign.test_images(unit.dataset), attack_settings(campaign, unit)
    layers, readings = all_layers(network)
    evidence, values = {**known}, {}
    if settings["attack"] == "clip":
        clean, attacked = images[:LARGEST], clip_only(images[:LARGEST])
    else:
        how = {name: settings[name] for name in ("protocol", "eps") if name in settings}
        resume = campaign.runs / f"{campaign.run(unit)}-{unit.variant}.npz"
        found = _changed(campaign, network, images, left, resume, settings["attack"], **how)
        clean, attacked = images[found.index], found.images
        values = {"success": ([], found.success_rate), "seconds": ([], found.seconds)}
        values |= {name: ([], float(np.median(getattr(found, name)))) for name in ("l0", "l2", "linf")}
        evidence |= {"attack": found.settings, "implementation": found.implementation, "tried": len(found.before)}
    n = sorted({each for each in (*campaign.scale.n, LARGEST) if each <= min(LARGEST, len(attacked))}) or [len(attacked)]

    def grid(x) -> np.ndarray:
        """Q over n, k and layers. The first n images of one pass serve every n."""
        stream = iter_graphs(network, x[: n[-1]], max(campaign.scale.k), [range(each) for each in n], layers)
        q = [[[modularity(g.nearest(k), clean.y[: g.n]) for k in campaign.scale.k] for g in graphs] for _, graphs in stream]
        return np.moveaxis(q, 0, -1)

    values |= {"q": (["n", "k", "layer"], grid(attacked.x)), "clean": (["n", "k", "layer"], grid(clean.x))}
    coords = {"n": n, "k": campaign.scale.k, "layer": layers, **readings}
    return measurement("attack", settings, coords, values, campaign.device, images=images.name, **evidence)


def _changed(campaign: Campaign, network: nn.Module, images: Images, left: Left, resume: Path, name: str, **how) -> Attacked:
    """The first 500 images that an attack changes, or all of them that there are; an error if there is none."""
    if left() == 0:  # an attack does one batch at least
        raise OutOfTime("no time is left to attack it")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # fewer than asked for: the record says so
        found = attack(
            network, images, name, n=min(LARGEST, len(images)), seed=campaign.seed, max_minutes=left(), resume=resume,
            batch_size=25 if campaign.device.type == "cpu" else 500, progress=campaign.progress, **how,
        )  # fmt: skip
    if not found.complete:
        raise OutOfTime(f"{len(found.images)} of {LARGEST} attacked images found")
    if not len(found.images):
        raise ValueError(f"no image changed class among the {found.correct} that were classified correctly")
    return found


# ------------------------------------------------------------------------ does PGD's place in Fig. 6a hang on smoothing?

SMOOTHINGS = (0.0, 0.1)  # of the labels, in a short training on: none, as in the paper's code, and ours


def smoothing_variants(model: str) -> list[str]:
    return [str(each) for each in SMOOTHINGS]


def smoothing_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, smoothing=float(unit.variant), **campaign.tuning)


def smoothing(campaign: Campaign, unit: Unit, left: Left) -> Result:
    """PGD in both protocols on a network that was trained on with labels smoothed so far, else by the same recipe."""
    network, _, known = campaign.trained(unit, left)
    settings, images = smoothing_settings(campaign, unit), campaign.test_images(unit.dataset)
    recipe = replace(RECIPES[campaign.tune_recipe], label_smoothing=settings["smoothing"])
    folder = campaign.runs / f"{campaign.run(unit)}-smoothing-{unit.variant}-{campaign.tuned}"
    campaign.train(unit, left, folder, partial(fine_tune, network), epochs=campaign.tune_epochs, recipe=recipe)
    tuned = load_model(unit.model, unit.dataset, weights=folder / "model.safetensors").to(campaign.device)
    found = [_changed(campaign, tuned, images, left, folder / f"pgd-{each}.npz", "pgd", protocol=each) for each in PROTOCOLS]

    values = {
        "q": (["protocol", "layer"], [modularity_curve(tuned, each.images.x, each.images.y).q for each in found]),
        "clean": (["protocol", "layer"], [modularity_curve(tuned, images.x[each.index], each.images.y).q for each in found]),
        "success": (["protocol"], [each.success_rate for each in found]),
        "n": (["protocol"], [len(each.images) for each in found]),
        "accuracy": ([], accuracy(tuned, images)),
    }
    coords = {"protocol": list(PROTOCOLS), "layer": layer_names(tuned)}
    return measurement("smoothing", settings, coords, values, campaign.device, k=3, images=images.name, **known)
