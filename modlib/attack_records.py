"""Recorded attacks (Fig. 6a): the curves of attacked images, and of the same images before."""

import numpy as np
import pandas as pd

from modlib.attacks import ATTACKS, PROTOCOLS
from modlib.figures import SMOOTHINGS, STRENGTHS
from modlib.report import proper
from modlib.reproduction import K, best_record
from modlib.results import FOLDER, Result

CLIP = ("clip", "authors")  # the control: what the authors' protocol does to an image without any attack
SWEPT = ("fgsm", "pgd")  # attacks with a strength eps


def recorded(model: str, folder=FOLDER) -> dict[tuple[str, str], Result]:
    """(attack, protocol) -> record, for every attack measured with its default settings, and for :data:`CLIP`.

    >>> recorded("resnet20")["pgd", "pixels"].settings["model"]
    'resnet20'
    """
    kinds = [*((name, protocol) for protocol in PROTOCOLS for name in ATTACKS), CLIP]
    found = {kind: _find(model, folder, *kind) for kind in kinds}
    return {kind: record for kind, record in found.items() if record}


def strengths(model: str, folder=FOLDER) -> dict[str, dict[float, Result]]:
    """attack -> eps -> record of the protocol ``"pixels"``, of every strength measured, the weakest first.

    The default strength may stand in the sweep or among the attacks of Fig. 6a.
    """
    found = {}
    for name in SWEPT:
        records = {each / 255: _find(model, folder, name, "pixels", each / 255) for each in STRENGTHS}
        usual = _find(model, folder, name, "pixels")
        if usual:
            eps = usual.evidence["attack"]["eps"]
            records[eps] = records.get(eps) or usual
        found[name] = {eps: records[eps] for eps in sorted(records) if records[eps]}
    return {name: records for name, records in found.items() if records}


def smoothed(model: str, folder=FOLDER) -> dict[float, Result]:
    """Smoothing of the labels -> record of PGD on the network trained on so, for as many epochs with each.

    >>> {smoothing: record.settings["tune_epochs"] for smoothing, record in smoothed("vgg16").items()}
    {0.0: 2, 0.1: 2}
    """

    def best(**settings) -> list[Result]:
        found = (best_record("smoothing", model, "cifar10", folder, smoothing=each, **settings) for each in SMOOTHINGS)
        return [record for record in found if record]

    epochs = min((record.settings["tune_epochs"] for record in best()), default=0)
    return {record.settings["smoothing"]: record for record in best(tune_epochs=epochs)}


def curves(record: Result) -> tuple[np.ndarray, np.ndarray]:
    """(L,) modularity of the attacked images, and of the same images before, at the largest N and k = 3."""
    where = {"n": record.coords["n"][-1], "k": K, "layer": record.coords["conv"]}
    return record.at("q", **where), record.at("clean", **where)


def table(model: str, folder=FOLDER) -> pd.DataFrame:
    """A row an attack and protocol: success before selection, median change of a changed image, Q of the last layer."""
    rows = []
    for (name, protocol), record in recorded(model, folder).items():
        attacked, clean = curves(record)
        row = {"attack": "clip only" if name == "clip" else proper(name), "protocol": protocol}
        if "success" in record.values:
            row |= {"success": f"{record['success']:.1%}", "pixels changed": f"{record['l0']:g}"}
            row |= {"L2": f"{record['l2']:.2f}", "largest change": f"{record['linf']:.3f}"}
        ends = {"Q last, before": f"{clean[-1]:.3f}", "Q last, after": f"{attacked[-1]:.3f}"}
        rows.append(row | {"N": record.coords["n"][-1]} | ends)
    columns = ["attack", "protocol", "success", "pixels changed", "L2", "largest change"]
    columns += ["N", "Q last, before", "Q last, after"]
    return pd.DataFrame(rows, columns=columns).fillna("").set_index("attack").rename_axis(None)


def _find(model: str, folder, attack: str, protocol: str, eps: float | None = None) -> Result | None:
    return best_record("attack", model, "cifar10", folder, attack=attack, protocol=protocol, eps=eps)
