"""Recorded measurements: written by the program that measured, with their evidence; read as tidy tables."""

import json
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from modlib._checks import as_array, as_path, checked, listed, one_of, shown, unknown
from modlib._moved import forward
from modlib._tensors import device_name, usable
from modlib.curves import CurveDraws
from modlib.data import ASSETS, write_atomically
from modlib.data.files import as_json, check_json, labelled_arrays
from modlib.paper import K, paper_n

FOLDER = ASSETS / "results"
FORMAT = 1
EVIDENCE = ("date", "command", "device", "python", "torch", "modlib")  # what every record must say of its making
__getattr__ = forward(__name__)  # what older versions had here


@checked
@dataclass(frozen=True)
class Result:
    """One recorded measurement.

    Attributes:
        experiment: what was measured, such as ``"curve"`` or ``"training"``.
        settings: what identifies it: model, dataset, recipe, N, k, seed.
        coords: labels along each dimension, such as ``{"layer": ["conv1", ...]}``.
        values: name -> ``{"dims": [...], "data": nested list}``; scalars have no dims.
        evidence: date, command, device and versions, and whatever else supports it (accuracy).
    """

    experiment: str
    settings: dict
    coords: dict[str, list]
    values: dict[str, dict]
    evidence: dict
    format: int = FORMAT

    def __post_init__(self):
        labelled_arrays(self.coords, self.values)
        check_json("settings", self.settings), check_json("evidence", self.evidence)

    @checked
    def __getitem__(self, name: str) -> np.ndarray:
        """The array of a value.

        Raises:
            KeyError: if it was not measured.
        """
        if name not in self.values:
            raise KeyError(f"{name!r} was not measured; this {self.experiment} has {', '.join(self.values)}")
        return np.array(self.values[name]["data"])

    def at(self, name: str, **labels) -> np.ndarray:
        """A part of a value: ``result.at("q", n=500, k=3)`` drops those two dimensions, a list of labels keeps one.

        Raises:
            KeyError: if the value was not measured.
            ValueError: for a dimension that it does not have, or a label that was not measured.

        >>> q = find_results("training", model="resnet20")[0].at("q", layer="conv1", epoch=[1, 20])
        >>> q.shape
        (2,)
        """
        array, dims = self[name], self.values[name]["dims"]
        if others := [dim for dim in labels if dim not in dims]:
            raise unknown(f"dimension of {name!r}", others[0], dims)
        for axis, dim in reversed([(axis, dim) for axis, dim in enumerate(dims) if dim in labels]):
            wanted, known = as_json(labels[dim]), self.coords[dim]
            many = isinstance(wanted, (list, tuple))
            for label in wanted if many else [wanted]:
                if label not in known:
                    raise ValueError(f"{dim}={label!r} was not measured in this {self.experiment}; it has {known}")
            array = array.take([known.index(label) for label in wanted] if many else known.index(wanted), axis)
        return array

    @checked
    def curve(self, n: int | None = None, k: int = K, at: str = "conv") -> CurveDraws:
        """The draws of one curve of a record of curves.

        Args:
            n: number of samples; by default the paper's.
            k: neighbours of each node.
            at: which layers, ``"conv"`` or ``"relu"``, as in :func:`modlib.layer_names`.

        >>> [record] = find_results("curves", model="resnet20", weights="trained")
        >>> record.curve().q.shape
        (5, 10)
        """
        one_of("reading of a layer (at)", at, ("conv", "relu"))
        n, layers = n if n is not None else paper_n(self.settings["dataset"]), self.coords[at]
        return CurveDraws(tuple(layers), self.at("q", n=n, k=k, layer=layers), k, n)

    @checked
    def table(self, name: str) -> pd.DataFrame:
        """A tidy table of one value: a column for each setting and dimension, a row for each number."""
        numbers = self[name].ravel()
        index = pd.MultiIndex.from_product(
            [self.coords[dim] for dim in self.values[name]["dims"]] or [[0]], names=self.values[name]["dims"] or [None]
        )
        frame = pd.DataFrame({name: numbers}, index).reset_index(drop=not self.values[name]["dims"])
        settings = {key: str(v) if isinstance(v, list) else v for key, v in self.settings.items() if key not in frame}
        return frame.assign(**settings)


