"""What Section 4 and Appendix A of the paper claim, as rules: curves, training, attacks, N and k."""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from modlib.book.records import CLIP, attack_curves, recorded_attacks
from modlib.book.statistics import FAILS, HOLDS, UNDECIDED, by_p, graded, plateau_share, together
from modlib.book.words import MISSING, proper
from modlib.models import CONVNETS, RESNET, THIN_RESNET, VGG
from modlib.paper import DATASETS, OURS, paper_values
from modlib.results import Records

THIN = tuple(THIN_RESNET)
TIE = 0.02  # about twice the spread over draws of Q in the last layer
ORDER = (("onepixel",), ("cw",), ("pgd", "localsearch", "jsma"), ("fgsm",))  # as the curves of Fig. 6a end, from the top
SAID = {  # section, claim, and the rule by which it holds
    "rise": ("4.1", "modularity roughly increases with depth", "rank correlation of Q and layer > 0, p < 0.05, in every network"),
    "data": ("4.1", "plateaus vanish as the data get harder",
             "share of layers of the deeper half on a plateau: it falls with each dataset by more than one layer"),
    "lower": ("4.2", "adversarial curves peak lower",
              f"the highest Q is below that of the same images before, for every attack, by {TIE} at least"),
    "order": ("4.2", "the attacks end in one order", "Q of the last layer: "
              + proper(" > ".join(", ".join(names) for names in ORDER)) + f"; less than {TIE} apart is a tie"),
    "shallow": ("4.3", "Q of shallow layers hardly changes in training",
                "Q of the first layer spans less than a quarter of what that of the last spans"),
    "deep": ("4.3", "Q of deep layers follows the accuracy", "rank correlation over the epochs > 0, p < 0.05"),
    "early": ("4.4", "a smaller N lowers the early layers",
              "rank correlation of N and the mean Q of the shallower half > 0, p < 0.05"),
    "late": ("4.4", "N matters less in the last layer",
             "over N, Q of the last layer spans less than half of what the shallower half spans on average"),
    "k": ("4.4", "k hardly changes Q", "from k = 3 to 11, Q of no layer spans more than 0.05"),
    "tendency": ("4.4", "N and k keep the tendency of the curve",
                 "rank correlation with the curve at N = 500, k = 3 at least 0.9, for every N, and k from 3 to 11"),
    "large k": ("A.3", "a large k keeps the tendency of the curve",
                "rank correlation with the curve at k = 3 at least 0.9, for every k above 11"),
}  # fmt: skip

Curves = dict[tuple[str, str], tuple[np.ndarray, str]]  # (model, dataset) -> Q of its layers, how it was trained


def their_curves() -> Curves:
    pairs = ((name.split("/"), q) for name, q in paper_values("fig4").items())
    return {(model, OURS.get(dataset, dataset)): (np.array(q), "as printed") for (model, dataset), q in pairs}


def our_curves(records: Records) -> Curves:
    found = {(m, d): records.best("curves", m, d, weights="trained") for d in DATASETS for m in CONVNETS}
    trained = {key: f"{r.settings['epochs']} epochs ({r.settings['recipe']})" for key, r in found.items() if r}
    return {key: (found[key].curve().mean, how) for key, how in trained.items()}


def rise(curves: Curves) -> Iterator[tuple]:
    for dataset in DATASETS:
        of = {m: q for (m, d), (q, _) in curves.items() if d == dataset}
        tests = {m: stats.spearmanr(range(len(q)), q, alternative="greater") for m, q in of.items()}
        least = min(tests, key=lambda m: tests[m].statistic, default=None)
        number = f"correlation at least {tests[least].statistic:.2f} ({least})" if tests else ""
        verdict = together(by_p(t.statistic, t.pvalue) for t in tests.values()) if tests else MISSING
        names = ", ".join(of) if len(of) <= 3 else f"{len(of)} networks"
        yield *SAID["rise"], f"{names} on {dataset}" if of else dataset, number, verdict


