"""Import paths that the book once documented: they go on working, with a DeprecationWarning that names the new place."""

import sys
import warnings
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader
from pkgutil import resolve_name

MODULES = {  # moved as a whole: old -> new
    "modlib.charts": "modlib.book.charts.base",
    "modlib.downloads": "modlib.data.downloads",
    "modlib.experiments": "modlib.campaign.reproduce",
    "modlib.explorer": "modlib.book.widgets.explorer",
    "modlib.figures": "modlib.campaign.figures",
    "modlib.graph_explorer": "modlib.book.widgets.graph",
    "modlib.graph_lab": "modlib.book.widgets.lab",
    "modlib.pruning_explorer": "modlib.book.widgets.pruning",
    "modlib.search": "modlib.graph.neighbours",
}
NAMES = {  # moved one by one: old -> new
    "modlib.campaign.Unit": "modlib.campaign.networks:Unit",
    "modlib.claims.claims": "modlib.book.claims:claims",
    "modlib.claims.plateau_share": "modlib.book.statistics:plateau_share",
    "modlib.report.MISSING": "modlib.book.words:MISSING",
    "modlib.report.proper": "modlib.book.words:proper",
    "modlib.reproduction.DATASETS": "modlib.paper:DATASETS",
    "modlib.reproduction.beside_paper": "modlib.book.tables:beside_paper",
    "modlib.reproduction.best_record": "modlib.results:Records.best",
    "modlib.reproduction.recorded_curve": "modlib.results:Result.curve",
    "modlib.results.paper_values": "modlib.paper:paper_values",
    "modlib.scale.measure": "modlib.campaign.reproduce:measure",
    "modlib.structure.blocks": "modlib.significance:blocks",
    "modlib.structure.mantel": "modlib.significance:mantel",
    "modlib.structure.stages": "modlib.models:stages",
}
FOLDERS = {"modlib.claims.claims", "modlib.reproduction.beside_paper", "modlib.reproduction.best_record"}  # now take Records
GONE = {*MODULES, "modlib.claims", "modlib.report", "modlib.reproduction", "modlib.structure"}


def forward(module: str) -> Callable:
    """The ``__getattr__`` of a module for names that are now elsewhere."""

    def __getattr__(name: str):
        old = f"{module}.{name}"
        new = NAMES.get(old) or (module in MODULES and not name.startswith("_") and f"{MODULES[module]}:{name}")
        if not new:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = resolve_name(new)
        warnings.warn(f"{old} is now {new.replace(':', '.')}", DeprecationWarning, stacklevel=2)
        return _of_folder(found) if old in FOLDERS else found

    return __getattr__


def _of_folder(function: Callable) -> Callable:
    """The function as it was called before: with a folder of records, or none."""
    results = resolve_name("modlib.results")

    def call(*arguments, folder=None, **settings):
        return function(results.Records.read(folder or results.FOLDER), *arguments, **settings)

    return call


class _OldPaths(MetaPathFinder, Loader):
    def find_spec(self, name, path=None, target=None):
        return spec_from_loader(name, self) if name in GONE else None

    def exec_module(self, module):
        module.__getattr__ = forward(module.__name__)


def install() -> None:
    """Let Python find the modules that are gone; asked last, so that a module that exists is never hidden."""
    if not any(isinstance(finder, _OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(_OldPaths())
