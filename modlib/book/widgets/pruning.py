"""The pruning explorer: layers are taken off a recorded curve; the page says what that saves and what was measured."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from modlib._checks import unknown
from modlib.book.records import variants
from modlib.book.widgets.base import Widget
from modlib.book.words import STARTS, chosen, proper
from modlib.cost import cost
from modlib.models import MODELS, build_model
from modlib.paper import DATASETS
from modlib.pruning import find_redundant, layer_costs
from modlib.results import FOLDER, Records, Result

TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
FIRST = ("resnet56-cifar10", "resnet20-cifar10", "vgg11-cifar10")  # of these, the first with a record is shown first


def explore_pruning(
    network: str | None = None, *, tol: float = 0.01, records: Records | None = None
) -> Widget:
    """A recorded curve whose layers can be taken off, with what is left of MACs and parameters.

    It also marks what :func:`modlib.pruning.find_redundant` names, and tells the recorded accuracy of this pruned
    network or, where it was not measured, of the nearest one that was.

    Args:
        network: shown first, such as ``"resnet20-cifar10"``; by default the deepest of those that come with modlib.
        tol: the tolerance of the rule first shown, one of :data:`TOLERANCES`.
        records: of which networks with a trained curve are offered; by default all of modlib's.

    Returns:
        widget; it computes in the browser and needs no kernel.

    Raises:
        ValueError: for a network that was not recorded, another tolerance, or records without trained curves.

    >>> explore_pruning("resnet20-cifar10").data["networks"]["resnet20-cifar10"]["whole"]["macs"]
    40551040
    """
    records = Records.read(FOLDER) if records is None else records
    found = {f"{m}-{d}": records.best("curves", m, d, weights="trained") for d in DATASETS for m in MODELS}
    found = {name: record for name, record in found.items() if record}
    if not found:
        raise ValueError("records hold no curve of a trained network")
    names = sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    if network is not None and network not in names:
        raise unknown("recorded network", network, names)
    if tol not in TOLERANCES:
        raise unknown("tolerance", tol, map(str, TOLERANCES))
    measured = variants(records)
    networks = {name: _network(found[name], measured) for name in names}
    start = network or names[0]
    first = networks[start]
    remove = first["plans"][TOLERANCES.index(tol)]["remove"]
    saved = {kind: sum(first[kind][i] for i in remove) / first["whole"][kind] for kind in ("macs", "params")}
    words = (
        f"Modularity over the {len(first['layers'])} layers of {first['title']}, of which any that can go may be taken "
        f"off. The rule at tolerance {tol:g} names {', '.join(first['layers'][i] for i in remove) or 'none'}, with "
        f"{saved['macs']:.1%} of the MACs and {saved['params']:.1%} of the parameters."
    )
    setting = {"network": start, "off": "", "layer": first["why"].index("") + 1, "tol": tol}
    return Widget("pruning-explorer", __file__, {"networks": networks}, setting, words, _still(first, remove, tol))


def _network(record: Result, measured: pd.DataFrame) -> dict:
    """A network as the page reads it."""
    s, curve = record.settings, record.curve()
    with torch.device("meta"):  # its shapes are enough
        model = build_model(s["model"], s["dataset"])
    size = 64 if s["dataset"] == "tinyimagenet50" else 32
    costs, whole = layer_costs(model, (3, size, size)), cost(model, (3, size, size))
    plans = {tol: find_redundant(curve, tol, model) for tol in TOLERANCES}
    place = curve.layers.index
    rows = measured[(measured[["model", "dataset", "seed"]] == [s["model"], s["dataset"], s["seed"]]).all(axis=1)]
    training = f"{s['recipe']} recipe, {s['epochs']} epochs, {record['accuracy']:.2f} % of the test images"
    return {
        "title": proper(f"{s['model']} on {s['dataset']}"),
        "about": f"Whole network: {training}",
        "layers": list(curve.layers),
        "stages": costs["stage"].tolist(),
        "why": costs["why"].tolist(),
        "macs": costs["macs"].tolist(),
        "params": costs["params"].tolist(),
        "whole": {"macs": whole.macs, "params": whole.params, "accuracy": float(record["accuracy"])},
        "q": curve.mean.round(4).tolist(),
        "std": curve.std.round(4).tolist(),
        "draws": len(curve.q),
        "n": curve.n,
        "k": curve.k,
        "plans": [
            {"tol": tol, "remove": [place(name) for name in plan.remove], "verdicts": list(plan.verdicts)}
            for tol, plan in plans.items()
        ],
        "variants": [_variant(row, place) for _, row in rows.iterrows()],
    }


def _variant(row: pd.Series, place) -> dict:
    return {
        "title": chosen(row),
        "removed": sorted(place(name) for name in row["removed"]),
        "start": "from scratch" if row["start"] == "scratch" else f"from {STARTS[row['start']]}",
        "tune_epochs": int(row["tune_epochs"]),
        **{name: round(row[name], 2) for name in ("whole", "pruned", "at_once")},
        "q": np.round(row["q"], 4).tolist(),
    }


def _still(network: dict, off: list[int], tol: float) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    ax = figure.subplots()
    q, kept = np.array(network["q"]), [i for i in range(len(network["q"])) if i not in off]
    ax.errorbar(range(1, len(q) + 1), q, network["std"], fmt=":", color="0.6", elinewidth=1)
    ax.plot(np.add(kept, 1), q[kept], "o-", color="#0072b2", label="stays")
    ax.plot(np.add(off, 1), q[off], "x", color="#d55e00", ms=8, mew=2, label=f"named by the rule, tolerance {tol:g}")
    ax.set(xlabel="layer", ylabel="modularity Q", ylim=(min(0, *q), 1))
    ax.set_title(network["title"], fontsize=10)
    ax.grid(alpha=0.3)
    ax.locator_params(axis="x", integer=True)
    ax.legend(frameon=False)
    return figure
