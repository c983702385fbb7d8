"""Approximations: what they keep on average, what they cost in error, and what they leave alone."""

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


def test_a_sketch_is_the_sum_of_every_feature_once(rng):
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


def test_a_sketch_of_no_numbers_is_told_in_a_sentence(rng):
    with pytest.raises(ValueError, match="sketch must be a whole number of at least 1; got sketch=0"):
        knn_graph(rng.normal(size=(20, 30)), 3, sketch=0)
