"""The recorded benchmark in tables and one plot, with what it was to reach; written by benchmarks/run.py."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from modlib.book.words import MISSING, proper
from modlib.cost import cost
from modlib.data import load_images
from modlib.features import iter_features
from modlib.models import build_model
from modlib.results import Records, Result

GIB = 2**30


@dataclass(frozen=True)
class Target:
    """What the library was to reach on two cores.

    Attributes:
        what: in words, with the limit.
        values: of a record, by name of the case; empty where it was not measured.
        reached: of a value.
        unit: after the number.
    """

    what: str
    values: Callable[[Result], dict[str, float]]
    reached: Callable[[float], bool]
    unit: str = ""


def _ratios(*words: str, least: int = 0) -> Callable[[Result], dict[str, float]]:
    def values(record: Result) -> dict[str, float]:
        rows = zip(record.coords["ratio"], record["first"] / record["second"], strict=True)
        return {name: ratio for name, ratio in rows if all(word in name for word in words) and _n(name) >= least}

    return values


def _n(name: str) -> int:
    """N of a case such as "one layer / bare product, N = 500, M = 16384, CPU"."""
    return int(name.split("N = ")[1].split(",")[0])


def _growth(value: str, scale: float) -> Callable[[Result], dict[str, float]]:
    def values(record: Result) -> dict[str, float]:
        if 10_000 not in record.coords["n"]:
            return {}
        largest = record.at(value, n=10_000) / scale
        networks = record.coords["network"]
        return {f"{proper(name)}, N = 10000": each for name, each in zip(networks, largest, strict=True)}

    return values


def _on_gpu(record: Result) -> dict[str, float]:
    rows = zip(record.coords["ratio"], record["first"], strict=True)
    return {name: seconds for name, seconds in rows if all(word in name for word in ("whole curve", "resnet18", "GPU"))}


def _rounding(record: Result) -> dict[str, float]:
    return dict(zip(record.coords["size"], record["rounding_1e9"] / 1e9, strict=True))


TARGETS = (
    Target("graph and Q of a layer, N at least 5,000: at most 0.75 of the bare product F Fᵀ",
           _ratios("one layer / bare product", "CPU", least=5000), lambda v: v <= 0.75),
    Target("ResNet56, N = 500: all after the forward pass at most 0.3 of the forward pass",
           _ratios("after the forward pass / forward pass", "resnet56"), lambda v: v <= 0.3),
    Target("ResNet56, N = 500: at least 10 times as fast as the straightforward method, after the forward pass",
           _ratios("straightforward / ours", "resnet56"), lambda v: v >= 10),
    Target("N = 10,000, whole curve: peak memory under 5 GiB", _growth("peak", GIB), lambda v: v < 5, " GiB"),
    Target("N = 10,000, whole curve: under 6 minutes", _growth("seconds", 60), lambda v: v < 6, " min"),
    Target("Q within 1e-6 of the formula in float64", _rounding, lambda v: v <= 1e-6),
    Target("a GPU: ResNet18, N = 10,000, all layers, under 5 s", _on_gpu, lambda v: v < 5, " s"),
)  # fmt: skip


def recorded(records: Records) -> Result | None:
    """The record of the full benchmark; None if nobody has run it."""
    found = records.find("benchmarks", scale="full")
    return found[0] if found else None


def targets(record: Result | None) -> pd.DataFrame:
    """What was to be reached, what was measured, and whether that is it."""
    rows = []
    for target in TARGETS:
        values = target.values(record) if record else {}
        for case, value in values.items() or [("", None)]:
            verdict = MISSING if value is None else "reached" if target.reached(value) else "not reached"
            shown = "" if value is None else f"{value:.3g}{target.unit}"
            rows.append({"to reach": target.what, "case": proper(case), "measured": shown, "": verdict})
    return pd.DataFrame(rows)


def operations(name: str, n: int) -> float:
    """Multiply-accumulates of each pair's product once, in all layers, beside those of the forward pass of n images.

    >>> operations("resnet56", 1000) / operations("resnet56", 500)  # grows with n, as the forward pass does not
    2.0
    """
    model = build_model(name)
    widths = [features.shape[1] for _, features in iter_features(model, load_images("cifar10", n=1).x)]
    return sum(widths) * n / 2 / cost(model).macs


def ratios(record: Result) -> pd.DataFrame:
    """Every ratio with its two times, in seconds."""
    first, second = record["first"], record["second"]
    names = [proper(name) for name in record.coords["ratio"]]
    shown = [f"{ratio:.3f}" for ratio in first / second]
    columns = {"ratio": shown, "first (s)": first.round(3), "second (s)": second.round(3)}
    return pd.DataFrame({"what / beside what": names, **columns})


def sketches(record: Result) -> pd.DataFrame:
    """The largest error in Q over seeds, of each size of sketch."""
    return pd.DataFrame({"sketch": record.coords["sketch"], "largest error in Q": record["sketch_error"]})


def half(record: Result | None) -> str:
    """What features in float16 change in Q, as a sentence in Markdown."""
    if record is None or "half_error" not in record.values:
        return MISSING
    (case,) = (name for name in record.coords["ratio"] if "float16" in name)
    name, n = case.split(", ")[2:4]
    return f"The largest change of any Q in the curve of {proper(name)} ({n}) was {record['half_error']:.2g}."


def plot_growth(record: Result) -> Figure:
    """Time of whole curves over N on two logarithmic scales, and the bare products of the same features."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    n = np.array(record.coords["n"])
    for i, (name, marker) in enumerate(zip(record.coords["network"], "osD^v", strict=False)):
        seconds, product = (record.at(value, network=name) for value in ("seconds", "product"))
        axes.loglog(n, seconds, color=f"C{i}", marker=marker, label=f"{proper(name)}, whole curve")
        axes.loglog(n, product, color=f"C{i}", ls="--", label=f"{proper(name)}, bare products F Fᵀ")
    axes.set_xticks(n, [f"{each:,}" for each in n])
    axes.minorticks_off()
    axes.set(xlabel="number of samples N", ylabel="seconds")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
