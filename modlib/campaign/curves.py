"""How curves are measured: of trained and untrained networks, of ImageNet's, and in training (Figs. 1, 4, 5, 6b, 7 and A.2)."""

from torch import nn

from modlib._tensors import place
from modlib.campaign.networks import Campaign, Extent, Left, Unit, all_layers
from modlib.cost import accuracy, cost
from modlib.curves import curve_grid
from modlib.data import Images, load_images
from modlib.models import build_model
from modlib.models.sources import SOURCES
from modlib.paper import paper_n
from modlib.results import Result, measurement
from modlib.zoo import load_model


def measure_curves(model: nn.Module, images: Images, settings: dict, scale: Extent, progress: bool = False, **evidence) -> Result:
    """What the book shows of a network's layers: Q over layers, N, k and draws, and per class; accuracy; cost.

    Layers are those of both readings, ``at="conv"`` and ``at="relu"``, in the order in which they run; the coordinates
    ``conv`` and ``relu`` name the layers of each, so that ``result.at("q", n=500, k=3, layer=result.coords["conv"])``
    holds the draws of one curve.

    Draws are the first batches of the test images, or random subsets where they do not hold that many. The result has
    ``q`` (n, k, draw, layer), ``per_class`` (layer, class; the mean over the draws at the paper's N and k),
    ``accuracy`` in percent, ``macs`` and ``params``.
    """
    layers, readings = all_layers(model)
    n = [each for each in scale.n if each <= len(images)]
    grid = curve_grid(model, images, n, scale.k, scale.draws, layers=layers, progress=progress)
    theirs = paper_n(settings["dataset"])
    per_class = grid.per_class[n.index(theirs if theirs in n else n[-1]), scale.k.index(3)].mean(0)
    price = cost(model, images.x.shape[1:])
    coords = {"n": n, "k": scale.k, "draw": range(1, scale.draws + 1), "layer": layers, **readings}
    coords["class"] = images.classes[: per_class.shape[1]]
    values = {"q": (["n", "k", "draw", "layer"], grid.q), "per_class": (["layer", "class"], per_class)}
    values |= {"macs": ([], price.macs), "params": ([], price.params)}
    if len(images.classes) == model.architecture["num_classes"]:  # a folder of ImageNet's numbers its classes otherwise
        values["accuracy"] = ([], accuracy(model, images, progress=progress))
    return measurement("curves", settings, coords, values, place(model)[0], images=images.name, **evidence)


def trained_curves(campaign: Campaign, unit: Unit, left: Left) -> Result:
    network, _, known = campaign.trained(unit, left)
    images = campaign.test_images(unit.dataset)
    return measure_curves(network, images, campaign.settings(unit), campaign.scale, campaign.progress, **known)


def untrained_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, "untrained", seed=campaign.seed)


def untrained_curves(campaign: Campaign, unit: Unit, left: Left) -> Result:
    network = build_model(unit.model, unit.dataset, seed=campaign.seed).to(campaign.device)
    settings, images = untrained_settings(campaign, unit), campaign.test_images(unit.dataset)
    return measure_curves(network, images, settings, campaign.scale, campaign.progress)


def imagenet_variants(model: str) -> list[str]:
    return ["torchvision", *(["keras"] if model == "resnet50" else [])]


def imagenet_settings(campaign: Campaign, unit: Unit) -> dict:
    return campaign.settings(unit, unit.variant, images=campaign.images.name)


def imagenet_curves(campaign: Campaign, unit: Unit, left: Left) -> Result:
    images = load_images(campaign.images, size=224)
    network = load_model(unit.model, unit.dataset, weights=unit.variant).to(campaign.device)
    settings = imagenet_settings(campaign, unit)
    return measure_curves(network, images, settings, campaign.scale, campaign.progress, stored=SOURCES[unit.variant].about)


def training(campaign: Campaign, unit: Unit, left: Left) -> Result:
    return campaign.trained(unit, left)[1]
