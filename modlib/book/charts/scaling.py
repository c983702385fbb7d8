"""Fig. 7 in one picture: Q over the depth to which neighbours reach, on a static page, without a kernel."""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from modlib.book.charts.base import choice, finished, slider


def scaling(networks: Mapping[str, Mapping[tuple[int, int], Sequence[float]]]) -> alt.LayerChart:
    """Q of one layer at many settings, a line for each N, against (k + 1) / 2N or against k alone.

    Of N - 1 others ranked by similarity, the j-th nearest has on average the share j / N before it; so (k + 1) / 2N is
    the mean share over the k neighbours of a node: how deep they reach into the pool.

    Args:
        networks: name -> (N, k) -> (L,) modularity; the first is shown first.

    Raises:
        ValueError: without a network, and for one of fewer than six settings, which make no line.
    """
    few = [name for name, settings in networks.items() if len(settings) < 6]
    if few or not networks:
        raise ValueError(f"networks must hold at least one, each of six settings or more; got {few or 'none'}")
    axes, rows, layers, scatter = ["(k + 1) / 2N", "k"], [], [], []
    for name, settings in networks.items():
        (n, k), q = np.array([*settings]).T, np.array([*settings.values()], float)
        rows.append({"name": name, "n": n.tolist(), "k": k.tolist(), "q": q.T.round(4).tolist()})
        layers.append(q.shape[1])
        scatter.append([_around_a_line(np.log((k + 1) / n), q), _around_a_line(np.log(k), q)])
    here = "indexof(names, network)"
    at = f"min(layer, layers[{here}])"
    data = alt.Chart(alt.Data(values=rows)).transform_filter("datum.name == network").transform_calculate(Q=f"datum.q[{at} - 1]")
    data = data.transform_flatten(["n", "k", "Q"]).transform_calculate(reach="(datum.k + 1) / (2 * datum.n)")
    data = data.transform_calculate(x="axis == 'k' ? datum.k : datum.reach")
    hues = alt.Scale(scheme=alt.SchemeParams(name="viridis", extent=[0.2, 0.9]))  # seen on white and on black
    color = alt.Color("n:O", scale=hues, legend=alt.Legend(orient="bottom", title="N"))
    x = alt.X("x:Q", title=None, axis=alt.Axis(tickCount=5, grid=False), scale=alt.Scale(type="log", nice=False, padding=12))
    y = alt.Y("Q:Q", title="modularity Q", scale=alt.Scale(zero=False))
    words = ["n:Q", "k:Q", alt.Tooltip("reach:Q", title=axes[0], format=".4f"), alt.Tooltip("Q:Q", format=".3f")]
    points = data.mark_circle(size=50, opacity=1).properties(name="settings").encode(x=x, y=y, color=color, tooltip=words)
    this, other = "indexof(axes, axis)", "1 - indexof(axes, axis)"
    say = (
        f"network + ', layer ' + {at} + ' of ' + layers[{here}] + ': around one smooth line over ' + axis"
        f" + ', Q has a standard deviation of ' + format(scatter[{here}][{this}][{at} - 1], '.3f')"
        f" + '; over ' + axes[{other}] + ' it would be ' + format(scatter[{here}][{other}][{at} - 1], '.3f') + '.'"
    )
    return finished(
        data.mark_line(strokeWidth=1.5).encode(x=x, y=y, color=color) + points, "scaling", 320,
        f"network + ', layer ' + {at} + ' of ' + layers[{here}] + ': Q against ' + axis",
        "Modularity of one layer for many numbers of samples N and of neighbours k, one line for each N, against (k + 1) / 2N or "
        "against k, on a logarithmic axis. Controls choose network, layer and axis.",
        choice("network", "network ", list(networks)),
        alt.param(name="layer", value=(layers[0] + 1) // 2, bind=slider("layer ", 1, max(layers))),
        choice("axis", "against ", axes),
        tables={"names": list(networks), "axes": axes, "layers": layers, "scatter": scatter},
        say=say, mark="settings", columns={"n": "N", "k": "k", "Q": "Q"}, most={"layer": f"layers[{here}]"},
    )  # fmt: skip


def _around_a_line(x, q) -> list[float]:
    """(L,) standard deviation of (settings, L) values around the best polynomial of degree 4 over x."""
    fit = np.vander(x - x.mean(), 5)
    left = q - fit @ np.linalg.lstsq(fit, q)[0]
    return np.sqrt((left**2).sum(0) / (len(x) - 5)).round(4).tolist()
