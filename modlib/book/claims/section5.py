"""What Section 5 of the paper claims, as rules: layer difference and pruning."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from modlib.book.records import longest_training, printed_variants, variants
from modlib.book.statistics import FAILS, HOLDS, UNDECIDED, by_p, chance, graded, mean_interval, together, worth
from modlib.book.words import MISSING
from modlib.models import RESNET, THIN_RESNET, stages
from modlib.paper import paper_values
from modlib.results import Records
from modlib.significance import blocks, mantel
from modlib.similarity import modularity_difference

BEYOND = "by more than chance may part two networks, with two seeds at least"
SAID = {  # section, claim, and the rule by which it holds
    "plateau": ("5.2", "layers of a plateau can go without loss",
                f"from the fewest layers removed to the most, accuracy falls by less than half a point, {BEYOND}"),
    "rise": ("5.2", "the accuracy lost is proportional to the rise of Q", "straight line through the variants: "
             "95 % intervals of its slope above zero, of its intercept around zero; two seeds"),
    "worth": ("5.2", "the harder the data, the more a rise of Q is worth", "points lost for each unit of Q, by a line through "
              "zero: more on CIFAR-100 than on CIFAR-10, and their 95 % intervals lie apart; two seeds"),
    "peak": ("5.2", "shorter networks reach almost the same peak of Q", "without the last layers, the highest Q is at most 0.02 "
             "below that of the whole network fine-tuned equally long; two seeds"),
    "table1": ("5.2", "ResNet56 keeps its accuracy with 60 % fewer MACs", "a plan of that cost, fine-tuned, loses less than 0.3 "
               f"points beside the whole network fine-tuned equally long (the paper's: as it was), {BEYOND}"),
    "right": ("5.2", "modularity finds the right layers",
              "without the third of their blocks of smallest rise of Q, thin ResNets end ahead of those without as many at random, "
              "at random but not of the last stage, and of smallest L1 norm: all 95 % intervals of the mean lie above zero"),
}  # fmt: skip

Differences = list[tuple[str, np.ndarray, np.ndarray | None]]  # ResNet, |Qi - Qj|, 1 - CKA


def their_differences() -> Differences:
    return [(model, modularity_difference(paper_values("fig4")[f"{model}/cifar10"]), None) for model in RESNET]


def our_differences(records: Records) -> Differences:
    found = [records.best("similarity", model, "cifar10") for model in (*RESNET, *THIN_RESNET)]
    return [(r.settings["model"], modularity_difference(r["q"]), 1 - r["cka"]) for r in found if r]


def layer_difference(differences: Differences) -> Iterator[tuple]:
    rule = "layers across a border of stages differ more than layers as far apart inside one, "
    rule += "by more than for 95 % of all other borders"
    same = f"by 1 - CKA, {rule}; and it correlates by rank with the differences of Q, at equal distance in depth, "
    same += "with p < 0.05 (Mantel)"
    said = "5.1", "the differences of modularity have a block structure", rule
    if not differences:
        yield *said, "resnets on cifar10", "", MISSING
    for model, dq, cka in differences:
        where, found = f"{model} on cifar10", blocks(dq, stages(model))
        number = f"{found.statistic:+.3f} across a border, p = {found.p:.3f}"
        yield *said, where, number, by_p(found.statistic, found.p)
        if cka is None:
            continue
        depth = np.arange(len(cka))
        found, alike = blocks(cka, stages(model)), mantel(dq, cka, abs(depth - depth[:, None]))
        number = f"{found.statistic:+.3f} across a border, p = {found.p:.3f}; correlation {alike.statistic:.2f}, p = {alike.p:.4f}"
        verdict = together([by_p(found.statistic, found.p), by_p(alike.statistic, alike.p)])
        yield "5.1", "linear CKA has the same block structure", same, where, number, verdict


def pruning(pruned: pd.DataFrame) -> Iterator[tuple]:
    longest = longest_training(pruned[pruned["start"] == "inherited"])
    inherited = longest.set_index(["model", "dataset", "criterion"]).sort_index()

    def find(*which) -> pd.DataFrame:
        """A row for each number of layers removed, after the longest fine-tuning; the mean over seeds, and their number."""
        rows = inherited[inherited.index.isin([which])].groupby("count")
        return rows[["pruned", "lost", "behind", "dq_step"]].mean().assign(seeds=rows["seed"].nunique())

    for model, dataset in (("vgg19", "cifar10"), ("resnet152", "cifar10"), ("resnet152", "tinyimagenet50")):
        found, number, kept = find(model, dataset, "last"), "", MISSING
        if len(found) > 1:
            falls = found["pruned"].iloc[0] - found["pruned"].iloc[-1]
            number = f"{-falls:+.2f} points with {found.index[-1]} layers removed instead of {found.index[0]}"
            kept = _beyond_chance(0.5 - falls, found)
        yield *SAID["plateau"], f"{model} on {dataset}", number, kept

    found = {name: find("vgg11", name, "last").dropna(subset="dq_step") for name in ("cifar10", "cifar100")}
    # Where the whole network was fine-tuned for as long, what counts is how far behind it a variant is.
    lines = {dataset: worth(each["dq_step"], each["behind"].fillna(each["lost"])) for dataset, each in found.items()}
    for dataset, line in lines.items():
        ends = "slope {:.1f} ({:.1f} to {:.1f}), intercept {:.2f} ({:.2f} to {:.2f})"
        few = f"{len(found[dataset])} variants, too few for a line" if len(found[dataset]) else ""
        number = ends.format(*line.slope, *line.intercept) if line else few
        verdict = line.proportional if line else UNDECIDED if few else MISSING
        yield *SAID["rise"], f"vgg11 on {dataset}", number, _of_seeds(verdict, found[dataset])

    known = {dataset: line.per_q for dataset, line in lines.items() if line}
    number = ", ".join("{} {:.1f} ({:.1f} to {:.1f})".format(dataset, *per_q) for dataset, per_q in known.items())
    number += ", alone" * (len(known) == 1)
    more = MISSING
    if len(known) == 2:
        easy, hard = known["cifar10"], known["cifar100"]
        more = _of_seeds(graded(hard[1] - easy[2], hard[2] - easy[1]), pd.concat(found.values()))
    yield *SAID["worth"], "vgg11", number, more

    for dataset in ("cifar10", "cifar100"):
        each = longest[(longest["model"] == "vgg11") & (longest["dataset"] == dataset) & longest["q"].notna()]
        peaks = each.assign(peak=each["q"].map(np.max)).groupby(["criterion", "count"])["peak"].mean()
        number, same = "", MISSING
        if {"none", "last"} <= {*peaks.index.get_level_values("criterion")}:
            whole, last = peaks["none"].iloc[0], peaks["last"]
            number = f"whole {whole:.3f}; " + ", ".join(f"without {count}: {peak:.3f}" for count, peak in last.items())
            same = _of_seeds(HOLDS if last.min() >= whole - 0.02 else FAILS, find("vgg11", dataset, "last"))
        yield *SAID["peak"], f"vgg11 on {dataset}", number, same

    plan, number, kept = find("resnet56", "cifar10", "table1"), "", MISSING
    if 16 in plan.index:
        lost, behind = plan.loc[16, ["lost", "behind"]]
        number = f"{lost:+.2f} points lost beside the network as it was"
        number += "" if np.isnan(behind) else f"; {behind:+.2f} beside the whole one fine-tuned equally long"
        kept = _beyond_chance(0.3 - (lost if np.isnan(behind) else behind), plan.loc[[16]])
    yield *SAID["table1"], "resnet56 on cifar10", number, kept


def choices(pruned: pd.DataFrame) -> Iterator[tuple]:
    controls = {"random": "of those at random", "early": "of those at random, not of the last stage", "l1": "of smallest L1 norm"}
    number, right = "", MISSING
    third = pruned[pruned["count"] == pruned["model"].map(lambda model: sum(THIN_RESNET.get(model, ())) // 3)]
    behind = third.pivot_table("behind", "model", "criterion").reindex(columns=["rise", *controls]).dropna()  # means over seeds
    if len(behind) > 1:
        ahead = {name: mean_interval(behind[name] - behind["rise"]) for name in controls}
        number = ", ".join("{:+.2f} ({:+.2f} to {:+.2f}) points ahead ".format(*ahead[name]) + controls[name] for name in ahead)
        right = together(graded(*each[1:]) for each in ahead.values())
    yield *SAID["right"], "thin resnets on cifar10", number, right


def _beyond_chance(margin: float, rows: pd.DataFrame) -> str:
    """The verdict on "the margin is above zero", in percentage points of accuracy of these rows."""
    width = chance(rows["pruned"].mean())
    return _of_seeds(graded(margin - width, margin + width), rows)


def _of_seeds(verdict: str, rows: pd.DataFrame) -> str:
    """A verdict on what training brought is one only with two seeds or more; the paper's numbers name none."""
    return UNDECIDED if verdict in (HOLDS, FAILS) and rows["seeds"].min() < 2 else verdict


TESTS = (
    (their_differences, our_differences, (layer_difference,)),
    (printed_variants, partial(variants, longest=False), (pruning,)),
    (printed_variants, partial(variants, longest=False, weights="akamaster"), (choices,)),
)
