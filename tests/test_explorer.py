"""The modularity explorer: it shows what was recorded, and computes what modlib's own functions compute."""

import json
import re
import threading

import numpy as np
import pytest

import modlib
from modlib.book.widgets.base import FOLDER, STEP, unpack
from modlib.book.widgets.explorer import LIVE_K, OWN, explore
from modlib.data import Images
from modlib.paper import paper_values
from modlib.results import find_results, measurement
from modlib.training import RECIPES

N, K, LAYERS = [200, 500], [1, 3, 7], ["conv1", "relu", "layer1.0"]


def record(rng, **settings):
    settings = {
        "model": "vgg16",
        "dataset": "cifar10",
        "weights": "trained",
        "recipe": "fast",
        "epochs": 3,
        "seed": 0,
    } | settings
    coords = {
        "n": N,
        "k": K,
        "draw": [1, 2, 3],
        "layer": LAYERS,
        "conv": ["conv1", "layer1.0"],
        "relu": ["relu", "layer1.0"],
    }
    q = rng.uniform(-0.1, 0.9, (2, 3, 3, 3))
    return measurement("curves", settings, coords, {"q": (["n", "k", "draw", "layer"], q), "accuracy": ([], 91.5)})


@pytest.fixture
def own(network, pixels):
    images = Images(pixels, np.arange(30) % 3, ("a", "b", "c"), "mine")
    return network, images


def at(series, n, k):
    """(L,) mean and spread of a series as the page finds them."""
    shape = (len(series["n"]), len(series["k"]), max(1, len(series["epochs"])), len(series["layers"]))
    place = (series["n"].index(n), series["k"].index(k), -1)
    mean, std = unpack(series["mean"]), unpack(series["std"], "u1", series["step"])
    return mean.reshape(shape)[place], std.reshape(shape)[place] if len(std) else None


def test_every_recorded_number_is_on_the_page(rng):
    result = record(rng)
    (series,) = explore(results=[result]).data["series"]
    for i, n in enumerate(N):
        for j, k in enumerate(K):
            mean, std = at(series, n, k)
            np.testing.assert_allclose(mean, result["q"][i, j].mean(0), atol=0.51 * STEP)
            np.testing.assert_allclose(std, result["q"][i, j].std(0, ddof=1), atol=0.51 * series["step"])
    assert series["readings"] == {"conv": [0, 2], "relu": [1, 2]}
    assert (series["attack"], series["accuracy"], series["draws"]) == ("none", [91.5], 3)


def test_records_of_another_kind_are_passed_over(rng):
    other = measurement("benchmarks", {}, {}, {})
    assert len(explore(results=[record(rng), other]).data["series"]) == 1


def test_training_runs_are_shown_epoch_by_epoch():
    result = find_results("training", model="vgg11")[0]
    (series,) = explore(results=[result]).data["series"]
    assert series["epochs"] == result.coords["epoch"] and not series["std"]
    np.testing.assert_allclose(unpack(series["mean"]), result["q"].ravel(), atol=0.51 * STEP)


def test_the_papers_curves_are_the_papers():
    paper = explore().data["paper"]
    assert paper["vgg11 cifar10 none 500 3"] == {
        "figure": "Fig. 4",
        "q": [round(q, 4) for q in paper_values("fig4")["vgg11/cifar10"]],
    }
    assert paper["vgg16 cifar10 none 500 7"]["figure"] == "Fig. 7b"
    assert paper["resnet18 cifar10 pgd (authors) 500 3"]["figure"] == "Fig. 6a"
    assert "resnet18 cifar100 none 1000 3" in paper and "resnet18 cifar10 none 2000 3" not in paper


def test_attacks_and_second_runs_are_kept_apart(rng):
    results = [record(rng), record(rng, attack="pgd"), record(rng, seed=1), record(rng, weights="untrained")]
    series = explore(results=results).data["series"]
    keys = [tuple(each[part] for part in ("model", "dataset", "weights", "attack")) for each in series]
    assert len(set(keys)) == 4
    assert [each["attack"] for each in series] == ["none", "pgd", "none", "none"]
    assert "seed 1" in series[2]["weights"]


def attack_record(rng, **settings):
    """FGSM in pixels, 8/255, with the curve of the same images before it."""
    eps = settings.get("eps", 8 / 255)
    coords = {"n": N, "k": K, "layer": LAYERS, "conv": ["conv1", "layer1.0"]}
    values = {name: (["n", "k", "layer"], rng.uniform(0, 0.9, (2, 3, 3))) for name in ("q", "clean")}
    settings = {"model": "vgg16", "dataset": "cifar10", "attack": "fgsm", "protocol": "pixels", "eps": eps} | settings
    return measurement("attack", settings, coords, values, attack={"eps": eps})


