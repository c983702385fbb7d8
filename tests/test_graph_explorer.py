"""The k-NN graph explorer: what its page holds is what networkx computes, at the place of every slider."""

import base64
import io
import json

import networkx as nx
import numpy as np
import pytest
from PIL import Image

import modlib
from modlib import DynamicGraph, knn_graph
from modlib.book.widgets.base import unpack
from modlib.book.widgets.graph import COLUMNS, NO_EDGE, THUMBNAIL, _sheet, explore_graph
from modlib.plots import CLASS_COLORS


def snapshots(images, layers: int, k: int, seed: int = 0) -> DynamicGraph:
    """Graphs of noisy class vectors: less noise, more modularity."""
    rng = np.random.default_rng(seed)
    classes = np.eye(10)[images.y]
    graphs = (knn_graph(classes + noise * rng.normal(size=classes.shape), k) for noise in np.linspace(2, 0.2, layers))
    return DynamicGraph(tuple(f"layer{i}" for i in range(layers)), tuple(graphs))


@pytest.fixture(scope="module")
def images():
    return modlib.load_images("cifar10", n=40)


@pytest.fixture(scope="module")
def graph(images):
    return snapshots(images, 3, 6)


@pytest.fixture(scope="module")
def positions():
    return [np.random.default_rng(i).normal(0, 10**i, (40, 2)) for i in range(3)]


@pytest.fixture(scope="module")
def clean(graph, images, positions):
    return explore_graph(graph, images, positions).data["versions"]["clean"]


def places(version) -> np.ndarray:
    return unpack(version["at"], "<u2", 1 / 65535).reshape(3, 40, 2)


def distances(xy) -> np.ndarray:
    return np.linalg.norm(xy[:, None] - xy, axis=2)


def test_modularity_of_every_slider_position_is_networkxs(graph, images, clean):
    terms = unpack(clean["terms"]).reshape(3, 6, 10)
    groups = [np.flatnonzero(images.y == c).tolist() for c in np.unique(images.y)]
    for layer in range(3):
        for k in range(1, 7):
            a = nx.from_scipy_sparse_array(graph[layer].nearest(k).adjacency())
            q = nx.community.modularity(a, groups)
            assert clean["q"][layer][k - 1] == pytest.approx(q, abs=5.1e-5)
            assert terms[layer, k - 1].sum() == pytest.approx(q, abs=6e-4)  # ten rounded numbers


def test_neighbours_and_shares_are_the_graphs(graph, images, clean):
    near = unpack(clean["neighbours"], "<u2", 1).reshape(3, 40, 6)
    for layer, each in enumerate(graph.graphs):
        np.testing.assert_array_equal(near[layer], np.where(each.weights > 0, each.neighbors, NO_EDGE))
        for k in (1, 4):
            share = np.mean(images.y[each.neighbors[:, :k]] == images.y[:, None])
            assert clean["same"][layer][k - 1] == pytest.approx(share, abs=1e-4)


def test_layouts_keep_their_shape_and_fill_the_square(clean, positions):
    at = places(clean)
    assert at.min() < 1e-4 and at.max() > 1 - 1e-4
    for got, given in zip(at, positions, strict=True):
        ratio = distances(got)[~np.eye(40, dtype=bool)] / distances(given)[~np.eye(40, dtype=bool)]
        assert np.ptp(ratio) < 0.02 * ratio.mean()


