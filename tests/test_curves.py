"""Curves: equal to features, graphs and Eq. 1 put together by hand; repeats over draws that share no image."""

import numpy as np
import pytest
import reference
import torch
from torch import nn

import modlib
from modlib import Images, build_model, iter_features, modularity_curve, repeat_curves
from modlib.curves import curve_grid, curve_of
from modlib.graph import iter_graphs


@pytest.fixture
def labels(rng):
    return rng.permutation(np.arange(30) % 3)


@pytest.mark.parametrize("k", [1, 3, 29])
def test_curve_equals_the_direct_formula(network, pixels, labels, k):
    layers = ["0", "1", "3", "7"]
    curve = modularity_curve(network, pixels, labels, k, layers)
    assert (curve.layers, curve.k, curve.n) == (tuple(layers), k, 30)
    for q, (_, features) in zip(curve.q, iter_features(network, pixels, layers), strict=True):
        d = reference.directed(features, k)
        assert q == pytest.approx(reference.modularity((d + d.T) / 2, labels), abs=1e-6)


def test_curve_of_a_real_network_equals_the_direct_formula(sample):
    model = build_model("resnet20")
    curve = modularity_curve(model, sample.x, sample.y)
    assert curve.layers == tuple(modlib.layer_names(model))
    for q, (_, features) in zip(curve.q, iter_features(model, sample.x), strict=True):
        d = reference.directed(features, 3)
        assert q == pytest.approx(reference.modularity((d + d.T) / 2, sample.y), abs=1e-6)


def test_classes_add_up_to_the_curve(network, pixels, labels):
    curve = modularity_curve(network, pixels, labels)
    assert curve.per_class.shape == (2, 3)
    np.testing.assert_allclose(curve.per_class.sum(1), curve.q, atol=1e-12)


def test_curve_of_a_dynamic_graph_with_fewer_neighbours(network, pixels, labels):
    graph = modlib.dynamic_graph(network, pixels, 9)
    for k in (1, 4, 9):
        fewer = curve_of(graph.nearest(k), labels)
        np.testing.assert_allclose(fewer.q, modularity_curve(network, pixels, labels, k).q, atol=1e-12)
        assert fewer.k == k


def test_memory_and_batches_do_not_change_the_curve(network, pixels, labels):
    whole = modularity_curve(network, pixels, labels)
    parted = modularity_curve(network, pixels, labels, batch_size=11, memory=31_000)
    np.testing.assert_allclose(parted.q, whole.q, atol=1e-6)


def test_separated_images_give_a_high_curve_and_shuffled_labels_a_low_one(rng, network):
    labels = np.arange(60) % 3
    x = (rng.integers(0, 256, (3, 3, 8, 8))[labels] * 0.8 + rng.integers(0, 50, (60, 3, 8, 8))).astype(np.uint8)
    assert modularity_curve(network, x, labels).q.min() > 0.6  # of at most 2/3
    assert modularity_curve(network, x, rng.permutation(labels)).q.max() < 0.2


