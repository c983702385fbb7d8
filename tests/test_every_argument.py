"""Every public function, class and method, with one argument after another replaced by what is odd: an answer that makes sense, or
a sentence that names the argument.

``tests/calls.py`` has a valid call of each, and the odd values; the page book/tried.md has the counts.
"""

import os
import re
import shutil
import signal
import warnings
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from inspect import isgenerator, signature
from io import StringIO
from itertools import islice
from pathlib import Path

import calls
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

SECONDS = 20  # more is no answer

# The odd values that an argument may have: nobody is wrong who gives them.
WHOLE = "np.int64, 0-d array"
NUMBER = f"{WHOLE}, 0, 1.5, 1e30"
NEW = "no path, 'x', '../../x', '3'"  # names of a folder to be made
TEXT = "'', 'x', '../../x', NUL, long, '3'"
MAY = {
    "model": "network",
    "images": "Images",
    "layers": "None, '3'",
    "progress": "True",
    "output": "None, network",
    "reduce": "None, network",
    "forward": "None",
    "memory": "None, 1e30",
    "resume": "None, 'x', '../../x', '3', no path",
    "spool": "True",
    "seed": f"None, 0, {WHOLE}",
    "k": WHOLE,
    "n": f"None, {WHOLE}",
    "batch_size": f"{WHOLE}, 1e30",
    "sketch": f"None, 1e30, {WHOLE}",
    "size": f"None, {WHOLE}",
    "samples": "None",
    "draws": WHOLE,
    "repeats": WHOLE,
    "max_minutes": f"None, {NUMBER}",
    "num_classes": f"None, {WHOLE}",
    "stages": "None",
    "pixels": "None",
    "weights": "None",
    "source": "None",
    "door": "None",
    "archive": "None",
    "split": "None",
    "per_class": "True",
    "given": "None",
    "unbiased": "True",
    "y": "None",
    "minibatch": "None",
    "count": f"0, {WHOLE}",
    "tol": NUMBER,
    "x": "None",
    "min_seconds": f"0, 1.5, {WHOLE}",
    "folder": "None, folder",
    "epochs": f"None, {WHOLE}",
    "tune_epochs": f"None, {WHOLE}",
    "tune_recipe": "None",
    "data": "None",
    "every": f"1e30, {WHOLE}",
    "writer": "None",
    "step": f"0, 1e30, {WHOLE}",
    "epoch": f"0, 1.5, {WHOLE}",
    "predicted": "None",
    "layer": f"0, {WHOLE}",
    "image": f"0, {WHOLE}",
    "records": "None",
    "printed": "True",
    "results": "None, [], (), empty array",
    "paper": "None, [], (), grad",
    "title": TEXT,
    "ax": "None",
    "start": "None",
    "experiment": f"None, {TEXT}",
    "value": TEXT,
    "path": "'x', '../../x', '3', no path",
    "shipped": "True",
    "jobs": WHOLE,
    "variants": "None",
    "models": "None",
    "datasets": "None",
    "runs": "folder, 'x', '../../x', '3', no path",
    "out": "folder, 'x', '../../x', '3', no path",
    "backend": "None",
    "scheduler": "None",
    "rand_init": "True",
    "abort_early": "True",
    "graph": "None",
    "max_pixels": WHOLE,
    "level": "",
}
ANSWERS = ("Attacked", "Cost", "Step", "Unit")  # made by modlib alone; nothing is computed from what they hold
SETTINGS = ("eps", "eps_iter", "theta", "gamma", "confidence", "learning_rate", "initial_const", "p", "r", "seed_ratio")
MAY |= dict.fromkeys(SETTINGS, f"0, 1.5, {WHOLE}")
MAY |= dict.fromkeys(
    ("nb_iter", "binary_search_steps", "max_iterations", "max_pixels", "d", "t", "round_ub", "max_nb_seeds"), WHOLE
)
FIELDS = {  # of classes: their parts have names, but other meanings
    "Images": {"x": "grad", "y": "", "classes": "[], (), twice, text array, empty array", "name": TEXT},
    "Images.__getitem__": {"index": "0, -1, np.int64, [], (), bool array, empty array"},
    "DynamicGraph": {"layers": "text array"},
    "DynamicGraph.__getitem__": {"layer": "0, -1"},
    "Curve": {"layers": "twice, text array", "q": "", "per_class": "matrix", "k": f"1e30, {WHOLE}", "n": f"0, 1e30, {WHOLE}"},
    "CurveDraws": {"layers": "twice, text array", "q": "", "k": f"1e30, {WHOLE}", "n": f"0, 1e30, {WHOLE}"},
    "CurveGrid": {"layers": "twice, text array", "n": "", "k": ""},
    "CurveGrid.draws": {"n": "", "k": "0-d array"},
    "Recipe": {
        "epochs": WHOLE,
        "batch_size": f"{WHOLE}, 1e30",
        "lr": NUMBER,
        "weight_decay": NUMBER,
        "steps": "[], (), empty array, grad",
        "nesterov": "True",
        "label_smoothing": "0, 0-d array",
        "crop": f"0, {WHOLE}",
        "flip": "True",
    },
    "Plan": {"layers": "", "remove": "[], (), empty array", "scores": "", "verdicts": ""},
    "Result": {
        "experiment": TEXT,
        "settings": "{}, {1: 2}",
        "values": "{}",
        "evidence": "{}, {1: 2}",
        "format": f"0, -1, 1e30, {WHOLE}",
    },
    "Result.at": {"layer": "[], (), twice, text array, empty array"},
    "Result.curve": {"n": "None", "k": "0-d array"},
    "Records": {"results": "[], (), empty array, {}"},
    "Records.read": {"folders": "folder, 'x', '../../x', '3', no path"},
    "Records.best": {"model": TEXT, "dataset": TEXT},
    "find_redundant": {"model": "None"},
    "find_redundant[numbers]": {"curve": "matrix", "layers": "None, twice, text array"},
    "prune": {"plan": "[], (), empty array"},
    "repeat_curves": {"n": "", "images": ""},
    "curve_grid": {"n": "", "k": "grad", "images": ""},
    "explore": {"images": "Images"},
    "explore[name]": {"model": "None"},
    "explore_pruning": {"tol": "0", "network": "None"},
    "measurement": {"experiment": TEXT, "settings": "{}, {1: 2}", "values": "{}"},
    "reproduce": {"batch_size": f"None, {WHOLE}, 1e30", "images": "None, folder"},
    "attack[jsma]": {"theta": f"-1, -0.5, 0, 1.5, {WHOLE}"},
    "load_model[architecture]": {"num_classes": "", "stages": ""},
    "plot_layouts": {"columns": f"1e30, {WHOLE}"},
    "mantel": {"count": WHOLE},
    "communities": {"resolution": NUMBER},
    "modularity_difference": {"q": "grad", "other": "None, grad"},
    "shared_edges": {"other": "None"},
    "linear_cka": {"memory": "1e30", "other": "None"},
    "export_onnx": {"folder": f"{NEW}, folder", "gradient": "True", "weights": "True"},
    "load_images": {"size": WHOLE},
    "train": {"folder": f"{NEW}, None, folder", "epochs": "None, 0-d array", "seed": "0", "batch_size": "None"},
    "fine_tune": {"folder": NEW, "epochs": "0-d array", "seed": "0"},
}

