"""Networks: as deep, wide and large as published, and the same function as torchvision's own."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from modlib import build_model, iter_features, layer_names
from modlib._torchvision import torchvision
from modlib.cost import cost
from modlib.models import MODELS, RESNET, THIN_RESNET, VGG

built = cache(build_model)  # large ones take seconds


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name, layers", {
    "vgg11": 8, "vgg13": 10, "vgg16": 13, "vgg19": 16,
    "resnet18": 9, "resnet34": 17, "resnet50": 17, "resnet101": 34, "resnet152": 51,
    "resnet20": 10, "resnet32": 16, "resnet44": 22, "resnet56": 28, "resnet110": 55,
}.items())  # fmt: skip
def test_number_of_layers_is_the_papers(name, layers):
    conv, relu = layer_names(built(name)), layer_names(built(name), "relu")
    assert len(conv) == len(relu) == len(set(conv)) == layers
    modules = dict(built(name).named_modules())
    if name in VGG:
        assert all(isinstance(modules[layer], nn.Conv2d) for layer in conv)
        assert all(isinstance(modules[layer], nn.ReLU) for layer in relu)
    else:
        assert (conv[0], relu[0]) == ("conv1", "relu")
        assert conv[1:] == relu[1:]


@pytest.mark.parametrize(
    "name, stem",
    [
        ("vit6", {"conv": ["conv_proj"], "relu": []}),
        ("cct6", {"conv": ["tokenizer.0", "tokenizer.3"], "relu": ["tokenizer.1", "tokenizer.4"]}),
    ],
)
@pytest.mark.parametrize("at", ["conv", "relu"])
def test_layers_of_a_transformer_are_its_stem_and_its_blocks(name, stem, at):
    assert layer_names(built(name), at) == stem[at] + [f"encoder.layers.encoder_layer_{i}" for i in range(6)]


def test_every_model_is_covered_above():
    assert {*VGG, *RESNET, *THIN_RESNET, "vit6", "cct6"} == set(MODELS)


def block_parameters(width: int, hidden: int) -> int:
    """Two norms, queries, keys, values and their mixture, and two linear maps with biases."""
    return 4 * width + 4 * (width**2 + width) + 2 * width * hidden + hidden + width


def test_transformer_parameters_add_up():
    tokens = 192 * (1 + 64 + 1) + 3 * 16 * 192 + 192  # class token and positions, and the patches' convolution
    assert parameters(built("vit6")) == tokens + 6 * block_parameters(192, 384) + 2 * 192 + 10 * 193
    tokens = 27 * 64 + 9 * 64 * 128 + 64 * 128
    assert parameters(built("cct6")) == tokens + 6 * block_parameters(128, 256) + 2 * 128 + 129 + 10 * 129


@torch.no_grad()
def test_vit_is_torchvisions_on_normalised_images():
    ours, x = built("vit6"), torch.rand(3, 3, 32, 32)
    other = torchvision.models.VisionTransformer(32, 4, 6, 3, 192, 384, num_classes=10).eval()
    other.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), other((x - ours.mean) / ours.std))


@torch.no_grad()
def test_cct_weighs_its_tokens():
    model = build_model("cct6", seed=0)
    x = torch.rand(3, 3, 32, 32)
    ((name, tokens),) = ((name, t) for name, t in iter_features(model, x, ["encoder"]))
    tokens = tokens.view(3, 64, 128)
    model.pool.weight.zero_()
    torch.testing.assert_close(model(x), model.head(tokens.mean(1)), msg=f"{name}: equal weights are a mean")


@pytest.mark.parametrize("name", ["vit6", "cct6"])
def test_another_depth_and_size_of_a_transformer(name):
    model = build_model(name, "tinyimagenet50", stages=(2,))
    assert model.architecture["stages"] == [2] and len([n for n in layer_names(model) if "encoder" in n]) == 2
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 50)
    with pytest.raises(ValueError, match="stages of .* must be one number of blocks"):
        build_model(name, stages=(2, 2))
    with pytest.raises(ValueError, match="is for small images"):
        build_model(name, "imagenet")


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_evaluation_mode(name):
    model = built(name)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


# He et al. (2016), Table 6, in millions as printed.
@pytest.mark.parametrize("name, millions", {
    "resnet20": "0.27", "resnet32": "0.46", "resnet44": "0.66", "resnet56": "0.85", "resnet110": "1.7",
}.items())  # fmt: skip
def test_thin_resnets_have_the_published_number_of_parameters(name, millions):
    digits = len(millions) - 2
    assert f"{parameters(built(name)) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("name", VGG)
def test_vgg_parameters_add_up(name):
    """Convolutions with bias, two numbers a channel of batch normalisation, and the 512-512-10 classifier."""
    widths = [3, *(w for w in VGG[name] if w != "M")]
    convolutions = sum(9 * a * b + 3 * b for a, b in zip(widths, widths[1:], strict=False))
    assert parameters(built(name)) == convolutions + 2 * (512 * 512 + 512) + 512 * 10 + 10


@pytest.mark.parametrize("name", RESNET)
def test_cifar_resnets_differ_from_torchvisions_in_stem_and_classifier_only(name):
    other = getattr(torchvision.models, name)(num_classes=10)
    shapes = {key: value.shape for key, value in built(name).state_dict().items()}
    expected = {key: value.shape for key, value in other.state_dict().items()}
    assert shapes.pop("conv1.weight") == (64, 3, 3, 3) and expected.pop("conv1.weight") == (64, 3, 7, 7)
    assert shapes == expected


@pytest.mark.parametrize("name, theirs", [("resnet18", "resnet18"), ("resnet50", "resnet50"), ("vgg11", "vgg11_bn")])
def test_imagenet_networks_are_torchvisions_on_normalised_images(name, theirs):
    ours, other = build_model(name, "imagenet"), getattr(torchvision.models, theirs)().eval()
    other.load_state_dict(ours.state_dict(), assign=True)
    x = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(ours(x), other((x - mean[:, None, None]) / std[:, None, None]))


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tinyimagenet50"])
@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_pixels_are_normalised_inside(name, dataset):
    """The mean pixel is 0 to the stem, one standard deviation above it is 1; without bias the stem adds nothing."""
    model = build_model(name, dataset)
    inner = torch.ones(2, 3, 8, 8)
    mean, std = model.mean, model.std
    ((_, zeros),) = iter_features(model, (mean * inner).float(), ["conv1"])
    ((_, ones),) = iter_features(model, ((mean + std) * inner).float(), ["conv1"])
    assert 0.3 < mean.min() and mean.max() < 0.6 and 0.15 < std.min() and std.max() < 0.35
    torch.testing.assert_close(zeros, torch.zeros_like(zeros))
    torch.testing.assert_close(ones, model.conv1(inner).detach().flatten(1))


def test_normalisation_follows_the_model_but_is_no_weight():
    model = build_model("resnet20").double()
    assert model.mean.dtype == torch.float64
    assert not {"mean", "std"} & set(model.state_dict())


def test_shortcut_of_thin_resnets_pads_with_zeros():
    shortcut = build_model("resnet20").layer2[0].downsample
    x = torch.rand(2, 16, 8, 8)
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()
    assert parameters(shortcut) == 0


@pytest.mark.parametrize("name, stages, layers", [
    ("resnet56", (2, 3, 6), 12),
    ("resnet20", (1, 1, 1), 4),
    ("resnet18", (1, 1, 1, 1), 5),
    ("resnet50", (3, 1, 1, 2), 8),
    ("vgg16", [64, "M", 128, "M", 512, "M"], 3),
])  # fmt: skip
def test_other_depths(name, stages, layers):
    model = build_model(name, num_classes=7, stages=stages)
    assert len(layer_names(model)) == layers
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    again = build_model(**model.architecture)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_a_resnet_as_first_published_strides_in_its_first_convolution():
    models = [build_model("resnet50", stages=(1, 2, 1, 1), stride_in=where) for where in ("conv1", "conv2")]
    for block in (models[0].layer2[0], models[0].layer4[0]):
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert models[0].layer2[1].conv1.stride == models[0].layer1[0].conv1.stride == (1, 1)
    assert cost(models[0]).params == cost(models[1]).params and cost(models[0]).macs < cost(models[1]).macs
    assert build_model(**models[0].architecture).layer2[0].conv1.stride == (2, 2)
    assert "stride_in" not in models[1].architecture
    with pytest.raises(ValueError, match="stride_in='conv1' is for resnet50, resnet101 and resnet152"):
        build_model("resnet18", stride_in="conv1")
    with pytest.raises(ValueError, match="stride_in.*'conv3'"):
        build_model("resnet50", stride_in="conv3")


def test_other_pixels_than_the_datasets():
    pixels = ([0.1, 0.2, 0.3], [1.0, 2.0, 4.0])
    model = build_model("resnet20", stages=(1, 1, 1), pixels=pixels)
    plain = build_model("resnet20", stages=(1, 1, 1))
    plain.load_state_dict(model.state_dict())
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in pixels)
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(model(x), plain((x - mean) / std * plain.std + plain.mean), atol=1e-5)
    assert torch.equal(build_model(**model.architecture).mean, model.mean)


def test_whole_depth_is_what_its_stages_say():
    model = build_model("resnet56")
    assert model.architecture["stages"] == [9, 9, 9]
    assert parameters(build_model("resnet20", stages=(9, 9, 9))) == parameters(model)


def test_classes_follow_the_dataset():
    x = torch.rand(2, 3, 32, 32)
    assert [build_model("resnet20", d)(x).shape[1] for d in ("cifar10", "cifar100", "tinyimagenet50")] == [10, 100, 50]


def test_seed_gives_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build_model("resnet20").parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_depths_may_be_numbers_of_numpy():
    assert (
        build_model("resnet56", stages=np.array([2, 3, 6]).tolist()).architecture
        == build_model("resnet56", stages=tuple(np.array([2, 3, 6]))).architecture
    )
    assert type(build_model("vgg11", stages=[np.int64(512), "M"]).architecture["stages"][0]) is int


@pytest.mark.parametrize("arguments, says", [
    (dict(name="resnet65"), "unknown model 'resnet65'; did you mean 'resnet56'"),
    (dict(name="vgg"), "unknown model 'vgg'; did you mean 'vgg1"),
    (dict(name="resnet20", dataset="cifar11"), "unknown dataset 'cifar11'; did you mean 'cifar10"),
    (dict(name="resnet20", dataset="imagenet"), "'resnet20' is for small images"),
    (dict(name="resnet20", num_classes=1), "num_classes must .* got num_classes=1"),
    (dict(name="resnet20", stages=(1, 2)), r"3 numbers of blocks.* got \(1, 2\)"),
    (dict(name="resnet18", stages=(1, 0, 1, 1)), r"each at least 1; got \(1, 0, 1, 1\)"),
    (dict(name="resnet18", stages=(1, 1, 1, 1.5)), "got"),
    (dict(name="vgg16", stages=["M"]), "widths"),
    (dict(name="vgg16", stages=[64, "m", 512]), "widths"),
    (dict(name="vgg16", stages=[64, "M", 128]), "last width 512"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(arguments, says):
    with pytest.raises(ValueError, match=says):
        build_model(**arguments)


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x):
        return x + self.act(self.conv(x))


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(36, 2), nn.ReLU())


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def blocks() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(Block(), Block()), nn.Conv2d(4, 4, 1), nn.ReLU())


def transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32)


class Unordered(nn.Module):
    """Its parts are not registered in the order in which they run: the classifier first, a linear module between."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.conv1, self.film, self.conv2 = nn.Conv2d(3, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 4, 3)
        self.act, self.head, self.last = nn.ReLU(), nn.Linear(4, 4), nn.ReLU()


