"""The paper's figures and tables: which networks each needs, and what measures its records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modlib.campaign import attacks, curves, pruning
from modlib.campaign.networks import Campaign, Left, Unit
from modlib.models import RESNET
from modlib.results import Result


@dataclass(frozen=True)
class Figure:
    """How a figure is measured."""

    experiment: str  # of its records
    networks: list[tuple[str, str]]  # (model, dataset) of those it needs, most telling first
    settings: Callable[[Campaign, Unit], dict]  # what identifies the record of a unit
    measure: Callable[[Campaign, Unit, Left], Result]  # measures a unit in the time that is left, or raises OutOfTime
    variants: Callable[[str], list[str]] = lambda model: [""]  # the units of a network
    epochs: int | None = None  # of training, at most


_NINE = ("vgg16", "resnet18", "vgg11", "vgg19", "vgg13", "resnet34", "resnet50", "resnet101", "resnet152")
_ALL = [(model, "cifar10") for model in (*_NINE[:3], "resnet56", *_NINE[3:])]
_ALL += [(model, dataset) for dataset in ("cifar100", "tinyimagenet50") for model in _NINE]
_PAIR = [("vgg16", "cifar10"), ("resnet18", "cifar10")]
_ATTACKED = [*_PAIR, ("resnet20", "cifar10")]
_VGG11 = [("vgg11", "cifar10"), ("vgg11", "cifar100")]
_FIG8 = [(model, "cifar10") for model in ("resnet56", "vgg19", "resnet152", "vgg11")]
_IMAGENET = [(model, "imagenet") for model in RESNET]
_THIN = [(model, "cifar10") for model in ("resnet20", "resnet32", "resnet44", "resnet56")]
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
    "choice": Figure("pruning", _THIN, pruning.pruning_settings, pruning.pruning, pruning.choice_variants),
    "a2": Figure("curves", _ALL, curves.untrained_settings, curves.untrained_curves),
}


@dataclass(frozen=True)
class Task:
    """What to measure of a figure, and how it is trained; the arguments of :func:`modlib.campaign.reproduce.reproduce`."""

    figure: str
    models: Sequence[str] | None = None
    datasets: Sequence[str] | None = None
    variants: Sequence[str] | None = None
    recipe: str = "fast"
    epochs: int | None = None
    tune_epochs: int | None = None
    seed: int = 0
    weights: str | None = None  # of others' networks, instead of training any
    tune_recipe: str | None = None

    def __str__(self) -> str:
        how = f"{self.recipe}, {self.epochs or 'its'} epochs, seed {self.seed}"
        return f"{self.figure}, {self.weights}'s, seed {self.seed}" if self.weights else f"{self.figure}, {how}"


_LONG = {"recipe": "fast", "epochs": 30}  # the same for all networks whose depths are compared
QUEUE = (  # what is missing, in the order of what it tells a reader; what is recorded is passed over
    # What of the paper's training brings a curve to the paper's? (Beside "short", with as many epochs; then longer.)
    *(Task("fig4", ["vgg16"], ["cifar10"], recipe=recipe, epochs=12) for recipe in ("unsmoothed", "decayed")),
    *(Task("fig4", ["resnet18"], ["cifar10"], recipe=recipe, epochs=8) for recipe in ("unsmoothed", "decayed")),
    Task("fig4", ["vgg16", "resnet18"], ["cifar10"], **_LONG),
    # Depth, on equal terms; then harder data; then whether another seed says the same.
    Task("fig4", ["vgg13", "resnet34", "resnet50", "vgg11", "vgg19"], ["cifar10"], **_LONG),
    Task("fig4", ["vgg16", "resnet18", "vgg19", "vgg13", "resnet34"], ["cifar100"], **_LONG),
    Task("fig4", ["vgg11", "vgg16", "resnet18", "resnet34"], ["tinyimagenet50"], **_LONG),
    *(Task("fig4", ["resnet20"], ["cifar10"], epochs=20, seed=seed) for seed in (1, 2)),
    *(Task("fig4", ["vgg11"], ["cifar10"], epochs=15, seed=seed) for seed in (1, 2)),
    *(Task("fig10", ["vgg11"], ["cifar10"], epochs=15, tune_epochs=2, seed=seed) for seed in (1, 2)),
    *(Task("choice", tune_epochs=1, tune_recipe="gentle", seed=seed, weights="akamaster") for seed in (0, 1, 2)),
    *(Task("table1", epochs=10, tune_epochs=10, seed=seed) for seed in (0, 1, 2)),
    # The deepest, the other networks of Fig. 4, and the other figures with what is trained by then.
    *(Task("fig4", ["resnet101", "resnet152"], [dataset], **_LONG) for dataset in ("cifar10", "cifar100", "tinyimagenet50")),
    Task("fig4", **_LONG),
    Task("fig6b", recipe="paper", epochs=30),
    *(Task(figure, **_LONG) for figure in ("a2", "fig8", "fig6a", "strength", "smoothing")),
    *(Task(figure, **_LONG, tune_epochs=2) for figure in ("fig10", "fig9")),
)
