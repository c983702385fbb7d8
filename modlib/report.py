"""Recorded results in words and tables, for pages that say what is measured and what is not."""

import json
import re

import numpy as np
import pandas as pd

from modlib.data import ASSETS
from modlib.figures import FIGURES
from modlib.models import RESNET, THIN_RESNET, VGG
from modlib.reproduction import DATASETS, OURS, beside_paper, best_record, recorded_curve
from modlib.results import FOLDER, Result, find_results

MISSING = "not measured"
NINE = (*VGG, *RESNET)  # the networks of Fig. 4
_PROPER = {
    "tinyimagenet50": "Tiny-ImageNet-50", "imagenet50": "ImageNet50", "imagenet": "ImageNet",
    "cifar100": "CIFAR-100", "cifar10": "CIFAR-10", "vgg": "VGG", "resnet": "ResNet",
    "fgsm": "FGSM", "pgd": "PGD", "jsma": "JSMA", "cw": "CW", "onepixel": "OnePixel", "localsearch": "LocalSearch",
}  # fmt: skip


def proper(text: str) -> str:
    """Names of networks and datasets as they are written in prose.

    >>> proper("vgg16 on tinyimagenet50")
    'VGG16 on Tiny-ImageNet-50'
    """
    return re.sub("|".join(_PROPER), lambda found: _PROPER[found[0]], text)


def command(
    figure: str, *models: str, dataset: str | None = None, device: str | None = None, like: Result | None = None
) -> str:
    """The command that measures what is missing, in a clone of the book; one line of a shell, broken where it is long.

    Args:
        like: a record of the network; the command goes on with the network of that training.

    >>> print(command("fig4", "vgg16", dataset="cifar10", device="cuda"))
    python -m modlib reproduce fig4 \\
        --models vgg16 --datasets cifar10 \\
        --device cuda --out modlib/assets/results
    """
    which = [f"--{name} {value}" for name, value in (("models", ",".join(models)), ("datasets", dataset)) if value]
    how = [f"--{name.replace('_', '-')} {like.settings[name]}" for name in _TRAINING if like and name in like.settings]
    where = [f"--{name} {value}" for name, value in (("device", device), ("out", "modlib/assets/results")) if value]
    more = ["--images FOLDER"] if figure == "fig5" else []
    parts = [f"python -m modlib reproduce {figure}", *(" ".join(each) for each in (which, how, where, more) if each)]
    return " \\\n    ".join(parts)


_TRAINING = ("recipe", "epochs", "tune_epochs")
_WEIGHTS = {"fig4": "trained", "a2": "untrained"}  # two figures, one kind of record


def todo(figure: str, folder=FOLDER) -> str:
    """How much of what a figure needs is recorded, and the command that measures the rest; Markdown.

    Args:
        figure: a key of :data:`modlib.figures.FIGURES`.
    """
    chosen = FIGURES[figure]
    needed = [(model, dataset, variant) for model, dataset in chosen.networks for variant in chosen.variants(model)]
    recorded = {
        _unit(r)
        for r in find_results(chosen.experiment, folder)
        if r.settings.get("weights") == _WEIGHTS.get(figure, r.settings.get("weights"))
    }
    missing = [unit for unit in needed if unit not in recorded]
    if not missing:
        return f"All {len(needed)} measurements of this figure are recorded."
    model, dataset, _ = missing[0]
    done = len(needed) - len(missing)
    like = None
    if chosen.experiment != "curves":  # what is recorded of a network belongs together
        records = (best_record(experiment, model, dataset, folder) for experiment in (chosen.experiment, "curves"))
        like = next((r for r in records if r), None)
    return (
        f"{done} of the {len(needed)} measurements of this figure {'is' if done == 1 else 'are'} recorded. "
        f"Next in order of priority: {proper(f'{model} on {dataset}')}.\n\n"
        f"```bash\n{command(figure, model, dataset=dataset, device='cuda', like=like)}\n```"
    )


def _unit(record: Result) -> tuple[str, str, str] | None:
    """What of a figure a record holds: model, dataset and variant; None for trials and for what belongs to no figure."""
    s = record.settings
    if s.get("scale", "full") != "full" or "stages" in s or "model" not in s:
        return None
    if s["dataset"] == "imagenet":
        return s["model"], s["dataset"], s["weights"]
    kinds = next((each for each in (("attack", "protocol"), ("criterion", "count", "start"), ("smoothing",)) if each[0] in s), ())
    strength = [f"{255 * s['eps']:g}"] if "eps" in s else []
    return s["model"], s["dataset"], "-".join([*(str(s[key]) for key in kinds), *strength])


