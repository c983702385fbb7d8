import copy
import importlib.util
import inspect
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import modlib
from modlib import attacks
from modlib.attacks import ATTACKS, AUTHORS_STATISTICS, DEFAULTS, PROTOCOLS, attack, clip_only
from modlib.attacks import algorithms as algorithms
from modlib.attacks.advertorch import CLASSES, advertorch_algorithm
from modlib.data import Images
from modlib.paper import paper_values

needs_advertorch = pytest.mark.skipif(
    importlib.util.find_spec("advertorch") is None, reason="compares with AdverTorch: pip install advertorch==0.2.3"
)
QUICK = {"cw": {"max_iterations": 30, "binary_search_steps": 4}, "localsearch": {"round_ub": 2}}


def predictions(model, x):
    x = torch.from_numpy(x).float() / (255 if x.dtype == np.uint8 else 1)
    with torch.no_grad():
        return model(x.to(next(model.parameters()).dtype)).argmax(1).numpy()


@pytest.fixture
def model(network, pixels):
    """``network`` in double precision, where rounding turns no sign of a gradient, and with every class predicted."""
    network.double().eval()
    with torch.no_grad():
        network[-1].bias -= network(torch.from_numpy(pixels).double() / 255).mean(0)
    assert len(set(predictions(network, pixels))) == 5
    return network


@pytest.fixture
def images(model, pixels):
    """Labelled as the model sees them, but for the first three."""
    y = predictions(model, pixels)
    y[:3] = (y[:3] + 1) % 5
    return Images(pixels, y, tuple("abcde"), "cifar10/test")


@pytest.fixture(scope="module")
def resnet20():
    return modlib.load_model("resnet20")


def linear(weight, bias=0.0):
    """Logits (0, w . x + b) of images 1 x 4 x 4."""
    layer = nn.Linear(16, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros(16), torch.as_tensor(weight)]))
        layer.bias.copy_(torch.tensor([0.0, bias]))
    return nn.Sequential(nn.Flatten(), layer)


def generators(n, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(n)]


# What an attack is known to do to a linear model


def test_fgsm_on_a_linear_model_goes_along_the_sign_of_its_weights(rng):
    w, x = rng.normal(size=16), torch.from_numpy(rng.random((5, 1, 4, 4)))
    for label, direction in ((1, -1), (0, 1)):
        found = algorithms.fgsm(linear(w), x, torch.full((5,), label), None, eps=0.1)
        expected = np.clip(x.numpy() + 0.1 * direction * np.sign(w).reshape(4, 4), 0, 1)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("rand_init", [True, False])
def test_pgd_on_a_linear_model_ends_in_the_corner_of_the_ball(rng, rand_init):
    w, x = rng.normal(size=16), torch.from_numpy(rng.random((5, 1, 4, 4)))
    y = torch.ones(5, dtype=torch.int64)
    found = algorithms.pgd(linear(w), x, y, generators(5), eps=0.2, nb_iter=41, eps_iter=0.01, rand_init=rand_init)
    np.testing.assert_allclose(found.numpy(), np.clip(x.numpy() - 0.2 * np.sign(w).reshape(4, 4), 0, 1), atol=1e-12)


def test_pgd_starts_uniformly_in_the_ball():
    x = torch.full((400, 1, 4, 4), 0.5, dtype=torch.float64)
    flat = linear(np.zeros(16))  # no gradient: one step goes nowhere
    start = algorithms.pgd(flat, x, torch.zeros(400, dtype=torch.int64), generators(400), eps=0.3, nb_iter=1)
    change = np.sort((start - x).numpy().ravel())
    np.testing.assert_allclose(change, np.linspace(-0.3, 0.3, 6400), atol=0.6 * 1.63 / np.sqrt(6400))  # Kolmogorov, 1 %


def test_cw_on_a_linear_model_crosses_the_plane_at_its_foot(rng):
    w = rng.normal(size=16)
    x = torch.from_numpy(rng.uniform(0.3, 0.7, (20, 1, 4, 4)))
    margin = x.flatten(1).numpy() @ w
    y = torch.from_numpy((margin > 0).astype(np.int64))
    found = algorithms.cw(linear(w), x, y, None)
    distance = np.abs(margin) / np.linalg.norm(w)
    foot = x.flatten(1).numpy() - margin[:, None] * w / (w @ w)
    inside = np.abs(foot - 0.5).max(1) < 0.45
    assert inside.sum() >= 10
    length = (found - x).flatten(1).norm(dim=1).numpy()
    np.testing.assert_array_less(distance, length + 1e-5)
    np.testing.assert_allclose(length[inside], distance[inside], rtol=0.03, atol=2e-3)
    assert (linear(w)(found).argmax(1) != y).all()


