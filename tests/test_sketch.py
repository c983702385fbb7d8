"""Approximations: what they keep on average, what they cost in error, and what they leave alone."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from modlib import dynamic_graph, knn_graph, modularity
from modlib.graph.neighbours import sketched


def test_a_sketch_estimates_similarities_as_theory_says(rng):
    """Without bias, and with a standard deviation of (1 - r^2) / sqrt(size)."""
    pair = rng.normal(size=(2, 5_000))
    pair[1] += 0.75 * pair[0]
    pair /= np.linalg.norm(pair, axis=1, keepdims=True)
    r = pair[0] @ pair[1]
    estimates = []
    for seed in range(300):
        a, b = sketched(torch.from_numpy(pair), 100, seed)
        estimates.append(float(a @ b / a.norm() / b.norm()))
    assert np.mean(estimates) == pytest.approx(r, abs=4 * (1 - r**2) / np.sqrt(100 * 300) + 1 / 100)
    assert np.std(estimates) == pytest.approx((1 - r**2) / 10, rel=0.2)


def test_a_sketch_is_the_sum_of_every_feature_once():
    x = torch.eye(70, dtype=torch.float64)
    projection = sketched(x, 16)
    assert (abs(projection).sum(1) == 1).all()  # every feature goes into one sum, with a sign
    assert set(abs(projection).sum(0).tolist()) == {4, 5}
    assert (projection != sketched(x, 16, seed=1)).any()


def test_the_error_in_q_falls_with_the_size_of_the_sketch(rng):
    labels = np.arange(300) % 3
    x = (rng.normal(size=(3, 4_000))[labels] + 5 * rng.normal(size=(300, 4_000))).astype(np.float32)
    exact = modularity(knn_graph(x, 3), labels)

    def error(size):
        return np.mean([abs(modularity(knn_graph(x, 3, sketch=size, seed=seed), labels) - exact) for seed in range(5)])

    assert error(50) > 2 * error(1_000)
    assert error(4_000) == 0  # no fewer numbers than features: nothing is projected


def test_options_reach_every_layer(network, pixels):
    exact = dynamic_graph(network, pixels, 3)
    coarse = dynamic_graph(network, pixels, 3, sketch=60)
    assert (coarse["0"].neighbors != exact["0"].neighbors).any()  # 256 features
    np.testing.assert_array_equal(coarse["3"].neighbors, exact["3"].neighbors)  # 54


class Brute:
    """In the place of pynndescent.NNDescent, whose compilation takes half a minute: complete, and itself first."""

    def __init__(self, data, metric, n_neighbors, random_state):
        assert metric == "cosine"
        unit = data / np.linalg.norm(data, axis=1, keepdims=True)
        distance = 1 - unit @ unit.T
        index = distance.argsort(1, kind="stable")[:, :n_neighbors]
        self.neighbor_graph = index, np.take_along_axis(distance, index, 1)


def test_neighbours_of_pynndescent_leave_the_node_itself_out(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Brute))
    x = rng.normal(size=(40, 6)).astype(np.float32)
    exact, found = knn_graph(x, 5), knn_graph(x, 5, search="pynndescent")
    np.testing.assert_array_equal(found.neighbors, exact.neighbors)
    np.testing.assert_allclose(found.weights, exact.weights, atol=1e-6)
    assert found.weights.dtype == np.float32
    copies = knn_graph(np.repeat(x[:4], 10, 0), 5, search="pynndescent")
    assert (copies.neighbors != np.arange(40)[:, None]).all() and copies.weights.min() > 0.999


def test_neighbours_that_were_not_found_make_no_edge(rng, monkeypatch):
    class Few(Brute):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            index, distance = self.neighbor_graph
            index[:, -1], distance[:, -1] = -1, np.inf

    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Few))
    graph = knn_graph(np.abs(rng.normal(size=(40, 6))), 5, search="pynndescent")
    assert (graph.weights[:, -1] == 0).all() and (graph.weights[:, :-1] > 0).all()
    assert graph.neighbors.min() >= 0 and graph.directed().nnz == 160


@pytest.mark.parametrize("options, error, says", [
    (dict(search="faiss"), ValueError, "unknown search 'faiss'. Known: exact, pynndescent"),
    (dict(sketch=0), ValueError, "sketch must be a whole number of at least 1; got sketch=0"),
    (dict(search="pynndescent"), ImportError, 'needs it: pip install pynndescent; or search="exact"'),
])  # fmt: skip
def test_what_cannot_be_searched_is_told_in_a_sentence(rng, monkeypatch, options, error, says):
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(error, match=says):
        knn_graph(rng.normal(size=(20, 30)), 3, **options)


def test_descent_leaves_the_threads_of_the_process(rng, monkeypatch):
    class Greedy(Brute):
        def __init__(self, *arguments, **options):
            torch.set_num_threads(before + 1)  # as numba does
            super().__init__(*arguments, **options)

    before = torch.get_num_threads()
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Greedy))
    knn_graph(rng.normal(size=(40, 6)), 3, search="pynndescent")
    assert torch.get_num_threads() == before
