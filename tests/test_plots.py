"""Pictures: their lines, points and titles are the numbers they were given, and drawing them gives no warning."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from modlib import Curve, CurveDraws, DynamicGraph, knn_graph, modularity
from modlib.plots import layout, plot_curve, plot_dynamic_graph, plot_layouts


def curve(q) -> Curve:
    return Curve(tuple(map(str, range(len(q)))), np.array(q), np.array(q)[:, None], 3, 100)


def drawn(ax) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


@pytest.fixture
def snapshots(rng):
    labels = np.arange(12) % 3
    x = np.eye(3)[labels]
    graphs = tuple(knn_graph(x + noise * rng.normal(size=x.shape), 2) for noise in (0.8, 0.5, 0.1))
    return DynamicGraph(("a", "b", "c"), graphs), labels


def test_curves_are_drawn_over_their_own_layers():
    ax = plot_curve({"short": curve([0.1, 0.5]), "long": curve([-0.1, 0.2, 0.4])}, paper=[0, 0.6], title="two")
    lines = drawn(ax)
    np.testing.assert_allclose(lines["short"], [(1, 0.1), (2, 0.5)])
    np.testing.assert_allclose(lines["long"], [(1, -0.1), (2, 0.2), (3, 0.4)])
    np.testing.assert_allclose(lines["paper"], [(1, 0), (2, 0.6)])
    assert ax.get_title() == "two" and ax.get_ylim()[0] < -0.1
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"short", "long", "paper"}
    ax.figure.canvas.draw()


def test_repeats_are_drawn_as_mean_and_spread():
    draws = CurveDraws(("a", "b"), np.array([[0.1, 0.3], [0.3, 0.5], [0.2, 0.4]]), 3, 100)
    ax = plot_curve({"draws": draws})
    np.testing.assert_allclose(drawn(ax)["draws"], [(1, 0.2), (2, 0.4)])
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.1, 0.5))
    assert ax.get_ylim()[0] == 0
    ax.figure.canvas.draw()


def test_a_curve_is_drawn_where_asked():
    ax = plot_curve({"a": curve([0.1, 0.2])})
    assert plot_curve({"b": curve([0.3, 0.4])}, ax=ax) is ax
    assert set(drawn(ax)) == {"a", "b"}


@pytest.mark.parametrize("as_labels", [np.array, list])
def test_layouts_show_every_point_in_its_class(rng, as_labels):
    labels = np.arange(30) % 3
    positions = {f"layer {i}": rng.normal(size=(30, 2)) for i in range(3)}
    figure = plot_layouts(positions, as_labels(labels), ["a", "b", "c"], columns=2)
    for ax, (title, xy) in zip(figure.axes, positions.items(), strict=False):
        assert ax.get_title() == title
        for c, points in enumerate(ax.collections):
            np.testing.assert_allclose(points.get_offsets(), xy[labels == c])
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]
    figure.canvas.draw()


def test_dynamic_graph_shows_edges_kept_and_new(snapshots):
    graph, labels = snapshots
    figure = plot_dynamic_graph(graph, labels, ["x", "y", "z"])
    before = set()
    for ax, name in zip(figure.axes, graph.layers, strict=False):
        a = graph[name].adjacency().toarray()
        edges = {(i, j) for i, j in zip(*np.nonzero(np.triu(a)), strict=True)}
        lines = ax.collections[0]
        assert len(lines.get_segments()) == len(edges)
        dark = (lines.get_colors()[:, 0] < 0.5).sum()
        assert dark == len(edges & before)
        assert ax.get_title() == f"{name}: Q = {modularity(graph[name], labels):.2f}"
        before = edges
    figure.canvas.draw()


def test_some_snapshots_of_a_dynamic_graph(snapshots):
    graph, labels = snapshots
    figure = plot_dynamic_graph(graph, labels.tolist(), ["x", "y", "z"], layers=["c", "a"])
    assert [ax.get_title()[:1] for ax in figure.axes if ax.collections] == ["c", "a"]
    with pytest.raises(ValueError, match="unknown layer 'd'"):
        plot_dynamic_graph(graph, labels, ["x", "y", "z"], layers=["d"])


@pytest.fixture
def clusters(rng):
    """Three well separated directions."""
    return np.arange(90) % 3, (np.eye(3)[np.arange(90) % 3] @ rng.normal(size=(3, 20)) * 4 + rng.normal(size=(90, 20)) * 0.3)


@pytest.mark.parametrize("method", ["tsne", "umap"])
# umap-learn names arguments of scikit-learn and numba that will be renamed.
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn", "ignore::DeprecationWarning:umap", "ignore::DeprecationWarning:numba")
def test_layouts_keep_neighbours_together(clusters, method):
    if method == "umap":
        pytest.importorskip("umap")
    labels, features = clusters
    xy = layout(features, method)
    assert xy.shape == (90, 2) and np.isfinite(xy).all()
    near = NearestNeighbors(n_neighbors=3).fit(xy).kneighbors(return_distance=False)
    assert (labels[near] == labels[:, None]).mean() > 0.95
    moved = layout(features + 0.01, method, start=100 + 50 * xy)
    assert np.corrcoef(centred(xy).ravel(), centred(moved).ravel())[0, 1] > 0.5  # points stay near where they were


def centred(xy):
    return xy - xy.mean(0)


def test_layout_is_by_direction_and_the_same_each_time(clusters):
    _, features = clusters
    lengths = 2.0 ** np.random.default_rng(1).integers(-3, 4, (90, 1))
    start = np.random.default_rng(2).normal(size=(90, 2))
    np.testing.assert_array_equal(layout(features, start=start), layout(features * lengths, start=start))
    np.testing.assert_array_equal(layout(features), layout(features))


@pytest.mark.parametrize("n", [4, 20])
def test_a_few_points_have_a_layout_too(clusters, n):
    assert np.isfinite(layout(clusters[1][:n])).all()


def test_unknown_layout(clusters):
    with pytest.raises(ValueError, match="unknown layout method 'tsen'; did you mean 'tsne'"):
        layout(clusters[1], "tsen")


def test_a_curve_alone_is_drawn():
    ax = plot_curve(curve([0.1, 0.2]))
    assert len(ax.get_lines()) == 1 and ax.get_legend() is None


@pytest.mark.parametrize("features, says", [
    (np.ones((20, 3)), "the same for all samples"),
    (np.zeros((20, 3)), "the same for all samples"),
    (np.diag(np.arange(20.0)), "all zeros for one"),
    (np.eye(3), r"at least four samples; got shape \(3, 3\)"),
    (np.full((9, 2), np.nan), "finite numbers"),
])  # fmt: skip
def test_features_that_no_layout_can_be_made_of(features, says):
    with pytest.raises(ValueError, match=says):
        layout(features)


@pytest.mark.parametrize("scale", [1e37, 1e-38])
def test_layout_of_features_that_float32_cannot_square(rng, scale):
    """scikit-learn would end the process, or put all samples on one place."""
    assert layout((rng.normal(size=(20, 6)) * scale).astype(np.float32)).std() > 0.1


def test_layout_of_one_feature(rng):
    assert layout(rng.normal(size=(20, 1))).shape == (20, 2)
