"""Similarity: against the definitions over features and over subsets, its invariances, and the bounds on memory."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group

import modlib
from modlib import similarity
from modlib.similarity import cka_of, linear_cka, modularity_difference, shared_edges


def cka_of_covariances(x, y):
    """Kornblith et al. 2019, Section 3, without a kernel: |Y^T X|^2 / (|X^T X| |Y^T Y|) of centred features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def hsic_1(x, y):
    """Eq. 3 of Nguyen et al. 2021, term by term."""
    n = len(x)
    k, h = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(h, 0)
    terms = np.trace(k @ h) + k.sum() * h.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ h).sum()
    return terms / (n * (n - 3))


def test_difference_of_modularity(rng):
    q = rng.random(7)
    d = modularity_difference(q)
    assert all(d[i, j] == abs(q[i] - q[j]) for i in range(7) for j in range(7))
    np.testing.assert_array_equal(modularity_difference(1 - q).round(12), d.round(12))
    for wrong in (np.ones((2, 3)), [0.1, np.nan], 0.5):
        with pytest.raises(ValueError, match="q must be"):
            modularity_difference(wrong)


def test_shared_edges_by_sets(rng):
    y = rng.integers(0, 3, 40)
    features = [rng.normal(size=(40, 5)) for _ in range(2)]
    features += [features[1] + 0.3 * rng.normal(size=(40, 5)), np.eye(40)]  # the last has no edges
    graph = modlib.DynamicGraph(tuple("abcd"), tuple(modlib.knn_graph(x, k=4) for x in features))
    edges = [
        {(i, j) for i, (row, s) in enumerate(zip(g.neighbors, g.weights, strict=True)) for j in row[s > 0]} for g in graph.graphs
    ]
    assert shared_edges(graph).tolist() == [[len(a & b) for a in edges] for b in edges]
    inside = [{(i, j) for i, j in each if y[i] == y[j]} for each in edges]
    assert shared_edges(graph, y).tolist() == [[len(a & b) for a in inside] for b in inside]
    with pytest.raises(ValueError, match=r"labels must be .* shape \(40,\); got shape \(80,\)"):
        shared_edges(graph, np.tile(y, 2))
    shared = shared_edges(graph)
    np.testing.assert_allclose(np.diag(shared, 1) / np.diag(shared)[:-1], graph.persistence())


@pytest.fixture
def features(rng):
    """Four related matrices of 30 samples; the third is far from the origin."""
    x = rng.normal(size=(30, 12))
    return [x, x[:, :5] @ rng.normal(size=(5, 40)), rng.normal(size=(30, 200)) + 1000, np.maximum(x, 0)]


def test_full_cka_is_the_ratio_of_covariances(features):
    expected = [[cka_of_covariances(x, y) for x in features] for y in features]
    np.testing.assert_allclose(cka_of(features), expected, atol=1e-10)
    in_single = cka_of(torch.tensor(x, dtype=torch.float32) for x in features)
    np.testing.assert_allclose(in_single, expected, atol=1e-4)


