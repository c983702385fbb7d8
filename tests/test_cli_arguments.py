"""Every option of every command with odd values: a sentence and a non-zero exit, or what was asked for; never a traceback."""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import modlib
from modlib import __main__ as cli
from modlib import zoo

COMMANDS = typer.main.get_command(cli.app).commands
ODD = (
    "",
    "x",
    "-1",
    "0",
    "1.5",
    "nan",
    "inf",
    "1e30",
    "9" * 5000,
    "../../x",
    "none/x",
    ".",
    "é,,",
    "conv1,",
    "x" * 5000,
    "--",
    "\udcff",
)
FILES = [each for each in ODD if each not in ("", ".") and len(each) < 100]  # odd names, but names of files and folders that can be
TAKEN = {  # odd values that nobody is wrong to give
    "curve": {"seed": ["0"], "json": FILES, "split": [".", ""]},
    "prune": {"tol": ["0", "1.5", "1e30"], "output": FILES, "split": [".", ""]},
    "export": {"out": [*FILES, ".", ""]},
    "reproduce": {
        "seed": ["0"],
        "max_minutes": ["0", "1.5", "1e30"],
        "runs": [*FILES, ".", ""],
        "out": [*FILES, ".", ""],
        "images": [".", ""],
        "variants": [""],
    },
}
# What a sentence may name in place of the option.
SAYS = {
    "dataset": "name must",
    "layers": "unknown layer",
    "remove": "layer",
    "models": "unknown model",
    "datasets": "unknown dataset",
    "variants": "unknown variant",
    "split": "one folder of images a class",
    "archive": "does not hold",
    "run": "No such file",
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What each command is called with, and takes: little of everything."""
    folder = tmp_path_factory.mktemp("cli")
    torch.manual_seed(0)
    thin = zoo.save_model(modlib.build_model("resnet20", stages=(2, 2, 2)), folder / "w.safetensors")
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        for i in range(7):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)).save(
                folder / "pets" / name / f"{i}.png"
            )
    few = {"dataset": folder / "pets", "n": 6, "k": 2, "weights": thin, "size": 16}
    return {
        "curve": (
            ["resnet20"],
            few | {"layers": "conv1", "seed": 1, "device": "cpu", "json": folder / "c.json", "plot": folder / "c.png"},
        ),
        "train": (["resnet20"], {"dataset": "cifar10", "epochs": 1, "folder": folder / "run"}),
        "prune": (["resnet20"], few | {"draws": 2, "tol": 0.01, "output": folder / "p.safetensors", "remove": "layer1.1"}),
        "export": (["resnet20"], {"weights": thin, "out": folder / "onnx"}),
        "data": (["cifar100"], {"door": "torchvision"}),
        "reproduce": (
            ["fig4"],
            {
                "models": "resnet20",
                "datasets": "cifar10",
                "scale": "smoke",
                "runs": folder / "runs",
                "out": folder / "out",
                "max-minutes": 0,
            },
        ),
        "embed": ([folder / "none"], {}),
    }


@pytest.fixture(scope="module")
def counts():
    found = Counter()
    yield found
    print(f"{sum(found.values()):,} commands: {dict(found)}")


def cases():
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.name != "help":
                yield name, parameter


def test_the_page_says_how_many_commands_these_are():
    page, count = (Path(__file__).parents[1] / "book" / "tried.md").read_text(encoding="utf-8"), len([*cases()])
    assert f"arguments of the command line, {count} | {count * len(ODD):,} |" in page


@pytest.mark.parametrize("name, parameter", [*cases()], ids=lambda each: getattr(each, "name", each))
def test_odd_values_are_told_in_a_sentence(name, parameter, given, counts, monkeypatch, capsys, tmp_path):
    def shut(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setattr("modlib.data.downloads.retrieve", shut)
    monkeypatch.setattr("modlib.models.sources.retrieve", shut)
    monkeypatch.setattr("modlib.training._Run.one_epoch", shut)
    monkeypatch.setattr(cli, "seconds", lambda *_: 0.001)
    places, options = given[name]
    faults = []
    for odd in ODD:
        option = parameter.opts[-1]
        if parameter.param_type_name == "argument":
            words = [odd, *(f"--{key}={value}" for key, value in options.items())]
        else:
            words = [*places, *(f"--{key}={value}" for key, value in options.items() if f"--{key}" != option), f"{option}={odd}"]
        monkeypatch.setattr(sys, "argv", ["modlib", name, *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as leaving:
            status = leaving.code or 0
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        out, err = capsys.readouterr()
        counts["refused" if status else "done"] += 1
        said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
        words = rf"\b{parameter.name}\b|{option}|{SAYS.get(parameter.name, option)}"
        named = re.search(words, said, re.IGNORECASE) or odd[:50] and odd[:50] in said
        if status not in (0, 1, 2) or "Traceback" in err + out:
            faults.append(f"{odd[:30]!r}: {status!s:.300}")
        elif status and not named and "no network" not in said + out:
            faults.append(f"{odd[:30]!r} ends with {status} and names nothing: {said[:200]}")
        elif status == 0 and odd not in TAKEN.get(name, {}).get(parameter.name, []):
            faults.append(f"{odd[:30]!r} is taken: {out[:100]}")
    assert not faults, "\n".join(faults)
