"""What the interactive figures are built on: one widget class, whose scripts lie beside this file, and its still picture."""

import base64
import io
import re
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modlib.plots import by_layer

FOLDER = Path(__file__).parent
STEP = 1e-4  # modularities travel as multiples of this, finer than any line


def script(path: str | Path) -> str:
    """The JavaScript beside a Python file behind what it imports, as one text: a page without a server cannot import files."""
    text = Path(path).with_suffix(".js").read_text(encoding="utf-8")
    imports = r'^import \{[^}]*\} from "\./(\w+)\.js";\n'
    shared = [(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in re.findall(imports, text, re.MULTILINE)]
    return "".join(shared) + re.sub(imports, "", text, flags=re.MULTILINE)


def pack(numbers: np.ndarray, kind: str = "<i2", step: float = STEP) -> str:
    """Numbers as multiples of ``step``, one or two bytes each (low byte first), in base64.

    >>> unpack(pack(np.array([0.5, -0.25]))).tolist()
    [0.5, -0.25]
    """
    return base64.b64encode(np.rint(np.asarray(numbers) / step).astype(kind).tobytes()).decode()


def unpack(text: str, kind: str = "<i2", step: float = STEP) -> np.ndarray:
    """The numbers that :func:`pack` has packed, in one row."""
    return np.frombuffer(base64.b64decode(text), kind) * step


def still(title: str, size: tuple[float, float] = (6.4, 3.6), *, q=None) -> tuple[Figure, Axes]:
    """A figure for where no script runs, and its axes: over layers for modularities ``q``, without any axis otherwise."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    ax = figure.subplots()
    ax.set_axis_off() if q is None else by_layer(ax).set_ylim(min(0, *q), 1)
    ax.set_title(title, fontsize=9, parse_math=False)  # a name that holds a $ is no formula
    return figure, ax


class Widget(anywidget.AnyWidget):
    """An interactive figure that works without a kernel.

    Attributes:
        name: of the figure; its settings carry it in the address of a page.
        data: what it shows, fixed.
        setting: where its controls stand; strings, numbers and truth values.
    """

    _ipython_display_ = None  # that of ipywidgets 7, which Colab has, would show neither the words nor the still
    _css = (FOLDER / "kit.css").read_text(encoding="utf-8")
    name = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    setting = traitlets.Dict().tag(sync=True)

    def __init__(self, name: str, file: str, data: dict, setting: dict, words: str, still: Figure):
        """``words`` describe the figure and ``still`` shows it, where no script runs; beside ``file`` lies its JavaScript."""
        self._words, self._still = words, still
        super().__init__(name=name, data=data, setting=setting, _esm=script(file))

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        forms = bundle[0] if isinstance(bundle, tuple) else bundle
        picture = io.BytesIO()
        FigureCanvasAgg(self._still).print_png(picture)
        forms |= {"text/plain": self._words, "image/png": base64.b64encode(picture.getvalue()).decode()}
        return bundle
