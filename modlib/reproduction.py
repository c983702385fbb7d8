"""Ours beside the paper's: how far each recorded curve lies from the printed one, and which of its claims hold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from modlib.curves import Curve, CurveDraws
from modlib.campaign import PAPER_N
from modlib.figures import FIGURES
from modlib.models import RESNET, THIN_RESNET, VGG
from modlib.pruning import find_redundant
from modlib.results import FOLDER, Result, find_results, paper_values

OURS = {"imagenet50": "tinyimagenet50"}  # the paper's 50 classes of ImageNet are not public: ours are others
K = 3  # Section 4


def best_record(experiment: str, model: str, dataset: str, folder=FOLDER, **settings) -> Result | None:
    """The record of a network to set beside the paper's: trained by its recipe if there is one, and longest."""
    found = find_results(experiment, folder, model=model, dataset=dataset, **settings)
    found = [r for r in found if r.settings.get("scale", "full") == "full" and "stages" not in r.settings]  # no trial, whole
    # (An untrained network has neither.)
    return max(found, key=lambda r: (r.settings.get("recipe") == "paper", r.settings.get("epochs", 0)), default=None)


def recorded_curve(result: Result, n: int | None = None, k: int = K, at: str = "conv") -> CurveDraws:
    """The draws of one curve of a record of curves; N is the paper's by default.

    >>> recorded_curve(best_record("curves", "resnet20", "cifar10", weights="trained")).q.shape
    (5, 10)
    """
    n = n or PAPER_N.get(result.settings["dataset"], 500)
    layers = result.coords[at]
    return CurveDraws(tuple(layers), result.at("q", n=n, k=k, layer=layers), k, n)


def beside_paper(folder=FOLDER) -> pd.DataFrame:
    """One row for each curve that the paper prints: how far ours lies from it, or that it was not measured.

    Columns: figure, curve (the paper's name of it), ours (the network and its training), accuracy in percent, rms and
    largest (differences in Q), layer (1 .. L, where the largest is), last (ours minus theirs in the last layer). Where
    ours was not measured, ``ours`` says so and the numbers are missing. ImageNet50 stands beside Tiny-ImageNet-50:
    other images, so the difference is more than an error.
    """
    rows = []
    for figure, curve, printed, found in _pairs(folder):
        if found is None:
            rows.append({"figure": figure, "curve": curve, "ours": "not measured"})
            continue
        measured, record = found
        difference = measured - np.asarray(printed)[: len(measured)]
        s = record.settings
        accuracies = [record[name] for name in ("accuracy", "test_accuracy") if name in record.values]
        rows.append({
            "figure": figure,
            "curve": curve,
            "ours": f"{s['model']} on {s['dataset']}, {s['recipe']}, {s['epochs']} epochs",
            "accuracy": float(np.ravel(accuracies)[-1]) if accuracies else np.nan,
            "rms": float(np.sqrt(np.mean(difference**2))),
            "largest": float(abs(difference).max()),
            "layer": int(abs(difference).argmax()) + 1,
            "last": float(difference[-1]),
        })  # fmt: skip
    columns = ["figure", "curve", "ours", "accuracy", "rms", "largest", "layer", "last"]
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int64"})


def _pairs(folder) -> Iterator[tuple[str, str, list, tuple[np.ndarray, Result] | None]]:
    """(figure, the paper's name of a curve, its values, our values with their record or None)."""

    def ours(model: str, dataset: str, **where):
        record = best_record("curves", model, dataset, folder, weights="trained")
        return record and (recorded_curve(record, **where).mean, record)

    for figure in ("fig1", "fig4"):
        for curve, printed in paper_values(figure).items():
            model, dataset = curve.split("/")
            yield figure, curve, printed, ours(model, OURS.get(dataset, dataset))
    for model, attacks in paper_values("fig6a").items():
        for attack, printed in attacks.items():
            if attack == "normal":
                yield "fig6a", f"{model}/{attack}", printed, ours(model, "cifar10")
                continue
            record = best_record("attack", model, "cifar10", folder, attack=attack, protocol="authors")
            curve = record and record.at("q", n=record.coords["n"][-1], k=K, layer=record.coords["conv"])
            yield "fig6a", f"{model}/{attack}", printed, record and (curve, record)
    for model, curves in paper_values("fig6b").items():
        record = best_record("training", model, "cifar10", folder)
        for name, printed in curves.items():
            values = record and (record["test_accuracy"] / 100 if name == "accuracy" else record["q"][:, int(name[1:]) - 1])
            yield "fig6b", f"{model}/{name}", printed, record and (values[: FIGURES["fig6b"].epochs], record)
    for figure in ("fig7a_n", "fig7b_k"):
        for curve, printed in paper_values(figure).items():
            model, setting = curve.split("/")
            name, value = setting.split("=")
            yield figure, curve, printed, ours(model, "cifar10", **{name: int(value)})
    for curve, values in paper_values("fig9").items():
        name, dataset = curve.split("/")
        model, count = name.split("_")
        where = {"criterion": "last", "count": int(count), "start": "inherited"}
        record = best_record("pruning", model, OURS.get(dataset, dataset), folder, **where)
        yield "fig9", curve, values["q"], record and (record["q"].mean(0), record)


# ------------------------------------------------------------------------------------------ the claims of Section 4

THIN = tuple(THIN_RESNET)
DATASETS = ("cifar10", "cifar100", "tinyimagenet50")  # harder and harder


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
