"""k-NN graphs: against the definition, against scikit-learn, with ties, at extreme scales, under transformations."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

import modlib
import modlib.graph
import modlib.graph.neighbours
from modlib import DynamicGraph, knn_graph
from modlib.graph import iter_graphs, knn_graphs


def four_of_twelve(n: int, seed: int = 0) -> np.ndarray:
    """Rows with 4 ones among 12 places: similarities are 0, 1/4 ... 1, exact in every precision and full of ties."""
    order = np.random.default_rng(seed).random((n, 12)).argsort(1)
    return (order < 4).astype(np.float64)


def assert_same(a, b, rounding: float = 0):
    np.testing.assert_array_equal(a.neighbors, b.neighbors)
    np.testing.assert_allclose(a.weights, b.weights, rtol=0, atol=rounding)


@given(st.integers(2, 40), st.integers(1, 30), st.integers(0, 2**32 - 1), st.data())
def test_float64_equals_the_definition(n, m, seed, data):
    k = data.draw(st.integers(1, n - 1))
    x = np.random.default_rng(seed).normal(size=(n, m + 1))
    graph = knn_graph(x, k)
    neighbors, weights = reference.nearest(x, k)
    assert graph.neighbors.tolist() == neighbors
    np.testing.assert_allclose(graph.weights, weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("n, m", [(50, 7), (300, 1000), (257, 4096)])
def test_float32_equals_the_definition_to_rounding(rng, n, m, k):
    x = rng.normal(0.3, 1, (n, m)).astype(np.float32)
    graph = knn_graph(x, k)
    _, weights = reference.nearest(x, k)
    np.testing.assert_allclose(graph.weights, weights, rtol=0, atol=2e-6)
    own = np.take_along_axis(reference.cosine(x), graph.neighbors, 1)  # its neighbours are as similar as it says
    np.testing.assert_allclose(graph.weights, np.maximum(own, 0), rtol=0, atol=2e-6)


def test_equals_scikit_learn(rng):
    x = np.abs(rng.normal(size=(200, 30)))
    distance, index = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(x).kneighbors()
    graph = knn_graph(x, 8)
    np.testing.assert_array_equal(graph.neighbors, index)
    np.testing.assert_allclose(graph.weights, 1 - distance, atol=1e-12)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.data())
def test_ties_go_to_the_lower_index(n, seed, data):
    x = four_of_twelve(n, seed)
    k = data.draw(st.integers(1, n - 1))
    graph = knn_graph(x.astype(np.float32), k)
    neighbors, weights = reference.nearest(x, k)
    assert graph.neighbors.tolist() == neighbors
    np.testing.assert_array_equal(graph.weights, weights)


def test_copies_of_one_sample_point_to_the_first_copies():
    graph = knn_graph(np.tile([0.1, 0.7, -0.4], (6, 1)), 2)
    assert graph.neighbors.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [0, 1]]
    np.testing.assert_allclose(graph.weights, 1, atol=1e-15)


@pytest.mark.parametrize("panel", [1, 5_000, 100_000])
@pytest.mark.parametrize("k", [1, 4, 69])
def test_panel_size_does_not_change_the_graph(monkeypatch, panel, k):
    x = four_of_twelve(70)
    whole = knn_graph(x, k)
    monkeypatch.setattr(modlib.graph.neighbours, "PANEL_BYTES", panel)
    assert_same(knn_graph(x, k), whole)


@pytest.mark.parametrize("panel", [1, 3_000, 40_000, 10**9])
@pytest.mark.parametrize("slice_, leaf", [(4096, 64), (100, 16), (7, 32)])
def test_neighbours_do_not_depend_on_how_the_work_is_divided(monkeypatch, rng, panel, slice_, leaf):
    """Copies, near copies and features that float32 cannot tell apart: all that rounding could decide."""
    x = rng.random((12, 300)).astype(np.float32)
    x = np.concatenate(
        [x, x[::2], x + np.float32(1e-4) * rng.random(x.shape).astype(np.float32), 3 * x[:5], np.tile(x[0], (20, 1))]
    )
    for name, value in {"PANEL_BYTES": panel, "SLICE": slice_, "LEAF": leaf}.items():
        monkeypatch.setattr(modlib.graph.neighbours, name, value)
    for k in (1, 3, 12, len(x) - 1):
        graph = knn_graph(x, k)
        exact = np.round(reference.cosine(x) * 2**40)
        np.fill_diagonal(exact, -np.inf)
        expected = np.lexsort((np.broadcast_to(np.arange(len(x)), exact.shape), -exact), axis=1)[:, :k]
        np.testing.assert_array_equal(graph.neighbors, expected)
        np.testing.assert_allclose(graph.weights, np.take_along_axis(exact, expected, 1) / 2**40, rtol=0, atol=2e-6)


@pytest.mark.parametrize("height", [3, 100, 128, 1_000])
def test_largest_of_columns_are_those_of_topk(rng, height):
    matrix = torch.from_numpy(rng.integers(0, 50, (height, 40))).float()  # with ties: which row it is may differ
    values, rows = modlib.graph.neighbours._column_tops(matrix[:, 3:], 3)
    assert torch.equal(values, matrix[:, 3:].topk(3, 0).values)
    assert torch.equal(matrix[:, 3:].gather(0, rows), values)
    assert all(len(set(column)) == 3 for column in rows.T.tolist())


def test_what_float32_cannot_tell_apart_is_decided_in_float64(rng):
    """Rows at angles so small that all their cosines are 1 in float32."""
    x = np.concatenate([np.ones((50, 1)), 1e-5 * rng.normal(size=(50, 40))], 1).astype(np.float32)
    graph = knn_graph(x, 4)
    assert graph.neighbors.tolist() == reference.nearest(x, 4)[0]
    assert graph.nearest(2).neighbors.tolist() == reference.nearest(x, 2)[0]


@pytest.mark.parametrize("n, m", [(60, 65_536), (400, 2_048)])
@pytest.mark.parametrize("kind", [lambda x: abs(x), lambda x: np.maximum(x, 0), lambda x: x + 3])
def test_float32_errs_by_less_than_what_is_doubted(rng, n, m, kind):
    x = torch.from_numpy(kind(rng.normal(size=(n, m))).astype(np.float32))
    panel = modlib.graph.neighbours._panel(x, modlib.graph.neighbours.row_norms(x), np.arange(n), n).double().numpy()
    exact = reference.cosine(x)
    np.fill_diagonal(exact, -np.inf)
    assert abs(panel[panel > -1] - exact[panel > -1]).max() < modlib.graph.neighbours.DOUBT[torch.float32] / 2


@pytest.mark.parametrize("n, m, k", [(150, 3_000, 3), (400, 500, 10), (1_000, 64, 50)])
def test_q_equals_that_of_float64(rng, n, m, k):
    labels = rng.integers(0, 5, n)
    x = np.maximum(rng.normal(size=(5, m))[labels] + 3 * rng.normal(size=(n, m)), 0).astype(np.float32)
    q, exact = (modlib.modularity(knn_graph(each, k), labels) for each in (x, x.astype(np.float64)))
    assert q == pytest.approx(exact, abs=1e-6)
    assert n > 400 or q == pytest.approx(modlib.modularity((lambda d: (d + d.T) / 2)(reference.directed(x, k)), labels), abs=1e-6)


def test_lower_precision_that_the_user_allows_is_not_used(rng):
    x = rng.random((40, 2_000)).astype(np.float32)
    expected = knn_graph(x, 5)
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(knn_graph(x, 5), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("exponent", [-30, -20, -3, 3, 20, 30])
def test_length_of_a_row_does_not_matter(rng, exponent):
    x = four_of_twelve(40).astype(np.float32)
    scales = np.where(rng.random((40, 1)) < 0.5, 1, 10.0**exponent).astype(np.float32)
    assert_same(knn_graph(x * scales, 5), knn_graph(x, 5))


def test_lengths_of_all_sizes_together(rng):
    x = rng.normal(size=(60, 20))
    scales = 10.0 ** rng.uniform(-36, 36, (60, 1))
    near = knn_graph((x * scales).astype(np.float32), 5)
    np.testing.assert_allclose(near.weights, reference.nearest(x, 5)[1], atol=2e-6)


def test_order_of_nodes_only_renames_them(rng):
    x = rng.normal(size=(80, 10))
    order = rng.permutation(80)
    graph, moved = knn_graph(x, 6), knn_graph(x[order], 6)
    np.testing.assert_array_equal(order[moved.neighbors], graph.neighbors[order])
    np.testing.assert_allclose(moved.weights, graph.weights[order], atol=1e-12)


def test_rotation_changes_nothing(rng):
    x = rng.normal(size=(80, 10))
    turn = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    graph, turned = knn_graph(x, 6), knn_graph(x @ turn, 6)
    np.testing.assert_array_equal(turned.neighbors, graph.neighbors)
    np.testing.assert_allclose(turned.weights, graph.weights, atol=1e-12)


def test_no_node_is_its_own_neighbour_and_none_comes_twice(rng):
    x = np.repeat(rng.normal(size=(10, 4)), 5, axis=0)
    graph = knn_graph(x, 49)
    others = [[j for j in range(50) if j != i] for i in range(50)]
    assert [sorted(row) for row in graph.neighbors.tolist()] == others


def test_weights_lie_in_0_to_1_and_fall_along_a_row(rng):
    x = np.repeat(rng.normal(size=(40, 300)).astype(np.float32), 2, axis=0)
    weights = knn_graph(x, 79).weights
    assert weights.min() == 0 and weights.max() <= 1
    assert (np.diff(weights, axis=1) <= 0).all()


def test_similarities_of_zero_and_below_make_no_edge():
    x = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]
    graph = knn_graph(x, 3)
    a = graph.adjacency().toarray()
    half = np.sqrt(0.5)
    np.testing.assert_allclose(a, [[0, 0, 0, half], [0, 0, 0, half], [0, 0, 0, 0], [half, half, 0, 0]])
    assert graph.adjacency().nnz == 4


def test_asking_for_matrices_leaves_the_graph_alone(rng):
    x = rng.normal(size=(30, 3))
    graph, before = knn_graph(x, 20), knn_graph(x, 20)
    assert (graph.weights == 0).any()
    for _ in range(2):
        graph.directed().data[:] = 7
        graph.adjacency().data[:] = 7
        assert_same(graph, before)


@pytest.mark.parametrize("k", [1, 4, 9])
def test_one_search_serves_every_smaller_k(k):
    x = four_of_twelve(50)
    assert_same(knn_graph(x, 9).nearest(k), knn_graph(x, k))


@pytest.mark.parametrize("convert", [
    lambda x: x.tolist(),
    lambda x: x.astype(np.float16),
    lambda x: x.astype(np.int64),
    lambda x: x.astype(np.uint8),
    lambda x: x.astype(bool),
    lambda x: np.asfortranarray(x),
    lambda x: x[::-1][::-1],
    lambda x: np.repeat(x, 2, 1)[:, ::2],
    lambda x: torch.tensor(x, dtype=torch.bfloat16),
    lambda x: torch.tensor(x, requires_grad=True),
    lambda x: torch.tensor(x.T.copy()).T,
])  # fmt: skip
def test_every_kind_of_matrix_gives_the_same_graph(convert):
    x = four_of_twelve(30)
    assert_same(knn_graph(convert(x), 4), knn_graph(x, 4))


def test_read_only_and_reversed_arrays_are_taken_and_left_alone(rng):
    x = rng.normal(size=(20, 5))
    before = x.copy()
    x.flags.writeable = False
    graph = knn_graph(x, 3)
    np.testing.assert_array_equal(19 - knn_graph(x[::-1], 3).neighbors[::-1], graph.neighbors)
    np.testing.assert_array_equal(x, before)


def test_a_zero_column_changes_nothing():
    x = four_of_twelve(30)
    assert_same(knn_graph(np.hstack([x, np.zeros((30, 3))]), 4), knn_graph(x, 4))


def test_float64_is_searched_in_float64():
    angles = np.array([0, 1e-5, 1.1e-5, 1])  # cosines that float32 cannot tell apart
    x = np.column_stack([np.cos(angles), np.sin(angles)])
    assert knn_graph(x, 2).neighbors.tolist()[0] == [1, 2]
    assert knn_graph(x, 1).weights.dtype == np.float64
    assert knn_graph(x.astype(np.float32), 1).weights.dtype == np.float32


def test_adjacency_is_the_mean_of_both_directions(rng):
    x = rng.normal(size=(40, 5))
    graph = knn_graph(x, 4)
    d = reference.directed(x, 4)
    np.testing.assert_allclose(graph.directed().toarray(), d, atol=1e-12)
    np.testing.assert_allclose(graph.adjacency().toarray(), (d + d.T) / 2, atol=1e-12)


@pytest.mark.parametrize("features, k, says", [
    (np.ones((5, 2)), 0, r"k must be a whole number in 1\.\.4; got k=0 for N=5"),
    (np.ones((5, 2)), -1, r"got k=-1"),
    (np.ones((500, 2)), 500, r"in 1\.\.499; got k=500 for N=500 samples"),
    (np.ones((5, 2)), 2.5, r"k must be a whole number.* got k=2\.5"),
    (np.ones((5, 2)), "3", r"got k='3'"),
    (np.ones((5, 2)), None, r"got k=None"),
    (np.ones((5, 2)), np.nan, r"got k=nan"),
    (np.ones((5, 2)), np.inf, r"got k=inf"),
    (np.diag([1, 1, np.nan]), 1, r"features must be finite; row 2 holds nan"),
    (np.diag([1, np.inf, 1]), 1, r"features must be finite; row 1 holds inf"),
    (np.diag([1, -np.inf, 1]).astype(np.float32), 1, r"features must be finite; row 1 holds -inf"),
    (np.diag([1.0, 0, 1]), 1, r"row 1 is all zeros"),
    (np.diag([1.0, 0, 1e-30]).astype(np.float32), 1, r"row 1 is all zeros"),
    (np.ones((1, 2)), 1, r"at least two samples.* N=1"),
    (np.ones((0, 2)), 1, r"at least two samples.* N=0"),
    (np.ones(5), 1, r"matrix \(N, M\).* shape \(5,\)"),
    (np.ones((5, 2, 2)), 1, r"matrix \(N, M\).* shape \(5, 2, 2\)"),
    (np.ones((5, 0)), 1, r"matrix \(N, M\).* shape \(5, 0\)"),
    ([], 1, r"matrix \(N, M\)"),
])  # fmt: skip
def test_bad_input_is_told_in_a_sentence(features, k, says):
    with pytest.raises(ValueError, match=says):
        knn_graph(features, k)


def test_a_graph_cannot_give_more_neighbours_than_it_has(rng):
    with pytest.raises(ValueError, match=r"in 1\.\.2; got k=3 .*larger k"):
        knn_graph(rng.normal(size=(5, 2)), 2).nearest(3)


@pytest.fixture
def snapshots(rng) -> DynamicGraph:
    x = rng.normal(size=(30, 6))
    graphs = tuple(knn_graph(x + noise * rng.normal(size=x.shape), 4) for noise in (0, 0.3, 5))
    return DynamicGraph(("stem", "block1", "block2"), graphs)


def test_snapshots_by_place_and_by_name(snapshots):
    assert len(snapshots) == 3
    assert snapshots["block1"] is snapshots[1] is snapshots.graphs[1]
    with pytest.raises(ValueError, match="unknown layer 'blok2'; did you mean 'block2'"):
        snapshots["blok2"]


def test_nearest_of_all_snapshots(snapshots):
    for few, many in zip(snapshots.nearest(2).graphs, snapshots.graphs, strict=True):
        assert_same(few, many.nearest(2))


def test_persistence_is_the_share_of_edges_kept(snapshots):
    edges = [
        {(i, j) for i in range(g.n) for j, w in zip(g.neighbors[i], g.weights[i], strict=True) if w > 0} for g in snapshots.graphs
    ]
    kept = [len(a & b) / len(a) for a, b in zip(edges, edges[1:], strict=False)]
    np.testing.assert_allclose(snapshots.persistence(), kept)
    assert kept[0] > kept[1]


def test_dynamic_graph_is_one_graph_a_layer(network, pixels):
    graph = modlib.dynamic_graph(network, pixels, 3)
    for name, features in modlib.iter_features(network, pixels):
        assert_same(graph[name], knn_graph(features, 3))


def test_dynamic_graph_names_the_layer_that_is_at_fault(network, pixels):
    with torch.no_grad():
        network[3].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="layer '3': features must be finite; row 0 holds nan"):
        modlib.dynamic_graph(network, pixels, 3)


@pytest.mark.parametrize("memory", [30_000, 100_000, "1GiB"])
def test_memory_does_not_change_the_dynamic_graph(network, pixels, memory):
    """30 x 256 features take 30,720 bytes, their panel 10,800: the first budget sends the first layer to the disk."""
    whole, parted = (modlib.dynamic_graph(network, pixels, 3, memory=each, batch_size=5) for each in (None, memory))
    for a, b in zip(whole.graphs, parted.graphs, strict=True):
        assert_same(a, b)


def test_a_budget_too_small_for_a_panel_is_told_in_a_sentence(network, pixels):
    with pytest.raises(MemoryError, match=r"memory=10,000 bytes .* between 30 samples, which takes 10,800\. Give more"):
        modlib.dynamic_graph(network, pixels, 3, memory=10_000)


def test_a_dynamic_graph_goes_on_where_it_stopped(network, pixels, monkeypatch, tmp_path):
    whole, file = modlib.dynamic_graph(network, pixels, 3), tmp_path / "graph.npz"
    searched = []

    def interrupted(features, *arguments, **options):
        searched.append(features.shape[1])
        if searched == [256, 54]:
            raise KeyboardInterrupt
        return knn_graphs(features, *arguments, **options)

    monkeypatch.setattr(modlib.graph.dynamic, "knn_graphs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        modlib.dynamic_graph(network, pixels, 3, resume=file)
    resumed = modlib.dynamic_graph(network, pixels, 3, resume=file)
    assert searched == [256, 54, 54]  # the first layer once
    more = modlib.dynamic_graph(network, pixels, 3, ["3", "7", "0"], resume=file)
    assert searched == [256, 54, 54, 5] and more.layers == ("3", "7", "0")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.npz"]
    for name in whole.layers:
        assert_same(resumed[name], whole[name])
        assert_same(more[name], whole[name])

    with torch.no_grad():
        network[0].bias[0] += 1
    for changed in (dict(k=3), dict(k=4)):
        with pytest.raises(ValueError, match="is of another network, other images or other settings"):
            modlib.dynamic_graph(network, pixels, **changed, resume=file)
        with torch.no_grad():
            network[0].bias[0] -= 1
    np.save(tmp_path / "array.npy", np.zeros(3))
    for spoilt in (b"half a file", (tmp_path / "array.npy").read_bytes()):
        file.write_bytes(spoilt)
        with pytest.raises(ValueError, match="holds no work to go on with"):
            modlib.dynamic_graph(network, pixels, 3, resume=file)


def test_a_graph_of_no_layers_is_refused(network, pixels):
    with pytest.raises(ValueError, match=r"layers must name at least one module, and each once; got \[\]"):
        modlib.dynamic_graph(network, pixels, layers=[])


def test_work_is_of_a_network_with_its_normalisation(tmp_path, sample):
    """Mean and standard deviation are no part of a state_dict, and decide the outcome all the same."""
    one = modlib.build_model("resnet20")
    other = modlib.build_model("resnet20", pixels=((0.0,) * 3, (1.0,) * 3))
    other.load_state_dict(one.state_dict())
    modlib.dynamic_graph(one, sample.x[:10], 3, ["conv1"], resume=tmp_path / "file")
    with pytest.raises(ValueError, match="is of another network"):
        modlib.dynamic_graph(other, sample.x[:10], 3, ["conv1"], resume=tmp_path / "file")


@pytest.mark.parametrize("convert", [
    lambda x: torch.from_numpy(x).float().requires_grad_(),
    lambda x: torch.from_numpy(x).bfloat16(),
    lambda x: x[:, :, ::-1],
])  # fmt: skip
def test_whatever_can_be_measured_can_be_resumed(network, pixels, tmp_path, convert):
    network.to(memory_format=torch.channels_last)
    x, file = convert(pixels), tmp_path / "file"
    once, again = (modlib.dynamic_graph(network, x, 3, resume=file) for _ in range(2))
    for a, b, c in zip(once.graphs, again.graphs, modlib.dynamic_graph(network, x, 3).graphs, strict=True):
        assert_same(a, b)
        assert_same(a, c)


# ------------------------------------------------------------------------------------- several samples at once


def draws(rng, n: int, sizes) -> list[np.ndarray]:
    return [np.sort(rng.choice(n, size, replace=False)) for size in sizes]


@pytest.mark.parametrize("panel", [4 * 40, 4 * 40 * 7, 2**27])
@pytest.mark.parametrize("sizes", [(20, 20, 20, 20), (8, 5), (40, 30, 6), (40,)])
@pytest.mark.parametrize("kind", [lambda x: x, np.round])  # the second has ties
def test_graphs_of_samples_are_those_of_their_features(monkeypatch, rng, panel, sizes, kind):
    x = kind(rng.normal(size=(40, 30))).astype(np.float32)
    samples = [*draws(rng, 40, sizes), np.arange(10, 25)]
    monkeypatch.setattr(modlib.graph.neighbours, "PANEL_BYTES", panel)
    for graph, sample in zip(knn_graphs(x, 4, samples), samples, strict=True):
        assert_same(graph, knn_graph(x[sample], 4), 2e-6)


@pytest.mark.parametrize("samples, work", [
    ([range(60), range(30), range(60)], 60**2),  # nested: once for all
    ([range(30), range(30, 60)], 2 * 30**2),  # side by side: what lies between them is no one's
    ([range(0, 60, 2), range(0, 60, 2)], 30**2),  # what no sample holds is left out
])  # fmt: skip
def test_pairs_are_multiplied_once_where_that_is_less(monkeypatch, rng, samples, work):
    multiplied = []
    whole = modlib.graph.neighbours._panel
    monkeypatch.setattr(modlib.graph.neighbours, "_panel", lambda *a: multiplied.append(whole(*a)) or multiplied[-1])
    knn_graphs(rng.normal(size=(60, 10)).astype(np.float32), 3, samples)
    assert sum(panel.numel() for panel in multiplied) == work


@pytest.mark.parametrize("samples, k, says", [
    ([[0, 1, 2], [2, 1, 0]], 1, r"samples must be arrays of rising integers; samples\[1\] is not"),
    ([[0, 0, 1]], 1, r"rising integers; samples\[0\]"),
    ([[0.0, 1.0]], 1, "rising integers"),
    ([[0, 5]], 1, r"samples must lie in 0\.\.4; samples\[0\] goes from 0 to 5"),
    ([[-1, 2]], 1, "goes from -1 to 2"),
    ([[0, 1, 2], [3, 4]], 2, r"k must be .* got k=2 for N=2"),
    ([[0, 1, 2], np.arange(0)], 1, "at least two samples .* got N=0"),
    ([], 1, "at least one array"),
])  # fmt: skip
def test_samples_that_cannot_be_are_told_in_a_sentence(samples, k, says):
    with pytest.raises(ValueError, match=says):
        knn_graphs(np.eye(5) + 1, k, samples)


def test_graphs_of_samples_stream_and_go_on(network, pixels, tmp_path):
    samples, file = [range(20), range(5, 30), range(30)], tmp_path / "graphs.npz"
    whole = list(iter_graphs(network, pixels, 3, samples))
    begun = iter_graphs(network, pixels, 3, samples, resume=file)
    next(begun)
    begun.close()
    resumed = list(iter_graphs(network, pixels, 3, samples, resume=file))
    for sample, i in zip(samples, range(3), strict=True):
        alone = modlib.dynamic_graph(network, pixels[sample.start : sample.stop], 3)
        for stream in (whole, resumed):
            assert [name for name, _ in stream] == list(alone.layers)
            for (_, graphs), graph in zip(stream, alone.graphs, strict=True):
                assert_same(graphs[i], graph, 2e-6)
    with pytest.raises(ValueError, match="other settings"):
        list(iter_graphs(network, pixels, 3, samples[:2], resume=file))


def test_float16_features_are_multiplied_in_float32(rng):
    """The graph of rounded features, not one of rounded sums: of 5,000 numbers near 1 the sum has no place in float16."""
    x = (1 + rng.random((50, 5_000))).astype(np.float16)
    assert_same(knn_graph(x, 5), knn_graph(x.astype(np.float32), 5))
    assert_same(knn_graph(x, 5, sketch=500), knn_graph(x.astype(np.float32), 5, sketch=500))


def test_float16_overflow_is_told_in_a_sentence():
    with pytest.raises(ValueError, match="row 1 holds inf. .* or store them in float32"):
        knn_graph(torch.tensor([[1.0, 2.0], [70_000.0, 1.0], [2.0, 1.0]]).half(), 1)


@pytest.mark.parametrize("neighbors, weights, says", [
    ([[5], [0]], [[1.0], [1.0]], r"neighbors must lie in 0\.\.1; got 0 to 5"),
    ([[-1], [0]], [[1.0], [1.0]], r"neighbors must lie in 0\.\.1; got -1 to 0"),
    ([[1.0], [0.0]], [[1.0], [1.0]], "neighbors must be whole numbers"),
    ([1, 0], [1.0, 1.0], r"got shapes \(2,\) and \(2,\)"),
    ([[1], [0]], [[1.0, 1.0]], r"got shapes \(2, 1\) and \(1, 2\)"),
    ([[1], [0]], [[np.nan], [1.0]], "weights must be finite numbers >= 0"),
    ([[1], [0]], [[-0.5], [1.0]], "weights must be finite numbers >= 0"),
])  # fmt: skip
def test_a_graph_checks_what_it_is_made_of(neighbors, weights, says):
    with pytest.raises(ValueError, match=says):
        modlib.KnnGraph(np.array(neighbors), np.array(weights))


def test_snapshots_are_of_the_same_samples(rng):
    graphs = [knn_graph(rng.normal(size=(n, 3)), 2) for n in (5, 6)]
    with pytest.raises(ValueError, match="got 2 layers and graphs of 5, 6 nodes"):
        DynamicGraph(("a", "b"), tuple(graphs))
    with pytest.raises(ValueError, match="got 2 layers and graphs of 5 nodes"):
        DynamicGraph(("a", "b"), tuple(graphs[:1]))


def test_dead_samples_can_be_isolated(rng):
    """The living have the graph that they have without the dead, as long as similarities are positive; the dead have no edges."""
    x, dead = rng.random((20, 6)), np.isin(np.arange(20), [0, 7, 19])
    x[dead] = 0
    with pytest.raises(ValueError, match="row 0 is all zeros.*dead='isolate'"):
        knn_graph(x, 4)
    graph, alive = knn_graph(x, 4, dead="isolate"), np.flatnonzero(~dead)
    alone = knn_graph(x[~dead], 4)
    assert np.array_equal(graph.neighbors[~dead], alive[alone.neighbors])
    np.testing.assert_allclose(graph.weights[~dead], alone.weights)
    assert not graph.weights[dead].any()
    assert graph.neighbors[[7, 0]].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert_same(knn_graph(x[~dead], 4, dead="isolate"), alone)
    assert not knn_graph(np.zeros((3, 2)), 2, dead="isolate").weights.any()
    with pytest.raises(ValueError, match="unknown treatment of dead samples"):
        knn_graph(x, 4, dead="keep")


def test_resumed_layers_come_in_the_order_in_which_they_run(network, pixels, tmp_path):
    file = tmp_path / "work"
    some = modlib.dynamic_graph(network, pixels, 3, ["3"], resume=file)
    whole = modlib.dynamic_graph(network, pixels, 3, resume=file)
    assert whole.layers == ("0", "3") and np.array_equal(whole["3"].neighbors, some["3"].neighbors)
    again = modlib.dynamic_graph(network, pixels, 3, resume=file)
    for a, b in zip(whole.graphs, again.graphs, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-310])
def test_rows_that_float64_cannot_square_have_their_direction(rng, scale):
    x = rng.normal(size=(40, 20))
    near = knn_graph(x * scale, 5)
    np.testing.assert_array_equal(near.neighbors, knn_graph(x, 5).neighbors)
    np.testing.assert_allclose(near.weights, knn_graph(x, 5).weights, atol=1e-9)


@pytest.mark.parametrize("scale", [1e37, 1e-30])
@pytest.mark.parametrize("how", [{"sketch": 2}, {"search": "pynndescent"}])
def test_length_does_not_matter_to_approximations(rng, scale, how):
    if "search" in how:
        pytest.importorskip("pynndescent")
    x = rng.normal(size=(40, 20)).astype(np.float32)
    np.testing.assert_allclose(knn_graph(x * np.float32(scale), 5, **how).weights, knn_graph(x, 5, **how).weights, atol=1e-5)