def test_unbiased_cka_is_the_ratio_of_hsic_1(features):
    near = [*features[:2], features[2] - 1000, features[3]]  # from afar, the three terms cancel all but two digits
    expected = [[hsic_1(x, y) / np.sqrt(hsic_1(x, x) * hsic_1(y, y)) for x in near] for y in near]
    np.testing.assert_allclose(cka_of(features, unbiased=True), expected, atol=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_does_not_see_rotation_scale_shift_or_order(features, rng, unbiased):
    moved = [3 * x @ ortho_group.rvs(x.shape[1], random_state=1) - 7 for x in features]
    order = rng.permutation(30)
    cka = cka_of(features, unbiased=unbiased)
    np.testing.assert_allclose(cka_of(moved, unbiased=unbiased), cka, atol=1e-8)
    np.testing.assert_allclose(cka_of([x[order] for x in features], unbiased=unbiased), cka, atol=1e-8)
    assert cka_of([features[0], moved[0]], unbiased=unbiased)[0, 1] == pytest.approx(1)
    stretched = features[0] * np.arange(1, 13)  # not a rotation
    assert cka_of([features[0], stretched], unbiased=unbiased)[0, 1] < 0.99


def test_mean_of_hsic_1_over_all_minibatches_is_that_of_the_whole(rng):
    """What unbiased means, exactly: a U-statistic. The biased HSIC is not."""
    x, y = torch.tensor(rng.normal(size=(7, 9))), torch.tensor(rng.normal(size=(7, 4)) + 2)
    for unbiased in (True, False):
        size, scale = 5, (lambda n: n * (n - 3)) if unbiased else (lambda n: (n - 1) ** 2)
        parts = [similarity._hsic([x[list(p)], y[list(p)]], unbiased) for p in combinations(range(7), size)]
        whole = similarity._hsic([x, y], unbiased) / scale(7)
        assert np.allclose(np.mean(parts, 0) / scale(size), whole) == unbiased


def test_minibatches_find_independence_that_the_full_cka_does_not(rng):
    x, y = rng.normal(size=(2, 400, 300))
    assert cka_of([x, y])[0, 1] > 0.3  # biased: as many features as samples
    assert abs(cka_of([x, y], unbiased=True)[0, 1]) < 0.02
    parts = torch.tensor(np.stack([x, y])).split(50, dim=1)
    hsic = sum(similarity._hsic(part, unbiased=True) for part in parts)
    assert abs(similarity._normalise(hsic, "xy")[0, 1]) < 0.03


def test_of_a_network_equals_that_of_its_features(network, pixels):
    layers = ["0", "1", "3", "7"]
    features = [f.double().numpy() for _, f in modlib.iter_features(network, pixels, layers)]
    np.testing.assert_allclose(linear_cka(network, pixels, layers), cka_of(features), atol=1e-6)
    assert linear_cka(network, pixels).shape == (2, 2)
    whole = linear_cka(network, pixels, layers, minibatch=30)
    np.testing.assert_allclose(whole, cka_of(features, unbiased=True), atol=1e-6)


def test_minibatches_of_a_network_pool_their_hsic(network, pixels):
    features = [f.double().numpy() for _, f in modlib.iter_features(network, pixels, ["0", "3"])]
    parts = [slice(0, 14), slice(14, 28)]  # the last two images fill no batch
    hsic = np.array([[sum(hsic_1(x[p], y[p]) for p in parts) for x in features] for y in features])
    expected = hsic / np.sqrt(np.outer(np.diag(hsic), np.diag(hsic)))
    np.testing.assert_allclose(linear_cka(network, pixels, ["0", "3"], minibatch=14), expected, atol=1e-6)


def test_memory_is_bounded_and_changes_nothing(network, pixels, monkeypatch):
    layers = ["0", "1", "3"]  # 256, 256, 54 features
    kernels, largest = 3 * 30**2 * 8, 30 * 256 * 4
    asked = []

    def spy(*arguments, memory, **options):
        asked.append(memory)
        return modlib.iter_features(*arguments, memory=memory, **options)

    monkeypatch.setattr(similarity, "iter_features", spy)
    least = linear_cka(network, pixels, layers, memory=kernels + largest, batch_size=7)
    assert asked == [largest]
    np.testing.assert_allclose(least, linear_cka(network, pixels, layers), atol=1e-6)
    with pytest.raises(MemoryError, match="does not hold layer '0'"):
        linear_cka(network, pixels, layers, memory=kernels + largest - 1)
    with pytest.raises(MemoryError, match="3 kernels of 30 x 30, which take 21,600 bytes.*minibatch"):
        linear_cka(network, pixels, layers, memory=kernels)
    linear_cka(network, pixels, layers, memory=kernels, minibatch=6)


def test_features_are_centred_in_parts(features, monkeypatch):
    whole = cka_of(features)
    monkeypatch.setattr(similarity, "COLUMNS", 7)
    np.testing.assert_allclose(cka_of(features), whole, atol=1e-10)


@pytest.mark.parametrize("minibatch", [3, 31, 2.5])
def test_bad_minibatches(network, pixels, minibatch):
    with pytest.raises(ValueError, match=r"minibatch must be a whole number(, or None| in 4..30)"):
        linear_cka(network, pixels, minibatch=minibatch)


@pytest.mark.parametrize("value", [0.1, 0.0, 1e6 / 3, np.nan])
def test_a_layer_without_differences_has_no_cka(features, value):
    with pytest.raises(ValueError, match="layer 1 gives all samples the same"):
        cka_of([features[0], np.full((30, 20_000), value, np.float32)])


def test_features_of_different_samples(features):
    with pytest.raises(ValueError, match=r"same N samples.*\(29, 12\) beside N=30"):
        cka_of([features[0], features[0][:29]])
    with pytest.raises(ValueError, match="at least 4"):
        cka_of([features[0][:3]], unbiased=True)


@pytest.mark.parametrize("scale", [1e-25, 1e-10, 1, 1e10, 1e30])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_features_of_any_size(rng, scale, kind):
    x, y = (torch.from_numpy(rng.normal(size=(12, m))) for m in (5, 40))
    expected = cka_of([x, y])
    np.testing.assert_allclose(cka_of([(scale * x).to(kind), y.to(kind)]), expected, atol=1e-5)
    np.testing.assert_allclose(cka_of([300 * x.half(), 300 * y.half()]), expected, atol=2e-3)


def test_lengths_count_so_half_precision_is_refused(network, pixels):
    with pytest.raises(ValueError, match="storage must be 'float32'"):
        linear_cka(network, pixels, storage="float16")


def another():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3))


