"""What a reader hears about an answer: right, or what is missing. Never an exception."""

import numpy as np
import pytest
import torch

from modlib.book.exercises import checker

check = checker({"number": 3, "list": [0.5, 0.25]})


@pytest.mark.parametrize("answer", [3, 3.0, np.int64(3), torch.tensor(3), 3 + 9e-7])
def test_a_right_answer_may_come_in_any_kind_of_number(answer, capsys):
    assert check("number", answer, "hint") is True
    assert capsys.readouterr().out == "Correct.\n"


@pytest.mark.parametrize(
    "name, answer, words",
    [
        ("number", None, "put your answer in place of None."),
        ("number", 3.001, "hint"),
        ("number", float("nan"), "hint"),
        ("number", "layer3.1", "numbers are asked for, not 'layer3.1'; hint"),
        ("number", [3, 3], "1 number is asked for; hint"),
        ("list", 0.5, "2 numbers are asked for; hint"),
        ("list", [[1], [1, 2]], "numbers are asked for, not [[1], [1, 2]]; hint"),
        ("list", (0.25, 0.5), "hint"),
    ],
)
def test_a_wrong_answer_is_told_what_is_missing(name, answer, words, capsys):
    assert check(name, answer, "hint") is False
    assert capsys.readouterr().out == f"Not yet: {words}\n"


def test_the_tolerance_is_that_of_the_checker_or_of_the_answer():
    loose = checker({"percent": 60.3}, tolerance=0.051)
    assert loose("percent", 60.35, "") and not loose("percent", 60.36, "")
    assert not loose("percent", 60.35, "", tolerance=0.01)
    assert not checker({"large": 1e9})("large", 1e9 + 1, "")  # a tolerance that does not grow with the number