@checked
def measurement(experiment: str, settings: dict, coords: dict, values: dict, device="cpu", **evidence) -> Result:
    """A Result of numbers just measured, with the evidence that the running program can give of itself.

    Args:
        values: name -> (dims, array): the names of the array's dimensions, each a key of ``coords``.
        device: where it was computed.
        **evidence: further support, such as ``accuracy``.

    Raises:
        ValueError: if an array does not have the shape that its dims give, or a number is not finite.

    >>> measurement("curve", {"k": 3}, {"layer": ["a", "b"]}, {"q": (["layer"], [0.1, 0.4])}).table("q")["q"].tolist()
    [0.1, 0.4]
    """
    coords = as_json({name: listed(f"coords[{name!r}]", labels, "labels", object) for name, labels in coords.items()})
    stored = {}
    for name, pair in values.items():
        dims, data = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else (None, None)
        found = as_array(data)
        data = (found.astype(float).round(6) if found.dtype.kind == "f" else found).tolist()
        stored[name] = {"dims": listed(f"the first of values[{name!r}]", dims, "dimensions"), "data": data}
    now, where = datetime.now(UTC).isoformat(timespec="seconds"), device_name(usable(device))
    made = {"date": now, "command": _command(), "device": where, "threads": torch.get_num_threads()}
    made |= {"python": platform.python_version(), "torch": torch.__version__, "modlib": _version()}
    return Result(experiment, as_json(settings), coords, stored, as_json({**made, **evidence}))


@checked
def write_result(result: Result, path: str | Path) -> Path:
    """Write a result as JSON, one coordinate or value a line, all or nothing."""
    fields = [f"{json.dumps(name)}: {_lines(content)}" for name, content in asdict(result).items()]
    (path := Path(path)).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ("{\n" + ",\n".join(fields) + "\n}\n").encode())
    return path


def read_result(path: str | Path) -> Result:
    """Read a result.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not a whole result of this format; the sentence says what is wrong.
    """
    path = as_path("path", path)
    wrong = f"{path} is not a recorded result"
    if path.exists() and not path.is_file():
        raise ValueError(f"{wrong}: it is no file")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # no text, brackets without end, a number of thousands of digits
        where = f"at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else f"({error})"
        raise ValueError(f"{wrong}: no JSON {where}") from None
    content = content if isinstance(content, dict) else {}
    missing = [field for field in Result.__dataclass_fields__ if field not in content]
    if not missing:
        evidence = content["evidence"]
        missing = [f"evidence.{key}" for key in EVIDENCE if not isinstance(evidence, dict) or type(evidence.get(key)) is not str]
    if missing:
        raise ValueError(f"{wrong}: it lacks {', '.join(missing)}. Measure it again")
    if type(content["format"]) is not int or content["format"] != FORMAT:
        raise ValueError(f"{path} has format {content['format']}; this modlib reads {FORMAT}. Measure again or change modlib")
    try:
        return Result(**{field: content[field] for field in Result.__dataclass_fields__})
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}. Measure it again") from None


