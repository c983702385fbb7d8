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


def tables_of(tables: dict) -> list[alt.Parameter]:
    """Parameters without a control: numbers that expressions read."""
    return [alt.param(name=name, value=table) for name, table in tables.items()]


def told(say: str, mark: str, columns: dict[str, str], **more) -> dict:
    """What the page does beside the picture: a sentence, and the numbers of a mark as a table, by columns and their titles.

    ``most`` says of sliders up to where they lead now, by expressions.
    """
    table = {"mark": mark, "columns": columns}
    return {"say": say, "table": table, "embedOptions": {"renderer": "canvas"}} | more
