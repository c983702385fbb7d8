"""What the paper claims, tested by stated rules on its own printed values and on our records."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from modlib.curves import Curve
from modlib.models import RESNET, THIN_RESNET, VGG
from modlib.pruning import find_redundant
from modlib.reproduction import DATASETS, OURS, K, best_record, recorded_curve
from modlib.results import FOLDER, paper_values

THIN = tuple(THIN_RESNET)


def claims(folder=FOLDER) -> pd.DataFrame:
    """What Sections 4.1 and 4.3 observe, tested by a rule on the paper's curves and on ours.

    Columns: section, claim, rule (when it holds), whose ("paper" or "ours"), tested on, number (what was measured),
    holds (True, False, or None where it was not measured).
    """
    rows = []
    for whose, curves in (("paper", _printed_curves()), ("ours", _recorded_curves(folder))):
        rows += [(whose, *row) for test in (_rise, _plateaus_with_depth, _plateaus_with_data) for row in test(curves)]
    for whose, trainings in (("paper", _printed_trainings()), ("ours", _recorded_trainings(folder))):
        rows += [(whose, *row) for row in _training(trainings)]
    columns = ["whose", "section", "claim", "rule", "tested on", "number", "holds"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["section", "claim"], kind="stable", ignore_index=True)
    for printed, stand_in in OURS.items():  # the paper's curves keep the name of its dataset
        theirs = table["whose"] == "paper", ["tested on", "number"]
        table.loc[theirs] = table.loc[theirs].replace(stand_in, printed, regex=True)
    return table[["section", "claim", "rule", "whose", "tested on", "number", "holds"]]


def plateau_share(q, tol: float = 0.01, after: int = 1) -> float:
    """The share of layers that rise by no more than ``tol`` above the highest layer before them.

    These are the layers that :func:`modlib.pruning.find_redundant` names: where the curve degrades, stays or creeps.

    Args:
        q: (L,) modularity of the layers.
        after: how many layers are left out of the count at the beginning.

    >>> plateau_share([0.1, 0.2, 0.2, 0.15, 0.5])
    0.5
    """
    q = np.asarray(q, float)
    names = tuple(str(i) for i in range(len(q)))
    plateau = find_redundant(Curve(names, q, q[:, None], K, 0), tol).remove
    return sum(int(name) >= after for name in plateau) / (len(q) - after)


Curves = dict[tuple[str, str], np.ndarray]  # (model, dataset) -> Q of its layers


def _printed_curves() -> Curves:
    pairs = ((name.split("/"), q) for name, q in paper_values("fig4").items())
    return {(model, OURS.get(dataset, dataset)): np.array(q) for (model, dataset), q in pairs}


def _recorded_curves(folder) -> Curves:
    models = (*VGG, *RESNET, *THIN)
    records = {(m, d): best_record("curves", m, d, folder, weights="trained") for d in DATASETS for m in models}
    return {key: recorded_curve(record).mean for key, record in records.items() if record}


def _rise(curves: Curves) -> Iterator[tuple]:
    said = "4.1", "modularity roughly increases with depth", "rank correlation of Q and layer > 0, p < 0.05, in every network"
    for dataset in DATASETS:
        tests = {m: stats.spearmanr(range(len(q)), q, alternative="greater") for (m, d), q in curves.items() if d == dataset}
        least = min(tests, key=lambda m: tests[m].statistic, default=None)
        number = f"correlation at least {tests[least].statistic:.2f} ({least})" if tests else "not measured"
        yield *said, _listed(tests, dataset), number, all(t.pvalue < 0.05 for t in tests.values()) if tests else None


def _plateaus_with_depth(curves: Curves) -> Iterator[tuple]:
    claim = "the deeper the network, the more of its layers degrade or stay on a plateau"
    for family, members, deep in (("VGG", tuple(VGG), True), ("ResNet", tuple(RESNET), False), ("thin ResNet", THIN, False)):
        rule = f"share of layers{' of the deeper half' if deep else ''} on a plateau: from the shallowest to the deepest network it grows"
        for dataset in DATASETS:
            found = [(m, curves[m, dataset]) for m in members if (m, dataset) in curves]
            share = {m: plateau_share(q, after=len(q) // 2 if deep else 1) for m, q in found}
            values = [*share.values()]
            number = ", ".join(f"{m} {x:.0%}" for m, x in share.items()) + (", alone" if len(share) == 1 else "")
            number = number or "not measured"
            if len(share) > 1 or family != "thin ResNet":  # the paper has no thin ResNets in Fig. 4
                yield "4.1", claim, rule, f"{family} on {dataset}", number, values[-1] > values[0] if len(share) > 1 else None


def _plateaus_with_data(curves: Curves) -> Iterator[tuple]:
    said = "4.1", "plateaus vanish as the data get harder", "share of layers of the deeper half on a plateau: it falls with each dataset"
    for model in ("vgg16", "vgg19"):
        found = [(d, curves[model, d]) for d in DATASETS if (model, d) in curves]
        share = {d: plateau_share(q, after=len(q) // 2) for d, q in found}
        values = [*share.values()]
        number = ", ".join(f"{d} {x:.0%}" for d, x in share.items()) + (", alone" if len(share) == 1 else "")
        falls = all(a > b for a, b in zip(values, values[1:], strict=False))
        yield *said, model, number or "not measured", falls if len(share) > 1 else None


Trainings = list[tuple[str, np.ndarray, np.ndarray]]  # network, Q (epochs, layers), accuracy (epochs,)


def _printed_trainings() -> Trainings:
    def q(curves):
        return np.array([values for name, values in curves.items() if name != "accuracy"]).T

    return [(model, q(curves), np.array(curves["accuracy"])) for model, curves in paper_values("fig6b").items()]


def _recorded_trainings(folder) -> Trainings:
    records = [best_record("training", model, "cifar10", folder) for model in (*VGG, *RESNET, *THIN)]
    return [(r.settings["model"], r["q"], r["test_accuracy"]) for r in records if r]


def _training(trainings: Trainings) -> Iterator[tuple]:
    shallow = "4.3", "Q of shallow layers hardly changes in training", "Q of the first layer spans less than a quarter of what that of the last spans"
    deep = "4.3", "Q of deep layers follows the accuracy", "rank correlation over the epochs > 0, p < 0.05"
    for model, q, accuracy in trainings:
        first, last = np.ptp(q[:, 0]), np.ptp(q[:, -1])
        yield *shallow, model, f"{first:.3f} and {last:.3f} over {len(q)} epochs", bool(first < last / 4)
        test = stats.spearmanr(q[:, -1], accuracy, alternative="greater")
        yield *deep, model, f"correlation {test.statistic:.2f}", bool(test.pvalue < 0.05)


def _listed(models, dataset: str) -> str:
    names = ", ".join(models) if len(models) <= 3 else f"{len(models)} networks"
    return f"{names} on {dataset}" if models else dataset
