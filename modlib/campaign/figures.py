"""The paper's figures and tables: which networks each needs, and what measures its records."""

from collections.abc import Callable
from dataclasses import dataclass

from modlib.campaign import attacks, curves, pruning
from modlib.campaign.networks import Campaign, Unit
from modlib.models import RESNET
from modlib.results import Result

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


_NINE = ("vgg16", "resnet18", "vgg11", "vgg19", "vgg13", "resnet34", "resnet50", "resnet101", "resnet152")
_ALL = [(model, "cifar10") for model in (*_NINE[:3], "resnet56", *_NINE[3:])]
_ALL += [(model, dataset) for dataset in ("cifar100", "tinyimagenet50") for model in _NINE]
_PAIR = [("vgg16", "cifar10"), ("resnet18", "cifar10")]
_ATTACKED = [*_PAIR, ("resnet20", "cifar10")]
_VGG11 = [("vgg11", "cifar10"), ("vgg11", "cifar100")]
_FIG8 = [(model, "cifar10") for model in ("resnet56", "vgg19", "resnet152", "vgg11")]
_IMAGENET = [(model, "imagenet") for model in RESNET]
_FIG9 = [("vgg19", "cifar10"), ("resnet152", "cifar10"), ("resnet152", "tinyimagenet50")]

FIGURES = {
    "fig4": Figure("curves", _ALL, Campaign.settings, curves.trained_curves),
    "fig5": Figure("curves", _IMAGENET, curves.imagenet_settings, curves.imagenet_curves, curves.imagenet_variants),
    "fig6a": Figure("attack", _ATTACKED, attacks.attack_settings, attacks.attacked_curves, attacks.attack_variants),
    "strength": Figure("attack", _ATTACKED, attacks.attack_settings, attacks.attacked_curves, attacks.strength_variants),
    "smoothing": Figure("smoothing", _ATTACKED, attacks.smoothing_settings, attacks.smoothing, attacks.smoothing_variants),
    "fig6b": Figure("training", _PAIR, Campaign.training, curves.training, epochs=30),
    "fig8": Figure("similarity", _FIG8, Campaign.settings, pruning.similarity),
    "fig9": Figure("pruning", _FIG9, pruning.pruning_settings, pruning.pruning, pruning.pruning_variants),
    "fig10": Figure("pruning", _VGG11, pruning.pruning_settings, pruning.pruning, pruning.pruning_variants),
    "table1": Figure("pruning", [("resnet56", "cifar10")], pruning.pruning_settings, pruning.pruning, pruning.table1_variants),
    "a2": Figure("curves", _ALL, curves.untrained_settings, curves.untrained_curves),
}
