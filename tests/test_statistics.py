"""Structure of layer differences: against brute force, closed forms and what must not change it."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

import modlib
from modlib.models import stages
from modlib.significance import blocks, mantel


def symmetric(rng, size: int) -> np.ndarray:
    m = rng.random((size, size))
    return m + m.T


def off(m: np.ndarray) -> np.ndarray:
    return m[np.triu_indices(len(m), 1)]


@pytest.mark.parametrize("model", ["vgg11", "vgg16", "resnet18", "resnet20"])
def test_a_stage_is_how_often_the_maps_were_halved(model, sample):
    network = modlib.build_model(model)
    layers = [network.get_submodule(name) for name in modlib.layer_names(network)]
    sides = {}
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, out: sides.update({layer: out.shape[-1]}))
    next(iter(modlib.iter_features(network, sample.x[:1])))
    assert stages(model).tolist() == [int(np.log2(32 / sides[layer])) for layer in layers]


def test_stages_of_an_unknown_network():
    with pytest.raises(ValueError, match="did you mean 'resnet56'"):
        stages("resnet65")


def test_mantel_is_spearman_with_every_renaming_of_the_layers(rng):
    a, b = symmetric(rng, 5), symmetric(rng, 5)
    found = mantel(a, b)
    assert found.statistic == pytest.approx(stats.spearmanr(off(a), off(b)).statistic)
    every = [stats.spearmanr(off(a[np.ix_(p, p)]), off(b)).statistic for p in permutations(range(5))]
    assert found.p == pytest.approx(np.mean(np.array(every) >= found.statistic - 1e-9))
    again = np.roll(range(5), 2)
    assert mantel(a[np.ix_(again, again)], b[np.ix_(again, again)]).p == pytest.approx(found.p)


def test_partial_mantel_is_the_partial_correlation_of_ranks(rng):
    a, b, c = (symmetric(rng, 9) for _ in range(3))
    r = [[stats.spearmanr(off(x), off(y)).statistic for x in (a, b, c)] for y in (a, b, c)]
    expected = (r[0][1] - r[0][2] * r[1][2]) / np.sqrt((1 - r[0][2] ** 2) * (1 - r[1][2] ** 2))
    assert mantel(a, b, c, count=20).statistic == pytest.approx(expected)


def test_partial_mantel_does_not_take_a_common_cause_for_likeness(rng):
    depth = np.abs(np.subtract.outer(range(12), range(12)))
    found = [
        [mantel(a, b, given, count=99).p < 0.05 for given in (None, depth)]
        for a, b in ((depth + 2 * symmetric(rng, 12), depth + 2 * symmetric(rng, 12)) for _ in range(20))
    ]
    simple, partial = np.mean(found, 0)
    assert simple == 1 and partial < 0.3


@pytest.mark.parametrize("a, b, words", [
    (np.arange(9).reshape(3, 3), np.eye(3), "symmetric"), (np.eye(4), np.eye(3), "same layers"),
    (np.eye(2), np.eye(2), "at least 3"), (np.ones((3, 3)), np.ones((3, 3)), "constant"),
])  # fmt: skip
def test_mantel_refuses(a, b, words):
    with pytest.raises(ValueError, match=words):
        mantel(a, b)


def excess_by_loops(d, stage):
    size, rows = len(d), []
    for i, j in combinations(range(size), 2):
        across = [d[k, k + j - i] for k in range(size - (j - i)) if stage[k] != stage[k + j - i]]
        if stage[i] == stage[j] and across:
            rows.append(np.mean(across) - d[i, j])
    return np.mean(rows) if rows else np.nan


def test_blocks_by_loops(rng):
    d, stage = symmetric(rng, 8), [0, 0, 0, 2, 2, 3, 3, 3]
    ways = [np.searchsorted(cut, range(8), side="right") for cut in combinations(range(1, 8), 2)]
    every = np.array([excess_by_loops(d, way) for way in ways])
    found = blocks(d, stage)
    assert found.statistic == pytest.approx(excess_by_loops(d, stage))
    assert found.p == pytest.approx(np.mean(every >= found.statistic - 1e-12)) and found.count == len(ways)


def test_blocks_do_not_see_what_depends_on_distance_in_depth_alone(rng):
    d, stage = symmetric(rng, 9), stages("vgg13")[:9]
    depth = np.abs(np.subtract.outer(range(9), range(9)))
    more = blocks(d + rng.random(9)[depth], stage)
    assert more.statistic == pytest.approx(blocks(d, stage).statistic) and more.p == blocks(d, stage).p
    even = blocks(depth, stage)
    assert even.statistic == pytest.approx(0) and even.p == 1


def test_blocks_are_found_where_they_are():
    stage = stages("resnet56")
    found = blocks(abs(stage - stage[:, None]), stage)
    assert found.p == 1 / found.count
    elsewhere = np.searchsorted([5, 14], range(28), side="right")
    assert blocks(abs(stage - stage[:, None]), elsewhere).p > 0.05


def test_blocks_refuses():
    d = np.eye(4)
    wrong = {"does not fall": [0, 1, 0, 1], "each of the 4 layers": [0, 0], "borders must be": [1, 1, 1, 1]}
    for words, stage in wrong.items():
        with pytest.raises(ValueError, match=words):
            blocks(d, stage)
