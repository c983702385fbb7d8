"""Words of the book: names as they are written, how layers were chosen, what was not measured."""

import re
from collections.abc import Iterable

MISSING = "not measured"
_PROPER = {
    "tinyimagenet50": "Tiny-ImageNet-50", "imagenet50": "ImageNet50", "imagenet": "ImageNet",
    "cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "vgg": "VGG", "resnet": "ResNet", "vit": "ViT", "cct": "CCT",
    "fgsm": "FGSM", "pgd": "PGD", "jsma": "JSMA", "cw": "CW", "onepixel": "OnePixel", "localsearch": "LocalSearch",
}  # fmt: skip
CRITERIA = {  # in the order of tables; of Table 1 the paper does not say which blocks went
    "none": "nothing removed", "last": "the last", "table1": "a plan of Table 1’s cost", "curve": "the rule’s plan",
    "rise": "smallest rise of Q", "random": "at random", "early": "at random, not of the last stage", "l1": "smallest L1 norm",
}  # fmt: skip
STARTS = {"inherited": "inherited weights", "scratch": "from scratch"}


def proper(text: str) -> str:
    """Names of networks and datasets as they are written in prose.

    >>> proper("vgg16 on tinyimagenet50")
    'VGG16 on Tiny-ImageNet-50'
    """
    return re.sub("|".join(_PROPER), lambda found: _PROPER[found[0]], text)


def without(removed: Iterable[str]) -> str:
    """Names of removed layers; those of a VGG by their numbers alone.

    >>> without(("features.22", "features.25")), without(())
    ('22, 25', 'none')
    """
    return ", ".join(removed).replace("features.", "") or "none"
