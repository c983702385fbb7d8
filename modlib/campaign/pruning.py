"""How the records of Section 5 are measured: layer difference and pruning."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from torch import nn

from modlib.campaign.networks import Campaign, Left, Unit
from modlib.cost import accuracy, cost, seconds
from modlib.curves import CurveDraws, modularity_curve, repeat_curves
from modlib.data import Images
from modlib.models import THIN_RESNET, layer_names
from modlib.paper import paper_n
from modlib.pruning import find_redundant, fine_tune, l1_plan, prune, random_plan, removable, rise_plan
from modlib.results import Result, measurement
from modlib.similarity import linear_cka
from modlib.zoo import load_model

# ---------------------------------------------------------------------------------------- layer difference: Fig. 8


def similarity(campaign: Campaign, unit: Unit, left: Left) -> Result:
    network, _, known = campaign.trained(unit, left)
    sample = campaign.test_images(unit.dataset)[:500]

    def timed(function: Callable, *arguments, **options):
        start = time.monotonic()
        return function(*arguments, **options), time.monotonic() - start

    curve, curve_seconds = timed(modularity_curve, network, sample.x, sample.y)
    cka, cka_seconds = timed(linear_cka, network, sample.x)
    unbiased, unbiased_seconds = timed(linear_cka, network, sample.x, minibatch=min(250, len(sample)))
    pair = ["layer", "other"]
    values = {"q": (["layer"], curve.q), "cka": (pair, cka), "cka_minibatch": (pair, unbiased)}
    values["seconds"] = (["of"], [curve_seconds, cka_seconds, unbiased_seconds])
    coords = {"layer": curve.layers, "other": curve.layers, "of": ["modularity", "cka", "cka_minibatch"]}
    return measurement("similarity", campaign.settings(unit), coords, values, campaign.device, n=len(sample), **known)


# ------------------------------------------------------------------------------- pruning: Figs. 9 and 10, Table 1

REMOVED = {"vgg19": (1, 2, 3, 4, 5, 6), "resnet152": (5, 11, 16, 21, 26, 30)}  # layers in the variants of Fig. 9
CHOSEN_OTHERWISE = ("rise", "random", "l1")  # criteria by which as many layers go as the paper removed
TABLE1 = (2, 3, 6)  # blocks a stage of ResNet56, which give the paper's rates of parameters and MACs


def pruning_variants(model: str) -> list[str]:
    """The paper's, the whole network trained on, the paper's from scratch, as many other layers: criterion-count-start."""
    counts = REMOVED.get(model, (1, 2, 3))
    kinds = [("last", "inherited"), ("last", "scratch"), *((criterion, "inherited") for criterion in CHOSEN_OTHERWISE)]
    paper, *others = ([f"{criterion}-{count}-{start}" for count in counts] for criterion, start in kinds)
    return [*paper, "none-0-inherited", *sum(others, [])]


def table1_variants(model: str) -> list[str]:
    return ["table1-16-inherited", "curve-0-inherited", "table1-16-scratch", *choices(16)]


def choice_variants(model: str) -> list[str]:
    """A third of the blocks, chosen in each way; none of a network that is no thin ResNet."""
    count = sum(THIN_RESNET.get(model, ())) // 3
    return [*choices(count), f"early-{count}-inherited"] if count else []


def choices(count: int) -> list[str]:
    return ["none-0-inherited", *(f"{criterion}-{count}-inherited" for criterion in CHOSEN_OTHERWISE)]


def pruning_settings(campaign: Campaign, unit: Unit) -> dict:
    criterion, count, start = unit.variant.split("-")
    return campaign.settings(unit, criterion=criterion, count=int(count), start=start, **campaign.tuning)


def removed_layers(network: nn.Module, criterion: str, count: int, images: Images, seed: int = 0) -> list[str]:
    """The layers that a variant is without.

    Args:
        criterion: ``"last"``: from the back, of a ResNet with bottlenecks of stage 3, as in Fig. 9; ``"table1"``: the last
            blocks of each stage beyond :data:`TABLE1`; ``"curve"``: what :func:`find_redundant` names, whatever the count;
            ``"rise"``: those of smallest rise of Q; ``"random"``, ``"early"`` (at random, none of the last stage), ``"l1"``: the
            controls; ``"none"``: nothing, to train the whole network on as long.
    """
    names = layer_names(network)
    if criterion == "none":
        return []
    if criterion == "curve":
        return list(find_redundant(_draws(network, images, 500), model=network).remove)
    if criterion == "rise":
        return list(rise_plan(_draws(network, images, 500), network, count).remove)
    if criterion == "table1":
        blocks = {stage: [name for name in names if name.startswith(f"layer{stage}.")] for stage in (1, 2, 3)}
        return [name for stage, keep in enumerate(TABLE1, 1) for name in blocks[stage][keep:]]
    if criterion == "last":
        stage3 = [name for name in names if name.startswith("layer3.")]
        return (stage3 or names)[-count:]
    if criterion == "early":
        early = [name for name, why in removable(network).items() if not (why or name.startswith("layer3."))]
        return sorted(np.random.default_rng(seed).choice(early, count, replace=False).tolist(), key=names.index)
    return list({"random": partial(random_plan, seed=seed), "l1": l1_plan}[criterion](network, count).remove)


def _draws(network: nn.Module, images: Images, n: int) -> CurveDraws:
    """Five draws of n images, or as many and as large as there are images for."""
    n = min(n, len(images) // 2)
    return repeat_curves(network, images, n, draws=min(5, len(images) // n))


def pruning(campaign: Campaign, unit: Unit, left: Left) -> Result:
    network, _, known = campaign.trained(unit, left)
    settings, images = pruning_settings(campaign, unit), campaign.test_images(unit.dataset)
    names = removed_layers(network, settings["criterion"], settings["count"], images, campaign.seed)
    if twin := _twin(campaign, settings, names):
        return twin
    shorter = prune(network, names)
    folder = campaign.runs / f"{campaign.run(unit)}-{unit.variant}-{campaign.tuned}"
    inherited = settings["start"] == "inherited"
    how = {"function": partial(fine_tune, shorter)} if inherited else {"name": unit.model, "stages": shorter.architecture["stages"]}
    run = campaign.train(unit, left, folder, epochs=campaign.tune_epochs, recipe=campaign.tune_recipe, **how)
    tuned = load_model(unit.model, unit.dataset, weights=folder / "model.safetensors").to(campaign.device)

    curves = _draws(tuned, images, paper_n(unit.dataset))
    shape, both = images.x.shape[1:], ["network"]
    costs = [cost(each, shape) for each in (network, tuned)]
    values = {
        "q": (["draw", "layer"], curves.q),
        "accuracy": (both, [accuracy(network, images), accuracy(tuned, images)]),
        "at_once": ([], accuracy(shorter, images)),  # without any further training
        "macs": (both, [each.macs for each in costs]),
        "params": (both, [each.params for each in costs]),
        "seconds": (both, [seconds(each, shape) for each in (network, tuned)]),
    }
    coords = {"network": ["whole", "pruned"], "draw": range(1, len(curves.q) + 1), "layer": curves.layers, "removed": names}
    evidence = {"n": curves.n, "k": curves.k, "images": images.name, "precision": run.evidence["precision"], **known}
    return measurement("pruning", settings, coords, values, campaign.device, **evidence)


def _twin(campaign: Campaign, settings: dict, names: list[str]) -> Result | None:
    """A record of the network without just these layers, chosen by another criterion: trained again, it would come out the same."""
    alike = {key: value for key, value in settings.items() if key not in ("criterion", "count")}
    for each in campaign.recorded("pruning", alike):
        if each.coords["removed"] == names:
            variant = "{criterion}-{count}-{start}".format(**each.settings)
            return replace(each, settings=settings, evidence={"measured_as": variant} | each.evidence)  # not to be counted again
    return None
