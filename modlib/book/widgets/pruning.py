"""The pruning explorer: layers are taken off a recorded curve; the page says what that saves and what was measured."""

from functools import cache

import numpy as np
import pandas as pd
import torch

from modlib._checks import checked, one_of, unknown
from modlib.book.records import variants
from modlib.book.widgets.base import Widget, still
from modlib.book.words import CRITERIA, STARTS, proper
from modlib.cost import cost
from modlib.curves import Curve
from modlib.data.datasets import DATASETS as SIZES
from modlib.models import CONVNETS, build_model, layer_names
from modlib.paper import DATASETS, K, paper_n, paper_values
from modlib.pruning import costs_by_layer, find_redundant
from modlib.results import FOLDER, Records, Result

TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
FIRST = ("resnet56-cifar10", "resnet20-cifar10", "vgg11-cifar10")  # of these, the first with a record is shown first


@checked
def explore_pruning(
    network: str | None = None, *, tol: float = 0.01, records: Records | None = None, printed: bool = True
) -> Widget:
    """A recorded curve whose layers can be taken off, with what is left of MACs and parameters.

    It also marks what :func:`modlib.pruning.find_redundant` names, and tells the recorded accuracy of this pruned
    network or, where it was not measured, of the nearest one that was, beside the whole network fine-tuned for as long.

    Args:
        network: shown first, such as ``"resnet20-cifar10"``, or ``"vgg19-cifar10-paper"`` for a curve of Fig. 4; by
            default the deepest of those that come with modlib.
        tol: the tolerance of the rule first shown, one of ``TOLERANCES``.
        records: of which networks with a trained curve are offered; by default all of modlib's.
        printed: whether the paper's curves of Fig. 4 are offered too, with the costs of such networks.

    Returns:
        widget; it computes in the browser and needs no kernel.

    Raises:
        ValueError: for a network that was not recorded, another tolerance, or records without trained curves.

    >>> explore_pruning("resnet20-cifar10").data["networks"]["resnet20-cifar10"]["whole"]["macs"]
    40551040
    """
    records = Records.read(FOLDER) if records is None else records
    found = {f"{m}-{d}": records.best("curves", m, d, weights="trained") for d in DATASETS for m in CONVNETS}
    if not any(found.values()):
        raise ValueError("records hold no curve of a trained network")
    ours = sorted(filter(found.get, found), key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    papers = {name.replace("/", "-") + "-paper": name for name in paper_values("fig4")} if printed else {}
    start = one_of("recorded network", ours[0] if network is None else network, [*ours, *papers])
    if tol not in TOLERANCES:
        raise unknown("tolerance (tol)", tol, map(str, TOLERANCES))
    measured = variants(records)
    networks = {name: _recorded(found[name], measured) for name in ours} | {name: _printed(papers[name]) for name in papers}
    first = networks[start]
    remove = first["plans"][TOLERANCES.index(tol)]["remove"]
    saved = {kind: sum(first[kind][i] for i in remove) / first["whole"][kind] for kind in ("macs", "params")}
    words = (
        f"Modularity over the {len(first['layers'])} layers of {first['title']}, of which any that can go may be taken "
        f"off. The rule at tolerance {tol:g} names {', '.join(first['layers'][i] for i in remove) or 'none'}, with "
        f"{saved['macs']:.1%} of the MACs and {saved['params']:.1%} of the parameters."
    )
    setting = {"network": start, "off": "", "layer": first["why"].index("") + 1, "tol": tol}
    q = np.array(first["q"])
    kept = np.setdiff1d(range(len(q)), remove)
    figure, ax = still(first["title"], q=q)
    ax.errorbar(range(1, len(q) + 1), q, first["std"] or None, fmt=":", color="0.6", elinewidth=1)
    ax.plot(kept + 1, q[kept], "o-", color="#0072b2", label="stays")
    ax.plot(np.add(remove, 1), q[remove], "x", color="#d55e00", ms=8, mew=2, label=f"named by the rule, tolerance {tol:g}")
    ax.legend(frameon=False)
    return Widget("pruning-explorer", __file__, {"networks": networks}, setting, words, figure)


def _recorded(record: Result, measured: pd.DataFrame) -> dict:
    """A network that was measured, with its variants."""
    s, curve = record.settings, record.curve()
    rows = measured[(measured[["model", "dataset", "seed"]] == [s["model"], s["dataset"], s["seed"]]).all(axis=1)]
    training = f"{s['recipe']} recipe, {s['epochs']} epochs, {record['accuracy']:.2f} % of the test images"
    with torch.device("meta"):  # its shapes are enough
        network = _network(build_model(s["model"], s["dataset"]), curve, SIZES[s["dataset"]].size)
    network["whole"]["accuracy"] = float(record["accuracy"])
    network["whole"]["tuned"] = rows[rows["count"] == 0][["tune_epochs", "pruned"]].round(2).values.tolist()
    network["variants"] = []
    for _, row in rows[rows["count"] > 0].iterrows():
        numbers = {name: None if np.isnan(row[name]) else round(row[name], 2) for name in ("pruned", "at_once", "behind")}
        network["variants"].append(numbers | {
            "title": f"{row['count']} layer{'s' * (row['count'] > 1)}: {CRITERIA[row['criterion']]}",
            "removed": sorted(map(curve.layers.index, row["removed"])),
            "start": "" if row["start"] == "scratch" else STARTS[row["start"]],
            "tune_epochs": int(row["tune_epochs"]), "q": np.round(row["q"], 4).tolist(),
        })  # fmt: skip
    return network | {"title": proper(f"{s['model']} on {s['dataset']}"), "about": f"Whole network: {training}", "n": curve.n}


@cache  # costs of 27 networks take seconds
def _printed(name: str) -> dict:
    """A network of Fig. 4, of which only the curve is known; its costs are those of such a network."""
    (model, dataset), q = name.split("/"), np.array(paper_values("fig4")[name])
    known = "imagenet" if dataset == "imagenet50" else dataset
    with torch.device("meta"):
        whole = build_model(model, known, num_classes=50 if dataset == "imagenet50" else None)
    network = _network(whole, Curve(tuple(layer_names(whole)), q, q[:, None], K, 0), SIZES[known].size)
    title, about = proper(f"{model} on {dataset}, paper"), "The paper’s curve; costs: such a network, built here"
    return network | {"title": title, "about": about, "n": paper_n(dataset), "variants": [], "paper": True}


def _network(model: torch.nn.Module, curve, size: int) -> dict:
    """Curve, costs and plans of a network as the page reads them; ``size`` is the width of its images."""
    costs = costs_by_layer(model, whole := cost(model, (3, size, size)))
    plans = {tol: find_redundant(curve, tol, model) for tol in TOLERANCES}
    words = [*dict.fromkeys(word for plan in plans.values() for word in plan.verdicts)]
    q = np.atleast_2d(curve.q)
    return costs[["macs", "params", "why"]].to_dict("list") | {
        "layers": list(curve.layers), "stages": costs["stage"].tolist(), "whole": {"macs": whole.macs, "params": whole.params},
        "q": q.mean(0).round(4).tolist(), "std": q.std(0, ddof=1).round(4).tolist() if len(q) > 1 else [],
        "draws": len(q), "k": curve.k, "words": words,
        "plans": [
            {"tol": tol, "remove": [*map(curve.layers.index, plan.remove)], "verdicts": [*map(words.index, plan.verdicts)]}
            for tol, plan in plans.items()],
    }  # fmt: skip