class Records:
    """Recorded results, read once and passed on: every table, claim and chart takes one of these.

    Args:
        results: in the order in which :meth:`find` gives them.

    >>> records = Records.read(FOLDER)
    >>> [result.settings["model"] for result in records.find("training", model="resnet20")]
    ['resnet20']
    """

    def __init__(self, results: Iterable[Result] = ()):
        many = isinstance(results, Iterable) and not isinstance(results, (str, Mapping)) and getattr(results, "ndim", 1)
        found = []
        for each in results if many else [results]:
            if not isinstance(each, Result):
                raise ValueError(f"results must be modlib.results.Result, one after another; got {shown(each)}")
            found.append(each)
        self.results = tuple(found)

    @classmethod
    def read(cls, *folders: str | Path) -> "Records":
        """All records of some folders, by name; those of networks that others trained come last, lest they be taken for ours.

        Of two files of one name that of the later folder counts. JSON that is no recorded result, or of another format, is named in
        a warning and left alone.
        """
        folders = [as_path("folder", folder) for folder in folders]
        paths = {path.relative_to(folder): path for folder in folders for path in folder.rglob("*.json")}
        results = []
        for name in sorted(paths):
            try:
                results.append(read_result(paths[name]))
            except (ValueError, OSError) as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
        return cls(sorted(results, key=lambda r: r.settings.get("weights", "trained") not in ("trained", "untrained")))

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @checked
    def find(self, experiment: str | None = None, **settings) -> list[Result]:
        """Those of an experiment whose settings are as given; an empty list if it was not measured."""
        of = [r for r in self.results if experiment in (None, r.experiment)]
        return [r for r in of if all(r.settings.get(key) == value for key, value in as_json(settings).items())]

    @checked
    def best(self, experiment: str, model: str, dataset: str, **settings) -> Result | None:
        """The record of a network to set beside the paper's: of our training, by its recipe if there is one, and longest."""
        found = self.find(experiment, model=model, dataset=dataset, **settings)
        found = [r for r in found if r.settings.get("scale", "full") == "full" and "stages" not in r.settings]  # no trial, whole
        return max(found, key=lambda r: (r.settings.get("weights", "trained") == "trained", _telling(r)), default=None)

    @checked
    def table(self, value: str, experiment: str | None = None, **settings) -> pd.DataFrame:
        """One value of every matching result as a tidy table: settings and dimensions as columns."""
        tables = [r.table(value) for r in self.find(experiment, **settings) if value in r.values]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[value])


STUDIES = ("unsmoothed", "decayed")  # recipes that vary another one to see what of it matters: never the one to show


def _telling(result: Result) -> tuple:
    s = result.settings  # (an untrained network has none of these)
    return s.get("recipe") == "paper", s.get("recipe") not in STUDIES, s.get("epochs", 0), s.get("tune_epochs", 0)


def find_results(experiment: str | None = None, folder: str | Path | None = None, **settings) -> list[Result]:
    """The recorded results of an experiment whose settings are as given; an empty list if it was not measured.

    Args:
        experiment: ``"curves"``, ``"training"``, ``"attack"``, ``"similarity"``, ``"pruning"``, ...; by default all.
        folder: of records; by default those that come with modlib.
        **settings: such as ``model="resnet20"``.

    >>> [result.settings["model"] for result in find_results("training", model="resnet20")]
    ['resnet20']
    """
    return _records(folder).find(experiment, **settings)


def results_table(value: str, experiment: str | None = None, folder: str | Path | None = None, **settings) -> pd.DataFrame:
    """One value of every matching recorded result as a tidy table: settings and dimensions as columns."""
    return _records(folder).table(value, experiment, **settings)


def _records(folder: str | Path | None) -> Records:
    if folder is not None and not as_path("folder", folder).is_dir():
        raise ValueError(f"folder must hold recorded results; there is none at {str(folder)!r}")
    return Records.read(FOLDER if folder is None else folder)


def _lines(content) -> str:
    if not isinstance(content, dict) or not content:
        return json.dumps(content)
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()) + "\n}"


def _command() -> str:
    """The command line; of paths only the names, because the folders are this machine's own."""
    program, *arguments = [os.path.basename(word) if os.path.isabs(word) else word for word in sys.argv]
    return shlex.join([*(["python", "-m", "modlib"] if program == "__main__.py" else [program]), *arguments])


def _version() -> str:
    try:
        return version("graph-modularity")  # (of modlib the package index has another)
    except PackageNotFoundError:
        return "uninstalled"