def test_cw_never_loses_the_nearest(model, images):
    predict, x, y = normalised(model, images[3:12], "pixels")
    length = []
    for steps in range(4, 9):
        found = algorithms.cw(predict, x, y, None, binary_search_steps=steps, max_iterations=30)
        succeeded = predict(found).argmax(1) != y
        length.append((found - x).flatten(1).norm(dim=1).where(succeeded, torch.inf).numpy())
    assert (np.diff(length, axis=0)[:, np.isfinite(length[0])] <= 0).all() and np.isfinite(length[0]).sum() > 3


def test_cw_leaves_alone_what_is_another_class_already(rng):
    w, x = rng.normal(size=16), torch.from_numpy(rng.uniform(0.3, 0.7, (10, 1, 4, 4)))
    y, asked = linear(w)(x).argmax(1), []
    y[:4] = 1 - y[:4]

    def predict(z):
        asked.append(len(z))
        return linear(w)(z)

    found = algorithms.cw(predict, x, y, None)
    torch.testing.assert_close(found[:4], x[:4], rtol=0, atol=1e-6)
    assert asked[0] == 10 and max(asked[1:]) == 6  # nothing is nearer than the image itself: one look is enough


def test_cw_keeps_the_confidence_asked_for(rng):
    w, x = rng.normal(size=16), torch.from_numpy(rng.uniform(0.3, 0.7, (10, 1, 4, 4)))
    y = linear(w)(x).argmax(1)
    logits = linear(w)(algorithms.cw(linear(w), x, y, None, confidence=0.5)).detach()
    margins = logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])
    assert (margins < -0.5).all() and (margins > -0.7).all()


def brute_force_pair(u, v, allowed):
    """Every pair of columns: the largest score, 0 if there is none."""
    best = 0
    for i in range(len(u)):
        for j in range(len(u)):
            if i != j and allowed[i] and allowed[j] and u[i] + u[j] > 0 and v[i] + v[j] > 0:
                best = max(best, (u[i] + u[j]) * (v[i] + v[j]))
    return best


values = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.booleans()), min_size=2, max_size=12)


@given(values)
def test_salient_pair_is_the_best_of_all(rows):
    u, v, allowed = (list(each) for each in zip(*rows, strict=True))
    batch = torch.tensor([u]).double(), torch.tensor([v]).double(), torch.tensor([allowed])
    ((i, j),), (found,) = (each.tolist() for each in algorithms.salient_pair(*batch))
    best = brute_force_pair(u, v, allowed)
    assert found == (best > 0)
    if found:
        assert i != j and allowed[i] and allowed[j] and (u[i] + u[j]) * (v[i] + v[j]) == best


