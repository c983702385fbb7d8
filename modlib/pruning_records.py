"""Recorded networks without some of their layers beside the paper's, as tidy tables; and what a rise of Q was worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from modlib.reproduction import OURS, recorded_curve
from modlib.results import FOLDER, Result, find_results, paper_values

CRITERIA = {  # in the order of tables
    "none": "nothing removed",
    "last": "the last",
    "table1": "a plan of Table 1’s cost",  # the paper does not say which blocks went
    "curve": "the rule’s plan",
    "rise": "smallest rise of Q",
    "random": "at random",
    "l1": "smallest L1 norm",
}
STARTS = {"inherited": "inherited weights", "scratch": "from scratch"}
_KEY = ["model", "dataset", "criterion", "count", "start", "seed"]
_COLUMNS = [
    *_KEY, "epochs", "tune_epochs", "removed", "q", "whole", "pruned", "at_once", "lost",
    "behind", "macs", "params", "seconds", "dq_step", "dq", "dq_std",
]  # fmt: skip
_NUMBERS = {name: float for name in _COLUMNS[10:]}
_TRAINED = ["model", "dataset", "seed", "epochs", "tune_epochs"]


def variants(folder=FOLDER, *, longest: bool = True, **settings) -> pd.DataFrame:
    """One row for each recorded variant of a network: what it is without, and what that cost.

    Columns: model, dataset, criterion, count (of layers removed), start (``"inherited"`` or ``"scratch"``), seed,
    epochs (of the whole network), tune_epochs (of the variant), removed (names of layers), q (L,) of what is left.
    Accuracy in percent: whole, pruned, at_once (before any further training), lost (whole - pruned), and behind: what the
    whole network reaches when it is trained on for as long, where that was measured, minus pruned. Saved, in percent:
    macs, params, seconds. From the recorded curve of the whole network, where there is one: dq_step, the paper's
    Delta Q = Q_i - Q_(i-1) of the first layer removed; dq, the sum of such rises over all that were removed, and
    dq_std, its spread over draws.

    Of a network that was trained in several ways the longest training counts, by the paper's recipe if there is one.

    Args:
        longest: of a variant that was trained on for several numbers of epochs, only the largest.
        **settings: which records (``model="vgg11"``, ``criterion="last"``, ...).
    """
    found = find_results("pruning", folder, **settings)
    rows = [_row(r, folder) for r in found if r.settings.get("scale", "full") == "full"]
    table = pd.DataFrame(rows, columns=["training", *_COLUMNS]).astype(_NUMBERS)
    table = table[table["training"] == table.groupby(["model", "dataset"])["training"].transform("max")]
    opponents = table[table["criterion"] == "none"].set_index(_TRAINED)["pruned"]
    table["behind"] = opponents.reindex(pd.MultiIndex.from_frame(table[_TRAINED])).values - table["pruned"]
    table = table.sort_values([*_KEY, "tune_epochs"], key=_place, ignore_index=True)[_COLUMNS]
    return longest_training(table) if longest else table


def longest_training(table: pd.DataFrame) -> pd.DataFrame:
    """Of each variant in a table of :func:`variants` or :func:`printed`, the row of the longest training on, in its order."""
    return table.drop_duplicates(_KEY, keep="last", ignore_index=True)


def equally_long(table: pd.DataFrame, *criteria: str) -> pd.DataFrame:
    """Of variants of one network, those by these criteria, after the longest training on that all of the criteria have had.

    Args:
        table: of :func:`variants` with ``longest=False``.
    """
    table = table[table["criterion"].isin(criteria)]
    have = table.groupby("tune_epochs")["criterion"].nunique()
    return table[table["tune_epochs"] == have[have == len({*criteria})].index.max()]


def chance(percent: float, images: int = 10_000) -> float:
    """Points by which chance parts two networks of this accuracy on so many images in one of twenty cases, were their errors
    independent: 1.96 sqrt(2 p (1 - p) / images). (On the same images they are not quite; the true number is smaller.)

    >>> round(chance(90.0), 2)
    0.83
    """
    share = percent / 100
    return float(196 * np.sqrt(2 * share * (1 - share) / images))


def _place(column: pd.Series) -> pd.Series:
    """What a column is sorted by."""
    names = {"criterion": CRITERIA, "start": STARTS}.get(column.name)
    return column.map(list(names).index) if names else column


def _row(r: Result, folder) -> dict:
    s, removed = r.settings, r.coords["removed"]
    saved = {name: 100 * (1 - r[name][1] / r[name][0]) for name in ("macs", "params", "seconds")}
    whole, pruned = r["accuracy"]
    row = {name: s[name] for name in ("model", "dataset", "criterion", "start", "seed", "epochs", "tune_epochs")}
    row |= {"training": (s["recipe"] == "paper", s["epochs"]), "q": r["q"].mean(0)}
    row |= {"removed": tuple(removed), "count": len(removed)}
    row |= {"whole": whole, "pruned": pruned, "at_once": float(r["at_once"]), "lost": whole - pruned, **saved}
    same = {name: s[name] for name in ("model", "dataset", "recipe", "epochs", "seed")}
    curves = find_results("curves", folder, weights="trained", scale=s.get("scale", "full"), **same)
    if curves and removed:
        curve = recorded_curve(curves[0])
        rises = np.diff(curve.q, axis=1, prepend=0)[:, [curve.layers.index(name) for name in removed]]
        dq = rises.sum(1)
        row |= {"dq_step": rises[:, 0].mean(), "dq": dq.mean(), "dq_std": dq.std(ddof=1)}
    return row


def printed() -> pd.DataFrame:
    """The paper's variants (Figs. 9 and 10, Table 1) in the columns of :func:`variants`, empty where it gives no number.

    >>> table = printed().query("model == 'vgg11' and dataset == 'cifar100'")
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


@dataclass(frozen=True)
class Worth:
    """What a rise of Q was worth: accuracy lost (percentage points) against Delta Q, over n variants.

    Each value comes with the ends of its 95 % confidence interval.

    Attributes:
        n: variants.
        per_q: slope of the line through zero, points lost per unit of Q.
        slope, intercept: of the line that need not pass through zero.
    """

    n: int
    per_q: tuple[float, float, float]
    slope: tuple[float, float, float]
    intercept: tuple[float, float, float]

    @property
    def proportional(self) -> bool:
        """Whether a larger rise costs more, and none costs nothing, as far as the intervals can tell."""
        return self.slope[1] > 0 and self.intercept[1] <= 0 <= self.intercept[2]


def worth(dq, lost) -> Worth | None:
    """Least-squares lines through (Delta Q, accuracy lost), freely and through zero; None for fewer than three points.

    Args:
        dq: (n,) rises of Q.
        lost: (n,) accuracy of the whole network minus that of the variant.

    >>> line = worth([0.1, 0.2, 0.3, 0.4], [1.1, 1.9, 3.1, 3.9])
    >>> round(line.per_q[0], 2), round(line.slope[0], 2), line.proportional
    (9.93, 9.6, True)
    """
    x, y = np.asarray(dq, float), np.asarray(lost, float)
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    free, per_q = stats.linregress(x, y), x @ y / (x @ x)
    error = np.sqrt(((y - per_q * x) ** 2).sum() / (len(x) - 1) / (x @ x))

    def interval(value, error, freedom):
        half = stats.t.ppf(0.975, freedom) * error
        return tuple(float(each) for each in (value, value - half, value + half))

    ends = [interval(free.slope, free.stderr, len(x) - 2), interval(free.intercept, free.intercept_stderr, len(x) - 2)]
    return Worth(len(x), interval(per_q, error, len(x) - 1), *ends)
