"""What the interactive figures are built on: one widget class, whose scripts lie beside this file."""

import base64
import io
import re
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
STEP = 1e-4  # modularities travel as multiples of this, finer than any line


def script(path: str | Path) -> str:
    """The JavaScript beside a Python file behind the shared one, as one text: a page without a server cannot import files."""
    path = Path(path).with_suffix(".js")
    own, imports = re.subn(r'^import \{[^}]*\} from "\./kit\.js";\n', "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if imports != 1:
        raise ValueError(f"{path.name} must import from ./kit.js once; it does {imports} times")
    return (FOLDER / "kit.js").read_text(encoding="utf-8") + own


def pack(numbers: np.ndarray, kind: str = "<i2", step: float = STEP) -> str:
    """Numbers as multiples of ``step``, one or two bytes each (low byte first), in base64.

    >>> unpack(pack(np.array([0.5, -0.25]))).tolist()
    [0.5, -0.25]
    """
    return base64.b64encode(np.rint(np.asarray(numbers) / step).astype(kind).tobytes()).decode()


def unpack(text: str, kind: str = "<i2", step: float = STEP) -> np.ndarray:
    """The numbers that :func:`pack` has packed, in one row."""
    return np.frombuffer(base64.b64decode(text), kind) * step


class Widget(anywidget.AnyWidget):
    """An interactive figure that works without a kernel.

    Attributes:
        name: of the figure; its settings carry it in the address of a page.
        data: what it shows, fixed.
        setting: where its controls stand; strings, numbers and truth values.
    """

    _css = (FOLDER / "kit.css").read_text(encoding="utf-8")
    name = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    setting = traitlets.Dict().tag(sync=True)

    def __init__(self, name: str, file: str, data: dict, setting: dict, words: str, still: Figure, **more):
        """``file`` is the Python file whose JavaScript lies beside it; ``words`` describe the figure, and ``still`` shows it, where
        no script runs."""
        self._words, self._still = words, still
        super().__init__(
            name=name,
            data=data,
            setting=setting,
            _esm=script(file),
            **more,
        )

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        forms = bundle[0] if isinstance(bundle, tuple) else bundle
        forms["text/plain"] = self._words
        forms["image/png"] = base64.b64encode(_png(self._still)).decode()
        return bundle


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
