"""Pruning: costs by hand, the paper's redundant layers, networks whose pruned output is known, and what is refused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pruned import skeleton
from scipy import stats
from torch import nn

import modlib
from modlib import Curve, CurveDraws, build_model, layer_names
from modlib._torchvision import torchvision
from modlib.cost import accuracy, cost, seconds
from modlib.paper import paper_values
from modlib.pruning import find_redundant, fine_tune, l1_plan, layer_costs, prune, random_plan, removable, rise_plan
from modlib.training import RECIPES, train


def curve_of(q, names=None):
    q = np.asarray(q, float)
    return Curve(tuple(names or (f"layer {i}" for i in range(1, len(q) + 1))), q, q[:, None], 3, 500)


@torch.no_grad()
def macs_by_hand(model, shape):
    """Output elements x inputs of each: for convolutions and linear modules, from the shapes that pass."""
    found, hooks = {}, []

    def hook_for(name):
        def hook(module, inputs, output):
            found[name] = output.numel() * (module.weight.numel() // module.weight.shape[0])

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            hooks.append(module.register_forward_hook(hook_for(name)))
    model(torch.zeros(1, *shape, device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    "name, dataset, size",
    [("resnet20", "cifar10", 32), ("vgg11", "cifar100", 32), ("resnet18", "imagenet", 64), ("resnet50", "cifar10", 16)],
)
def test_cost_equals_the_formula(name, dataset, size):
    model = (skeleton if name == "vgg11" else build_model)(name, dataset=dataset)
    counted = cost(model, (3, size, size))
    by_hand = macs_by_hand(model, (3, size, size))
    assert {layer: row["macs"] for layer, row in counted.layers.items() if row["macs"]} == by_hand
    assert counted.macs == sum(by_hand.values())
    params = sum(p.numel() for p in model.parameters())
    assert counted.params == params == sum(row["params"] for row in counted.layers.values())


def test_cost_of_a_convolution_in_numbers():
    assert cost(nn.Conv2d(6, 8, 3, padding=1, groups=2), (6, 5, 4)).macs == 5 * 4 * 8 * (6 // 2) * 9
    assert cost(skeleton("vgg11")).layers["features.0"] == {"macs": 32 * 32 * 64 * 3 * 9, "params": 64 * 3 * 9 + 64}


def test_table_1():
    """Stages (2, 3, 6) of ResNet56. The paper counts with thop, which adds batch normalisation: hence 0.2 points."""
    whole, shorter = cost(build_model("resnet56")), cost(build_model("resnet56", stages=(2, 3, 6)))
    printed = paper_values("table1")["modularity"]
    assert 100 * (1 - shorter.params / whole.params) == pytest.approx(printed["params_pruned"], abs=0.1)
    assert 100 * (1 - shorter.macs / whole.macs) == pytest.approx(printed["flops_pruned"], abs=0.2)


def test_costs_of_modules_that_share_run_twice_or_multiply_themselves():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(4, 4)
            self.tied = nn.Linear(4, 4, bias=False)
            self.tied.weight = self.first.weight
            self.own = nn.Parameter(torch.ones(4, 2))

        def forward(self, x):
            return self.tied(self.first(self.first(x.flatten(1)))) @ self.own

    counted = cost(Odd(), (1, 2, 2))
    assert (counted.macs, counted.params) == (3 * 16 + 8, 16 + 4 + 8)
    assert [counted.layers[name]["macs"] for name in ("first", "tied", "")] == [32, 16, 8]


def test_cost_leaves_the_model_as_it_was(network):
    network.train()
    network[1].eval()
    before = copy.deepcopy(network.state_dict())
    cost(network, (3, 8, 8))
    with pytest.raises(ValueError, match=r"cannot take an image of shape \(3, 80, 80\)"):
        cost(network, (3, 80, 80))
    with pytest.raises(ValueError, match="shape must be a list of whole numbers"):
        cost(network, "CIFAR")
    assert [m.training for m in network] == [True, False, *[True] * 6] and network.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_seconds_of_an_image(network):
    assert 0 < seconds(network, (3, 8, 8), batch_size=4, min_seconds=0.01) < 1


def test_plateau_of_the_papers_vgg19():
    """VGG19_1 to VGG19_6 (Fig. 9) lack the last 1 to 6 convolutions: the plateau. The curve also falls at two dips."""
    model = skeleton("vgg19")
    names = layer_names(model)
    assert [len(paper_values("fig9")[f"vgg19_{m}/cifar10"]["q"]) for m in range(1, 7)] == [16 - m for m in range(1, 7)]
    plan = find_redundant(curve_of(paper_values("fig4")["vgg19/cifar10"], names), model=model)
    assert set(plan.remove) == {*names[-6:], names[1], names[3]}
    assert [plan.verdicts[i] for i in (1, 3)] == ["falls", "falls"]


@pytest.mark.parametrize("dataset, plateau", [("cifar10", range(20, 38)), ("imagenet50", range(19, 45))])
def test_plateau_of_the_papers_resnet152(dataset, plateau):
    """ResNet152_30 (Fig. 9) lacks the last 30 blocks of stage 3, layers 19 to 48 of 51. On the plateau are those that
    end no more than 0.01 above the last block that stays; behind it the curve rises steeply to the stage's end."""
    model = skeleton("resnet152")
    names = layer_names(model)
    q = paper_values("fig4")[f"resnet152/{dataset}"]
    assert len(paper_values("fig9")[f"resnet152_30/{dataset}"]["q"]) == 51 - 30
    flat = [i for i in range(19, 49) if q[i - 1] <= q[18 - 1] + 0.01]
    assert set(plateau) <= set(flat)
    plan = find_redundant(curve_of(q, names), model=model)
    assert {names[i - 1] for i in flat} <= set(plan.remove)
    assert not {names[i - 1] for i in range(plateau[-1] + 1, 49) if q[i - 1] > q[i - 2] + 0.02} & set(plan.remove)
    assert {"layer1.0", "layer2.0", "layer3.0", "layer4.0", "conv1"}.isdisjoint(plan.remove)
    prune(model, plan)


