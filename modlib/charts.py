"""Charts of recorded results with controls that answer on a static page, without a kernel."""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from modlib import attack_records
from modlib.curves import Curve
from modlib.models import RESNET, VGG
from modlib.pruning import find_redundant
from modlib.report import proper
from modlib.results import Result, paper_values

OUR_COLOR, PAPER_COLOR = "#0072b2", "#d55e00"
INK = "#808080"  # readable on a white and on a dark page
TOLERANCES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)


def printed_curves() -> dict[str, np.ndarray]:
    """The curves of Fig. 4 by name, those of VGG19 first.

    >>> next(iter(printed_curves()))
    'VGG19 on CIFAR-10, paper'
    """
    fig4 = paper_values("fig4")
    datasets = ("cifar10", "cifar100", "imagenet50")
    order = [f"{model}/{dataset}" for model in (*reversed(VGG), *RESNET) for dataset in datasets]
    return {proper(name).replace("/", " on ") + ", paper": np.array(fig4[name]) for name in order}


def plateaus(curves: Mapping[str, np.ndarray], *, tol: float = 0.01) -> alt.LayerChart:
    """Which layers of a curve are on a plateau, by the rule of :func:`modlib.pruning.find_redundant`.

    Args:
        curves: name -> (L,) modularity; the first is shown first.
        tol: the tolerance first shown, one of :data:`TOLERANCES`.
    """
    names = list(curves)
    rows = []
    for name, curve in curves.items():
        q = np.asarray(curve, float)
        layers = tuple(range(len(q)))
        flat = [find_redundant(Curve(layers, q, q[:, None], 3, 0), each).remove for each in TOLERANCES]
        rows.append({"name": name, "q": q.round(4).tolist(), "flat": [[i in found for i in layers] for found in flat]})
    data = (
        alt.Chart(alt.Data(values=rows))
        .transform_filter("datum.name == curve")
        .transform_calculate(depth="sequence(1, length(datum.q) + 1)", level="datum.flat[tol]")
        .transform_flatten(["q", "level", "depth"])
        .transform_calculate(layer="datum.level ? 'plateau or fall' : 'rises'")
    )
    x = alt.X(
        "depth:Q",
        title="layer",
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(tickMinStep=1, grid=False),
    )
    y = alt.Y("q:Q", title="modularity Q")
    kinds = ["rises", "plateau or fall"]
    points = data.mark_point(size=70, filled=True, opacity=1).properties(name="layers").encode(
        x=x,
        y=y,
        color=alt.Color("layer:N", scale=alt.Scale(domain=kinds, range=[OUR_COLOR, PAPER_COLOR])),
        shape=alt.Shape(
            "layer:N",
            scale=alt.Scale(domain=kinds, range=["circle", "square"]),
            legend=alt.Legend(orient="bottom", title="layer"),
        ),
        tooltip=[
            alt.Tooltip("depth:Q", title="layer"),
            alt.Tooltip("q:Q", title="Q", format=".3f"),
            alt.Tooltip("layer:N", title="it"),
        ],
    )
    flat, count = "flats[indexof(names, curve)][tol]", "counts[indexof(names, curve)]"
    say = (
        f"curve + ', tolerance ' + tolerances[tol] + ': ' + {flat} + ' of the ' + {count} + "
        f"' layers after the first are on a plateau, ' + format({flat} / {count}, '.0%') + '.'"
    )
    tables = {
        "names": names,
        "tolerances": [f"{each:.3f}" for each in TOLERANCES],
        "flats": [[sum(each) for each in row["flat"]] for row in rows],
        "counts": [len(row["q"]) - 1 for row in rows],
    }
    return (
        (data.mark_line(color=INK, strokeWidth=1).encode(x=x, y=y) + points)
        .properties(
            name="plateaus",
            width="container",
            height=280,
            title=alt.Title(alt.expr("curve")),
            description="One modularity curve; layers that rise by no more than the tolerance above the highest layer "
            "kept before them are marked as squares. Controls choose the curve and the tolerance.",
            usermeta={
                "say": say,
                "labels": {"tol": tables["tolerances"]},
                "table": {"mark": "layers", "columns": {"depth": "layer", "q": "Q", "layer": "it"}},
                "embedOptions": {"renderer": "canvas"},
            },
        )
        .add_params(
            choice("curve", "curve ", names, names),
            slider("tol", "tolerance ", 0, len(TOLERANCES) - 1, TOLERANCES.index(tol)),
            *tables_of(tables),
        )
    )