def imagenet(folder=FOLDER) -> dict[str, Result]:
    """The recorded networks of Fig. 5, by name and whose weights they have."""
    chosen = FIGURES["fig5"]
    units = [(model, weights) for model, _ in chosen.networks for weights in chosen.variants(model)]
    records = {unit: best_record("curves", unit[0], "imagenet", folder, weights=unit[1]) for unit in units}
    whose = {"torchvision": "torchvision", "keras": "Keras"}
    return {f"{proper(model)}, {whose[weights]}'s weights": r for (model, weights), r in records.items() if r}


def imagenet_table(folder=FOLDER) -> pd.DataFrame:
    """A row a network of :func:`imagenet`: its images, N, and Q in the first, the highest and the last layer."""
    rows = []
    for name, record in imagenet(folder).items():
        curve = recorded_curve(record)
        q = curve.mean
        rows.append({
            "network": name, "images": record.settings["images"], "N": curve.n, "first layer": f"{q[0]:.3f}",
            "highest": f"{q.max():.3f} (layer {q.argmax() + 1})", "last layer": f"{q[-1]:.3f}",
        })  # fmt: skip
    columns = ["network", "images", "N", "first layer", "highest", "last layer"]
    return pd.DataFrame(rows, columns=columns).set_index("network").rename_axis(None)


def networks(folder=FOLDER, experiment: str = "curves", **settings) -> list[str]:
    """The nine networks of Fig. 4, and of the thin ResNets those that have a record."""
    recorded = {r.settings["model"] for r in find_results(experiment, folder, **settings)}
    return [*NINE, *(name for name in THIN_RESNET if name in recorded)]


def measured(folder=FOLDER) -> pd.DataFrame:
    """A row a network and a column a dataset: accuracy and training of what has recorded curves."""

    def cell(model, dataset):
        record = best_record("curves", model, dataset, folder, weights="trained")
        if not record:
            return MISSING
        return f"{record['accuracy']:.1f} %, {record.settings['recipe']}, {record.settings['epochs']} epochs"

    names = networks(folder, weights="trained")
    table = pd.DataFrame([[cell(m, d) for d in DATASETS] for m in names], index=[proper(m) for m in names])
    return table.set_axis([proper(d) for d in DATASETS], axis=1)


def beside(figure: str, folder=FOLDER) -> tuple[pd.DataFrame, list[str]]:
    """The curves of a figure that stand beside one of ours, as a table; and the names of those that do not."""
    rows = beside_paper(folder)
    rows = rows[rows["figure"] == figure]
    missing = rows["ours"] == MISSING
    found = rows[~missing]
    along = "epoch" if figure == "fig6b" else "layer"
    table = pd.DataFrame({
        "paper": _slashed(found["curve"]),
        "training": [_training(ours) for ours in found["ours"]],
        "accuracy (%)": ["" if np.isnan(x) else f"{x:.1f}" for x in found["accuracy"]],
        "RMS": found["rms"].map("{:.3f}".format),
        "largest": [f"{x:.3f} ({along} {i})" for x, i in zip(found["largest"], found["layer"], strict=True)],
        "last": found["last"].map("{:+.3f}".format),
    })  # fmt: skip
    return table.set_index("paper").rename_axis(None), list(_slashed(rows[missing]["curve"]))


def _training(ours: str) -> str:
    """How ours was trained, and on what where the paper's dataset is another."""
    name, training = ours.split(", ", 1)
    dataset = name.split(" on ")[1]
    return f"{proper(dataset)}, {training}" if dataset in OURS.values() else training


def _slashed(curves: pd.Series) -> list[str]:
    """The paper's curves in words: "vgg19_3/cifar10", "vgg16/n=200" and "vgg16/L1" are how its values name them."""
    names = curves.str.replace("/", ", ").str.replace(r"_(\d+)", r" without \1 layers", regex=True)
    names = names.str.replace("without 1 layers", "without 1 layer").str.replace("n=", "N=").str.replace("=", " = ")
    return [proper(name) for name in names.str.replace(r"\bL(\d+)", r"layer \1", regex=True)]