def test_vgg11_has_nothing_to_spare_as_the_paper_says():
    for dataset in ("cifar10", "cifar100"):
        assert find_redundant(curve_of(paper_values("fig4")[f"vgg11/{dataset}"])).remove == ()


def test_verdicts():
    plan = find_redundant(curve_of([0.1, 0.3, 0.25, 0.3, 0.308, 0.316, 0.6, 0.59]), tol=0.01)
    assert plan.verdicts == ("first", "rises", "falls", "stays", "creeps", "rises", "rises", "falls")
    assert plan.remove == ("layer 3", "layer 4", "layer 5", "layer 8")
    np.testing.assert_allclose(plan.scores, [0.1, 0.2, -0.05, 0, 0.008, 0.016, 0.284, -0.01], atol=1e-12)
    table = plan.table()
    assert table["layer"][table["remove"]].tolist() == list(plan.remove)


@given(st.lists(st.integers(-20, 80), min_size=1, max_size=30), st.integers(0, 15))
def test_what_stays_rises_and_what_goes_does_not(q, tol):
    q, tol = np.array(q) / 64, tol / 64  # binary fractions: no rounding decides
    curve = curve_of(q)
    plan = find_redundant(curve, tol)
    gone = np.array([name in plan.remove for name in curve.layers])
    kept = q[~gone]
    assert not gone[0] and (np.diff(kept) > tol).all()
    assert all(q[i] <= q[:i][~gone[:i]].max() + tol for i in np.flatnonzero(gone))
    assert find_redundant(curve_of(2 * q - 0.5), 2 * tol).remove == plan.remove
    assert find_redundant(curve_of(kept), tol).remove == ()


def test_spread_over_draws_is_a_paired_t_test(rng):
    verdicts = set()
    for spread in rng.uniform(0.0005, 0.02, 60):
        q = np.array([0.5, 0.5 + rng.uniform(-0.01, 0.015)]) + spread * rng.normal(size=(5, 2))
        plan = find_redundant(CurveDraws(("a", "b"), q, 3, 500), tol=0.01)
        d = q[:, 1] - q[:, 0]
        assert bool(plan.remove) == (stats.ttest_1samp(d, 0.01, alternative="less").pvalue <= 0.05)
        assert plan.scores[1] == pytest.approx(d.mean())
        assert (plan.verdicts[1] == "rises") == (d.mean() > 0.01)
        verdicts.add(plan.verdicts[1])
    assert verdicts == {"rises", "unsure", "creeps", "stays", "falls"}


def test_what_all_layers_share_in_a_draw_is_no_spread(rng):
    shared = rng.normal(size=(5, 1))
    draws = CurveDraws(("a", "b", "c"), np.array([0.1, 0.4, 0.405]) + shared, 3, 500)
    assert find_redundant(draws).remove == ("c",)
    assert find_redundant(CurveDraws(draws.layers, draws.q[:1], 3, 500)).remove == ("c",)