def test_a_layout_that_was_only_turned_and_mirrored_stays_in_place(graph, images):
    xy = np.random.default_rng(5).normal(size=(40, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    layouts = [xy, 3 * xy @ turn + 7, xy * [1, -1]]
    at = places(explore_graph(graph, images, layouts).data["versions"]["clean"])
    np.testing.assert_allclose(at[1], at[0], atol=1e-4)
    np.testing.assert_allclose(at[2], at[0], atol=1e-4)


def test_one_point_on_top_of_all_others_is_no_trouble(graph, images):
    widget = explore_graph(graph, images, [np.zeros((40, 2))] * 3)
    assert (abs(places(widget.data["versions"]["clean"]) - 0.5) < 1e-4).all()
    json.dumps(widget.data, allow_nan=False)


def test_thumbnails_are_the_images(images, clean):
    with Image.open(io.BytesIO(base64.b64decode(clean["sheet"].split(",")[1]))) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(float)
    for i in range(len(images)):
        row, column = divmod(i, COLUMNS)
        part = (slice(row * THUMBNAIL, (row + 1) * THUMBNAIL), slice(column * THUMBNAIL, (column + 1) * THUMBNAIL))
        shown = pixels[part].transpose(2, 0, 1)
        assert abs(shown - images.x[i]).mean() < 12  # a lossy picture of it
        assert abs(shown - images.x).mean((1, 2, 3)).argmin() == i  # and of no other


def test_thumbnails_of_floats_a_little_outside_their_range_do_not_wrap_around():
    x = np.stack([np.full((3, 32, 32), value, np.float32) for value in (-0.01, 1.01)])
    with Image.open(io.BytesIO(base64.b64decode(_sheet(x).split(",")[1]))) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    assert pixels[10, 10] < 5 and pixels[10, THUMBNAIL + 10] > 250


def test_attacked_images_stand_beside_the_clean_ones(graph, images, positions):
    attacked = modlib.Images(np.clip(images.x / 255 + 0.1, 0, 1).astype(np.float32), images.y, images.classes, "attacked")
    other = snapshots(images, 3, 6, seed=1)
    versions = explore_graph(graph, images, positions, attacked=(other, attacked, positions[::-1])).data["versions"]
    assert list(versions) == ["clean", "attacked"]
    assert versions["attacked"]["q"][2][2] == pytest.approx(modlib.modularity(other[2].nearest(3), images.y), abs=5.1e-5)


def test_a_whole_experiment_fits_a_page():
    images = modlib.load_images("cifar10", n=500)
    positions = [np.random.default_rng(i).normal(size=(500, 2)) for i in range(10)]
    assert len(json.dumps(explore_graph(snapshots(images, 10, 20), images, positions).get_state())) < 600_000


def test_words_and_a_still_where_no_script_runs(graph, images, positions):
    widget = explore_graph(graph, images, positions, layer=2, k=4, image=7)
    forms = widget._repr_mimebundle_()[0]
    assert f"Q = {modlib.modularity(graph[2].nearest(4), images.y):.3f}" in forms["text/plain"]
    assert "40 images" in forms["text/plain"] and forms["image/png"]
    assert {key: widget.setting[key] for key in ("layer", "k", "image")} == {"layer": 2, "k": 4, "image": 7}


IMAGES = modlib.load_images("cifar10", n=20)


@pytest.mark.parametrize("change, says", [
    (dict(layer=3), r"layer must be .* 0\.\.2; got layer=3"),
    (dict(k=7), r"k must be .* 1\.\.6; got k=7"),
    (dict(image=40), r"image must be .* 0\.\.39; got image=40"),
    (dict(positions=[np.zeros((40, 2))] * 2), r"positions must be 3 layouts of shape \(40, 2\); got .* \(2, 40, 2\)"),
    (dict(positions=[np.zeros((39, 2))] * 3), r"got shape \(3, 39, 2\)"),
    (dict(images=modlib.load_images("cifar10", n=39)), r"shape \(40,\); got shape \(39,\)"),
    (dict(attacked=(snapshots(IMAGES, 2, 3), IMAGES, [np.zeros((20, 2))] * 2)), r"same layers, 40 images and k=6"),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_a_sentence(graph, images, positions, change, says):
    with pytest.raises(ValueError, match=says):
        explore_graph(**{"graph": graph, "images": images, "positions": positions, **change})


def test_predicted_classes_are_told_with_their_modularity(graph, images, positions):
    guess = (images.y + (np.arange(40) < 10)) % 10
    data = explore_graph(graph, images, positions, predicted=guess).data
    version = data["versions"]["clean"]
    assert version["predicted"] == guess.tolist()
    assert version["q_predicted"][2][3] == pytest.approx(modlib.modularity(graph.graphs[2].nearest(4), guess), abs=5.1e-5)
    assert explore_graph(graph, images, positions).data["versions"]["clean"]["q_predicted"] == []


@pytest.mark.parametrize("predicted", [[0] * 39, [11] * 40, [0.5] * 40, [[0] * 40] * 2])
def test_predictions_that_do_not_fit_are_told(graph, images, positions, predicted):
    with pytest.raises(ValueError, match=r"predicted must be a class, 0\.\.9, for each of 40 images"):
        explore_graph(graph, images, positions, predicted=predicted)


def test_one_palette_for_classes(graph, images, positions):
    assert tuple(explore_graph(graph, images, positions).data["colors"]) == CLASS_COLORS


def test_grey_images_are_shown_and_nameless_classes_told(graph, images, positions):
    grey = modlib.Images(images.x[:, :1], images.y, images.classes, "grey")
    assert explore_graph(graph, grey, positions).data["versions"]["clean"]["sheet"].startswith("data:image/webp")
    with pytest.raises(ValueError, match="images must name each class: label 9 needs 10 names; got 0"):
        explore_graph(graph, modlib.Images(images.x, images.y, (), "own"), positions)