def test_jsma_raises_the_pixels_that_a_linear_model_weighs_most():
    """Logits (0, w . x) with target 1: pairs in order of w, each to 1, until the sum is positive."""
    w = np.array([-1.0] * 10 + [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    x = torch.zeros(1, 1, 4, 4).double()
    found = algorithms.jsma(linear(w, -1.7), x, torch.tensor([0]), None)
    # The other class has no gradient of its own: no pair lowers it, hence nothing but the clip.
    assert torch.equal(found, x)

    both = linear(w)
    with torch.no_grad():
        both[1].weight[0] = -both[1].weight[1]
        both[1].bias.copy_(torch.tensor([3.0, 0.0]))  # predicted: 0 until 2 w . x > 3
    found = algorithms.jsma(both, x, torch.tensor([0]), None)
    np.testing.assert_array_equal(found.flatten().numpy(), [0] * 12 + [1] * 4)

    with torch.no_grad():  # the mirror image: 0 until -2 w . x > 18.8, where all ones give 15.8
        both[1].weight.neg_()
        both[1].bias[0] = 18.8
    found = algorithms.jsma(both, torch.ones_like(x), torch.tensor([0]), None, theta=-1.0)
    np.testing.assert_array_equal(found.flatten().numpy(), [1] * 12 + [0] * 4)


def test_jsma_uses_up_a_share_of_the_values(model, images):
    x = torch.from_numpy(images.x).double() / 255
    y = torch.from_numpy(images.y)
    found = algorithms.jsma(model, x, y, None, gamma=0.05)
    changed = (found != x).flatten(1).sum(1)
    assert changed.max() <= 2 * int(0.05 * 192 / 2) < 10
    up, down = (algorithms.jsma(model, x, y, None, theta=theta, gamma=0.05) - x for theta in (0.2, -0.2))
    assert 0 <= up.min() and up.max() <= 0.2 + 1e-9 and -0.2 - 1e-9 <= down.min() and down.max() <= 0
    assert up.any() and down.any()


def test_onepixel_finds_the_only_pixel_that_matters():
    w = np.zeros(16)
    w[6] = 1
    x = torch.full((3, 1, 4, 4), 0.5).double()
    y = torch.tensor([0, 1, 0])
    model = linear(w, -0.7)  # predicts 1 where pixel 6 exceeds 0.7
    found = algorithms.onepixel(model, x, y * 0, generators(3)).flatten(1)
    expected = x.flatten(1).clone()
    expected[:, 6] = 1
    assert torch.equal(found, expected)


def test_localsearch_walks_to_the_only_pixel_that_matters():
    w = np.zeros(16)
    w[6] = 1
    x, y = torch.full((40, 1, 4, 4), 0.6).double(), torch.zeros(40, dtype=torch.int64)
    model = linear(w, -0.7)  # predicts 1 where pixel 6 exceeds 0.7
    expected = x.flatten(1).clone()
    expected[:, 6] = 1  # its extreme; scaled by 1.5 it would be 0.65
    seeds = np.array([rng.permutation(16)[0] for rng in generators(40)])  # the only candidate of the first round
    away = np.abs(np.array(np.divmod(seeds, 4)).T - [1, 2]).max(1)
    for rounds, d in ((1, 1), (2, 1), (2, 4)):
        found = algorithms.localsearch(model, x, y, generators(40), d=d, t=1, round_ub=rounds, seed_ratio=0.07)
        reached = torch.from_numpy(away <= d * (rounds - 1))[:, None]
        torch.testing.assert_close(found.flatten(1), torch.where(reached, expected, x.flatten(1)), rtol=0, atol=1e-12)
    assert set(away) == {0, 1, 2}


def test_localsearch_tries_a_pixel_once():
    x, y, asked = torch.full((2, 1, 4, 4), 0.6).double(), torch.zeros(2, dtype=torch.int64), []

    def never(z):
        asked.extend(z.flatten(1).round(decimals=6).tolist())
        return torch.stack([z.flatten(1).sum(1) + 1, z.flatten(1).sum(1)], 1)

    found = algorithms.localsearch(never, x, y, generators(2), t=2, round_ub=20, seed_ratio=0.5)
    assert torch.equal(found, x)
    single = [image for image in asked if max(image) == 1]  # one pixel thrown to its extreme, of 16 in each of two images
    assert len(single) == 32 and len(set(map(tuple, single))) == 16
    assert len(asked) - len(single) == 2 * 20  # the strongest together, once a round


def test_localsearch_changes_the_strongest_pixels_together():
    w = np.random.default_rng(0).permutation(np.arange(1, 17)) / 10
    x, y = torch.full((3, 1, 4, 4), 0.75).double(), torch.zeros(3, dtype=torch.int64)
    # One pixel at its extreme adds 0.25 w <= 0.4, one scaled by 1.5 adds 0.125 w: 0.875 by the five strongest, and
    # 0.8625 by the next best five.
    found = algorithms.localsearch(linear(w, -0.75 * w.sum() - 0.87), x, y, generators(3), seed_ratio=1.0)
    assert (found == torch.from_numpy(np.where(w > 1.15, 0.875, 0.75)).view(1, 4, 4)).all()


def test_localsearch_wraps_a_scaled_pixel_around():
    v = torch.tensor([0.0, 0.1, 0.5, 0.7, 0.9, 1.0])
    # around mid-grey, times 1.5: -0.75, -0.6, 0, 0.3, 0.6, 0.75; those beyond 0.5 come in on the other side
    torch.testing.assert_close(algorithms._cyclic(1.5, v), torch.tensor([0.75, 0.9, 0.5, 0.8, 0.1, 0.25]))


# Agreement with AdverTorch


def test_settings_are_those_of_advertorch_as_documented():
    assert DEFAULTS["fgsm"] == {"eps": 0.3}
    assert DEFAULTS["pgd"] == {"eps": 0.3, "nb_iter": 40, "eps_iter": 0.01, "rand_init": True}
    assert DEFAULTS["onepixel"] == {"max_pixels": 100}
    assert tuple(DEFAULTS) == ATTACKS == tuple(CLASSES)


@needs_advertorch
@pytest.mark.parametrize("name", ATTACKS)
def test_defaults_are_advertorchs(name):
    advertorch_algorithm(name, 10)
    theirs = inspect.signature(getattr(sys.modules["advertorch.attacks"], CLASSES[name])).parameters
    ours = {key: value for key, value in DEFAULTS[name].items() if key not in ("target", "max_iterations")}
    assert ours == {key: theirs[key].default for key in ours}


def normalised(model, images, protocol):
    """What an algorithm works on: predict, the images and the labels of a protocol."""
    mean, std = attacks._statistics(images, protocol)
    x = (torch.from_numpy(images.x).to(model[0].weight) / 255 - mean) / std
    return lambda z: model(z * std + mean), x, torch.from_numpy(images.y)


def one_by_one(perturb, predict, x, y, **settings):
    """AdverTorch's JSMA and CW stop a batch as one, ours each image for itself; the authors attacked one at a time."""
    single = zip(x.split(1), y.split(1), strict=True)
    return torch.cat([perturb(predict, *each, generators(1), **settings) for each in single])


@needs_advertorch
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name, settings", [
    ("fgsm", {}),
    ("pgd", {"eps": 0.1, "rand_init": False}),
    ("jsma", {"target": "next"}),
    ("jsma", {"target": "next", "theta": -0.5, "gamma": 0.2}),
    ("jsma", {"target": "label"}),
])  # fmt: skip
def test_agrees_with_advertorch(model, images, name, settings, protocol):
    predict, x, y = normalised(model, images, protocol)
    ours = getattr(algorithms, name)(predict, x, y, generators(30), **settings)
    theirs = one_by_one(advertorch_algorithm(name, 5), predict, x, y, **settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@needs_advertorch
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("settings", [
    {"max_iterations": 100, "binary_search_steps": 5},
    {"max_iterations": 30, "binary_search_steps": 5, "abort_early": False, "confidence": 0.1},
])  # fmt: skip
def test_cw_agrees_with_advertorch(model, images, protocol, settings):
    """In float32, the only precision that AdverTorch knows here."""
    predict, x, y = normalised(model.float(), images[:6], protocol)
    ours = algorithms.cw(predict, x, y, None, **settings)
    theirs = one_by_one(advertorch_algorithm("cw", 5), predict, x, y, **settings)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)
    assert (predict(ours).argmax(1) != y).any()


