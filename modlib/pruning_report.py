"""Recorded networks without some of their layers, in words and tables for a page."""

from collections.abc import Iterable, Mapping

import pandas as pd

from modlib.pruning_records import CRITERIA, STARTS, chance, equally_long, variants
from modlib.report import MISSING, proper
from modlib.results import FOLDER, find_results


def points(difference: float, more: str, less: str) -> str:
    """A difference of accuracies in words, by its sign.

    >>> points(-0.5, "behind", "ahead of") + " the whole one"
    '0.50 points ahead of the whole one'
    """
    return f"{abs(difference):.2f} points {more if difference > 0 else less}"


def without(removed: Iterable[str]) -> str:
    """Names of removed layers; those of a VGG by their numbers alone.

    >>> without(("features.22", "features.25")), without(())
    ('22, 25', 'none')
    """
    return ", ".join(removed).replace("features.", "") or "none"


def chosen(row: Mapping) -> str:
    """How many layers a row of :func:`modlib.pruning_records.variants` is without, and how they were chosen.

    >>> chosen({"count": 1, "criterion": "last"})
    '1 layer: the last'
    """
    return f"{row['count']} layer{'s' * (row['count'] != 1)}: {CRITERIA[row['criterion']]}"


def named(row: Mapping, *, seed: bool = False) -> str:
    """A row of :func:`modlib.pruning_records.variants` in words, with its seed if asked for.

    >>> row = {"model": "vgg11", "dataset": "cifar10", "count": 2, "criterion": "last", "seed": 1}
    >>> named(row), named(row, seed=True)
    ('VGG11 on CIFAR-10, 2 layers: the last', 'VGG11 on CIFAR-10, 2 layers: the last, seed 1')
    """
    return f"{proper(row['model'])} on {proper(row['dataset'])}, {chosen(row)}" + f", seed {row['seed']}" * seed


def shown(rows: pd.DataFrame, columns: Mapping[str, tuple[str, str]], index: Iterable[str] | None = None) -> pd.DataFrame:
    """Rows of variants as a table of text, empty where a number is missing.

    Args:
        columns: title -> name of the column and format of its values.
        index: names of the rows; by default what :func:`named` calls them.
    """
    cells = {
        title: ["" if pd.isna(each) else form.format(each) for each in rows[name]]
        for title, (name, form) in columns.items()
    }
    if index is None:
        index = [named(row, seed=rows["seed"].nunique() > 1) for _, row in rows.iterrows()]
    return pd.DataFrame(cells, index=list(index))


def pruned(model: str, dataset: str, folder=FOLDER) -> pd.DataFrame:
    """Recorded prunings of a network, in the order of :func:`variants`: accuracies in percent, shares of the cost saved."""
    rows = variants(folder, model=model, dataset=dataset)
    columns = {
        "before (%)": ("whole", "{:.2f}"), "after (%)": ("pruned", "{:.2f}"), "epochs": ("tune_epochs", "{}"),
        "parameters saved": ("params", "{:.1f}%"), "MACs saved": ("macs", "{:.1f}%"),
    }  # fmt: skip
    names = [f"{chosen(row)}, {STARTS[row['start']]}" + f", seed {row['seed']}" * bool(row["seed"]) for _, row in rows.iterrows()]
    return shown(rows, columns, names)


def best(table: pd.DataFrame, model: str, count: int, *criteria: str) -> str:
    """Which way to remove so many layers of a network cost least on CIFAR-10, and whether that may be chance.

    Args:
        table: of :func:`variants` with ``longest=False``; of its networks those count that were trained on from inherited
            weights, for the longest time that all of the criteria have had.
    """
    mine = (table["model"] == model) & (table["dataset"] == "cifar10") & (table["count"] == count)
    ours = equally_long(table[mine & (table["start"] == "inherited")], *criteria)
    lost = ours.groupby("criterion")["lost"].mean()
    if lost.empty:
        return f"The controls of {proper(model)} are {MISSING} yet, or not all of them."
    first, second = lost.sort_values().index[:2]
    margin, width = lost[second] - lost[first], chance(ours["pruned"].mean())
    seeds = ours["seed"].nunique()
    return (
        f"Of the {len(lost)} ways to remove {count} layers, after {ours['tune_epochs'].iloc[0]} epochs, *{CRITERIA[first]}* lost "
        f"least: it ends {points(lost[first], 'below', 'above')} the network as it was, {margin:.2f} points better than the next. "
        f"That is {'less' if margin < width else 'more'} than the {width:.1f} points by which chance may part two networks of "
        f"equal worth on 10,000 images, {f'with {seeds} seeds' if seeds > 1 else 'and there is one seed of each'}."
    )


def arithmetic(model: str, epochs: int, layer: str | None = None, folder=FOLDER) -> str:
    """In which arithmetic the networks without some layers were trained on for so long on CIFAR-10; "" if all in the same.

    Args:
        layer: say so, too, if no arithmetic has networks with this layer and without it.
    """
    of = {}
    for r in find_results("pruning", folder, model=model, dataset="cifar10", start="inherited", tune_epochs=epochs):
        if "measured_as" not in r.evidence:
            of.setdefault(r.evidence.get("precision", "not recorded"), set()).add(tuple(r.coords["removed"]))
    if len(of) < 2:
        return ""
    listed = "; ".join(f"{name} for {' | '.join(sorted(map(without, removed)))}" for name, removed in sorted(of.items()))
    both = any({layer in each for each in removed if each} == {True, False} for removed in of.values())
    return f"Arithmetic of training on, by the layers removed: {listed}." + (
        f" None of them has networks with {layer} and without, so the two go together here." if layer and not both else ""
    )
