"""What the charts share: colours, controls, and numbers that expressions read."""

from collections.abc import Sequence

import altair as alt

OUR_COLOR = "#0072b2"
PAPER = {"color": "#808080", "strokeDash": [6, 4]}  # the paper's curves, as in the widgets
HERE = "#d55e00"  # what is chosen
INK = "#808080"  # readable on a white and on a dark page


def slider(title: str, low: int, high: int) -> alt.BindRange:
    """A slider over whole numbers."""
    return alt.binding_range(min=low, max=high, step=1, name=title)


def choice(name: str, title: str, options: Sequence, value=None, labels: Sequence[str] | None = None) -> alt.Parameter:
    """A menu, which shows its values wherever the chart is; the first option is chosen at first."""
    bind = alt.binding_select(options=list(options), labels=list(labels or map(str, options)), name=title)
    return alt.param(name=name, value=options[0] if value is None else value, bind=bind)


def finished(
    chart: alt.LayerChart,
    name: str,
    height: int,
    title: str,
    description: str,
    *controls: alt.Parameter,
    tables: dict,
    mark: str,
    columns: dict[str, str],
    now: dict[str, str] | None = None,
    **told,
) -> alt.LayerChart:
    """A chart as wide as its place, with its controls, and with what the page does beside the picture.

    ``title``, ``now`` and what the page is ``told``, ``say`` (the sentence below) and ``most`` (up to where sliders lead), are
    expressions, which read ``tables``; the numbers of a ``mark`` are a table on the page, by ``columns`` and their titles.
    """
    told |= {"table": {"mark": mark, "columns": columns}, "embedOptions": {"renderer": "canvas"}}
    head = alt.Title(alt.expr(title))
    read = [alt.param(name=key, value=table) for key, table in tables.items()]
    read += [alt.param(name=key, expr=expression) for key, expression in (now or {}).items()]
    chart = chart.properties(name=name, width="container", height=height, title=head, description=description, usermeta=told)
    return chart.add_params(*controls, *read)