def test_an_attack_stands_beside_its_own_images(rng):
    result = attack_record(rng)
    clean, attacked = explore(results=[record(rng), result]).data["series"]
    assert (clean["clean"], attacked["clean"] != "") == ("", True)
    np.testing.assert_allclose(unpack(attacked["clean"]), result["clean"].ravel(), atol=0.51 * STEP)


def test_menus_are_sorted_by_numbers_and_in_words(rng):
    strengths = [attack_record(rng, eps=eps / 255, attack=name) for name in ("pgd", "fgsm") for eps in (16, 2, 76.5, 8)]
    strengths.append(attack_record(rng, protocol="authors", attack="pgd"))
    data = explore(results=[*strengths, record(rng)]).data
    told = [data["words"][each["attack"]] for each in data["series"]]
    assert told == [
        "none: clean images", "FGSM, ε = 2/255, in pixels", "FGSM, ε = 8/255, in pixels", "FGSM, ε = 16/255, in pixels",
        "FGSM, ε = 0.3, in pixels", "PGD, ε = 2/255, in pixels", "PGD, ε = 8/255, in pixels", "PGD, ε = 16/255, in pixels",
        "PGD, ε = 0.3, in pixels", "PGD, authors’ protocol",
    ]  # fmt: skip


def test_what_imagenet_weights_were_measured_on_is_told():
    data = explore().data
    [keras] = [each for each in data["series"] if each["weights"] == "keras"]
    assert data["words"][keras["dataset"]] == "Imagenette, ten classes of ImageNet"
    assert data["words"]["keras"] == "trained by others (Keras)"
    for weights in {each["weights"] for each in data["series"]} - {"trained", "untrained"}:
        assert re.match(r"trained by others|trained \(.* recipe|in training", data["words"][weights])


def test_every_recipe_has_words_on_the_page():
    kit = (FOLDER / "kit.js").read_text(encoding="utf-8")
    for name, recipe in RECIPES.items():
        words = re.search(rf"\n  {name}: (.*),\n", kit)[1]
        optimizer = {"sgd": "SGD", "adamw": "AdamW"}[recipe.optimizer]
        assert words.startswith('"as “') or (optimizer in words and f" {recipe.lr:g} " in words)


def test_names_with_markup_or_tex_stay_text(own):
    network, images = own
    odd = Images(images.x, images.y, images.classes, r"cost $\of{ it$ <b>")
    assert r"$\of{ it$ <b>" in explore(network, odd)._repr_mimebundle_()[0]["text/plain"]


def test_a_full_campaign_fits_a_page(rng):
    """Every network of the paper on three datasets, trained and untrained."""
    results = []
    for i, depth in enumerate((16, 20, 26, 32, 10, 18, 18, 35, 52, 29)):  # layers of both readings
        layers = [f"layer{j}" for j in range(depth)]
        coords = {
            "n": [200, 500, 1000, 2000, 5000],
            "k": [1, 3, 5, 7, 9, 11, 15, 20, 30, 50],
            "draw": range(5),
            "layer": layers,
        }
        values = {"q": (["n", "k", "draw", "layer"], rng.normal(0.4, 0.02, (5, 10, 5, depth)))}
        results += [
            measurement("curves", {"model": f"net{i}", "dataset": d, "weights": w}, {**coords, "conv": layers}, values)
            for d in ("cifar10", "cifar100", "tinyimagenet50") for w in ("trained", "untrained")
        ]  # fmt: skip
    assert len(json.dumps(explore(results=results).get_state())) < 400_000