def shown(claims: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`modlib.claims.claims`, in words."""
    words = {True: "holds", False: "does not hold", None: ""}
    table = pd.DataFrame({
        "curves": claims["whose"],
        "tested on": claims["tested on"].map(proper),
        "measured": claims["number"].map(proper),
        "verdict": [words[holds] for holds in claims["holds"]],
    })  # fmt: skip
    return table.set_index("curves").rename_axis(None)


def verdict(claims: pd.DataFrame) -> str:
    """One sentence on rows of :func:`modlib.claims.claims` that test the same claim.

    >>> rows = [("paper", "vgg16", True), ("paper", "vgg19", False), ("ours", "vgg16", None)]
    >>> verdict(pd.DataFrame(rows, columns=["whose", "tested on", "holds"]))
    "On the paper's curves it holds in 1 of 2 tests (not for VGG19). On ours it could not be tested yet."
    """
    sentences = []
    for whose, name in (("paper", "the paper's curves"), ("ours", "ours")):
        rows = claims[claims["whose"] == whose]
        tested = rows[rows["holds"].notna()]
        fails = [proper(name) for name in tested["tested on"][~tested["holds"].astype(bool)]]
        if tested.empty:
            sentences.append(f"On {name} it could not be tested{' yet' if whose == 'ours' else ''}.")
            continue
        kept = (
            f"in {len(tested) - len(fails)} of {len(tested)} tests"
            if len(tested) > 1
            else "in the one test"
            if not fails
            else "in no test"
        )
        left = len(rows) - len(tested)
        missing = f"; {left} more {'waits for its measurement' if left == 1 else 'wait for measurements'}" if left else ""
        sentences.append(f"On {name} it holds {kept}{f' (not for {listed(fails)})' if fails else ''}{missing}.")
    return " ".join(sentences)


def listed(names: list[str]) -> str:
    """Names as a sentence lists them.

    >>> listed(["VGG16", "VGG19", "ResNet18"]), listed(["VGG16"])
    ('VGG16, VGG19 and ResNet18', 'VGG16')
    """
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def summary(folder=FOLDER) -> pd.DataFrame:
    """A row a figure of the paper: how many of its curves stand beside one of ours, and how far these are."""
    rows = beside_paper(folder)
    found = rows[rows["ours"] != MISSING].groupby("figure")
    table = pd.DataFrame({"curves": rows.groupby("figure", sort=False).size()})
    table["measured"] = found.size().reindex(table.index, fill_value=0)
    table["median RMS"] = (
        found["rms"].median().reindex(table.index).map("{:.3f}".format, na_action="ignore").fillna(MISSING)
    )
    table["largest"] = found["largest"].max().reindex(table.index).map("{:.3f}".format, na_action="ignore").fillna("")
    return table.rename(index=figure_name).rename_axis(None)


def figure_name(figure: str) -> str:
    r"""As the paper calls it.

    >>> figure_name("fig7b_k") == "Fig.\N{NO-BREAK SPACE}7b"
    True
    """
    return figure.split("_")[0].replace("fig", "Fig.\N{NO-BREAK SPACE}").replace("table", "Table\N{NO-BREAK SPACE}")


def source() -> tuple[str, list[str]]:
    """Where the paper's values come from, and what to beware of."""
    about = json.loads((ASSETS / "paper-curves.json").read_text())["about"]
    key = re.compile(r"\bfig\d+[ab]?(_[nk])?\b")
    return about["source"], [proper(key.sub(lambda found: figure_name(found[0]), text)) for text in about["caveats"]]


def evidence(folder=FOLDER) -> pd.DataFrame:
    """Every record: what was measured, how it was trained, where and when, and by which command."""
    rows = []
    for record in find_results(folder=folder):
        s, e = record.settings, record.evidence
        if s.get("scale", "full") != "full":
            continue
        how = [s.get(key, "") for key in ("weights", "recipe")] + [
            f"{s['epochs']} epochs" if "epochs" in s else "",
            f"seed {s['seed']}" if "seed" in s else "",
        ]
        variant = (_unit(record) or ("", "", ""))[2]
        rows.append({
            "record": record.experiment + (f": {proper(s['model'])} on {proper(s['dataset'])}" if "model" in s else ""),
            "settings": ", ".join(dict.fromkeys(filter(None, [variant, *how]))),
            "device": e["device"],
            "date": e["date"][:10],
            "torch": e["torch"],
            "command": e["command"],
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["record", "settings", "device", "date", "torch", "command"])
