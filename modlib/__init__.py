"""modlib: the modularity of a network's layers.

    >>> import modlib
    >>> images = modlib.load_images("cifar10", n=200)
    >>> model = modlib.load_model("resnet20")
    >>> curve = modlib.modularity_curve(model, images.x, images.y, k=3)

Images go through a trained network; at every layer the features become a k-NN graph; the modularity of that graph
under the true labels says how far the classes have separated (Lu et al., ECCV 2022).
"""

from pkgutil import resolve_name

from modlib import _moved
from modlib.attacks import attack
from modlib.curves import Curve, CurveDraws, modularity_curve, repeat_curves
from modlib.data import Images, load_images
from modlib.features import iter_features
from modlib.graph import DynamicGraph, KnnGraph, dynamic_graph, knn_graph
from modlib.models import build_model, layer_names
from modlib.modularity import modularity
from modlib.zoo import load_model

_moved.install()

__version__ = "0.1.0"
__all__ = [
    "Curve",
    "CurveDraws",
    "DynamicGraph",
    "Images",
    "KnnGraph",
    "attack",
    "build_model",
    "dynamic_graph",
    "explore",
    "find_results",
    "iter_features",
    "knn_graph",
    "layer_names",
    "load_images",
    "load_model",
    "modularity",
    "modularity_curve",
    "repeat_curves",
    "results_table",
]

_LATER = {  # what takes long to import and not everybody needs: widgets, and tables (pandas)
    "explore": "modlib.book.widgets.explorer:explore",
    "find_results": "modlib.results:find_results",
    "results": "modlib.results",
    "results_table": "modlib.results:results_table",
}


def __getattr__(name: str):
    if name in _LATER:
        return resolve_name(_LATER[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
