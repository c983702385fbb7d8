"""Exercises that check themselves, tell nearly right from wrong, and keep a score to hand in."""

import json

import numpy as np

from modlib._checks import one_of
from modlib.data import ASSETS


class Checker:
    """``check("1.1", answer)`` says whether the answer to an exercise is right; ``check.summary()`` gives the score.

    Args:
        exercises: by chapter and number: ``key``, the right number or list of numbers; ``tolerance``, the largest difference of a
            right answer; ``hint`` for a wrong one, which does not tell the right one; ``near``, answers that miss in a known way:
            what to say -> the answer.

    >>> near = {"That is the percentage; the share is asked for.": 25}
    >>> check = Checker({"1.1": {"key": 0.25, "tolerance": 1e-6, "hint": "which share of all edges?", "near": near}})
    >>> check("1.1", 25)
    Not yet: That is the percentage; the share is asked for.
    False
    >>> check("1.1", 0.251)
    Close: give more digits, or the expression itself.
    False
    >>> check("1.1", 1 / 4)
    Correct.
    True
    >>> check.summary()
    1 of 1 exercises solved: 1.1
    """

    def __init__(self, exercises: dict[str, dict]):
        self.exercises, self.solved = exercises, {}

    def __call__(self, name: str, answer) -> bool:
        """Say, and return, whether an answer is right; it is never told.

        Raises:
            ValueError: for an exercise that there is not.
        """
        one_of("exercise", name, self.exercises)
        words = self._fault(self.exercises[name], answer)
        self.solved[name] = self.solved.get(name, False) or not words
        print(words or "Correct.")
        return not words

    def _fault(self, exercise: dict, answer) -> str:
        """What is wrong with an answer; nothing if it is right."""
        if answer is None or isinstance(answer, (list, tuple)) and any(each is None for each in answer):
            return "Not yet: put your answer in place of None."
        right = np.asarray(exercise["key"], float)
        try:
            given = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer, float)
        except (TypeError, ValueError):
            return f"Not yet: numbers are asked for, not {answer!r}; {exercise['hint']}"
        given = given.reshape(right.shape) if given.size == right.size == 1 else given
        if given.shape != right.shape:
            return f"Not yet: {right.size} number{' is' if right.size == 1 else 's are'} asked for; {exercise['hint']}"
        if np.allclose(given, right, rtol=0, atol=exercise["tolerance"]):
            return ""
        for words, near in exercise["near"].items():
            if given.shape == np.shape(near) and np.allclose(given, near, rtol=5e-3, atol=1e-9):
                return f"Not yet: {words}"
        if (right != np.rint(right)).any() and np.allclose(given, right, rtol=5e-3, atol=0):
            return "Close: give more digits, or the expression itself."
        return f"Not yet: {exercise['hint']}"

    def summary(self) -> None:
        """Print how many of the exercises tried here are solved, and which: to hand in."""
        done = [name for name, solved in self.solved.items() if solved]
        print(f"{len(done)} of {len(self.solved)} exercises solved: {', '.join(done) or 'none'}")


# The keys of the book's exercises; tests compute each of them anew.
check = Checker(json.loads((ASSETS / "exercises.json").read_text(encoding="utf-8")))
