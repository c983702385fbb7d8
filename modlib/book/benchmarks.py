"""The recorded benchmark (benchmarks/run.py) as tables and one plot."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from modlib.book.words import proper
from modlib.results import Result


def ratios(record: Result) -> pd.DataFrame:
    """Every ratio with its two times, in seconds."""
    first, second = record["first"], record["second"]
    columns = {"what / beside what": [proper(name) for name in record.coords["ratio"]]}
    columns |= {"ratio": [f"{ratio:.3f}" for ratio in first / second], "first (s)": first.round(3), "second (s)": second.round(3)}
    return pd.DataFrame(columns)


def growth(record: Result) -> pd.DataFrame:
    """Whole curves of the largest N: seconds and peak memory in GiB of each network."""
    n = record.coords["n"][-1]
    columns = {"seconds": record.at("seconds", n=n).round(1), "peak memory (GiB)": (record.at("peak", n=n) / 2**30).round(2)}
    return pd.DataFrame(columns, index=[f"{proper(name)}, N = {n:,}" for name in record.coords["network"]])


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
