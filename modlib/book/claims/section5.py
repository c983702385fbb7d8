"""What Section 5 of the paper claims, as rules: layer difference and pruning."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from modlib.book.records import equally_long, longest_training, printed_variants, variants
from modlib.book.statistics import blocks, chance, mantel, worth
from modlib.models import RESNET, THIN_RESNET, stages
from modlib.paper import paper_values
from modlib.results import Records
from modlib.similarity import modularity_difference

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
    for model, dq, cka in differences or [("resnets", None, None)]:
        tested = f"{model} on cifar10"
        said = "5.1", "the differences of modularity have a block structure", rule
        found = None if dq is None else blocks(dq, stages(model))
        number = f"{found.statistic:+.3f} across a border, p = {found.p:.3f}" if found else "not measured"
        yield *said, tested, number, bool(found.p < 0.05) if found else None
        if cka is None:
            continue
        depth = np.arange(len(cka))
        found, alike = blocks(cka, stages(model)), mantel(dq, cka, abs(depth - depth[:, None]))
        number = f"{found.statistic:+.3f} across a border, p = {found.p:.3f}; correlation {alike.statistic:.2f}, p = {alike.p:.4f}"
        yield "5.1", "linear CKA has the same block structure", same, tested, number, bool(max(found.p, alike.p) < 0.05)


def pruning(pruned: pd.DataFrame) -> Iterator[tuple]:
    longest = longest_training(pruned[pruned["start"] == "inherited"])
    inherited = longest.set_index(["model", "dataset", "criterion"]).sort_index()

    def find(*which) -> pd.DataFrame:
        """A row for each number of layers removed, after the longest training on; the mean over seeds."""
        return inherited[inherited.index.isin([which])].groupby("count")[["pruned", "lost", "behind", "dq_step"]].mean()

    said = "5.2", "layers of a plateau can go without loss"
    said += ("from the fewest layers removed to the most, accuracy falls by less than half a point",)
    for model, dataset in (("vgg19", "cifar10"), ("resnet152", "cifar10"), ("resnet152", "tinyimagenet50")):
        reached = find(model, dataset, "last")["pruned"]
        tested, number = f"{model} on {dataset}", "not measured"
        if len(reached) < 2:
            yield *said, tested, number, None
            continue
        falls = reached.iloc[0] - reached.iloc[-1]
        number = f"{-falls:+.2f} points with {reached.index[-1]} layers removed instead of {reached.index[0]}"
        yield *said, tested, number, bool(falls < 0.5)

    said = "5.2", "the accuracy lost is proportional to the rise of Q"
    said += ("straight line through the variants: 95 % intervals of its slope above zero, of its intercept around zero",)
    found = {name: find("vgg11", name, "last").dropna(subset="dq_step") for name in ("cifar10", "cifar100")}
    # Where the whole network was trained on for as long, what counts is how far behind it a variant is.
    lines = {dataset: worth(each["dq_step"], each["behind"].fillna(each["lost"])) for dataset, each in found.items()}
    for dataset, line in lines.items():
        ends = "slope {:.1f} ({:.1f} to {:.1f}), intercept {:.2f} ({:.2f} to {:.2f})"
        few = f"{len(found[dataset])} variants, too few for a line" if len(found[dataset]) else "not measured"
        number = ends.format(*line.slope, *line.intercept) if line else few
        yield *said, f"vgg11 on {dataset}", number, line.proportional if line else None

    said = "5.2", "the harder the data, the more a rise of Q is worth"
    said += (
        "points lost for each unit of Q, by a line through zero: more on CIFAR-100 than on CIFAR-10, "
        "and their 95 % intervals lie apart",
    )
    known = {dataset: line.per_q for dataset, line in lines.items() if line}
    number = ", ".join("{} {:.1f} ({:.1f} to {:.1f})".format(dataset, *per_q) for dataset, per_q in known.items())
    number += ", alone" * (len(known) == 1)
    more = known["cifar100"][1] > known["cifar10"][2] if len(known) == 2 else None
    yield *said, "vgg11", number or "not measured", more

    said = "5.2", "shorter networks reach almost the same peak of Q"
    said += ("without the last layers, the highest Q is at most 0.02 below that of the whole network trained on for as long",)
    for model, dataset in (("vgg11", "cifar10"), ("vgg11", "cifar100")):
        each = longest[(longest["model"] == model) & (longest["dataset"] == dataset) & longest["q"].notna()]
        peaks = each.assign(peak=each["q"].map(np.max)).groupby(["criterion", "count"])["peak"].mean()
        number, same = "not measured", None
        if {"none", "last"} <= {*peaks.index.get_level_values("criterion")}:
            whole, last = peaks["none"].iloc[0], peaks["last"]
            number = f"whole {whole:.3f}; " + ", ".join(f"without {count}: {peak:.3f}" for count, peak in last.items())
            same = bool(last.min() >= whole - 0.02)
        yield *said, f"{model} on {dataset}", number, same

    plan = find("resnet56", "cifar10", "table1")
    said = "5.2", "ResNet56 keeps its accuracy with 60 % fewer MACs"
    said += ("a plan of that cost, trained on, loses less than 0.3 points beside the whole network as it was",)
    number, kept = "not measured", None
    if 16 in plan.index:
        lost, behind = plan.loc[16, ["lost", "behind"]]
        number, kept = f"accuracy {-lost:+.2f} points", bool(lost < 0.3)
        number += "" if np.isnan(behind) else f"; beside the whole one trained on for as long {-behind:+.2f}"
    yield *said, "resnet56 on cifar10", number, kept
    plans = {"rise": "smallest rise of Q", "random": "at random", "l1": "smallest L1 norm"}
    of16 = pruned[(pruned["model"] == "resnet56") & (pruned["count"] == 16) & (pruned["start"] == "inherited")]
    alike = equally_long(of16, *plans)
    lost = alike.groupby("criterion")["lost"].mean()
    said = "5.2", "modularity finds the right layers"
    said += (
        "16 blocks of smallest rise of Q lose less than 16 at random and than 16 of smallest L1 norm, after as long a training, "
        "by more than chance may part two networks",
    )
    number, right = "not measured", None
    if len(lost):
        width, ahead = chance(alike["pruned"].mean()), lost.drop("rise").min() - lost["rise"]
        number = "accuracy: " + ", ".join(f"{words} {-lost[name]:+.2f}" for name, words in plans.items())
        number, right = f"{number} points after {alike['tune_epochs'].iloc[0]} epochs; by chance {width:.2f}", bool(ahead > width)
    yield *said, "resnet56 on cifar10", number, right


TESTS = (
    (their_differences, our_differences, (layer_difference,)),
    (printed_variants, partial(variants, longest=False), (pruning,)),
)
