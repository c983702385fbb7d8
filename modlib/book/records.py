"""Which records a page shows: networks, attacks and their strengths, prunings; in tidy tables where there are many."""

import numpy as np
import pandas as pd

from modlib.attacks import ATTACKS, PROTOCOLS
from modlib.book.words import CRITERIA, STARTS, proper
from modlib.campaign.attacks import SMOOTHINGS, STRENGTHS, SWEPT
from modlib.campaign.figures import FIGURES
from modlib.models import RESNET, THIN_RESNET, VGG
from modlib.paper import OURS, K, paper_values
from modlib.results import Records, Result

NINE = (*VGG, *RESNET)  # the networks of Fig. 4
CLIP = ("clip", "authors")  # the control: what the authors' protocol does to an image without any attack


def recorded_networks(records: Records, experiment: str = "curves", **settings) -> list[str]:
    """The nine networks of Fig. 4, and of the thin ResNets those that have a record of our own training."""
    found = [r.settings for r in records.find(experiment, **settings)]
    return [*NINE, *(m for m in THIN_RESNET if any(s["model"] == m and s.get("weights", "trained") == "trained" for s in found))]


def recorded_imagenet(records: Records) -> dict[str, Result]:
    """The recorded networks of Fig. 5, by name and whose weights they have."""
    chosen, whose = FIGURES["fig5"], {"torchvision": "torchvision", "keras": "Keras"}
    units = [(model, weights) for model, _ in chosen.networks for weights in chosen.variants(model)]
    found = {unit: records.best("curves", unit[0], "imagenet", weights=unit[1]) for unit in units}
    return {f"{proper(model)}, {whose[weights]}'s weights": r for (model, weights), r in found.items() if r}


# -------------------------------------------------------------------------------------------------------------- attacks


def recorded_attacks(records: Records, model: str) -> dict[tuple[str, str], Result]:
    """(attack, protocol) -> record, for every attack measured with its default settings, and for :data:`CLIP`.

    >>> from modlib.results import FOLDER
    >>> recorded_attacks(Records.read(FOLDER), "resnet20")["pgd", "pixels"].settings["model"]
    'resnet20'
    """
    kinds = [*((name, protocol) for protocol in PROTOCOLS for name in ATTACKS), CLIP]
    found = {kind: _find(records, model, *kind) for kind in kinds}
    return {kind: record for kind, record in found.items() if record}


def recorded_strengths(records: Records, model: str) -> dict[str, dict[float, Result]]:
    """attack -> eps -> record of the protocol ``"pixels"``, of every strength measured, the weakest first."""
    found = {}
    for name in SWEPT:
        of = {each / 255: _find(records, model, name, "pixels", each / 255) for each in STRENGTHS}
        if usual := _find(records, model, name, "pixels"):
            of[usual.evidence["attack"]["eps"]] = usual
        found[name] = {eps: of[eps] for eps in sorted(of) if of[eps]}
    return {name: of for name, of in found.items() if of}


def recorded_smoothing(records: Records, model: str) -> dict[float, Result]:
    """Smoothing of the labels -> record of PGD on the network trained on so, for as many epochs with each.

    >>> from modlib.results import FOLDER
    >>> found = recorded_smoothing(Records.read(FOLDER), "vgg16")
    >>> {smoothing: record.settings["tune_epochs"] for smoothing, record in found.items()}
    {0.0: 2, 0.1: 2}
    """

    def best(**settings) -> list[Result]:
        found = (records.best("smoothing", model, "cifar10", smoothing=each, **settings) for each in SMOOTHINGS)
        return [record for record in found if record]

    epochs = min((record.settings["tune_epochs"] for record in best()), default=0)
    return {record.settings["smoothing"]: record for record in best(tune_epochs=epochs)}


def attack_curves(record: Result) -> tuple[np.ndarray, np.ndarray]:
    """(L,) modularity of the attacked images, and of the same images before, at the largest N and k = 3."""
    where = {"n": record.coords["n"][-1], "k": K, "layer": record.coords["conv"]}
    return record.at("q", **where), record.at("clean", **where)


def _find(records: Records, model: str, attack: str, protocol: str, eps: float | None = None) -> Result | None:
    return records.best("attack", model, "cifar10", attack=attack, protocol=protocol, eps=eps)


# -------------------------------------------------------------------------------------------------------------- pruning

_KEY = ["model", "dataset", "criterion", "count", "start", "seed"]
_NUMBERS = ["whole", "pruned", "at_once", "lost", "behind", "macs", "params", "seconds", "dq_step", "dq", "dq_std"]
_COLUMNS = [*_KEY, "epochs", "tune_epochs", "tune_recipe", "removed", "q", *_NUMBERS]
_TRAINED = ["model", "dataset", "seed", "epochs", "tune_epochs", "tune_recipe"]


