"""What the paper prints: its settings, and the values of its figures and tables."""

import json

from modlib._checks import one_of
from modlib.data import ASSETS

K = 3  # Section 4
DATASETS = ("cifar10", "cifar100", "tinyimagenet50")  # harder and harder
OURS = {"imagenet50": "tinyimagenet50"}  # the paper's 50 classes of ImageNet are not public: ours are others


def paper_n(dataset: str) -> int:
    """The number of images in a graph of Section 4."""
    return 1000 if dataset == "cifar100" else 500


def paper_values(figure: str) -> dict:
    """What the paper's figures show, read off their vector paths: ``"fig1"``, ``"fig4"``, ``"fig6a"``, ...

    The file assets/paper-curves.json says where each value comes from and what to beware of.

    >>> len(paper_values("fig4")["resnet18/cifar10"])
    9
    """
    figures = json.loads((ASSETS / "paper-curves.json").read_text())
    known = [name for name in figures if name != "about"]
    return figures[one_of("figure", figure, known)]


def figure_name(figure: str) -> str:
    r"""As the paper calls it.

    >>> figure_name("fig7b_k") == "Fig.\N{NO-BREAK SPACE}7b"
    True
    """
    return figure.split("_")[0].replace("fig", "Fig.\N{NO-BREAK SPACE}").replace("table", "Table\N{NO-BREAK SPACE}")