# What a sentence may name in place of the argument: what is wrong is how two of them fit, or it is what the argument holds.
SAYS = {
    "name": "unknown (model|attack|dataset)|was not measured",
    "x": "labels|samples|k must|image of shape",
    "features": "samples|k must",
    "y": "labels",
    "model": "unknown layer|unknown recorded network",
    "layers": "unknown layer",
    "plan": "unknown layer",
    "images": "labels|x of shape",
    "n": "k must",
    "size": "subset",
    "data": "data_sha256",
    "attacked": "predicted",
    "models": "unknown model",
    "datasets": "unknown dataset",
    "variants": "unknown variant",
    "folders": "folder",
    "coords": "coordinate|coords",
    "values": "value ",
    "figures": "figure",
    "network": "unknown recorded network",
    "scheduler": "backend of a scheduler",
    "other": "model has no blocks",
}
MAY_RAISE = {"Images.__getitem__": IndexError, "Result.__getitem__": KeyError, "Result.at": KeyError, "Result.table": KeyError}


class Endless(BaseException):
    """A call took too long; no ``except Exception`` keeps it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("calls")
    return calls.world(folder)


@pytest.fixture(scope="module")
def counts():
    found = Counter()
    yield found
    print(f"{sum(found.values()):,} calls: {dict(found)}")


def call(function, arguments: dict):
    """The answer, of a stream its beginning; an exception is given back."""
    arguments = dict(arguments)
    places = [arguments.pop("self")] if "self" in arguments else []
    places += [arguments.pop(key) for key in ("folders", "figures") if key in arguments]

    def late(*_):
        raise Endless

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = function(*places, **arguments)
            return [*islice(found, 20)] if isgenerator(found) else found
    except Exception as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        plt.close("all")


def holds_nan(found, depth: int = 0) -> bool:
    if isinstance(found, torch.Tensor):
        return found.is_floating_point() and bool(found.isnan().any())
    if isinstance(found, np.ndarray):
        return found.dtype.kind in "fc" and bool(np.isnan(found).any())
    parts = found.values() if isinstance(found, dict) else found if isinstance(found, (list, tuple)) else ()
    if hasattr(found, "__dataclass_fields__"):
        parts = [getattr(found, name) for name in found.__dataclass_fields__]
    return isinstance(found, float) and found != found or depth < 4 and any(holds_nan(each, depth + 1) for each in parts)


def fault(short: str, argument: str, odd: str, value, found, usual) -> str:
    """What is wrong with an answer or an error; nothing if it is as it should be."""
    if isinstance(found, Exception) and not (type(found) is type(usual) and str(found) == str(usual)):
        if not isinstance(found, (ValueError, OSError, MemoryError, MAY_RAISE.get(short, ValueError))):
            return f"{type(found).__name__} is not documented"
        said = str(found)
        pathlike = isinstance(value, (str, os.PathLike)) and isinstance(found, (OSError, ValueError)) and str(value)[:200] in said
        named = re.search(rf"\b{argument}\b", said) or re.search(SAYS.get(argument, "(?!)"), said)
        return "" if named or pathlike else "the sentence does not name the argument"
    if odd == "None" and usual is None:
        return ""
    plain = short.partition("[")[0]
    may = FIELDS.get(short, {}).get(argument, FIELDS.get(plain, {}).get(argument, MAY.get(argument, "")))
    if short in ANSWERS:
        return ""
    if odd not in may.split(", ") and not (argument == "model" and short in ("find_results", "results_table", "Records.find")):
        return "it is taken for an answer"
    return "NaN" if holds_nan(found) else ""


def test_every_public_name_has_a_valid_call(world):
    given = defaultdict(set)
    for title, arguments in calls.calls(world).items():
        given[title.partition("[")[0]] |= {*arguments}
    assert {*given} == {*calls.public()}
    for name, function in calls.public().items():
        named = [each.name for each in signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
        assert not {*named} - given[name], name


def test_the_page_says_how_many_calls_these_are(world):
    """How many of them are refused, the tests below count: see what they print."""
    odd, arguments = len(calls.odd_values(world.folder)), sum(len(each.keys() - {"self"}) for each in calls.calls(world).values())
    page = (Path(__file__).parents[1] / "book" / "tried.md").read_text(encoding="utf-8")
    assert f"describes {len(calls.public())} functions, classes and methods" in page and f"replaced by {odd} odd" in page
    assert f"{arguments} arguments | {arguments * odd:,} |" in page


@pytest.mark.parametrize("name", calls.public())
def test_an_odd_argument_is_refused_by_name_or_answered(name, world, counts, monkeypatch, tmp_path):
    def shut(*_, **__):
        raise OSError("no network")

    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")  # where what is written to "x" or "../../x" is of this test alone
    monkeypatch.setattr("modlib.data.downloads.retrieve", shut)
    monkeypatch.setattr("modlib.models.sources.retrieve", shut)
    function, faults = calls.public()[name], []
    for title, arguments in calls.calls(world).items():
        if title.partition("[")[0] != name:
            continue
        short = function.__qualname__ + title[len(name) :]
        usual = call(function, arguments)
        counts["valid"] += 1
        for argument in arguments.keys() - {"self"}:
            for odd in calls.odd_values(world.folder):
                value = calls.odd_values(world.folder)[odd]
                found = call(function, arguments | {argument: value})
                wrong = fault(short, argument, odd, value, found, usual)
                counts["poor or nonsense" if wrong else "refused" if isinstance(found, Exception) else "answered"] += 1
                if wrong:
                    faults.append(f"{title}({argument}={odd}): {wrong}: {type(found).__name__}: {str(found)[:160]}")
    shutil.rmtree(world.folder / "none", ignore_errors=True)  # a path that was not there
    assert not faults, "\n".join(faults)
