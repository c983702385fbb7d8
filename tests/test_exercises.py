"""The checker of exercises: right, nearly right and wrong answers, none of which it gives away."""

import numpy as np
import pytest
import torch

from modlib.book.checker import INDEX, PER_CENT, Checker, Exercise
from modlib.book.exercises import EXERCISES
from modlib.book.exercises import check as book_check


@pytest.fixture
def check():
    return Checker({
        "1.1": Exercise(lambda: 3, "count the layers", near=INDEX),
        "1.2": Exercise(lambda: 0.7420493, "take k = 5", near=PER_CENT),
        "1.3": Exercise(lambda: [-1, 1], "negative first"),
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


@pytest.mark.parametrize("name", EXERCISES)
def test_each_key_is_right_and_no_near_miss_of_its_own(name, capsys):
    exercise = EXERCISES[name]
    assert book_check(name, exercise.key())
    right = np.asarray(exercise.key(), float)
    for words, near in exercise.near.items():
        assert not book_check(name, near(right)), words
        assert words in capsys.readouterr().out
