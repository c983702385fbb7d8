"""Exercises that check themselves, tell nearly right from wrong, and keep a score to hand in."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from modlib._checks import unknown


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        key: gives the right answer, a number or a list of numbers.
        hint: for a wrong answer; it does not tell the right one.
        tolerance: the largest difference of a right answer.
        near: what to say to answers that miss in a known way: words -> gives that answer from the right one.
    """

    key: Callable[[], float | list]
    hint: str
    tolerance: float = 1e-6
    near: dict[str, Callable] = field(default_factory=dict)


PER_CENT = {"That is the percentage; the share is asked for.": lambda right: 100 * right}
INDEX = {
    "Off by one: do you count from 0 or from 1?": lambda right: right - 1,
    "Off by one: does this lead from a layer, or to it?": lambda right: right + 1,
}


class Checker:
    """``check("1.1", answer)`` says whether the answer to an exercise is right; ``check.summary()`` gives the score.

    Args:
        exercises: by chapter and number.

    >>> check = Checker({"1.1": Exercise(lambda: 0.25, "which share of all edges?", near=PER_CENT)})
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

    def __init__(self, exercises: dict[str, Exercise]):
        self.exercises, self.solved = exercises, {}

    def __call__(self, name: str, answer) -> bool:
        """Say, and return, whether an answer is right; it is never told.

        Raises:
            ValueError: for an exercise that there is not.
        """
        if name not in self.exercises:
            raise unknown("exercise", name, self.exercises)
        words = self._fault(self.exercises[name], answer)
        self.solved[name] = self.solved.get(name, False) or not words
        print(words or "Correct.")
        return not words

    def _fault(self, exercise: Exercise, answer) -> str:
        """What is wrong with an answer; nothing if it is right."""
        if answer is None or isinstance(answer, (list, tuple)) and any(each is None for each in answer):
            return "Not yet: put your answer in place of None."
        right = np.asarray(exercise.key(), float)
        try:
            given = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer, float)
        except (TypeError, ValueError):
            return f"Not yet: numbers are asked for, not {answer!r}; {exercise.hint}"
        if given.shape != right.shape and given.size == right.size == 1:
            given = given.reshape(right.shape)
        if given.shape != right.shape:
            return f"Not yet: {right.size} number{' is' if right.size == 1 else 's are'} asked for; {exercise.hint}"
        if np.allclose(given, right, rtol=0, atol=exercise.tolerance):
            return ""
        for words, near in exercise.near.items():
            if np.allclose(given, near(right), rtol=5e-3, atol=1e-9):
                return f"Not yet: {words}"
        if (right != np.rint(right)).any() and np.allclose(given, right, rtol=5e-3, atol=0):
            return "Close: give more digits, or the expression itself."
        return f"Not yet: {exercise.hint}"

    def summary(self) -> None:
        """Print how many of the exercises tried here are solved, and which: to hand in."""
        done = [name for name, solved in self.solved.items() if solved]
        print(f"{len(done)} of {len(self.solved)} exercises solved: {', '.join(done) or 'none'}")