@pytest.mark.parametrize("arguments, says", [
    (dict(model="resnt20"), "unknown recorded network 'resnt20'; did you mean 'resnet20'"),
    (dict(results=[]), "no recorded curve"),
    (dict(images=modlib.load_images("cifar10", n=10)), r"give the model as well"),
    (dict(model=modlib.build_model("resnet20"), images=modlib.load_images("cifar10")[:0]), "images must be two or more.* got 0"),
    (dict(model=modlib.build_model("resnet20"), images=modlib.load_images("cifar10", n=1)), "images must be two or more.* got 1"),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        explore(**arguments)


def test_where_no_script_runs_the_curve_is_told_in_words():
    forms = explore("resnet20")._repr_mimebundle_()[0]
    run = find_results("training", model="resnet20")[0]
    assert f"to {run['q'][-1, -1]:.3f} in the last" in forms["text/plain"]
    assert forms["image/png"]


# With a kernel


class Page:
    """What a page hears from the widget, and a way to ask it."""

    def __init__(self, widget):
        self.widget, self.heard, self._news = widget, [], threading.Condition()
        widget.send = self._hear

    def _hear(self, message):
        with self._news:
            self.heard.append(message)
            self._news.notify_all()

    def ask(self, ticket, n, model=OWN, dataset="mine", weights="as given", reading="conv"):
        which = {"model": model, "dataset": dataset, "weights": weights, "reading": reading, "n": n}
        self.widget._receive(None, {"kind": "ask", "ticket": ticket, **which}, [])

    def wait_for(self, fits):
        """The first message that fits."""
        with self._news:
            assert self._news.wait_for(lambda: any(map(fits, self.heard)), timeout=60)
            return next(filter(fits, self.heard))

    def answer(self, ticket):
        """The last message of a request."""
        return self.wait_for(lambda m: m.get("ticket") == ticket and (m["kind"] == "error" or m.get("last")))


def test_a_model_of_ones_own_comes_first_and_is_measured(own):
    widget = explore(*own)
    series = widget.data["series"][0]
    assert widget.setting["model"] == series["model"] == OWN
    curve = modlib.modularity_curve(own[0], own[1].x, own[1].y, k=3)
    np.testing.assert_allclose(at(series, 30, 3)[0], curve.q, atol=0.51 * STEP)


def test_a_kernel_computes_what_was_not_recorded(own):
    page = Page(explore(*own))
    page.widget._receive(None, {"kind": "hello"}, [])
    assert page.heard[0]["series"][0]["model"] == OWN and page.heard[0]["k"] == list(LIVE_K)
    page.ask(7, n=10)
    series = page.answer(7)["series"]
    draws = modlib.repeat_curves(*own, n=10, k=4, draws=3)
    mean, std = at(series, 10, 4)
    np.testing.assert_allclose(mean, draws.mean, atol=0.51 * STEP)
    np.testing.assert_allclose(std, draws.std, atol=0.51 * series["step"])
    assert [m["series"]["draws"] for m in page.heard if m["kind"] == "series"] == [1, 2, 3]
    shares = [m["share"] for m in page.heard if m["kind"] == "progress"]
    assert shares == sorted(shares) and shares[-1] == 1


def test_the_next_move_cancels(own):
    reached, go_on = threading.Event(), threading.Event()
    page = Page(explore(*own))
    network = page.widget._own[0]  # a copy

    def wait(*_):
        reached.set()
        assert go_on.wait(60)

    hook = network.register_forward_hook(wait)
    page.ask(1, n=10)
    assert reached.wait(60)
    page.ask(2, n=15)
    go_on.set()
    assert page.answer(2)["series"]["n"] == [15]
    assert not [m for m in page.heard if m.get("ticket") == 1 and m["kind"] in ("series", "error")]
    hook.remove()
    assert not network._forward_hooks and not network._forward_pre_hooks


def test_ones_own_model_is_left_alone(own):
    """It may be trained, changed or deleted while the page computes on a copy."""
    network, images = own
    before = explore(network.train(), images).data["series"][0]["mean"]
    page = Page(explore(network, images))
    network.register_forward_pre_hook(lambda *_: pytest.fail("the explorer ran the model itself"))
    for weight in network.parameters():
        weight.data.zero_()
    page.ask(1, n=30)
    assert page.answer(1)["series"]["mean"] == before
    assert network.training


def test_a_model_that_cannot_be_copied_is_told(own):
    network, images = own
    network.kept = threading.Lock()
    with pytest.raises(ValueError, match="model cannot be copied, and explore computes on a copy"):
        explore(network, images)


def test_an_error_is_a_sentence_and_the_explorer_works_on(own):
    page = Page(explore(*own))
    page.ask(1, n=100)
    assert page.answer(1)["words"] == "Python could not compute this: N = 100 asks for more images than the 30 there are"
    page.ask(2, n=10, model="vgg19", dataset="cifar10", weights="trained")
    assert "no trained weights of 'vgg19' on 'cifar10'" in page.answer(2)["words"]
    page.ask(3, n=15)
    assert page.answer(3)["kind"] == "series"


def test_untrained_networks_are_those_of_the_records():
    page = Page(explore("resnet20"))
    page.ask(1, n=500, model="resnet20", dataset="cifar10", weights="untrained", reading="relu")
    series = page.wait_for(lambda message: message["kind"] == "series")["series"]
    page.widget._receive(None, {"kind": "stop"}, [])
    network, images = modlib.build_model("resnet20", seed=0), modlib.load_images("cifar10", n=500)
    layers = modlib.layer_names(network, at="relu")
    curve = modlib.modularity_curve(network, images.x, images.y, k=2, layers=layers)
    assert series["layers"] == layers
    np.testing.assert_allclose(at(series, 500, 2)[0], curve.q, atol=0.51 * STEP)