@pytest.mark.parametrize("make, conv, relu", [
    (Unordered, ["conv1", "conv2"], ["act"]),
    (plain, ["0", "2"], ["1", "3"]),
    (mlp, ["1", "3"], ["2", "4"]),
    (blocks, ["0", "2.0", "2.1", "3"], ["1", "2.0", "2.1", "4"]),
    (transformer, ["conv_proj", *(f"encoder.layers.encoder_layer_{i}" for i in range(3))], None),
    (lambda: nn.ModuleList([Block(), Block()]), ["0", "1"], ["0", "1"]),
    (lambda: Block(), ["conv"], ["act"]),
])  # fmt: skip
def test_layers_of_unknown_modules(make, conv, relu):
    assert layer_names(make()) == conv
    assert relu is None or layer_names(make(), "relu") == relu


@pytest.mark.parametrize("make, shape", [
    (plain, (3, 7, 7)), (mlp, (3, 2, 2)), (blocks, (3, 8, 8)), (transformer, (3, 32, 32)),
    (torchvision.models.mobilenet_v2, (3, 32, 32)), (torchvision.models.alexnet, (3, 64, 64)),
])  # fmt: skip
def test_layers_of_unknown_modules_can_be_tapped(make, shape):
    model = make()
    names = [name for name, _ in iter_features(model, torch.rand(2, *shape))]
    assert names == layer_names(model)


def test_nothing_to_tap():
    with pytest.raises(ValueError, match="nothing|no blocks.*it is made of Flatten, Sequential"):
        layer_names(nn.Sequential(nn.Flatten()))


def test_unknown_reading():
    with pytest.raises(ValueError, match="unknown reading .* 'rellu'; did you mean 'relu'"):
        layer_names(build_model("resnet20"), "rellu")