@needs_advertorch
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name, settings", [
    ("onepixel", {"max_pixels": 50}),
    ("localsearch", {"seed_ratio": 0.3}),
    ("localsearch", {"d": 2, "t": 3, "p": 0.3, "r": 1.2, "round_ub": 4}),
])  # fmt: skip
def test_random_attacks_agree_with_advertorch_on_the_same_draws(monkeypatch, model, images, name, settings, protocol):
    """With our generator in place of torch's; AdverTorch counts pixels column by column."""
    predict, x, y = normalised(model, images[3:], protocol)
    ours = getattr(algorithms, name)(predict, x, y, generators(27), **settings)
    theirs = advertorch_algorithm(name, 5)
    for i in range(27):
        rng = np.random.default_rng((0, i))

        def by_column(n, rng=rng):
            drawn = torch.from_numpy(rng.permutation(n))
            return drawn % 8 * 8 + drawn // 8 if n == 64 else drawn

        with monkeypatch.context() as patch:
            patch.setattr(torch, "randperm", by_column)
            expected = theirs(predict, x[i : i + 1], y[i : i + 1], generators(1), **settings)
        torch.testing.assert_close(ours[i : i + 1], expected, rtol=0, atol=1e-9)
    assert (predict(ours).argmax(1) != y).sum() > 3