class Untouchable(nn.Module):
    """Fails the test if it is run."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

    def forward(self, x):
        raise AssertionError("the model ran")


@pytest.mark.parametrize("labels, k, says", [
    ([0, 1] * 4, 3, r"labels must .*shape \(10,\); got shape \(8,\)"),
    ([0] * 10, 3, "at least two classes"),
    ([0.5] * 10, 3, "labels must be integers"),
    ([0, 1] * 5, 10, r"k must be .* 1\.\.9; got k=10 for N=10"),
    ([0, 1] * 5, 0, "k must be .* got k=0"),
])  # fmt: skip
def test_wrong_labels_and_k_are_told_before_the_model_runs(labels, k, says):
    with pytest.raises(ValueError, match=says):
        modularity_curve(Untouchable(), np.zeros((10, 4), np.float32), labels, k)


@pytest.fixture
def pool(rng):
    x = rng.integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)
    return Images(x, np.arange(100) % 3, ("a", "b", "c"), "test")


def test_repeats_are_the_pools_batches_in_order(network, pool):
    draws = repeat_curves(network, pool, n=30, k=2, draws=3)
    assert (draws.q.shape, draws.k, draws.n, draws.layers) == ((3, 2), 2, 30, ("0", "3"))
    for i, q in enumerate(draws.q):
        part = pool[30 * i : 30 * (i + 1)]
        np.testing.assert_allclose(q, modularity_curve(network, part.x, part.y, 2).q, atol=1e-6)
    np.testing.assert_allclose(draws.mean, sum(draws.q) / 3)
    np.testing.assert_allclose(draws.std, np.sqrt(sum((q - draws.mean) ** 2 for q in draws.q) / 2))


@pytest.fixture
def seen(monkeypatch):
    """The draws of each grid that is measured, as lists of images."""
    grids = []

    def spy(model, x, k, samples, *arguments, **options):
        grids.append([[image.tobytes() for image in x[sample]] for sample in samples])
        return iter_graphs(model, x, k, samples, *arguments, **options)

    monkeypatch.setattr("modlib.curves.iter_graphs", spy)
    return grids


def test_repeats_share_no_image_whatever_the_seed(seen, network, pool):
    for seed in (1, 1, 2):
        repeat_curves(network, pool, n=20, draws=5, seed=seed)
    one, same, other = seen
    assert sorted(sum(one, [])) == sorted(image.tobytes() for image in pool.x)  # every image once
    assert one == same != other


def test_a_grid_holds_what_each_setting_gives_alone(network, pool):
    grid = curve_grid(network, pool, n=[10, 30], k=[1, 4], draws=3)
    assert (grid.q.shape, grid.per_class.shape) == ((2, 2, 3, 2), (2, 2, 3, 2, 3))
    for i, n in enumerate((10, 30)):
        for j, k in enumerate((1, 4)):
            np.testing.assert_allclose(grid.draws(n, k).q, repeat_curves(network, pool, n=n, k=k, draws=3).q, atol=1e-6)
            part = pool[2 * n : 3 * n]
            alone = modularity_curve(network, part.x, part.y, k)
            np.testing.assert_allclose(grid.per_class[i, j, 2], alone.per_class, atol=1e-6)


def test_what_is_not_in_a_grid_is_told(network, pool):
    grid = curve_grid(network, pool, [20, 30], [1, 3], draws=1)
    with pytest.raises(ValueError, match="n=500 is not in the grid; it has 20, 30"):
        grid.draws(500, 3)
    with pytest.raises(ValueError, match="k=2 is not in the grid; it has 1, 3"):
        grid.draws(20, 2)


def test_draws_that_do_not_fit_side_by_side_are_subsets_of_their_own(seen, network, pool):
    curve_grid(network, pool, n=[60], k=[3], draws=3)
    (draws,) = seen
    assert [len(set(images)) for images in draws] == [60, 60, 60]  # no image twice within a draw
    assert set(draws[0]) != set(draws[1]) != set(draws[2])


def test_every_image_of_a_grid_goes_through_the_network_once(network, pool):
    passed = []
    network.register_forward_pre_hook(lambda module, inputs: passed.append(len(inputs[0])))
    curve_grid(network, pool, n=[10, 30, 50], k=[3], draws=2)
    assert sum(passed) == 1 + 100


def test_a_draw_without_the_last_class_gives_it_no_term(network, pool):
    images = Images(pool.x, np.r_[np.arange(50) % 2, np.arange(50) % 3], pool.classes, pool.name)
    grid = curve_grid(network, images, n=[50], k=[3], draws=2)
    assert (grid.per_class[0, 0, 0, :, 2] == 0).all() and (grid.per_class[0, 0, 1, :, 2] != 0).all()


@pytest.mark.parametrize("arguments, says", [
    (dict(n=[30, 101], k=[3]), "n must be .* got n=101 for 100 images"),
    (dict(n=[30, 10], k=[3, 10]), r"k must be .* 1\.\.9; got k=10 for N=10 samples"),
    (dict(n=[30], k=[3], draws=0), "draws must be .* got draws=0"),
    (dict(n=[30], k=[3], seed=-1), "seed must be .* got seed=-1"),
])  # fmt: skip
def test_grids_that_cannot_be_are_told_before_the_model_runs(pool, arguments, says):
    with pytest.raises(ValueError, match=says):
        curve_grid(Untouchable(), pool, **arguments)


def test_options_reach_the_features(network, pool):
    assert repeat_curves(network, pool, n=30, draws=2, layers=["7"], batch_size=7).layers == ("7",)


@pytest.mark.parametrize("arguments, says", [
    (dict(n=30, draws=4), r"n must be .* 2\.\.25; got n=30 for 4 draws without overlap from 100 images"),
    (dict(n=30, draws=1), "draws must be .* got draws=1"),
    (dict(n=30, draws=2, k=30), r"k must be .* got k=30 for N=30"),
    (dict(n=1, draws=2), "n must be .* got n=1"),
])  # fmt: skip
def test_repeats_that_cannot_be_are_told_in_a_sentence(network, pool, arguments, says):
    with pytest.raises(ValueError, match=says):
        repeat_curves(network, pool, **arguments)


def test_torch_tensors_and_labels_are_taken(network, pixels, labels):
    expected = modularity_curve(network, pixels, labels).q
    given = modularity_curve(network, torch.from_numpy(pixels), torch.from_numpy(labels)).q
    np.testing.assert_array_equal(given, expected)
