"""Exercises that check themselves."""

from collections.abc import Callable, Mapping

import numpy as np


def checker(solutions: Mapping, tolerance: float = 1e-6) -> Callable[..., bool]:
    """A function that says, and returns, whether the answer to an exercise is right.

    Args:
        solutions: name of an exercise -> a number, or a list of numbers.
        tolerance: the largest difference of a right answer.

    Returns:
        ``check(name, answer, hint)``; ``tolerance=`` sets another one for this answer.

    >>> check = checker({"sum": 3, "both roots": [-1, 1]})
    >>> check("sum", 1 + 2, "add them")
    Correct.
    True
    >>> check("both roots", 1, "negative first")
    Not yet: 2 numbers are asked for; negative first
    False
    """

    def check(name: str, answer, hint: str, tolerance: float = tolerance) -> bool:
        right = solutions[name]
        try:
            given = np.asarray(answer, float)
        except (TypeError, ValueError):
            fault = f"numbers are asked for, not {answer!r}; {hint}"
        else:
            if answer is None:
                fault = "put your answer in place of None."
            elif given.shape != np.shape(right):
                fault = f"{np.size(right)} number{' is' if np.size(right) == 1 else 's are'} asked for; {hint}"
            elif not np.allclose(given, right, rtol=0, atol=tolerance):
                fault = hint
            else:
                print("Correct.")
                return True
        print("Not yet:", fault)
        return False

    return check
