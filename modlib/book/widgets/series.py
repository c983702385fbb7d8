"""Records as the modularity explorer reads them: a series of curves each, and the words for their settings."""

import re
from collections.abc import Iterable

import numpy as np

from modlib.attacks import ATTACKS, PROTOCOLS
from modlib.book.widgets.base import pack
from modlib.book.words import proper
from modlib.paper import paper_n, paper_values
from modlib.results import Result

PARTS = ("model", "dataset", "weights", "attack")  # what tells one series from another
CLEAN = "none"


def series_of(results: Iterable[Result]) -> tuple[list[dict], dict[str, str]]:
    """Recorded curves and training runs, in the order of menus; and the words of those parts that have other ones.

    A series holds the curves of one record over n, k, epoch and layer; of attacked images also those of the same images before
    the attack. Records of other experiments are passed over.
    """
    found, words = {}, {CLEAN: "none: clean images", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
    words |= {name.lower(): f"trained by others ({name})" for name in ("akamaster", "Keras", "torchvision")}
    for r in results:
        if r.experiment not in ("curves", "attack", "training"):
            continue
        series, told, order = _series(r)
        model = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", series["model"])]
        words |= {series[part]: proper(series[part]) for part in ("model", "dataset")} | told
        key = tuple(series[part] for part in PARTS)
        if series["attack"] != CLEAN and key in found:
            continue  # the usual strength, which a sweep over strengths has measured again
        if key in found:  # two runs
            series["weights"] = f"{key[2]} ({series['about']})"
            words[series["weights"]] = f"{words.get(key[2], key[2])} ({series['about']})"
        found[tuple(series[part] for part in PARTS)] = (model, r.experiment == "training", order), series
    return [series for _, series in sorted(found.values(), key=lambda each: each[0])], words


def _series(result: Result) -> tuple[dict, dict[str, str], tuple]:
    """The series of a record, words of its parts, and its place in a menu."""
    settings, coords, evidence = result.settings, result.coords, result.evidence

    def ordered(name: str) -> np.ndarray:
        """(draws, ...): attacked images are drawn once, and so are those of a training run."""
        dims, q = result.values[name]["dims"], result[name]
        q = q.transpose([dims.index(dim) for dim in ("draw", "n", "k", "epoch", "layer") if dim in dims])
        return q if "draw" in dims else q[None]

    readings = {at: [coords["layer"].index(name) for name in coords[at]] for at in ("conv", "relu") if at in coords}
    if result.experiment == "training":
        weights, attack, place = f"training, {len(coords['epoch'])} epochs", CLEAN, ()
        words, accuracy = {weights: f"in {weights}"}, np.round(result["test_accuracy"], 2).tolist()
    else:
        weights, (attack, told, place) = settings.get("weights", "trained"), _attack(result)
        words, accuracy = {attack: told}, [float(result["accuracy"])] if "accuracy" in result.values else []
    if settings["dataset"] == "imagenet":
        images = evidence.get("images")
        words["imagenet"] = "Imagenette, ten classes of ImageNet" if images == "imagenette" else f"ImageNet ({images})"
    about = [f"{settings['recipe']} recipe"] if settings.get("recipe") else []
    about += [f"{settings['epochs']} epochs"] if settings.get("epochs") and result.experiment != "training" else []
    about += [f"seed {settings['seed']}"] if "seed" in settings else []
    which = {"model": settings["model"], "dataset": settings["dataset"], "weights": weights, "attack": attack}
    series = new_series(
        which, ordered("q"), evidence["date"], evidence["device"], n=coords.get("n") or [settings["n"]],
        k=coords.get("k") or [settings["k"]], epochs=coords.get("epoch", []), layers=coords["layer"],
        readings=readings or {"conv": list(range(len(coords["layer"])))}, accuracy=accuracy, about=", ".join(about),
    )  # fmt: skip
    return series | ({"clean": pack(ordered("clean").mean(0))} if "clean" in result.values else {}), words, place


def new_series(which: dict[str, str], q: np.ndarray, date: str, device, **more) -> dict:
    """A series by its PARTS and its (draws, ...) modularities; their spread in 255 steps up to its largest."""
    std = q.std(0, ddof=1) if len(q) > 1 else np.zeros(0)
    step = max(float(std.max(initial=0)) / 255, 1e-5)
    told = {"date": date, "device": str(device), "accuracy": [], "about": "", "computed": False, "clean": "", "epochs": []}
    return which | told | more | {"draws": len(q), "mean": pack(q.mean(0)), "std": pack(std, "u1", step), "step": step}


def _attack(result: Result) -> tuple[str, str, tuple]:
    """An attack as a key, in words, and its place in a menu: by protocol, kind and strength."""
    name, protocol = (result.settings.get(part) for part in ("attack", "protocol"))
    if not name or not protocol:
        return name or CLEAN, proper(name) if name else "none: clean images", ()
    key, words = f"{name} ({protocol})", "clipped, without an attack" if name == "clip" else proper(name)
    # The authors' protocol has one strength, which the paper's curves have, too.
    eps = (result.evidence.get("attack") or {}).get("eps", 0) if protocol == "pixels" else 0
    if eps:
        in_255 = round(255 * eps, 6)
        key = f"{name} ({protocol}, eps {in_255:g}/255)"
        words += f", ε = {in_255:g}/255" if in_255 % 1 == 0 else f", ε = {eps:g}"
    words += ", in pixels" if protocol == "pixels" else ", authors’ protocol"
    kinds = ("clip", *ATTACKS)
    return key, words, ([*PROTOCOLS].index(protocol), kinds.index(name) if name in kinds else len(kinds), eps)


def printed_curves() -> dict[str, dict]:
    """The paper's curves by "model dataset attack n k". Left out: its ImageNet50, which is not a set that we have, and
    the ResNet18 of Fig. 7a, whose axis is not to be trusted (assets/paper-curves.json)."""
    curves = {}
    for name, q in paper_values("fig4").items():
        model, dataset = name.split("/")
        if dataset != "imagenet50":
            curves[f"{model} {dataset} {CLEAN} {paper_n(dataset)} 3"] = ("Fig. 4", q)
    for name, q in paper_values("fig7a_n").items():
        model, n = name.split("/n=")
        if model != "resnet18":
            curves.setdefault(f"{model} cifar10 {CLEAN} {n} 3", ("Fig. 7a", q))
    for name, q in paper_values("fig7b_k").items():
        curves.setdefault(name.replace("/k=", f" cifar10 {CLEAN} 500 "), ("Fig. 7b", q))
    for model, attacks in paper_values("fig6a").items():
        curves |= {f"{model} cifar10 {a} (authors) 500 3": ("Fig. 6a", q) for a, q in attacks.items() if a != "normal"}
    return {key: {"figure": figure, "q": [round(each, 4) for each in q]} for key, (figure, q) in curves.items()}
