"""Modularity: against networkx, scikit-network and Eq. 1 as it stands; known values, bounds and invariances."""

import networkx as nx
import numpy as np
import pytest
import reference
import scipy.sparse as sp
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sknetwork.clustering import get_modularity

from modlib import DynamicGraph, KnnGraph, knn_graph, modularity
from modlib.modularity import communities
from modlib.significance import null_model

seeds = st.integers(0, 2**32 - 1)


def labels_of(rng, n: int, classes: int) -> np.ndarray:
    """Labels with at least two classes."""
    labels = rng.integers(0, classes, n)
    labels[:2] = 0, 1
    return labels


def random_graph(rng, n: int, density: float) -> np.ndarray:
    """A symmetric weighted adjacency without loops, with at least one edge."""
    a = np.triu(rng.exponential(1, (n, n)) * (rng.random((n, n)) < density), 1)
    a[0, n - 1] += 0.5
    return a + a.T


def by_networkx(a, labels) -> float:
    groups = [np.flatnonzero(labels == c).tolist() for c in np.unique(labels)]
    return nx.community.modularity(nx.from_numpy_array(a), groups, weight="weight")


@given(seeds, st.integers(2, 40), st.integers(2, 6), st.floats(0.02, 1))
def test_equals_two_libraries_and_the_definition(seed, n, classes, density):
    rng = np.random.default_rng(seed)
    a, labels = random_graph(rng, n, density), labels_of(rng, n, classes)
    q = modularity(a, labels)
    assert q == pytest.approx(by_networkx(a, labels), abs=1e-9)
    assert q == pytest.approx(get_modularity(sp.csr_matrix(a), labels), abs=1e-9)
    assert q == pytest.approx(reference.modularity(a, labels), abs=1e-9)


@given(seeds, st.integers(3, 40), st.integers(1, 6), st.booleans())
def test_knn_graph_needs_no_adjacency(seed, n, k, in_float32):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.3, 1, (n, 8)).astype(np.float32 if in_float32 else np.float64)
    graph, labels = knn_graph(x, min(k, n - 1)), labels_of(rng, n, 3)
    assume(graph.weights.any())
    q = modularity(graph, labels)
    d = np.zeros((n, n))
    for i in range(n):
        d[i, graph.neighbors[i]] = graph.weights[i]
    assert q == pytest.approx(reference.modularity((d + d.T) / 2, labels), abs=1e-9)
    assert q == pytest.approx(by_networkx(graph.adjacency().toarray(), labels), abs=1e-9)
    assert q == pytest.approx(modularity(graph.adjacency(), labels), abs=1e-12)


@given(seeds, st.integers(2, 40), st.integers(2, 6), st.floats(0.02, 1))
def test_every_q_lies_within_its_bounds(seed, n, classes, density):
    rng = np.random.default_rng(seed)
    a, labels = random_graph(rng, n, density), labels_of(rng, n, classes)
    share = np.bincount(labels, a.sum(1)) / a.sum()
    q = modularity(a, labels)
    assert -0.5 - 1e-12 <= q <= 1 - (share**2).sum() + 1e-12
    assert q <= 1 - 1 / len(np.unique(labels)) + 1e-12


@given(seeds, st.integers(2, 40), st.integers(2, 6))
def test_classes_add_up(seed, n, classes):
    rng = np.random.default_rng(seed)
    a, labels = random_graph(rng, n, 0.3), labels_of(rng, n, classes)
    terms = modularity(a, labels, per_class=True)
    assert terms.shape == (labels.max() + 1,)
    assert terms.sum() == pytest.approx(modularity(a, labels), abs=1e-12)
    for c, term in enumerate(terms):  # a class alone: its edges inside, less what chance would give
        of_class = labels == c
        alone = a[np.ix_(of_class, of_class)].sum() / a.sum() - (a[of_class].sum() / a.sum()) ** 2
        assert term == pytest.approx(alone, abs=1e-12)


