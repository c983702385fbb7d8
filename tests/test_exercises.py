"""The checker of exercises: right, nearly right and wrong answers, none of which it gives away; and the keys themselves."""

import numpy as np
import pytest
import torch
from exercise_keys import KEYS

from modlib.book import exercises
from modlib.book.exercises import Checker


@pytest.fixture
def check():
    index = {"Off by one: index": 2, "Off by one: number": 4}
    return Checker({
        "1.1": {"key": 3, "tolerance": 1e-6, "hint": "count the layers", "near": index},
        "1.2": {"key": 0.7420493, "tolerance": 1e-6, "hint": "take k = 5", "near": {"That is the percentage.": 74.20493}},
        "1.3": {"key": [-1, 1], "tolerance": 1e-6, "hint": "negative first", "near": {}},
    })  # fmt: skip


@pytest.mark.parametrize("name, answer", [
    ("1.1", 3), ("1.1", np.int64(3)), ("1.1", "3"), ("1.1", [3]), ("1.1", torch.tensor(3)),
    ("1.2", 0.7420493), ("1.2", torch.tensor(0.7420493, requires_grad=True)), ("1.3", (-1, 1)), ("1.3", np.array([-1.0, 1.0])),
])  # fmt: skip
def test_right_answers_in_any_form(check, capsys, name, answer):
    assert check(name, answer) and capsys.readouterr().out == "Correct.\n"


@pytest.mark.parametrize("name, answer, words", [
    ("1.1", 2, "Off by one"), ("1.1", 4, "Off by one"), ("1.1", 7, "count the layers"), ("1.1", 3.001, "count the layers"),
    ("1.1", None, "in place of None"), ("1.1", "layer3", "numbers are asked for, not 'layer3'; count"),
    ("1.1", {}, "numbers are asked"),
    ("1.1", float("nan"), "count the layers"), ("1.2", 74.20493, "percentage"), ("1.2", 0.742, "Close: give more digits"),
    ("1.2", 0.74, "Close"), ("1.2", 0.7, "take k = 5"), ("1.3", 1, "2 numbers are asked for; negative"),
    ("1.3", [1, -1], "negative first"),
])  # fmt: skip
def test_what_is_said_to_other_answers(check, capsys, name, answer, words):
    assert not check(name, answer)
    said = capsys.readouterr().out
    assert words in said and "0.7420493" not in said and "[-1" not in said


def test_a_score_to_hand_in(check, capsys):
    check("1.1", 3), check("1.1", 9), check("1.2", 9)
    capsys.readouterr()
    check.summary()
    assert capsys.readouterr().out == "1 of 2 exercises solved: 1.1\n"


def test_an_exercise_that_there_is_not(check):
    with pytest.raises(ValueError, match="unknown exercise '1.4'.*Known: 1.1, 1.2, 1.3"):
        check("1.4", 1)


@pytest.mark.parametrize("name", KEYS)
def test_each_key_is_what_the_library_computes(name, capsys):
    exercise = exercises.check.exercises[name]
    np.testing.assert_allclose(exercise["key"], np.asarray(KEYS[name](), float), rtol=0, atol=max(1e-6, exercise["tolerance"] / 10))
    assert exercises.check(name, exercise["key"]) and exercise["hint"]
    for words, near in exercise["near"].items():
        assert not exercises.check(name, near)
        assert words in capsys.readouterr().out


def test_there_is_a_key_for_every_exercise():
    assert exercises.check.exercises.keys() == KEYS.keys()