def variants(records: Records, *, longest: bool = True, **settings) -> pd.DataFrame:
    """One row for each recorded variant of a network: what it is without, and what that cost.

    Columns: model, dataset, criterion, count (of layers removed), start (``"inherited"`` or ``"scratch"``), seed,
    epochs (of the whole network; 0: others'), tune_epochs, tune_recipe (of the variant), removed (layers), q (L,) of what is left.
    Accuracy in percent: whole, pruned, at_once (before any further training), lost (whole - pruned), and behind: what the
    whole network reaches when it is fine-tuned equally long, where that was measured, minus pruned. Saved, in percent:
    macs, params, seconds. From the recorded curve of the whole network, where there is one: dq_step, the paper's
    Delta Q = Q_i - Q_(i-1) of the first layer removed; dq, the sum of such rises over all that were removed, and
    dq_std, its spread over draws.

    Of a network that was trained in several ways the longest training counts, by the paper's recipe if there is one.

    Args:
        longest: of a variant that was fine-tuned for several numbers of epochs, only the largest.
        **settings: which records (``model="vgg11"``, ``criterion="last"``, ...); by default of networks of our own training.
    """
    found = records.find("pruning", **{"weights": "trained", **settings})
    rows = [_row(r, records) for r in found if r.settings.get("scale", "full") == "full"]
    table = pd.DataFrame(rows, columns=["training", *_COLUMNS]).astype(dict.fromkeys(_NUMBERS, float))
    table = table[table["training"] == table.groupby(["model", "dataset"])["training"].transform("max")]
    opponents = table[table["criterion"] == "none"].set_index(_TRAINED)["pruned"]
    table["behind"] = opponents.reindex(pd.MultiIndex.from_frame(table[_TRAINED])).values - table["pruned"]
    table = table.sort_values([*_KEY, "tune_epochs"], key=_place, ignore_index=True)[_COLUMNS]
    return longest_training(table) if longest else table


def longest_training(table: pd.DataFrame) -> pd.DataFrame:
    """Of each variant in a table of :func:`variants` or :func:`printed_variants`, the row of the longest fine-tuning."""
    return table.drop_duplicates(_KEY, keep="last", ignore_index=True)


def _place(column: pd.Series) -> pd.Series:
    """What a column is sorted by."""
    names = {"criterion": CRITERIA, "start": STARTS}.get(column.name)
    return column.map(list(names).index) if names else column


def _row(r: Result, records: Records) -> dict:
    s, removed = r.settings, r.coords["removed"]
    saved = {name: 100 * (1 - r[name][1] / r[name][0]) for name in ("macs", "params", "seconds")}
    whole, pruned = r["accuracy"]
    own = {"recipe": s["recipe"], "epochs": s["epochs"], "seed": s["seed"]} if s["weights"] == "trained" else {}
    row = {name: s[name] for name in ("model", "dataset", "criterion", "start", "seed", "tune_epochs")}
    row |= {"epochs": own.get("epochs", 0), "tune_recipe": s.get("tune_recipe", own.get("recipe"))}
    row |= {"training": (own.get("recipe") == "paper", row["epochs"]), "removed": tuple(removed), "count": len(removed)}
    row |= {"q": r["q"].mean(0), "whole": whole, "pruned": pruned, "at_once": float(r["at_once"]), "lost": whole - pruned, **saved}
    same = {name: s[name] for name in ("model", "dataset", "weights")} | own
    curves = records.find("curves", scale=s.get("scale", "full"), **same)
    if curves and removed:
        curve = curves[0].curve()
        rises = np.diff(curve.q, axis=1, prepend=0)[:, [curve.layers.index(name) for name in removed]]
        dq = rises.sum(1)
        row |= {"dq_step": rises[:, 0].mean(), "dq": dq.mean(), "dq_std": dq.std(ddof=1)}
    return row


def printed_variants() -> pd.DataFrame:
    """The paper's variants (Figs. 9 and 10, Table 1) in the columns of :func:`variants`, empty where it gives no number.

    >>> table = printed_variants().query("model == 'vgg11' and dataset == 'cifar100'")
    >>> table[["count", "dq_step", "lost"]].values.tolist()
    [[1.0, 0.08, 0.37], [2.0, 0.15, 1.01], [3.0, 0.26, 2.11]]
    """
    rows = []

    def add(name: str, dataset: str, criterion: str = "last", **numbers):
        model, count = name.split("_")
        which = {"model": model, "dataset": OURS.get(dataset, dataset), "criterion": criterion, "count": int(count)}
        rows.append({**which, "start": "inherited", **numbers})

    for name, values in paper_values("fig9").items():
        add(*name.split("/"), pruned=values["accuracy"])
    for dataset, bars in paper_values("fig10").items():
        for name, bar in bars.items():
            add(name, dataset, dq_step=bar["dQ"], lost=bar["dAcc"])
    table1 = paper_values("table1")
    whole, ours = table1["resnet56"]["top1"], table1["modularity"]
    saved = {"macs": ours["flops_pruned"], "params": ours["params_pruned"]}
    add("resnet56_16", "cifar10", "table1", whole=whole, pruned=ours["top1"], lost=whole - ours["top1"], **saved)
    return pd.DataFrame(rows, columns=_COLUMNS).sort_values(["model", "dataset", "count"], ignore_index=True)
