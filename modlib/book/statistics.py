"""What a matrix of layer differences shows: blocks along a network's stages, and what it has in common with another."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from modlib._checks import whole_number
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


@dataclass(frozen=True)
class Outcome:
    """A statistic, and how it stands among those of other arrangements.

    Attributes:
        statistic: what was measured.
        p: share of the arrangements, the actual one among them, whose statistic is as large or larger.
        count: how many arrangements were compared.
    """

    statistic: float
    p: float
    count: int


def mantel(a, b, given=None, *, count: int = 9999, seed: int = 0) -> Outcome:
    """Rank correlation of two matrices over the same L layers, off the diagonal, with Mantel's permutation test (1967).

    The L (L - 1) / 2 entries are not independent, since each layer is in L - 1 of them, so the test does not shuffle
    entries: it renames the layers of one matrix.

    Args:
        a, b: (L, L), symmetric.
        given: (L, L); correlate what is left of the ranks after regressing each matrix's on its ranks (the partial test
            of Smouse et al. 1986): what a and b share beyond it.
        count: permutations, at random by ``seed``; all L! if these are no more.

    Returns:
        Outcome: Spearman's correlation, and p of one at least as large.

    Raises:
        ValueError: for matrices that are not symmetric, of different sizes, smaller than 3, or constant.

    >>> depth = np.abs(np.subtract.outer(range(9), range(9)))
    >>> mantel(depth, depth**2).statistic, mantel(depth, -depth).p
    (1.0, 1.0)
    """
    matrices = [np.asarray(m, float) for m in (a, b, *([] if given is None else [given]))]
    for m in matrices:
        if m.shape != matrices[0].shape or m.ndim != 2 or len(m) < 3 or not np.allclose(m, m.T):
            raise ValueError(f"a, b and given must be symmetric and over the same layers, at least 3; got {m.shape}")
    size = len(matrices[0])
    upper = np.triu_indices(size, 1)
    if any(np.ptp(m[upper]) == 0 for m in matrices):
        raise ValueError("a, b and given must not be constant off the diagonal: equal ranks have no correlation")
    ranks = [stats.zscore(stats.rankdata(m[upper])) for m in matrices]
    if given is not None:
        *ranks, known = ranks
        ranks = [stats.zscore(x - (x @ known) / len(x) * known) for x in ranks]
    full = np.zeros((size, size))
    full[upper] = ranks[0]
    full += full.T

    def correlation(order):
        return full[np.ix_(order, order)][upper] @ ranks[1] / len(ranks[1])

    options = {"permutation_type": "pairings", "alternative": "greater", "random_state": np.random.default_rng(seed)}
    found = stats.permutation_test((np.arange(size),), correlation, vectorized=False, n_resamples=count, **options)
    return Outcome(round(float(found.statistic), 12), float(found.pvalue), len(found.null_distribution) + 1)


def blocks(difference, stage) -> Outcome:
    """Whether a matrix of differences has blocks along the stages, beyond a growth with distance in depth.

    Each pair of layers inside a stage is set against all pairs as far apart that lie across a border of stages,

        excess = mean over pairs (i, j) inside a stage of (mean of D over pairs across with the same |i - j|) - D_ij,

    and against the excess of all other ways to cut the L layers into as many stages. A curve that rises evenly makes a
    matrix that looks like blocks to the eye, and has an excess of 0.

    Args:
        difference: (L, L), symmetric.
        stage: (L,) whole numbers that do not fall.

    Raises:
        ValueError: for a stage that does not fit, or without a border, or where no pair inside has one across to match.

    >>> q = np.array([0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9])
    >>> found = blocks(abs(q - q[:, None]), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    >>> round(found.statistic, 2), round(found.p, 3), found.count
    (0.4, 0.036, 28)
    """
    difference, stage = np.asarray(difference, float), np.asarray(stage)
    size = len(difference)
    if difference.shape != (size, size) or stage.shape != (size,) or (np.diff(stage) < 0).any():
        raise ValueError(f"stage must give each of the {size} layers a number that does not fall; got {stage.tolist()}")
    cuts = np.flatnonzero(np.diff(stage)) + 1
    whole_number("borders", len(cuts), 1, size - 2, "between stages")

    def excess(cut: np.ndarray) -> np.ndarray:
        """(ways,) of borders (ways, stages - 1): the layer with which each later stage begins."""
        low, high = np.pad(cut, ((0, 0), (1, 0))), np.pad(cut, ((0, 0), (0, 1)), constant_values=size)
        above, count = np.zeros(len(cut)), np.zeros(len(cut))
        for apart in range(1, size):
            sums = np.r_[0, np.cumsum(np.diag(difference, apart))]
            first = np.minimum(low, size - apart)  # of the pairs (k, k + apart) inside a stage, k is in first..last-1
            last = np.maximum(high - apart, first)
            inside, total = (last - first).sum(1), (sums[last] - sums[first]).sum(1)
            across = size - apart - inside
            matched = across > 0
            above += matched * ((sums[-1] - total) / np.maximum(across, 1) * inside - total)
            count += matched * inside
        return np.divide(above, count, out=np.full(len(cut), np.nan), where=count > 0)

    [actual] = excess(cuts[None])
    if np.isnan(actual):
        raise ValueError(f"stage must have layers as far apart inside as across its borders; got {stage.tolist()}")
    every = excess(np.array([*combinations(range(1, size), len(cuts))]))
    return Outcome(float(actual), float((every >= actual - 1e-12).mean()), len(every))


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

    def interval(value, error, freedom):
        half = stats.t.ppf(0.975, freedom) * error
        return tuple(float(each) for each in (value, value - half, value + half))

    ends = [interval(free.slope, free.stderr, len(x) - 2), interval(free.intercept, free.intercept_stderr, len(x) - 2)]
    return Worth(len(x), interval(per_q, error, len(x) - 1), *ends)