def test_layers_that_cannot_go_are_kept_and_serve_as_reference():
    model = skeleton("resnet20")
    names = layer_names(model)
    q = [0.1, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.305, 0.314, 0.5]
    plan = find_redundant(curve_of(q, names), model=model)
    assert plan.remove == tuple(names[i] for i in (2, 3, 5, 6, 8))
    assert plan.verdicts[4] == "stays, but it halves the resolution"
    assert plan.verdicts[7] == "creeps, but it halves the resolution"
    assert find_redundant(curve_of(q, names)).remove == tuple(names[i] for i in (2, 3, 4, 5, 6, 7))
    dip = find_redundant(curve_of([0.1, 0.3, 0.4, 0.5, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9], names), model=model)
    assert dip.remove == ("layer2.1",)  # measured from before the dip, not from its bottom
    flat = find_redundant(curve_of([0.1] * 10, names), model=model)  # all of stage 1 has identity shortcuts
    assert flat.verdicts[3] == "stays, but it is the last of layer1, which would be empty"
    assert prune(model, flat).architecture["stages"] == [1, 1, 1]


@pytest.fixture
def images(rng):
    return torch.tensor(rng.random((4, 3, 32, 32)), dtype=torch.float32)


def lively(model):
    """A model whose normalisation is no longer at its start."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) / 2 + 0.5)
    return model


RESNETS = {
    "thin": lambda: build_model("resnet20", stages=(3, 2, 3)),
    "basic": lambda: build_model("resnet18", stages=(2, 3, 1, 1)),
    "bottleneck": lambda: build_model("resnet50", stages=(2, 2, 2, 1)),
    "torchvision": lambda: torchvision.models.resnet34(num_classes=7).eval(),
}


@pytest.mark.parametrize("kind", RESNETS)
@torch.no_grad()
def test_blocks_without_a_residual_can_go_unnoticed(kind, images):
    model = lively(RESNETS[kind]())
    chosen = [name for name, why in removable(model).items() if not why][1:4]
    assert len(chosen) >= 2
    for name in chosen:
        block = model.get_submodule(name)
        last = getattr(block, "bn3", block.bn2)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    before = copy.deepcopy(model.state_dict())
    shorter = prune(model, chosen)
    assert torch.equal(shorter(images), model(images))
    assert len(layer_names(shorter)) == len(layer_names(model)) - len(chosen)
    parts = layer_costs(model).set_index("layer").loc[chosen, "macs"]
    assert cost(shorter).macs == cost(model).macs - parts.sum()
    shorter.conv1.weight += 1
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@torch.no_grad()
def widened_vgg():
    """(VGG11, the same with a Conv-BN-ReLU in each of two places that does nothing, the two in both readings)."""
    short = lively(build_model("vgg11"))
    stages = [64, "M", 128, "M", 256, 256, 256, "M", 512, 512, "M", 512, 512, 512, "M"]
    long = build_model("vgg11", stages=stages)
    new = {"conv": ["features.14", "features.31"], "relu": ["features.16", "features.33"]}
    parts = [part for name, part in long.features.named_children() if int(name) not in (14, 15, 16, 31, 32, 33)]
    for part, source in zip(parts, short.features, strict=True):
        part.load_state_dict(source.state_dict())
    long.classifier.load_state_dict(short.classifier.state_dict())
    for name in new["conv"]:
        conv, norm = long.get_submodule(name), long.features[int(name.rpartition(".")[2]) + 1]
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
        norm.running_var.fill_(1 - norm.eps)
    return short, long, new


@torch.no_grad()
def test_an_inserted_identity_of_a_vgg_can_go_unnoticed(images):
    short, long, new = widened_vgg()
    before, known = long(images), short(images)
    torch.testing.assert_close(before, known, rtol=1e-5, atol=1e-5)
    for reading in ("conv", "relu"):  # a layer may be called by either of its modules
        pruned = prune(long, new[reading])
        assert torch.equal(pruned(images), known) and pruned.architecture == short.architecture
        rising = find_redundant(curve_of(np.arange(10), layer_names(long, reading)), model=long)
        assert rising.remove == () and torch.equal(prune(long, rising)(images), before)


@pytest.mark.parametrize("name, gone", [("vgg19", 6), ("vgg11", 3)])
def test_the_papers_vggs_lose_their_last_convolutions(name, gone):
    model = skeleton(name)
    shorter = prune(model, layer_names(model)[-gone:])
    depth = len(layer_names(model))
    assert len(layer_names(shorter)) == depth - gone
    assert shorter.architecture["stages"].count("M") == 5
    same = skeleton(name, stages=shorter.architecture["stages"])
    assert {k: v.shape for k, v in same.state_dict().items()} == {k: v.shape for k, v in shorter.state_dict().items()}


def test_a_pruned_network_is_stored_and_loaded(tmp_path, sample):
    shorter = prune(modlib.load_model("resnet20"), ["layer1.1", "layer3.2"])
    assert shorter.architecture["stages"] == [2, 3, 2] and not shorter.training
    from modlib.zoo import save_model

    again = modlib.load_model("resnet20", weights=save_model(shorter, tmp_path / "shorter.safetensors"))
    x = torch.tensor(sample.x) / 255
    assert torch.equal(again(x), shorter(x))
    assert accuracy(shorter, sample) > 15  # chance is 10: what is inherited still works


def test_pruning_keeps_mode_and_type():
    model = build_model("resnet20", num_classes=7).double().train()
    model.layer3.eval()
    shorter = prune(model, ["layer1.1", "layer1.1", "layer1.2", "layer3.1"])  # named twice, gone once
    assert shorter.training and shorter.layer1.training and not shorter.layer3.training and type(shorter) is type(model)
    assert shorter.architecture["stages"] == [1, 3, 2]
    assert {p.dtype for p in shorter.parameters()} == {torch.float64}
    assert model.architecture["stages"] == [3, 3, 3]


REFUSED = [
    ("resnet20", ["layer2.0"], "'layer2.0' cannot go: it halves the resolution"),
    ("resnet50", ["layer1.0"], "'layer1.0' cannot go: it changes the channels from 64 to 256"),
    ("resnet18", ["conv1"], "'conv1' cannot go: it is the stem"),
    ("vgg11", ["features.0"], "'features.0' cannot go: it changes the channels from 3 to 64"),
    ("vgg11", ["features.8"], "channels from 128 to 256. Those that can: features.11, features.18, .*, features.25"),
    ("resnet20", ["layer1.0", "layer1.1", "layer1.2"], "last of layer1, which would be empty"),
    ("resnet20", ["layer1.7"], "unknown layer 'layer1.7'; did you mean 'layer1"),
    ("resnet20", "layer1.1", r"such as \['layer1.1'\]"),
]


@pytest.mark.parametrize("name, plan, sentence", REFUSED)
def test_what_cannot_go_is_refused_and_the_model_unchanged(name, plan, sentence):
    model = skeleton(name)
    before = str(model), copy.deepcopy(model.architecture)
    with pytest.raises(ValueError, match=sentence):
        prune(model, plan)
    assert (str(model), model.architecture) == before


def test_curves_of_another_model_and_models_of_another_family(network):
    names = layer_names(skeleton("resnet56"))
    curve = curve_of(np.ones(len(names)), names)
    for call in (lambda m: find_redundant(curve, model=m), lambda m: prune(m, find_redundant(curve))):
        with pytest.raises(ValueError, match="another model: it has 28 layers, conv1 to layer3.8; .* 10, conv1 to"):
            call(skeleton("resnet20"))
        with pytest.raises(ValueError, match="another model"):
            call(skeleton("vgg19"))
        with pytest.raises(ValueError, match="another model"):
            call(skeleton("resnet56", stages=(9, 9, 8)))
        with pytest.raises(ValueError, match="must be a VGG or ResNet.*got Sequential"):
            call(network)
    assert find_redundant(curve, np.float32(0.01)).remove == find_redundant(curve).remove
    assert len(find_redundant(curve).remove) == 27  # a curve alone may be of any model
    with pytest.raises(ValueError, match="tol must be .*got tol=-0.1"):
        find_redundant(curve, -0.1)
    assert find_redundant(curve.q, layers=names).remove == find_redundant(curve).remove  # numbers alone, with names or without
    assert find_redundant([curve.q, curve.q]).remove == tuple(str(i) for i in range(2, 29))
    for wrong in ([[[0.1]]], [0.1, np.nan], "vgg11", []):
        with pytest.raises(ValueError, match="curve must"):
            find_redundant(wrong)
    with pytest.raises(ValueError, match="layers must name each of the 28 layers of the curve; got 27"):
        find_redundant(curve.q, layers=names[:-1])


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "vgg16"])
def test_random_plans_draw_what_can_go(name):
    model = skeleton(name)
    can = {layer for layer, why in removable(model).items() if not why}
    most = len(can) - (name == "resnet20")  # its first stage keeps one of three identity blocks
    drawn = set()
    for seed in range(40):
        plan = random_plan(model, 3, seed)
        assert len(plan.remove) == 3 and set(plan.remove) <= can and plan.layers == tuple(layer_names(model))
        drawn |= {*plan.remove}
        prune(model, random_plan(model, most, seed))
    assert drawn == can
    assert random_plan(model, 3, 1).remove == random_plan(model, 3, 1).remove
    with pytest.raises(ValueError, match=rf"count must be a whole number in 0..{most}; got count={most + 1}"):
        random_plan(model, most + 1)


@pytest.mark.parametrize(
    "name, small", [("resnet20", ["layer1.1", "layer2.2", "layer3.1"]), ("vgg11", ["features.11", "features.25"])]
)
@torch.no_grad()
def test_l1_plans_find_the_layers_of_small_weights(name, small):
    model = build_model(name)
    for layer in [*small, list(removable(model))[0]]:  # the first cannot go, however small
        for parameter in model.get_submodule(layer).parameters():
            parameter *= 1e-3
    assert set(l1_plan(model, len(small)).remove) == set(small)


def test_rise_plans_find_the_layers_after_which_q_rises_least():
    model = build_model("vgg11")
    names = layer_names(model)
    can = [i for i, name in enumerate(names) if not removable(model)[name]]
    cannot = next(i for i in range(1, len(names)) if i not in can)
    rises = np.full(len(names), 0.1)
    rises[[cannot, can[1], can[2]]] = [-0.3, -0.2, -0.05]
    curve = CurveDraws(tuple(names), rises.cumsum() + np.array([[0.01], [-0.01]]), 3, 500)
    plan = rise_plan(curve, model, 2)
    assert plan.remove == (names[can[1]], names[can[2]])
    assert plan.scores[1:] == pytest.approx(rises[1:])
    with pytest.raises(ValueError, match="curve is of another model"):
        rise_plan(curve, build_model("vgg13"), 2)
    with pytest.raises(ValueError, match=rf"count must be a whole number in 0..{len(can)}; got count=9"):
        rise_plan(curve, model, 9)


def test_l1_scores_by_hand():
    model = build_model("resnet20")
    block = model.layer2[1]
    by_hand = np.mean([[float(f.detach().abs().sum()) for f in conv.weight] for conv in (block.conv1, block.conv2)])
    assert l1_plan(model, 1).scores[5] == pytest.approx(by_hand, rel=1e-5)


def test_fine_tuning_goes_on_from_the_inherited_weights(tmp_path, sample):
    shorter = prune(modlib.load_model("resnet20"), ["layer1.1", "layer3.2"])
    before = {key: tensor.clone() for key, tensor in shorter.state_dict().items()}
    still = replace(RECIPES["fast"], lr=0.0)  # a rate of zero: whatever comes out has come in
    result = fine_tune(shorter, recipe=still, folder=tmp_path, epochs=1, data=(sample, sample))
    assert result.evidence["finished"] and result.settings["stages"] == [2, 3, 2]
    trained = modlib.load_model("resnet20", weights=tmp_path / "model.safetensors")
    assert trained.architecture == shorter.architecture
    for (key, parameter), start in zip(trained.named_parameters(), shorter.parameters(), strict=True):
        assert torch.equal(parameter, start), key
    assert all(torch.equal(tensor, before[key]) for key, tensor in shorter.state_dict().items())

    again = fine_tune(shorter, recipe=still, folder=tmp_path, epochs=1, data=(sample, sample))
    assert again.evidence["date"] == result.evidence["date"]  # read, not trained again
    other = prune(modlib.load_model("resnet20"), ["layer1.2", "layer3.1"])  # same shape, other weights
    begun = (tmp_path / "start.safetensors").read_bytes()
    with pytest.raises(ValueError, match="start.safetensors holds other weights: a run of another network began there"):
        fine_tune(other, recipe=still, folder=tmp_path, epochs=1, data=(sample, sample))
    with pytest.raises(ValueError, match="model is of 'cifar10'; got dataset='cifar100'"):
        fine_tune(shorter, "cifar100", folder=tmp_path)
    assert (tmp_path / "start.safetensors").read_bytes() == begun
    with pytest.raises(ValueError, match="another run.*stages"):
        train("resnet20", recipe=still, folder=tmp_path, epochs=1, data=(sample, sample))
    with pytest.raises(ValueError, match="no record of its architecture"):
        fine_tune(torchvision.models.resnet18(), folder=tmp_path)


def test_training_of_a_pruned_shape_from_scratch(tmp_path, sample):
    data = (sample, sample)
    result = train("resnet20", stages=(1, 1, 1), folder=tmp_path / "a", epochs=1, data=data)
    assert len(result.coords["layer"]) == 4 and result.settings["stages"] == [1, 1, 1]
    with pytest.raises(ValueError, match=r"stages=\[2, 1, 1\]: .* are of a network with stages=\[1, 1, 1\]"):
        train("resnet20", stages=(2, 1, 1), weights=tmp_path / "a/model.safetensors", folder=tmp_path / "b", data=data)