@given(seeds, st.integers(3, 40))
def test_node_order_relabelling_and_scale_do_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    a, labels = random_graph(rng, n, 0.3), labels_of(rng, n, 4)
    q = modularity(a, labels)
    order, names = rng.permutation(n), rng.permutation(50)
    assert modularity(a[np.ix_(order, order)], labels[order]) == pytest.approx(q, abs=1e-12)
    assert modularity(a, names[labels]) == pytest.approx(q, abs=1e-12)
    assert modularity(a * 1e-9, labels) == pytest.approx(q, abs=1e-12)
    assert modularity(a * 1e9, labels) == pytest.approx(q, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_perfect_communities_reach_the_upper_bound(classes, rng):
    labels = np.repeat(np.arange(classes), 8)
    x = 5 * np.eye(classes)[labels] + 0.01 * rng.normal(size=(8 * classes, classes))
    equal_weights = KnnGraph(knn_graph(x, 3).neighbors, np.ones((8 * classes, 3)))
    assert modularity(equal_weights, labels) == pytest.approx(1 - 1 / classes, abs=1e-12)
    np.testing.assert_allclose(modularity(equal_weights, labels, per_class=True), (1 - 1 / classes) / classes)
    assert modularity(knn_graph(x, 3), labels) == pytest.approx(1 - 1 / classes, abs=1e-4)


@pytest.mark.parametrize("left, right", [(1, 1), (3, 5), (10, 10)])
def test_complete_bipartite_graph_reaches_the_lower_bound(left, right):
    labels = np.repeat([0, 1], [left, right])
    assert modularity(labels[:, None] != labels, labels) == pytest.approx(-0.5, abs=1e-12)


def test_karate_club_splits_as_networkx_says():
    club = nx.karate_club_graph()
    labels = np.array([club.nodes[i]["club"] == "Officer" for i in club]).astype(int)
    a = nx.to_numpy_array(club)
    assert modularity(a, labels) == pytest.approx(by_networkx(a, labels), abs=1e-12)
    assert modularity(a > 0, labels) == pytest.approx(by_networkx((a > 0).astype(float), labels), abs=1e-12)


def test_one_way_edges_weigh_half():
    # 0 <-> 1 inside class 0; 2 -> 0 and 3 -> 1 across: A has 1 inside, 1/2 and 1/2 across, so 2W = 4.
    graph = KnnGraph(np.array([[1], [0], [0], [1]]), np.ones((4, 1)))
    # Inside class 0: 2/4. Strengths: 3/2, 3/2, 1/2, 1/2; of the classes: 3 and 1.
    assert modularity(graph, [0, 0, 1, 1]) == pytest.approx(2 / 4 - (3 / 4) ** 2 - (1 / 4) ** 2)
    np.testing.assert_array_equal(graph.adjacency().toarray()[2], [0.5, 0, 0, 0])


def test_permuted_labels_scatter_around_zero_as_chance_says(rng):
    """Whether an edge joins equal labels is, over random labels, a coin of chance 1/C, and two edges' coins are
    uncorrelated: Q scatters around -(1 - 1/C) / (N - 1) with the deviation of a weighted mean of coins."""
    n, classes = 400, 10
    graph = knn_graph(rng.normal(0.5, 1, (n, 20)), 3)
    w = sp.triu(graph.adjacency()).data
    deviation = np.sqrt((w**2).sum() / classes * (1 - 1 / classes)) / w.sum()
    labels = np.repeat(np.arange(classes), n // classes)
    q = np.array([modularity(graph, rng.permutation(labels)) for _ in range(300)])
    expected = -(1 - 1 / classes) / (n - 1)
    assert abs(q.mean() - expected) < 4 * deviation / np.sqrt(len(q)) + 1 / n
    assert q.std() == pytest.approx(deviation, rel=0.25)
    assert abs(q).max() < 5 * deviation


def test_separated_classes_beat_permuted_labels(rng):
    labels = np.repeat(np.arange(5), 20)
    x = np.eye(5)[labels] + 0.3 * rng.normal(size=(100, 5))
    graph = knn_graph(x, 3)
    assert modularity(graph, labels) > 0.4 > 0.15 > modularity(graph, rng.permutation(labels))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.coo_matrix, sp.csc_matrix, np.ndarray.tolist])
def test_every_form_of_adjacency(rng, form):
    a, labels = random_graph(rng, 20, 0.3), labels_of(rng, 20, 3)
    assert modularity(form(a), labels) == pytest.approx(modularity(a, labels), abs=1e-15)


def test_labels_may_leave_out_numbers(rng):
    a = random_graph(rng, 20, 0.3)
    labels = np.arange(20) % 2
    terms = modularity(a, 3 * labels, per_class=True)
    np.testing.assert_allclose(terms[[0, 3]], modularity(a, labels, per_class=True))
    np.testing.assert_array_equal(terms[[1, 2]], 0)