def test_without_advertorch_a_sentence_says_how_to_get_it(monkeypatch, model, images):
    monkeypatch.setitem(sys.modules, "advertorch.attacks", None)
    with pytest.raises(ImportError, match="needs AdverTorch: pip install advertorch==0.2.3.*modlib"):
        attack(model, images, "fgsm", implementation="advertorch")
    assert not hasattr(sys.modules["torch.autograd.gradcheck"], "zero_gradients")
    assert attack(model, images, "fgsm").changed  # ours need no package


# Selection and record


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_record_is_true(model, images, name, protocol):
    found = attack(model, images, name, protocol=protocol, **QUICK.get(name, {}))
    assert found.images.x.dtype == np.float32 and found.images.x.shape == (len(found.index), 3, 8, 8)
    np.testing.assert_array_equal(found.before, predictions(model, images.x))
    np.testing.assert_array_equal(found.after[found.index], predictions(model, found.images.x))
    np.testing.assert_array_equal(found.images.y, images.y[found.index])
    assert 0 < len(found.index) == found.changed <= found.correct == 27 and found.index.min() >= 3
    right, wrong = found.before == images.y, found.after != images.y
    np.testing.assert_array_equal(found.index, np.flatnonzero(right & wrong))
    np.testing.assert_array_equal(found.after[~right], found.before[~right])
    assert found.success_rate == found.changed / 27
    change = np.abs(found.images.x - images.x[found.index] / 255.0)
    np.testing.assert_array_equal(found.l0, (change.max(1) > 1e-6).sum((1, 2)))
    np.testing.assert_allclose(found.l2, np.sqrt((change**2).sum((1, 2, 3))), rtol=1e-4)
    np.testing.assert_allclose(found.linf, change.max((1, 2, 3)), rtol=1e-4)
    assert found.settings == DEFAULTS[name] | PROTOCOLS[protocol].get(name, {}) | QUICK.get(name, {})
    assert (found.attack, found.protocol, found.implementation) == (name, protocol, "modlib")
    assert found.complete and found.seconds > 0
    assert found.images.name == f"cifar10/test/{name}-{protocol}" and found.images.classes == images.classes


@pytest.mark.parametrize("name", ATTACKS)
def test_an_image_does_not_depend_on_its_batch(model, images, name):
    settings = QUICK.get(name, {})
    whole, single = (attack(model, images, name, batch_size=size, **settings) for size in (30, 4))
    np.testing.assert_array_equal(whole.after, single.after)
    np.testing.assert_allclose(whole.images.x, single.images.x, atol=1e-6)


@pytest.mark.parametrize("name", ["pgd", "onepixel", "localsearch"])
def test_seed_decides_the_random_attacks(model, images, name):
    settings = QUICK.get(name, {})
    one, again, other = (attack(model, images, name, seed=seed, **settings) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.images.x, again.images.x)
    same = np.intersect1d(one.index, other.index)
    first, second = (found.images.x[np.isin(found.index, same)] for found in (one, other))
    assert len(same) and not np.array_equal(first, second)


@pytest.mark.parametrize("eps", [1 / 255, 8 / 255, 0.3])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_strength_bounds_the_change_of_a_pixel(model, images, name, eps):
    found = attack(model, images, name, eps=eps, **({"eps_iter": eps / 4} if name == "pgd" else {}))
    assert found.linf.max() <= eps + 1e-6 and found.settings["eps"] == eps
    assert found.images.x.min() >= 0 and found.images.x.max() <= 1


def test_stronger_attacks_succeed_more_often(resnet20, sample):
    rates = [attack(resnet20, sample, "fgsm", eps=eps).success_rate for eps in (1 / 255, 4 / 255, 0.1)]
    assert rates == sorted(rates) and rates[0] < rates[-1] > 0.8


def test_the_nearest_attack_is_cw_and_one_pixel_is_one_pixel(model, images):
    length = {n: attack(model, images, n, **QUICK.get(n, {})).l2.mean() for n in ("fgsm", "pgd", "jsma", "cw")}
    assert min(length, key=length.get) == "cw"
    assert set(attack(model, images, "onepixel").l0) == {1}


