"""The page of the library: it names what there is, and all that one begins with."""

import importlib
import re
from pathlib import Path

import modlib

PAGE = (Path(__file__).parents[1] / "book" / "api.md").read_text()


def described() -> list[tuple[str, str]]:
    """(module, name) of every entry."""
    found, module = [], ""
    for kind, what in re.findall(r"^\.\. (py:currentmodule|autofunction|autoclass|py:data):: (\S+)$", PAGE, re.MULTILINE):
        if kind == "py:currentmodule":
            module = what
        else:
            found.append((module, what))
    return found


def test_every_name_to_begin_with_is_described_once():
    assert sorted(name for module, name in described() if module == "modlib") == sorted(modlib.__all__)
    assert len({*described()}) == len(described())


def test_every_entry_is_there_and_says_what_it_is():
    for module, name in described():
        entry = getattr(importlib.import_module(module), name)
        assert not callable(entry) or entry.__doc__, name