def test_input_is_left_alone(rng):
    a, labels = random_graph(rng, 20, 0.3), labels_of(rng, 20, 3)
    sparse = sp.csr_array(a)
    before = a.copy(), labels.copy(), sparse.data.copy()
    modularity(a, labels)
    modularity(sparse, labels)
    for now, then in zip((a, labels, sparse.data), before, strict=True):
        np.testing.assert_array_equal(now, then)


PATH = np.diag([1.0, 1, 1], 1) + np.diag([1.0, 1, 1], -1)  # 0 - 1 - 2 - 3


@pytest.mark.parametrize("labels, says", [
    ([0, 0, 1], r"shape \(4,\); got shape \(3,\)"),
    ([[0, 0, 1, 1]], r"shape \(4,\); got shape \(1, 4\)"),
    ([0.0, 0, 1, 1], "integers; got dtype float64"),
    ([0, 0, 1, np.nan], "integers; got dtype float64"),
    ([False, False, True, True], "integers; got dtype bool"),
    ([b"a", None, "b", "b"], "integers; got dtype object"),
    ([0, 0, -1, 1], ">= 0; got -1 at index 2"),
    ([2, 2, 2, 2], "at least two classes; all 4 samples are of class 2"),
])  # fmt: skip
def test_bad_labels_are_told_in_a_sentence(labels, says):
    for graph in (PATH, knn_graph(np.ones((4, 2)), 2)):
        with pytest.raises(ValueError, match="labels must .*" + says):
            modularity(graph, labels)


@pytest.mark.parametrize("graph, says", [
    (np.triu(PATH), r"symmetric; .*\(D \+ D\.T\) / 2"),
    (sp.csr_array(np.triu(PATH)), "symmetric"),
    (-PATH, "weights >= 0"),
    (PATH * np.nan, "finite"),
    (np.where(PATH > 0, np.inf, 0), "finite"),
    (PATH[:3], r"square \(N, N\) .* shape \(3, 4\)"),
    (PATH[0], r"square \(N, N\) .* shape \(4,\)"),
    (np.zeros((4, 4)), "graph has no edges"),
    (sp.csr_array((4, 4)), "graph has no edges"),
    (knn_graph(np.eye(4), 2), "graph has no edges"),
    ("path", "KnnGraph or an .* adjacency matrix; got str"),
    (None, "KnnGraph or an .* adjacency matrix; got NoneType"),
])  # fmt: skip
def test_bad_graphs_are_told_in_a_sentence(graph, says):
    with pytest.raises(ValueError, match=says):
        modularity(graph, [0, 0, 1, 1])


def test_names_of_classes_are_numbered():
    graph, names = knn_graph(np.random.default_rng(0).normal(size=(30, 4)), 3), np.array(["dog", "cat", "ant"] * 10)
    expected = modularity(graph, [2, 1, 0] * 10, per_class=True)
    for labels in (names, names.tolist(), names.astype(object), torch.tensor([2, 1, 0] * 10)):
        assert np.array_equal(modularity(graph, labels, per_class=True), expected)


@pytest.mark.parametrize("gap", [4_999, 20_000_000, 10**18])
def test_ids_with_gaps_are_no_sizes(gap):
    graph, few = knn_graph(np.random.default_rng(0).normal(size=(30, 4)), 3), np.arange(30) % 3
    terms = modularity(graph, few * gap, per_class=True)
    assert terms[terms != 0] == pytest.approx(modularity(graph, few, per_class=True))
    assert len(terms) == (2 * gap + 1 if 2 * gap < 10_000 else 3)
    assert null_model(graph, few * gap, 5) == pytest.approx(null_model(graph, few, 5))


def test_the_largest_floats_do_not_overflow():
    assert modularity(np.full((4, 4), 1e308), [0, 0, 1, 1]) == modularity(np.ones((4, 4)), [0, 0, 1, 1]) == 0


@pytest.mark.parametrize("graph, labels", [
    (nx.karate_club_graph(), [0] * 17 + [1] * 17),
    (nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 3)]), [0, 0, 1, 1]),
])  # fmt: skip
def test_graphs_of_networkx(graph, labels):
    groups = [{node for node, label in zip(graph, labels, strict=True) if label == c} for c in (0, 1)]
    assert modularity(graph, labels) == pytest.approx(nx.community.modularity(graph, groups))
    with pytest.raises(ValueError, match="symmetric"):
        modularity(nx.DiGraph([(0, 1), (1, 2), (2, 3)]), [0, 0, 1, 1])