def test_model_is_left_as_it_was(model, images):
    model.train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model[7].weight.grad = torch.ones_like(model[7].weight)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    asking = [parameter.requires_grad for parameter in model.parameters()]
    torch.manual_seed(3)
    np.random.seed(3)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name in ATTACKS:
        found = attack(model, images[:6], name, **QUICK.get(name, {}))
        np.testing.assert_array_equal(found.before[3:], images.y[3:6])  # labels of the model in evaluation mode
    assert modes == [module.training for module in model.modules()]
    assert asking == [parameter.requires_grad for parameter in model.parameters()]
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert torch.equal(model[7].weight.grad, torch.ones_like(model[7].weight)) and model[0].weight.grad is None
    assert torch.equal(torch.get_rng_state(), state[0]) and np.array_equal(np.random.get_state()[1], state[1])


def test_model_is_left_as_it_was_by_an_error(monkeypatch, model, images):
    def stop(*_, **__):
        raise KeyboardInterrupt

    model.train()
    monkeypatch.setattr(algorithms, "fgsm", stop)
    with pytest.raises(KeyboardInterrupt):  # in the first batch: there is nothing to return
        attack(model, images, "fgsm")
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())


def test_attack_works_where_the_caller_wants_no_gradients(model, images):
    with torch.no_grad():
        assert attack(model, images, "fgsm").changed


def test_stops_at_n(model, images):
    whole = attack(model, images, "pgd")
    part = attack(model, images, "pgd", n=4, batch_size=5)
    np.testing.assert_array_equal(part.index, whole.index[:4])
    np.testing.assert_allclose(part.images.x, whole.images.x[:4], atol=1e-6)
    assert len(part.l0) == len(part.l2) == len(part.linf) == len(part.images) == 4
    assert len(part.before) == 10 and part.correct == 7 and part.changed == 7 and part.complete


def test_an_interrupted_attack_keeps_its_finished_batches(monkeypatch, model, images):
    whole, calls, pgd = attack(model, images, "pgd"), [], algorithms.pgd

    def interrupted(*arguments, **settings):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pgd(*arguments, **settings)

    monkeypatch.setattr(algorithms, "pgd", interrupted)
    part = attack(model, images, "pgd", batch_size=8)
    assert not part.complete and len(part.before) == 16
    np.testing.assert_array_equal(part.index, whole.index[whole.index < 16])