def epochs(records: Sequence[Result]) -> alt.LayerChart:
    """The modularity curve after each epoch of recorded training runs, and the test accuracy beside it.

    Args:
        records: of training (:func:`modlib.training.train`); the first is shown first.

    Raises:
        ValueError: without a record.
    """
    if not records:
        raise ValueError("records must hold at least one training run; got none")
    runs = [f"{proper(r.settings['model'])}, {r.settings['recipe']}, {len(r.coords['epoch'])} epochs" for r in records]
    rows = []
    for run, record in zip(runs, records, strict=True):
        epoch, depth = np.meshgrid(record.coords["epoch"], range(1, len(record.coords["layer"]) + 1), indexing="ij")
        rows.append({
            "run": run,
            "after": epoch.ravel().tolist(),
            "depth": depth.ravel().tolist(),
            "q": record["q"].round(4).ravel().tolist(),
            "epochs": record.coords["epoch"],
            "reached": (record["test_accuracy"] / 100).round(4).tolist(),
            "right": depth.shape[1] + 1,  # where the accuracy is drawn
        })  # fmt: skip
    chosen = (
        alt.Chart(alt.Data(values=rows))
        .transform_filter("datum.run == run")
        .transform_calculate(now="min(epoch, length(datum.epochs))")
    )
    curves = chosen.transform_flatten(["after", "depth", "q"])
    reached = chosen.transform_flatten(["epochs", "reached"], ["after", "share"])
    here = "datum.after == datum.now"
    x = alt.X(
        "depth:Q",
        title="layer",
        scale=alt.Scale(nice=False, zero=False, padding=14),
        axis=alt.Axis(
            grid=False,
            tickMinStep=1,
            labelExpr="datum.value > counts[indexof(runs, run)] ? 'accuracy' : datum.value",
        ),
    )
    y = alt.Y(
        "q:Q",
        title="modularity Q, and accuracy",
        scale=alt.Scale(domain=[min(0, *(min(row["q"]) for row in rows)), 1], nice=False),
    )
    right, share = alt.X("right:Q", title="layer"), alt.Y("share:Q", title="modularity Q, and accuracy")
    color = alt.Color(
        "what:N",
        scale=alt.Scale(domain=["Q of the layer", "test accuracy"], range=[OUR_COLOR, PAPER_COLOR]),
        legend=alt.Legend(orient="bottom", title=None, symbolType="circle"),
    )
    now = curves.transform_filter(here).transform_calculate(what="'Q of the layer'")
    points = now.mark_circle(size=60, opacity=1).properties(name="layers").encode(
        x=x,
        y=y,
        color=color,
        tooltip=[alt.Tooltip("depth:Q", title="layer"), alt.Tooltip("q:Q", title="Q", format=".3f")],
    )
    diamond = reached.transform_filter(here).transform_calculate(what="'test accuracy'")
    diamond = diamond.mark_point(shape="diamond", filled=True, size=150, opacity=1).encode(
        x=right, y=share, color=color, tooltip=alt.Tooltip("share:Q", title="test accuracy", format=".1%")
    )
    layers = (
        curves.mark_circle(size=16, opacity=0.25, color=INK).encode(x=x, y=y)
        + reached.mark_circle(size=16, opacity=0.25, color=INK).encode(x=right, y=share)
        + now.mark_line(color=OUR_COLOR, strokeWidth=2).encode(x=x, y=y)
        + points
        + diamond
    )
    here = "indexof(runs, run)"
    at = f"min(epoch, lasts[{here}])"
    say = (
        f"'After epoch ' + {at} + ' of ' + lasts[{here}]"
        f" + (epoch > lasts[{here}] ? ' (where this training ended)' : '')"
        f" + ': Q goes from ' + format(first[{here}][{at} - 1], '.3f') + ' in the first layer to '"
        f" + format(deep[{here}][{at} - 1], '.3f') + ' in the last; test accuracy '"
        f" + format(accuracy[{here}][{at} - 1], '.1%') + '.'"
    )
    tables = {
        "runs": runs,
        "lasts": [len(row["epochs"]) for row in rows],
        "counts": [row["right"] - 1 for row in rows],
        "first": [r["q"][:, 0].round(4).tolist() for r in records],
        "deep": [r["q"][:, -1].round(4).tolist() for r in records],
        "accuracy": [row["reached"] for row in rows],
    }
    table = {"mark": "layers", "columns": {"depth": "layer", "q": "Q"}}
    return layers.properties(
        name="epochs",
        width="container",
        height=320,
        title=alt.Title(alt.expr(f"run + ': after epoch ' + {at}")),
        description="Modularity over the layers of a network after one epoch of its training, and test accuracy as a "
        "diamond at the right, on the same scale; all other epochs as faint dots. Controls choose the training run and "
        "the epoch.",
        usermeta={"say": say, "table": table, "embedOptions": {"renderer": "canvas"}},
    ).add_params(
        choice("run", "network ", runs, runs),
        slider("epoch", "epoch ", 1, max(tables["lasts"]), 1),
        *tables_of(tables),
    )


