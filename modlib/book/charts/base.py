"""What the charts share: colours, controls, and numbers that expressions read."""

from collections.abc import Sequence

import altair as alt

OUR_COLOR, PAPER_COLOR = "#0072b2", "#d55e00"
INK = "#808080"  # readable on a white and on a dark page


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
