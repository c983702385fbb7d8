"""Tables of what is recorded, beside the paper's values: what is measured, how far it lies, on what evidence."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from modlib.book.records import attack_curves, recorded_attacks, recorded_imagenet, recorded_networks
from modlib.book.words import MISSING, proper
from modlib.campaign.figures import FIGURES
from modlib.data import ASSETS
from modlib.paper import DATASETS, OURS, K, figure_name, paper_values
from modlib.results import Records, Result


def measured(records: Records) -> pd.DataFrame:
    """A row a network and a column a dataset: accuracy and training of what has recorded curves."""

    def cell(model, dataset):
        record = records.best("curves", model, dataset, weights="trained")
        s = record and record.settings
        return f"{record['accuracy']:.1f} %, {s['recipe']}, {s['epochs']} epochs" if record else MISSING

    models = recorded_networks(records, weights="trained")
    cells = {proper(dataset): [cell(model, dataset) for model in models] for dataset in DATASETS}
    return pd.DataFrame(cells, index=[proper(model) for model in models])


def beside_paper(records: Records) -> pd.DataFrame:
    """One row for each curve that the paper prints: how far ours lies from it, or that it was not measured.

    Columns: figure, curve (the paper's name of it), ours (the network and its training), accuracy in percent, rms and
    largest (differences in Q), layer (1 .. L, where the largest is), last (ours minus theirs in the last layer). Where
    ours was not measured, ``ours`` says so and the numbers are missing. ImageNet50 stands beside Tiny-ImageNet-50:
    other images, so the difference is more than an error.
    """
    rows = []
    for figure, curve, printed, found in _pairs(records):
        if found is None:
            rows.append({"figure": figure, "curve": curve, "ours": MISSING})
            continue
        measured, record = found
        difference = measured - np.asarray(printed)[: len(measured)]
        s = record.settings
        accuracies = [record[name] for name in ("accuracy", "test_accuracy") if name in record.values]
        rows.append({
            "figure": figure, "curve": curve, "ours": f"{s['model']} on {s['dataset']}, {s['recipe']}, {s['epochs']} epochs",
            "accuracy": float(np.ravel(accuracies)[-1]) if accuracies else np.nan, "rms": np.sqrt(np.mean(difference**2)),
            "largest": abs(difference).max(), "layer": abs(difference).argmax() + 1, "last": difference[-1],
        })  # fmt: skip
    columns = ["figure", "curve", "ours", "accuracy", "rms", "largest", "layer", "last"]
    return pd.DataFrame(rows, columns=columns).astype({"layer": "Int64"})


def _pairs(records) -> Iterator[tuple[str, str, list, tuple[np.ndarray, Result] | None]]:
    """(figure, the paper's name of a curve, its values, our values with their record or None)."""

    def ours(model: str, dataset: str, **where):
        record = records.best("curves", model, dataset, weights="trained")
        return record and (record.curve(**where).mean, record)

    for figure in ("fig1", "fig4"):
        for curve, printed in paper_values(figure).items():
            model, dataset = curve.split("/")
            yield figure, curve, printed, ours(model, OURS.get(dataset, dataset))
    for model, curves in paper_values("fig6a").items():
        for attack, printed in curves.items():
            record = records.best("attack", model, "cifar10", attack=attack, protocol="authors", eps=None)
            found = record and (record.at("q", n=record.coords["n"][-1], k=K, layer=record.coords["conv"]), record)
            yield "fig6a", f"{model}/{attack}", printed, ours(model, "cifar10") if attack == "normal" else found
    for model, curves in paper_values("fig6b").items():
        record = records.best("training", model, "cifar10")
        for name, printed in curves.items():
            values = record and (record["test_accuracy"] / 100 if name == "accuracy" else record["q"][:, int(name[1:]) - 1])
            yield "fig6b", f"{model}/{name}", printed, record and (values[: FIGURES["fig6b"].epochs], record)
    for figure in ("fig7a_n", "fig7b_k"):
        for curve, printed in paper_values(figure).items():
            model, name, value = curve.replace("=", "/").split("/")
            yield figure, curve, printed, ours(model, "cifar10", **{name: int(value)})
    for curve, values in paper_values("fig9").items():
        name, dataset = curve.split("/")
        model, count = name.split("_")
        record = records.best("pruning", model, OURS.get(dataset, dataset), criterion="last", count=int(count), start="inherited")
        yield "fig9", curve, values["q"], record and (record["q"].mean(0), record)


def beside(records: Records, figure: str) -> tuple[pd.DataFrame, list[str]]:
    """The curves of a figure that stand beside one of ours, as a table; and the names of those that do not."""
    rows = beside_paper(records).query("figure == @figure")
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


def summary(records: Records) -> pd.DataFrame:
    """A row a figure of the paper: how many of its curves stand beside one of ours, and how far these are."""
    rows = beside_paper(records)
    found = rows[rows["ours"] != MISSING].groupby("figure")
    table = pd.DataFrame({"curves": rows.groupby("figure", sort=False).size()})
    table["measured"] = found.size().reindex(table.index, fill_value=0)
    table["median RMS"] = found["rms"].median().map("{:.3f}".format).reindex(table.index, fill_value=MISSING)
    table["largest"] = found["largest"].max().map("{:.3f}".format).reindex(table.index, fill_value="")
    return table.rename(index=figure_name).rename_axis(None)


def shown(claims: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`modlib.book.claims.claims`, in words: whose curves, tested on what, what was measured, the verdict."""
    table = claims.set_index("whose").rename_axis(None).rename(columns={"number": "measured"})
    table = table[["tested on", "measured", "verdict"]]
    return table.assign(**{name: table[name].map(proper) for name in ("tested on", "measured")})


def findings(claims: pd.DataFrame) -> pd.DataFrame:
    """A row a claim of the paper: the verdicts on the paper's own curves and on ours, and how many tests reached each.

    Args:
        claims: of :func:`modlib.book.claims.claims`.
    """
    verdicts = {whose: claims[claims["whose"] == whose].groupby("claim")["verdict"].agg(_counted) for whose in ("paper", "ours")}
    return pd.DataFrame(verdicts).reindex(claims["claim"].unique()).fillna(MISSING)


def _counted(verdicts: pd.Series) -> str:
    """Verdicts that were reached, the most frequent first: "holds (6 of 6)"."""
    reached = verdicts[verdicts != MISSING]
    return ", ".join(f"{verdict} ({count} of {len(reached)})" for verdict, count in reached.value_counts().items()) or MISSING


def todo(records: Records, figure: str) -> str:
    """How much of what a figure needs is recorded, and the command that measures the rest; Markdown.

    Args:
        figure: a key of :data:`modlib.campaign.figures.FIGURES`.
    """
    chosen = FIGURES[figure]
    needed = [(model, dataset, variant) for model, dataset in chosen.networks for variant in chosen.variants(model)]
    whose = {} if figure in ("fig5", "fig6b") else {"weights": "untrained" if figure == "a2" else "trained"}
    done = len({*needed} & {_unit(r) for r in records.find(chosen.experiment, **whose)})
    rest = f"reproduce {figure} --device cuda --out modlib/assets/results" + " --images FOLDER" * (figure == "fig5")
    return f"**Measured: {done} of {len(needed)}.**" + f" The rest: `python -m modlib {rest}`" * (done < len(needed))


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


def imagenet_table(records: Records) -> pd.DataFrame:
    """A row a recorded network of Fig. 5: its images, N, and Q in the first, the highest and the last layer."""
    rows = []
    for name, record in recorded_imagenet(records).items():
        curve = record.curve()
        q = curve.mean
        highest = f"{q.max():.3f} (layer {q.argmax() + 1})"
        rows.append([name, record.settings["images"], curve.n, f"{q[0]:.3f}", highest, f"{q[-1]:.3f}"])
    columns = ["network", "images", "N", "first layer", "highest", "last layer"]
    return pd.DataFrame(rows, columns=columns).set_index("network").rename_axis(None)


def attack_table(records: Records, model: str) -> pd.DataFrame:
    """A row an attack and protocol: success before selection, median change of a changed image, Q of the last layer."""
    rows = []
    for (name, protocol), record in recorded_attacks(records, model).items():
        attacked, clean = attack_curves(record)
        row = {"attack": "clip only" if name == "clip" else proper(name), "protocol": protocol}
        if "success" in record.values:
            row |= {"success": f"{record['success']:.1%}", "pixels changed": f"{record['l0']:g}"}
            row |= {"L2": f"{record['l2']:.2f}", "largest change": f"{record['linf']:.3f}"}
        ends = {"Q last, before": f"{clean[-1]:.3f}", "Q last, after": f"{attacked[-1]:.3f}"}
        rows.append(row | {"N": record.coords["n"][-1]} | ends)
    columns = ["attack", "protocol", "success", "pixels changed", "L2", "largest change", "N", "Q last, before", "Q last, after"]
    return pd.DataFrame(rows, columns=columns).fillna("").set_index("attack").rename_axis(None)


def source() -> tuple[str, list[str]]:
    """Where the paper's values come from, and what to beware of."""
    about = json.loads((ASSETS / "paper-curves.json").read_text())["about"]
    key = re.compile(r"\bfig\d+[ab]?(_[nk])?\b")
    return about["source"], [proper(key.sub(lambda found: figure_name(found[0]), text)) for text in about["caveats"]]


def evidence(records: Records) -> pd.DataFrame:
    """Every record: what was measured, how it was trained, where and when, and by which command."""
    rows = []
    for record in records:
        s, e = record.settings, record.evidence
        if s.get("scale", "full") != "full":
            continue
        how = [(_unit(record) or ("", "", ""))[2], s.get("weights"), s.get("recipe")]
        how += [f"{s['epochs']} epochs" if "epochs" in s else "", f"seed {s['seed']}" if "seed" in s else ""]
        name = record.experiment + (f": {proper(s['model'])} on {proper(s['dataset'])}" if "model" in s else "")
        settings = ", ".join(dict.fromkeys(filter(None, how)))
        rows.append([name, settings, e["device"], e["date"][:10], e["torch"], e["command"]])
    return pd.DataFrame(rows, columns=["record", "settings", "device", "date", "torch", "command"])