def test_an_interrupted_attack_goes_on_where_it_stopped(monkeypatch, tmp_path, model, images):
    whole, tried, pgd, file = attack(model, images, "pgd"), [], algorithms.pgd, tmp_path / "runs" / "pgd.npz"

    def interrupted(predict, x, y, rngs, **settings):
        tried.append(len(x))
        if len(tried) == 3:
            raise MemoryError  # any error keeps what is done
        return pgd(predict, x, y, rngs, **settings)

    monkeypatch.setattr(algorithms, "pgd", interrupted)
    with pytest.raises(MemoryError):
        attack(model, images, "pgd", batch_size=8, resume=file)
    some = attack(model, images, "pgd", batch_size=5, n=14, resume=file)  # in batches of another size
    resumed = attack(model, images, "pgd", resume=file)
    assert sum(tried) - tried[2] == whole.correct and [path.name for path in file.parent.iterdir()] == ["pgd.npz"]
    assert resumed.complete and (resumed.correct, resumed.changed) == (whole.correct, whole.changed)
    for name in ("index", "before", "after", "l0"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    np.testing.assert_allclose(resumed.images.x, whole.images.x, atol=1e-6)
    np.testing.assert_array_equal(some.index, whole.index[:14])
    before = len(tried)
    assert attack(model, images, "pgd", resume=file).seconds == resumed.seconds and len(tried) == before  # all is done

    relabelled = replace(images, y=images.y[::-1].copy())
    for others, changed in ((images, {"eps": 0.1}), (images, {"seed": 1}), (images, {"protocol": "authors"}), (relabelled, {})):
        with pytest.raises(ValueError, match="is of another network, other images or other settings"):
            attack(model, others, "pgd", resume=file, **changed)


def test_cw_in_half_precision_succeeds_as_in_single(model, images):
    how = {"max_iterations": 20, "binary_search_steps": 2, "learning_rate": 0.1}
    single, half = (attack(each, images[:8], "cw", **how) for each in (model, copy.deepcopy(model).bfloat16()))
    assert half.changed >= single.changed - 1 > 0


def test_stops_in_time(monkeypatch, model, images):
    now = iter(range(0, 100_000, 60))
    monkeypatch.setattr(attacks.time, "monotonic", lambda: next(now))
    part = attack(model, images, "fgsm", batch_size=5, max_minutes=2.5)
    assert len(part.before) == 15 and not part.complete
    assert attack(model, images, "fgsm", batch_size=30, max_minutes=0).complete  # one batch is always done


def test_no_success_is_said(model, images):
    with pytest.warns(UserWarning, match="fgsm changed the class of 0 of the 27 images that the model .*ly. Give"):
        none = attack(model, images, "fgsm", eps=0)
    assert none.images.x.shape == (0, 3, 8, 8) and none.success_rate == 0 and len(none.l2) == 0
    with pytest.warns(UserWarning, match="pgd changed .* 27 of the 27 .*; n=30 were asked for. Give more images"):
        attack(model, images, "pgd", n=30)


def test_nothing_to_attack(model, images):
    wrong = Images(images.x, (predictions(model, images.x) + 1) % 5, images.classes, images.name)
    with pytest.warns(UserWarning, match="0 of the 0 images"):
        none = attack(model, wrong, "pgd")
    assert none.correct == none.success_rate == 0
    np.testing.assert_array_equal(none.before, none.after)


# The protocols


def test_clip_only_against_the_definition(sample):
    mean, std = (np.array(each).reshape(3, 1, 1) for each in AUTHORS_STATISTICS["cifar10"])
    clipped = clip_only(sample)
    expected = np.clip((sample.x / 255 - mean) / std, 0, 1) * std + mean
    np.testing.assert_allclose(clipped.x, expected, atol=1e-6)
    np.testing.assert_allclose(clipped.x, np.clip(sample.x / 255, mean, mean + std), atol=1e-6)
    np.testing.assert_allclose(clip_only(clipped).x, clipped.x, atol=1e-6)
    np.testing.assert_array_equal(clipped.y, sample.y)


def test_jsma_of_the_authors_does_nothing_but_clip(model, images):
    found = attack(model, images, "jsma", protocol="authors")
    clipped = clip_only(images)
    np.testing.assert_allclose(found.images.x, clipped.x[found.index], atol=1e-6)
    wrong = predictions(model, clipped.x) != images.y
    np.testing.assert_array_equal(found.index, np.flatnonzero(wrong & (found.before == images.y)))


@pytest.mark.parametrize("name, settings", [
    ("fgsm", {}), ("pgd", {}), ("jsma", {"target": "next"}), ("cw", QUICK["cw"]),
])  # fmt: skip
def test_authors_clip_leaves_one_deviation_above_the_mean(model, images, name, settings):
    low, std = (np.array(each).reshape(3, 1, 1) for each in AUTHORS_STATISTICS["cifar10"])
    x = attack(model, images, name, protocol="authors", **settings).images.x
    assert (x >= low - 1e-6).all() and (x <= low + std + 1e-6).all()


def test_adversarial_images_separate_less(resnet20):
    """Fig. 6a, final layer: what JSMA and LocalSearch share there is the clip; ours is another, smaller network."""
    images = modlib.load_images("cifar10", n=500)
    clipped = attack(resnet20, images, "jsma", protocol="authors").images
    clean, attacked = (
        modlib.modularity_curve(resnet20, part.x, part.y, layers=["layer3.2"]).q[0] for part in (images[:250], clipped)
    )
    paper = paper_values("fig6a")["resnet18"]
    assert clean > 0.6
    assert abs(attacked - paper["jsma"][-1]) < 0.1 and abs(attacked - paper["localsearch"][-1]) < 0.1


# Bad input


@pytest.mark.parametrize("name, options, says", [
    ("pdg", {}, "unknown attack 'pdg'; did you mean 'pgd'"),
    ("pgd", {"protocol": "pixel"}, "unknown protocol 'pixel'; did you mean 'pixels'"),
    ("pgd", {"implementation": "adver"}, "unknown implementation 'adver'; did you mean 'advertorch'"),
    ("pgd", {"esp": 0.1}, "unknown setting of pgd 'esp'; did you mean 'eps'"),
    ("fgsm", {"nb_iter": 3}, "unknown setting of fgsm 'nb_iter'. Known: eps"),
    ("fgsm", {"eps": -0.1}, "eps must be a number in 0..1000000; got eps=-0.1"),
    ("fgsm", {"eps": "strong"}, "eps must be a number in 0..1000000; got eps='strong'"),
    ("fgsm", {"eps": np.nan}, "eps must be a number"),
    ("pgd", {"nb_iter": 0}, "nb_iter must be a whole number in 1..1000000; got nb_iter=0"),
    ("pgd", {"rand_init": "no"}, "rand_init must be True or False; got rand_init='no'"),
    ("jsma", {"target": "nxt"}, "unknown target 'nxt'; did you mean 'next'"),
    ("fgsm", {"seed": -1}, "seed must be"),
    ("fgsm", {"batch_size": 0}, "batch_size must be"),
    ("fgsm", {"n": 31}, "n must be a whole number in 1..30; got n=31 for 30 images"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(model, images, name, options, says):
    with pytest.raises(ValueError, match=says):
        attack(model, images, name, **options)


def changed(images, **fields):
    return Images(**{**{key: getattr(images, key) for key in ("x", "y", "classes", "name")}, **fields})


@pytest.mark.parametrize("spoil, says", [
    (lambda i: i.x, "images must be modlib.Images; got"),
    (lambda i: i[:0], "images must be modlib.Images, one or more; got"),
    (lambda i: changed(i, x=i.x.astype(np.int64)), r"floats in \[0, 1\]; got int64 from 0 to 255"),
    (lambda i: changed(i, x=i.x.astype(np.float32)), r"floats in \[0, 1\]; got float32 from 0.0 to 255.0. Undo a norm"),
    (lambda i: changed(i, x=i.x / 255 - 0.1), r"floats in \[0, 1\]; got float64 from -0.1 to 0.9"),
    (lambda i: changed(i, x=np.where(i.x == 7, np.nan, i.x / 255)), "x must hold finite pixels"),
    (lambda i: changed(i, y=i.y + 1), r"images.y must be in 0..4, the classes of the model; got 1 to 5"),
    (lambda i: changed(i, y=i.y - 1), "images.y must be integers >= 0; got int64 from -1"),
    (lambda i: changed(i, y=i.y / 1.0), "N labels, whole numbers; got .* float64"),
    (lambda i: changed(i, x=i.x[:, :2]), "model cannot take images.x of shape"),
])  # fmt: skip
def test_wrong_images_are_told_in_a_sentence(model, images, spoil, says):
    with pytest.raises(ValueError, match=says):
        attack(model, spoil(images), "fgsm")


def test_authors_protocol_needs_their_statistics(model, images):
    for call in (lambda i: attack(model, i, "fgsm", protocol="authors"), clip_only):
        with pytest.raises(ValueError, match="has statistics to normalise cifar10, cifar100 by; got images of 'pets'"):
            call(changed(images, name="pets"))


def test_a_model_that_gives_no_logits(model, images):
    with pytest.raises(ValueError, match=r"model must give one row of logits an image, shape \(N, C\)"):
        attack(model[:3], images, "fgsm")


def test_float_images_are_taken_as_they_are(model, images):
    floats = changed(images, x=images.x.astype(np.float32) / 255)
    one, other = attack(model, images, "fgsm"), attack(model, floats, "fgsm")
    np.testing.assert_array_equal(one.images.x, other.images.x)
    again = attack(model, changed(one.images, y=predictions(model, one.images.x)), "fgsm", eps=0.05)
    assert again.correct == len(one.images) and again.images.name == "cifar10/test/fgsm-pixels/fgsm-pixels"


def test_logits_inside_a_dict_half_precision_and_reversed_images():
    images, network = modlib.load_images("cifar10", n=6), modlib.load_model("resnet20")

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return {"loss": None, "logits": self.inner(x)}

    assert np.array_equal(attack(Named(), images, "fgsm").images.x, attack(network, images, "fgsm").images.x)
    with pytest.warns(UserWarning, match="changed the class of 0"):
        attack(copy.deepcopy(network).bfloat16(), images[:1], "localsearch")
    turned = Images(images.x[::-1], images.y[::-1], images.classes, "own")
    assert attack(network, turned, "fgsm").changed == attack(network, images, "fgsm").changed


def test_networks_made_in_inference_mode_are_told():
    with torch.inference_mode():
        network = modlib.load_model("resnet20")
    with pytest.raises(ValueError, match="made under torch.inference_mode"):
        attack(network, modlib.load_images("cifar10", n=2), "fgsm")