def test_cka_of_two_networks_is_a_part_of_that_of_all_layers(network, pixels):
    other = another()
    found = linear_cka(network, pixels, other=other)
    every = [f for model in (network, other) for _, f in modlib.iter_features(model, pixels)]
    first = len(every) - 2
    np.testing.assert_allclose(found, cka_of(every)[:first, first:], rtol=1e-12)
    np.testing.assert_allclose(found, linear_cka(other, pixels, other=network).T, rtol=1e-12)
    itself = linear_cka(network, pixels, other=network)
    np.testing.assert_allclose(itself, linear_cka(network, pixels), rtol=1e-12)


def test_edges_that_two_networks_share(network, pixels):
    one, two = (modlib.dynamic_graph(model, pixels, k=2) for model in (network, another()))
    sets = [[{(i, j) for i, row in enumerate(g.neighbors) for j in row} for g in graph.graphs] for graph in (one, two)]
    assert shared_edges(one, other=two).tolist() == [[len(a & b) for b in sets[1]] for a in sets[0]]
    assert (shared_edges(one, other=one) == shared_edges(one)).all()
    few = modlib.dynamic_graph(another(), pixels[:-1], k=2)
    with pytest.raises(ValueError, match=r"other must be of the same images; got N=\d+ beside N=\d+"):
        shared_edges(one, other=few)
    with pytest.raises(ValueError, match="other must be modlib.DynamicGraph"):
        shared_edges(one, other=few[0])


def test_difference_of_two_networks():
    np.testing.assert_allclose(modularity_difference([0.1, 0.5], [0.2, 0.5, 0.9]), [[0.1, 0.4, 0.8], [0.3, 0, 0.4]])
    with pytest.raises(ValueError, match=r"other must be \(L,\) modularities"):
        modularity_difference([0.1], [[0.2]])


@pytest.mark.parametrize("scale", [1e160, 1e-200])
def test_cka_of_features_that_float64_cannot_square(rng, scale):
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 3))
    assert np.allclose(cka_of([x * scale, y]), cka_of([x, y]))


def test_cka_takes_features_with_their_names_and_no_complex_ones(rng):
    x, y = rng.normal(size=(20, 6)), rng.normal(size=(20, 3))
    assert np.array_equal(cka_of([("a", x), ("b", y)]), cka_of({"a": x, "b": y}))
    with pytest.raises(ValueError, match="must be real numbers; got complex"):
        cka_of([x + 1j, y])
