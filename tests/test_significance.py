"""Chance and the choice of samples: against enumeration, graphs built anew, and many draws of a known world."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modlib import DynamicGraph, KnnGraph, knn_graph, modularity
from modlib.significance import confidence_interval, null_model, null_moments, subsamples

seeds = st.integers(0, 2**32 - 1)


def gaussians(rng, n: int, separation: float = 0.5, classes: int = 5, dimensions: int = 10):
    """n points around one centre for each class, and their classes."""
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, dimensions)) + 4 * separation * np.eye(classes, dimensions)[labels], labels


def small_graph(rng, n: int, loops: bool) -> np.ndarray:
    a = np.triu(rng.exponential(1, (n, n)) * (rng.random((n, n)) < 0.6), 1)
    a[0, 1] += 0.5
    return a + a.T + loops * np.diag(rng.random(n))


@given(seeds, st.integers(2, 6), st.booleans())
def test_moments_are_those_of_all_permutations(seed, n, loops):
    rng = np.random.default_rng(seed)
    a, labels = small_graph(rng, n, loops), np.r_[0, 1, rng.integers(0, 3, n - 2)]
    every = [modularity(a, np.array(permuted)) for permuted in itertools.permutations(labels)]
    mean, std = null_moments(a, labels)
    assert mean == pytest.approx(np.mean(every), abs=1e-12)
    assert std == pytest.approx(np.std(every), abs=1e-7)


def test_mean_under_permutations_is_about_minus_one_in_n():
    """Equal strengths: -(1 - p) / N, where p is the share of pairs of one class."""
    ring = KnnGraph((np.arange(100)[:, None] + [1, 2, 3]) % 100, np.ones((100, 3)))
    labels = np.arange(100) % 10
    assert null_moments(ring, labels)[0] == pytest.approx(-(1 - 9 / 99) / 100, abs=1e-12)


def test_null_model_permutes_the_labels_and_nothing_else(rng):
    x, labels = gaussians(rng, 80)
    graph = knn_graph(x, 4)
    q = null_model(graph, labels, repeats=300, seed=5)
    again = np.random.default_rng(5).permuted(np.tile(labels, (300, 1)), axis=1)
    assert q == pytest.approx([modularity(graph, each) for each in again], abs=1e-12)
    assert q == pytest.approx(null_model(graph.adjacency(), labels, repeats=300, seed=5), abs=1e-12)


def test_null_model_agrees_with_its_exact_moments(rng):
    x, labels = gaussians(rng, 80)
    x[:40] *= -1  # some similarities are negative, and nodes differ in strength
    graph = knn_graph(x, 4)
    q, (mean, std) = null_model(graph, labels, repeats=4000), null_moments(graph, labels)
    assert q.mean() == pytest.approx(mean, abs=5 * std / np.sqrt(4000))
    assert q.std() == pytest.approx(std, rel=0.08)
    assert modularity(graph, labels) > mean + 5 * std


def test_chunks_do_not_change_the_result(rng, monkeypatch):
    x, labels = gaussians(rng, 60)
    graph = knn_graph(x, 40)
    before = null_model(graph, labels, 30), subsamples(graph, labels, 2, repeats=30)
    monkeypatch.setattr("modlib.significance.CHUNK", 1)
    assert null_model(graph, labels, 30) == pytest.approx(before[0], abs=1e-15)
    assert subsamples(graph, labels, 2, repeats=30) == pytest.approx(before[1], abs=1e-15)


@given(seeds, st.integers(8, 40), st.integers(1, 3), st.booleans())
def test_subsamples_equal_graphs_built_anew(seed, n, k, ties):
    rng = np.random.default_rng(seed)
    x, labels = gaussians(rng, n)
    x = np.sign(x) + 2 if ties else x + 1  # mostly positive similarities, and some that are none
    size = int(rng.integers(k + 1, n + 1))
    q = subsamples(knn_graph(x, n - 1), labels, k, size, repeats=5, seed=seed)
    chosen = np.random.default_rng(seed).permuted(np.tile(np.arange(n) < size, (5, 1)), axis=1)
    for value, part in zip(q, chosen, strict=True):
        if len(set(labels[part])) > 1:
            assert value == pytest.approx(modularity(knn_graph(x[part], k), labels[part]), abs=1e-9)


def test_snapshots_share_permutations_and_subsets(rng):
    x, labels = gaussians(rng, 60)
    graph = knn_graph(x, 50)
    both = DynamicGraph(("a", "b"), (graph, graph))
    for function in (null_model, subsamples):
        q = function(both, labels, repeats=20)
        assert q.shape == (2, 20) and (q[0] == q[1]).all() and (q[0] == function(graph, labels, repeats=20)).all()
    assert np.shape(null_moments(both, labels)) == (2, 2)
    assert confidence_interval(both, labels, repeats=20).shape == (2, 2)


@pytest.mark.parametrize("separation", [0.2, 0.5])
def test_intervals_hold_the_truth_and_halves_spread_as_draws_do(separation):
    """A world from which any number of draws can be taken."""
    rng = np.random.default_rng(1)
    truth = [modularity(knn_graph(x, 3), y) for x, y in (gaussians(rng, 200, separation) for _ in range(100))]
    inside, spread = [], []
    for _ in range(30):
        x, labels = gaussians(rng, 200, separation)
        graph = knn_graph(x, 50)
        low, high = confidence_interval(graph, labels, 3, level=0.9, repeats=150)
        inside.append(low < np.mean(truth) < high)
        spread.append(subsamples(graph, labels, 3, repeats=150).std())
    assert 0.8 <= np.mean(inside) <= 1
    assert np.mean(spread) == pytest.approx(np.std(truth), rel=0.3)


def test_a_bootstrap_with_replacement_would_mislead():
    """Why it is not offered: copies are each other's nearest neighbours, and Q far too high."""
    rng = np.random.default_rng(0)
    x, labels = gaussians(rng, 200, 0.1)
    low, high = confidence_interval(knn_graph(x, 50), labels, 3)
    rows = rng.integers(0, 200, 200)
    assert modularity(knn_graph(x[rows], 3), labels[rows]) > high + 0.2


@pytest.mark.parametrize("call, says", [
    (lambda g, y: null_model(g, y, repeats=0), "repeats must be a whole number .* got repeats=0"),
    (lambda g, y: null_model(g, y[1:]), "labels must be one integer a sample"),
    (lambda g, y: null_moments(g, 0 * y), "at least two classes"),
    (lambda g, y: subsamples(g, y, k=9), "k must be a whole number in 1..8; got k=9 for a graph with 8 neighbours"),
    (lambda g, y: subsamples(g, y, size=3), r"size must be a whole number in 4..30; got size=3 for N=30 .* k=3"),
    (lambda g, y: subsamples(g, y, k=7), r"too few neighbours a node \(8\) to find 7 in every subset of 15 .* k=16"),
    (lambda g, y: subsamples(KnnGraph(g.neighbors, 0 * g.weights), y, size=28), "a subset of 28 samples has no edges"),
    (lambda g, y: confidence_interval(g, y, level=95), "level must be a share between 0 and 1; got level=95"),
])  # fmt: skip
def test_bad_input_is_told_in_a_sentence(rng, call, says):
    x, labels = gaussians(rng, 30)
    with pytest.raises(ValueError, match=says):
        call(knn_graph(x, 8), labels)