def strengths(attacks: Mapping[str, Mapping[float, Result]]) -> alt.LayerChart:
    """The modularity curve of attacked images for each strength of an attack, and of the same images before.

    Args:
        attacks: name -> strength eps, pixels in [0, 1] -> record of an attack; the first is shown first.

    Raises:
        ValueError: if no two strengths are recorded.
    """
    eps = sorted({each for records in attacks.values() for each in records})
    if len(eps) < 2:
        raise ValueError(f"attacks must hold records of two strengths or more; got {len(eps)}")
    names, rows, told, depths = list(attacks), [], [], []
    for name, records in attacks.items():
        told.append([None] * len(eps))
        for strength, record in records.items():
            attacked, clean = (q.round(4).tolist() for q in attack_records.curves(record))
            at, depth = eps.index(strength), list(range(1, len(clean) + 1))
            rows.append({"attack": name, "at": at, "depth": depth, "attacked": attacked, "clean": clean})
            share = {"success": round(float(record["success"]), 4), "n": record.coords["n"][-1]}
            told[-1][at] = share | {"attacked": attacked[-1], "clean": clean[-1]}
        depths.append(len(clean))
    chosen = (
        alt.Chart(alt.Data(values=rows))
        .transform_filter("datum.attack == attack")
        .transform_flatten(["depth", "attacked", "clean"])
    )
    last = alt.ExprRef("depths[indexof(names, attack)]")  # given, because a strength that is not measured has no data
    x = alt.X(
        "depth:Q",
        title="layer",
        scale=alt.Scale(domain=[1, last], zero=False, nice=False, padding=12),
        axis=alt.Axis(tickMinStep=1, grid=False),
    )
    lowest = min(0, *(min(row["attacked"] + row["clean"]) for row in rows))
    scale = alt.Scale(domain=[lowest, 1], nice=False)
    y = alt.Y("q:Q", title="modularity Q", scale=scale)
    kinds = ["attacked", "before"]
    color = alt.Color("images:N", scale=alt.Scale(domain=kinds, range=[PAPER_COLOR, OUR_COLOR]))
    shape = alt.Shape(
        "images:N",
        scale=alt.Scale(domain=kinds, range=["square", "circle"]),
        legend=alt.Legend(orient="bottom", title=None),
    )
    now = (
        chosen.transform_filter("datum.at == strength")
        .transform_fold(["attacked", "clean"], as_=["kind", "q"])
        .transform_calculate(images="datum.kind == 'clean' ? 'before' : 'attacked'")
    )
    points = now.mark_point(size=60, filled=True, opacity=1).properties(name="layers").encode(
        x=x,
        y=y,
        color=color,
        shape=shape,
        tooltip=[
            alt.Tooltip("images:N", title="images"),
            alt.Tooltip("depth:Q", title="layer"),
            alt.Tooltip("q:Q", title="Q", format=".3f"),
        ],
    )
    others = chosen.mark_circle(size=16, opacity=0.25, color=INK).encode(
        x=x, y=alt.Y("attacked:Q", title="modularity Q", scale=scale)
    )
    shown = "told[indexof(names, attack)][strength]"
    say = (
        f"attack + ', eps ' + eps[strength] + (isValid({shown}) ? ': ' + format({shown}.success, '.0%')"
        " + ' of the correctly classified images change class. Q of the last layer is '"
        f" + format({shown}.attacked, '.3f') + ' for ' + {shown}.n + ' of these, and was '"
        f" + format({shown}.clean, '.3f') + ' before.' : ': not measured.')"
    )
    labels = [f"{255 * each:g}/255" for each in eps]
    return (
        (others + now.mark_line(strokeWidth=2).encode(x=x, y=y, color=color) + points)
        .properties(
            name="strengths",
            width="container",
            height=300,
            title=alt.Title(alt.expr("attack + ', eps ' + eps[strength]")),
            description="Modularity over the layers of a network for attacked images and for the same images before "
            "the attack; the attacked ones of all other strengths as faint dots. Controls choose attack and strength.",
            usermeta={
                "say": say,
                "labels": {"strength": labels},
                "table": {"mark": "layers", "columns": {"images": "images", "depth": "layer", "q": "Q"}},
                "embedOptions": {"renderer": "canvas"},
            },
        )
        .add_params(
            choice("attack", "attack ", names, names),
            slider("strength", "strength ", 0, len(eps) - 1, 0),
            *tables_of({"names": names, "eps": labels, "told": told, "depths": depths}),
        )
    )


def slider(name: str, title: str, low: int, high: int, value: int) -> alt.Parameter:
    """A slider over whole numbers."""
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=1, name=title))


def choice(name: str, title: str, options: Sequence[str], labels: Sequence[str]) -> alt.Parameter:
    """A menu; the first option is chosen at first."""
    bind = alt.binding_select(options=list(options), labels=list(labels), name=title)
    return alt.param(name=name, value=options[0], bind=bind)


def tables_of(tables: dict) -> list[alt.Parameter]:
    """Parameters without a control: numbers that expressions read."""
    return [alt.param(name=name, value=table) for name, table in tables.items()]
