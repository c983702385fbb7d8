"""Verdicts in three grades, and the numbers that claims and prunings are judged by."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from modlib.pruning import find_redundant

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decided"


def graded(low: float, high: float) -> str:
    """The verdict on "this number is above zero", where all that is known of it is that it lies between low and high.

    >>> graded(0.1, 0.3), graded(-0.3, -0.1), graded(-0.1, 0.3)
    ('holds', 'does not hold', 'not decided')
    """
    return HOLDS if low > 0 else FAILS if high <= 0 else UNDECIDED


def by_p(statistic: float, p: float) -> str:
    """The verdict of a one-sided test on "the statistic is above zero": p small, p near one and the statistic below, or neither.

    >>> by_p(0.4, 0.01), by_p(-0.4, 0.99), by_p(0.1, 0.2)
    ('holds', 'does not hold', 'not decided')
    """
    return HOLDS if p < 0.05 else FAILS if p > 0.95 and statistic < 0 else UNDECIDED


def together(verdicts: Iterable[str]) -> str:
    """The verdict on all of several: refused by one, and held by all."""
    found = {*verdicts}
    return FAILS if FAILS in found else UNDECIDED if UNDECIDED in found else HOLDS


def plateau_share(q, tol: float = 0.01, after: int = 1) -> float:
    """The share of layers that rise by no more than ``tol`` above the highest layer before them.

    These are the layers that :func:`modlib.pruning.find_redundant` names: where the curve degrades, stays or creeps.

    Args:
        q: (L,) modularity of the layers.
        after: how many layers are left out of the count at the beginning.

    >>> plateau_share([0.1, 0.2, 0.2, 0.15, 0.5])
    0.5
    """
    return sum(int(layer) > after for layer in find_redundant(q, tol).remove) / (len(q) - after)


def chance(percent: float, images: int = 10_000) -> float:
    """Points by which chance parts two networks of this accuracy on so many images in one of twenty cases, were their errors
    independent: 1.96 sqrt(2 p (1 - p) / images). (On the same images they are not quite; the true number is smaller.)

    >>> round(chance(90.0), 2)
    0.83
    """
    share = percent / 100
    return float(196 * np.sqrt(2 * share * (1 - share) / images))


def mean_interval(values) -> tuple[float, float, float]:
    """The mean of independent values, and the ends of its 95 % confidence interval by Student's t.

    >>> [round(each, 2) for each in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    return _interval(np.mean(values), stats.sem(values), len(values) - 1)


def _interval(value: float, error: float, freedom: int) -> tuple[float, float, float]:
    half = stats.t.ppf(0.975, freedom) * error
    return float(value), float(value - half), float(value + half)


@dataclass(frozen=True)
class Worth:
    """What a rise of Q was worth: accuracy lost (percentage points) against Delta Q, over n variants.

    Each value comes with the ends of its 95 % confidence interval.

    Attributes:
        n: variants.
        per_q: slope of the line through zero, points lost per unit of Q.
        slope, intercept: of the line that need not pass through zero.
    """

    n: int
    per_q: tuple[float, float, float]
    slope: tuple[float, float, float]
    intercept: tuple[float, float, float]

    @property
    def proportional(self) -> str:
        """The verdict on "a larger rise costs more, and none costs nothing", as far as the intervals can tell."""
        return together([graded(*self.slope[1:]), HOLDS if self.intercept[1] <= 0 <= self.intercept[2] else FAILS])


def worth(dq, lost) -> Worth | None:
    """Least-squares lines through (Delta Q, accuracy lost), freely and through zero; None for fewer than three points.

    Args:
        dq: (n,) rises of Q.
        lost: (n,) accuracy of the whole network minus that of the variant.

    >>> line = worth([0.1, 0.2, 0.3, 0.4], [1.1, 1.9, 3.1, 3.9])
    >>> round(line.per_q[0], 2), round(line.slope[0], 2), line.proportional
    (9.93, 9.6, 'holds')
    """
    x, y = np.asarray(dq, float), np.asarray(lost, float)
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    free, per_q = stats.linregress(x, y), x @ y / (x @ x)
    error = np.sqrt(((y - per_q * x) ** 2).sum() / (len(x) - 1) / (x @ x))
    ends = [_interval(free.slope, free.stderr, len(x) - 2), _interval(free.intercept, free.intercept_stderr, len(x) - 2)]
    return Worth(len(x), _interval(per_q, error, len(x) - 1), *ends)