def plateaus_with_depth(curves: Curves) -> Iterator[tuple]:
    claim = "the deeper the network, the more of its layers degrade or stay on a plateau"
    for family, members, deep in (("VGG", tuple(VGG), True), ("ResNet", tuple(RESNET), False), ("thin ResNet", THIN, False)):
        rule = f"share of layers{' of the deeper half' * deep} on a plateau: larger in the deepest network than in the shallowest, "
        rule += "by more than a layer, after the same training"
        for dataset in DATASETS:
            found = {m: curves[m, dataset] for m in members if (m, dataset) in curves}
            if len(found) < 2 and family == "thin ResNet":  # the paper has none in Fig. 4
                continue
            skipped = {m: len(q) // 2 if deep else 1 for m, (q, _) in found.items()}
            share = {m: plateau_share(q, after=skipped[m]) for m, (q, _) in found.items()}
            layers = min((len(q) - skipped[m] for m, (q, _) in found.items()), default=0)
            number, verdict = _shares(share), _grows([*share.values()][:: max(1, len(share) - 1)], layers)
            trained = [how for _, how in found.values()]
            if len({*trained}) > 1:
                number, verdict = f"{number}; trained for {', '.join(trained)}", UNDECIDED
            yield "4.1", claim, rule, f"{family} on {dataset}", number, verdict


def plateaus_with_data(curves: Curves) -> Iterator[tuple]:
    for model in ("vgg16", "vgg19"):
        found = {d: curves[model, d][0] for d in DATASETS if (model, d) in curves}
        share = {d: plateau_share(q, after=len(q) // 2) for d, q in found.items()}
        layers = min((-(-len(q) // 2) for q in found.values()), default=0)
        yield *SAID["data"], model, _shares(share), _grows([-x for x in share.values()], layers)


def _shares(share: dict[str, float]) -> str:
    return ", ".join(f"{name} {x:.0%}" for name, x in share.items()) + ", alone" * (len(share) == 1)


def _grows(shares: list[float], layers: int) -> str:
    """The verdict on "each share is larger than the one before", where one of so many layers more or less is chance."""
    steps = [b - a for a, b in zip(shares, shares[1:], strict=False)]
    one = 1 / max(1, layers) + 1e-9  # exactly one layer is chance, too
    return together(graded(step - one, step + one) for step in steps) if steps else MISSING


Trainings = list[tuple[str, np.ndarray, np.ndarray]]  # network, Q (epochs, layers), accuracy (epochs,)


def their_trainings() -> Trainings:
    curves = paper_values("fig6b")
    accuracy = {model: np.array(of.pop("accuracy")) for model, of in curves.items()}
    return [(model, np.array([*of.values()]).T, accuracy[model]) for model, of in curves.items()]


def our_trainings(records: Records) -> Trainings:
    found = [records.best("training", model, "cifar10") for model in CONVNETS]
    return [(r.settings["model"], r["q"], r["test_accuracy"]) for r in found if r]


def training(trainings: Trainings) -> Iterator[tuple]:
    for model, q, accuracy in trainings:
        first, last = np.ptp(q[:, 0]), np.ptp(q[:, -1])
        yield *SAID["shallow"], model, f"{first:.3f} and {last:.3f} over {len(q)} epochs", HOLDS if first < last / 4 else FAILS
        test = stats.spearmanr(q[:, -1], accuracy, alternative="greater")
        yield *SAID["deep"], model, f"correlation {test.statistic:.2f}", by_p(test.statistic, test.pvalue)


Attacks = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]  # network -> attack -> Q (layers,) after it and before


def their_attacks() -> Attacks:
    return {
        model: {name: (np.array(q), np.array(curves["normal"])) for name, q in curves.items() if name != "normal"}
        for model, curves in paper_values("fig6a").items()
    }


def our_attacks(records: Records) -> Attacks:
    found: Attacks = {}
    for model in (*paper_values("fig6a"), *THIN):
        of = recorded_attacks(records, model)
        of.pop(CLIP, None)
        for (name, protocol), record in of.items():
            found.setdefault(f"{model} ({protocol})", {})[name] = attack_curves(record)
        if not of and model not in THIN:
            found[model] = {}
    return found


def adversarial(attacks: Attacks) -> Iterator[tuple]:
    for network, curves in attacks.items():
        peaks = {name: (after.max(), before.max()) for name, (after, before) in curves.items()}
        number = ", ".join(f"{name} {after:.3f} (before {before:.3f})" for name, (after, before) in peaks.items())
        lowered = together(graded(before - after - TIE, before - after + TIE) for after, before in peaks.values())
        yield *SAID["lower"], network, number, lowered if peaks else MISSING
        last = {name: after[-1] for name, (after, _) in curves.items()}
        number = " > ".join(f"{name} {last[name]:.3f}" for name in sorted(last, key=last.get, reverse=True))
        tiers = [tier for names in ORDER if (tier := [last[name] for name in names if name in last])]
        refused = any(max(below) - min(above) >= TIE for i, above in enumerate(tiers) for below in tiers[i + 1 :])
        whole = all(name in last for names in ORDER for name in names)  # two attacks can refuse an order; all six make one
        yield *SAID["order"], network, number, FAILS if refused else HOLDS if whole else UNDECIDED if last else MISSING


Settings = dict[str, dict[str, dict[int, np.ndarray]]]  # network -> "n" or "k" -> its value -> Q of the layers


def their_settings() -> Settings:
    found: Settings = {}
    for figure in ("fig7a_n", "fig7b_k"):
        for curve, q in paper_values(figure).items():
            model, name, value = curve.replace("=", "/").split("/")
            found.setdefault(model, {}).setdefault(name, {})[int(value)] = np.array(q)
    return found


def our_settings(records: Records) -> Settings:
    found: Settings = {model: {"n": {}, "k": {}} for model in their_settings()}
    for model in (*found, *CONVNETS):
        if record := records.best("curves", model, "cifar10", weights="trained"):
            grid = {name: record.coords[name] for name in ("n", "k")}
            found[model] = {name: {v: record.curve(**{name: v}).mean for v in grid[name]} for name in grid}
    return found


def ablation(settings: Settings) -> Iterator[tuple]:
    for model, axes in settings.items():
        n, k = axes["n"], {value: q for value, q in axes["k"].items() if 3 <= value <= 11}
        beyond = {value: q for value, q in axes["k"].items() if value > 11}
        if len(n) < 4 or len(k) < 2:
            yield from ((*SAID[name], model, "", MISSING) for name in ("early", "late", "k", "tendency", "large k"))
            continue
        values = np.array([*n.values()])
        shallow = values[:, : values.shape[1] // 2]
        test = stats.spearmanr([*n], shallow.mean(1), alternative="greater")
        means = f"{shallow[0].mean():.3f} at N = {min(n)}, {shallow[-1].mean():.3f} at N = {max(n)}"
        yield *SAID["early"], model, f"correlation {test.statistic:.2f} ({means})", by_p(test.statistic, test.pvalue)
        first, last = np.ptp(shallow, axis=0).mean(), np.ptp(values[:, -1])
        yield *SAID["late"], model, f"{last:.3f} and {first:.3f}", HOLDS if last < first / 2 else FAILS
        spans = np.ptp([*k.values()], axis=0)
        number = f"{spans.max():.3f} in layer {spans.argmax() + 1} of {len(spans)}"
        yield *SAID["k"], model, number, HOLDS if spans.max() <= 0.05 else FAILS
        yield *SAID["tendency"], model, *_agreement((n, n[500], "N"), (k, k[3], "k"))
        if beyond:  # the paper's values are not at hand
            yield *SAID["large k"], model, *_agreement((beyond, k[3], "k"))


def _agreement(*groups: tuple[dict, np.ndarray, str]) -> tuple[str, str]:
    """The lowest rank correlation of curves with the one they are compared with; the verdict on "at least 0.9"."""
    every = [(q, base, f"{name} = {value}") for curves, base, name in groups for value, q in curves.items()]
    least, where = min((stats.spearmanr(q, base).statistic, where) for q, base, where in every)
    return f"correlation at least {least:.2f} ({where})", HOLDS if least >= 0.9 else FAILS


TESTS = (  # what the paper prints, what we recorded, and the rules that both are put to
    (their_curves, our_curves, (rise, plateaus_with_depth, plateaus_with_data)),
    (their_trainings, our_trainings, (training,)),
    (their_attacks, our_attacks, (adversarial,)),
    (their_settings, our_settings, (ablation,)),
)