def cliques(count, size, bridge=0.0):
    a = np.kron(np.eye(count), np.ones((size, size))) - np.eye(count * size)
    for i in range(count):  # a ring
        one, two = i * size, (i + 1) % count * size + 1
        a[one, two] = a[two, one] = bridge
    return a


@pytest.mark.parametrize("bridge", [0, 1])
def test_planted_communities_are_found_the_largest_first(bridge, rng):
    labels = np.repeat(np.arange(5), 6)
    order = rng.permutation(30)
    found = communities(cliques(5, 6, bridge)[np.ix_(order, order)])
    assert len({*zip(found, labels[order], strict=True)}) == 5 == len(set(found))
    uneven = sp.block_diag([np.ones((n, n)) - np.eye(n) for n in (3, 8, 5)])
    assert np.bincount(communities(uneven)).tolist() == [8, 5, 3]


def test_communities_of_noise_beat_its_labels(rng):
    """What is searched for scores above what is given."""
    graph = knn_graph(rng.normal(size=(120, 10)), k=3)
    found = communities(graph)
    best = modularity(graph, found)
    assert best > 0.5 > 0.1 > abs(modularity(graph, np.arange(120) % 10))
    assert best == pytest.approx(
        nx.community.modularity(
            nx.from_numpy_array(graph.adjacency().toarray()), [set(np.flatnonzero(found == c)) for c in set(found)]
        )
    )


def test_communities_of_every_layer_by_one_seed(rng):
    graphs = tuple(knn_graph(rng.normal(size=(40, 5)), k=3) for _ in range(2))
    found = communities(DynamicGraph(("a", "b"), graphs), seed=3)
    assert found.shape == (2, 40) and found.dtype == np.int64
    assert (found[1] == communities(graphs[1], seed=3)).all()
    assert (communities(graphs[0].adjacency() * 1e-30, seed=3) == found[0]).all()
    assert len(set(communities(graphs[0], resolution=5))) > len(set(found[0]))


@pytest.mark.parametrize("graph, options, says", [
    (np.zeros((3, 3)), {}, "no edges"),
    (np.ones((2, 3)), {}, "square"),
    (cliques(2, 3), {"resolution": 0}, "resolution must be"),
    (cliques(2, 3), {"resolution": "high"}, "resolution"),
    (cliques(2, 3), {"seed": -1}, "seed"),
])  # fmt: skip
def test_communities_that_cannot_be(graph, options, says):
    with pytest.raises(ValueError, match=says):
        communities(graph, **options)


def test_loops_of_networkx_count_as_networkx_counts_them():
    graph = nx.MultiGraph(nx.karate_club_graph())
    graph.add_edge(0, 0, weight=9.0)
    graph.add_edge(0, 33, weight=3.0)
    labels = np.arange(34) // 17
    expected = nx.community.modularity(graph, [set(range(17)), set(range(17, 34))])
    assert modularity(graph, labels) == pytest.approx(expected, abs=1e-12)
    once = nx.Graph(nx.karate_club_graph())
    once.add_edge(0, 0, weight=9.0)
    best = nx.community.modularity(once, nx.community.louvain_communities(once, seed=0))
    assert modularity(once, communities(once)) == pytest.approx(best, abs=1e-12)


def test_labels_by_node_whatever_the_order_of_nodes():
    graph = nx.Graph([(3, 1), (0, 2)])
    labels = {0: 0, 1: 1, 2: 0, 3: 1}
    assert modularity(graph, labels) == 0.5
    with pytest.raises(ValueError, match="labels must name the class of every node of the graph; that of 2 is missing"):
        modularity(graph, {0: 0, 1: 1, 3: 1})


def test_graphs_of_the_readers_own_class():
    class Own(nx.Graph):
        pass

    karate, labels = nx.karate_club_graph(), np.arange(34) // 17
    assert modularity(Own(karate), labels) == modularity(karate, labels)


@pytest.mark.parametrize(
    "graph, message",
    [
        (nx.Graph(), "graph must have nodes"),
        (nx.Graph([(0, 1, {"weight": "a"})]), "graph must have numbers as its weights"),
        (np.eye(2)[::-1] + 1j, "adjacency matrix"),
        (torch.eye(2).to_sparse(), "See to_dense"),
    ],
)
def test_what_is_no_graph_of_numbers_is_refused(graph, message):
    with pytest.raises(ValueError, match=message):
        modularity(graph, [0, 1])


def test_largest_weights_of_a_knn_graph():
    assert modularity(KnnGraph([[1], [0], [3], [2]], np.full((4, 1), 1e308)), [0, 0, 1, 1]) == 0.5
