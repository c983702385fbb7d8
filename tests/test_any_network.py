"""Any torch network and any input: features as the network's own forward gives them, or a sentence that says what is wrong."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import modlib
from modlib import iter_features, layer_names, modularity_curve
from modlib._torchvision import torchvision
from modlib.cost import accuracy, cost, seconds
from modlib.similarity import linear_cka


def features(model, x, layers=None, **options) -> dict[str, torch.Tensor]:
    return dict(iter_features(model, x, layers, **options))


# ---- inputs


class Tokens(nn.Module):
    """Like a language model of Hugging Face: token ids and a mask by name, blocks that return tuples, an output object."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.mlp = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 16)

        def forward(self, hidden, mask):
            hidden = hidden + self.attention(hidden, hidden, hidden, key_padding_mask=~mask)[0]
            return hidden + self.mlp(hidden).relu(), "weights"

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.layer = nn.ModuleList(self.Block() for _ in range(3))

    def forward(self, input_ids=None, attention_mask=None, use_cache=True):
        hidden = self.embedding(input_ids)
        for block in self.layer:
            hidden, _ = block(hidden, attention_mask.bool())
        return {"last_hidden_state": hidden, "cache": use_cache}


@pytest.fixture
def ids(rng):
    return {"input_ids": rng.integers(0, 50, (24, 7)), "attention_mask": np.ones((24, 7), np.int64), "use_cache": False}


def test_token_ids_by_name(ids):
    torch.manual_seed(0)
    model = Tokens().eval()
    taken = features(model, ids, batch_size=10)
    assert list(taken) == ["layer.0", "layer.1", "layer.2"]
    with torch.no_grad():
        last = model(torch.from_numpy(ids["input_ids"]), torch.ones(24, 7))["last_hidden_state"]
    torch.testing.assert_close(taken["layer.2"], last.flatten(1))
    torch.testing.assert_close(features(model, ids, reduce="mean")["layer.2"], last.mean(1))
    torch.testing.assert_close(features(model, ids, reduce="cls")["layer.2"], last[:, 0])
    torch.testing.assert_close(features(model, ids, reduce=lambda t: t[:, 1:3])["layer.2"], last[:, 1:3].flatten(1))
    by_hand = features(model, ids["input_ids"], forward=lambda model, batch: model(batch, torch.ones_like(batch)))
    torch.testing.assert_close(by_hand["layer.2"], taken["layer.2"])
    assert modularity_curve(model, ids, np.arange(24) % 2).n == 24


def test_several_inputs_in_order(rng):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 3), nn.Linear(5, 3), nn.Linear(3, 2)

        def forward(self, left, right):
            return self.out(self.a(left) * self.b(right))

    model, left, right = Two(), rng.normal(size=(12, 4)), rng.normal(size=(12, 5)).astype("f4")
    taken = features(model, (left, right), ["b", "out"], batch_size=5)
    torch.testing.assert_close(taken["b"], model.b(torch.from_numpy(right)).detach())
    with pytest.raises(ValueError, match=r"one or more samples.*x\[0\] of shape \(12, 4\).*x\[1\] of shape \(11, 5\)"):
        features(model, (left, right[:11]), ["b"])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


class Rows(Dataset):
    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return {"x": self.pixels[i], "label": 3}


def test_data_sets_and_loaders_in_their_order_without_labels(network, pixels):
    expected = features(network, pixels)
    pairs = TensorDataset(torch.from_numpy(pixels), torch.arange(30))
    state = torch.get_rng_state()
    for given in (pairs, DataLoader(pairs, batch_size=7)):
        for name, taken in features(network, given).items():
            torch.testing.assert_close(taken, expected[name])
    assert torch.equal(torch.get_rng_state(), state)
    by_name = features(network, Rows(pixels), forward=lambda model, batch: model(batch["x"]))
    assert all(torch.equal(by_name[name], expected[name]) for name in expected)
    assert len(features(network, Stream())["3"]) == 10


@pytest.mark.parametrize("given, says", [
    (lambda pairs: DataLoader(pairs, shuffle=True), "DataLoader that shuffles.*shuffle=False"),
    (lambda pairs: TensorDataset(*pairs.tensors, torch.zeros(30)), "TensorDataset of 3 things a sample"),
    (lambda pairs: "folder/x.png", "x must be an array or a tensor of numbers; got str"),
    (lambda pairs: {"x": None}, "a dict with no arrays"),
    (lambda pairs: np.array(["a", "b"]), "numbers; got ndarray"),
    (lambda pairs: [[1, 2], [3]], "numbers; got list"),
    (lambda pairs: None, "got NoneType"),
])  # fmt: skip
def test_other_things_are_refused_by_name(network, pixels, given, says):
    with pytest.raises(ValueError, match=says):
        features(network, given(TensorDataset(torch.from_numpy(pixels), torch.arange(30))))


@pytest.mark.parametrize("x, says", [
    (lambda x: x.astype(np.uint16) * 16, r"got torch.uint16 from 0 to 4080\. Divide them by the largest value"),
    (lambda x: x.astype(np.float32), r"pixels in \[0, 1\].*got x from 0 to 255"),
    (lambda x: (x / 255 - 0.5) / 0.25, r"pixels in \[0, 1\].*leave the normalisation out"),
    (lambda x: x[:, :1], r"model takes images \(N, 3, H, W\); got x of shape \(9, 1, 32, 32\)"),
    (lambda x: x.reshape(9, 3, -1), "model takes images"),
])  # fmt: skip
def test_pixels_that_a_network_would_misread_are_refused(sample, x, says):
    model = modlib.build_model("resnet20")
    with pytest.raises(ValueError, match=says):
        modularity_curve(model, x(sample.x[:9]), sample.y[:9])


@pytest.mark.parametrize("model", ["resnet20", None, np.ones(3), lambda x: x])
def test_a_model_that_is_none_is_refused(sample, model):
    for use in (layer_names, lambda m: modularity_curve(m, sample.x, sample.y), cost, seconds,
                lambda m: accuracy(m, sample), lambda m: modlib.attack(m, sample, "fgsm")):  # fmt: skip
        with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module; got"):
            use(model)


def test_inputs_are_never_changed(sample):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(3072, 10)

        def forward(self, x):
            return self.fc(self.relu(x.sub_(0.5)).flatten(1))

    torch.manual_seed(0)
    model, x = InPlace(), torch.from_numpy(sample.x[:20] / np.float32(255))
    before = x.clone()
    truth = (x - 0.5).relu().flatten(1)
    assert torch.equal(features(model, x, ["relu"], batch_size=20)["relu"], truth)
    images = modlib.Images(x.numpy(), model(x.clone()).argmax(1).numpy(), sample.classes, "own")
    assert accuracy(model, images) == 100
    attacked = modlib.attack(model, images, "fgsm")
    distances = np.abs(attacked.images.x - x.numpy()[attacked.index]).max((1, 2, 3))
    assert attacked.correct == 20 and np.array_equal(attacked.linf, distances)
    assert torch.equal(x, before)


def test_half_precision_parts_and_half_precision_images():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.conv = nn.Conv2d(3, 8, 3).half()

        def forward(self, x):
            return self.conv(x).mean((2, 3)) * self.scale

    model, x = Mixed(), torch.rand(20, 3, 8, 8)
    expected = features(model, x.half(), ["conv"])["conv"]
    torch.testing.assert_close(features(model, x, ["conv"])["conv"], expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(features(model.float(), x.double(), ["conv"])["conv"], expected, rtol=2e-3, atol=2e-3)


# ---- what layers return


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclasses.dataclass
class Holder:
    note: str
    hidden: torch.Tensor
    other: torch.Tensor


@pytest.mark.parametrize("wrap, choose", [
    (lambda a, b: (a, b), 1),
    (lambda a, b: [None, [a], b], 2),
    (lambda a, b: {"loss": None, "hidden": a, "other": b}, "other"),
    (Pair, 1),
    (Pair, "second"),
    (lambda a, b: Holder("x", a, b), "other"),
    (lambda a, b: (a, b), lambda pair: pair[-1]),
])  # fmt: skip
def test_the_first_tensor_of_what_a_layer_returns_or_the_chosen_one(rng, wrap, choose):
    class Layer(nn.Module):
        def forward(self, x):
            return wrap(x * 2, x * 3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Layer()

        def forward(self, x):
            self.layer(x)
            return x

    x = torch.from_numpy(rng.random((10, 4, 2)).astype("f4"))
    assert torch.equal(features(Net(), x, ["layer"])["layer"], 2 * x.flatten(1))
    assert torch.equal(features(Net(), x, ["layer"], output=choose)["layer"], 3 * x.flatten(1))
    with pytest.raises(ValueError, match="output='nothing' is not in what layer 'layer' returns"):
        features(Net(), x, ["layer"], output="nothing")


@pytest.mark.parametrize("first", [True, False])
def test_recurrent_and_attention_modules(first):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(6, 4, batch_first=first)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=first)
            layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=first)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x):
            h, _ = self.rnn(x if first else x.transpose(0, 1))
            h, _ = self.attention(h, h, h)
            self.seen = self.encoder(h)
            return self.seen

    torch.manual_seed(0)
    model, x = Net().eval(), torch.rand(9, 9, 6)  # as many steps as samples: the axes must not be guessed
    layers = ["rnn", "attention", "attention.out_proj", "encoder.layers.0", "encoder.layers.1"]
    taken = features(model, x, layers)
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        rnn = model.rnn(x if first else x.transpose(0, 1))[0]
        last = model(x)
    torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(taken["rnn"], (rnn if first else rnn.transpose(0, 1)).flatten(1))
    torch.testing.assert_close(taken["encoder.layers.1"], (last if first else last.transpose(0, 1)).flatten(1))
    assert torch.equal(taken["attention"], taken["attention.out_proj"])


def test_parts_of_a_fused_transformer_layer_run():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    taken = features(model, torch.rand(5, 3, 8), ["layers.0.linear1", "layers.1.norm2"])
    assert taken["layers.0.linear1"].shape == (5, 48)
    assert torch.backends.mha.get_fastpath_enabled()


def test_complex_features_are_their_parts():
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x)

    x = torch.rand(6, 8)
    taken = features(nn.Sequential(Fourier()), x, ["0"])["0"]
    assert torch.equal(taken, torch.view_as_real(torch.fft.rfft(x)).flatten(1))


# ---- order, batches, wrappers


def test_layers_come_in_the_order_in_which_they_run_and_without_those_that_do_not(rng):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.never, self.c, self.b, self.a = (nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    model, x = Net(), rng.integers(0, 256, (30, 3, 5, 5), dtype=np.uint8)
    assert layer_names(model) == ["never", "c", "b", "a"]
    assert modularity_curve(model, x, np.arange(30) % 3).layers == ("a", "b", "c")
    assert linear_cka(model, x).shape == (3, 3)
    assert list(features(model, x, ["c", "a"])) == ["c", "a"]  # as asked for


@pytest.mark.parametrize("n, batch_size", [(21, 20), (60, 20), (20, 20), (41, 8)])
def test_networks_that_take_no_single_sample(n, batch_size):
    class Squeeze(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm1d(8)

        def forward(self, x):
            return self.bn(self.conv(x).mean((2, 3), keepdim=True).squeeze())

    model, x = Squeeze().eval(), torch.rand(n, 3, 5, 5)
    taken = features(model, x, ["conv", "bn"], batch_size=batch_size)
    with torch.no_grad():
        torch.testing.assert_close(taken["conv"], model.conv(x).flatten(1))
        torch.testing.assert_close(taken["bn"], model(x))


def test_a_network_with_batches_of_one_size():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return self.conv(x).reshape(10, -1)

    model, x = Fixed(), torch.rand(27, 3, 5, 5)
    torch.testing.assert_close(features(model, x, ["conv"], batch_size=10)["conv"], model.conv(x).flatten(1).detach())


def test_compiled_parallel_and_quantised_networks(network, pixels):
    network.eval()
    expected = features(network, pixels)
    compiled = torch.compile(network, backend="eager")
    with torch.no_grad():
        compiled(torch.rand(30, 3, 8, 8))  # compiled for this batch, without hooks
    for wrapped in (compiled, nn.DataParallel(network), torch.compile(nn.DataParallel(network), backend="eager")):
        taken = features(wrapped, pixels)
        assert list(taken) == list(expected) and all(torch.equal(taken[name], expected[name]) for name in expected)
    inside = nn.Sequential(torch.compile(network, backend="eager"), nn.ReLU())
    with torch.no_grad():
        inside(torch.rand(30, 3, 8, 8))
    assert torch.equal(features(inside, pixels, ["0._orig_mod.3"])["0._orig_mod.3"], expected["3"])
    network.compile(backend="eager")
    assert torch.equal(features(network, pixels)["3"], expected["3"])
    assert not compiled.training


@pytest.mark.filterwarnings("ignore")
def test_scripted_networks_are_refused_and_quantised_ones_run(network, pixels):
    with pytest.raises(ValueError, match=r"model is scripted \(torch\.jit\)"):
        features(torch.jit.script(network.eval()), pixels)
    quantised = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)), {nn.Linear}
    )
    assert features(quantised, pixels, ["1", "3"])["3"].shape == (30, 3)


@pytest.mark.parametrize("name, size, first, count", [
    ("vit_b_16", None, "conv_proj", 3), ("swin_t", 32, "features.0.0", 16), ("convnext_tiny", 32, "features.0.0", 22),
    ("efficientnet_b0", 32, "features.0.0", 18), ("densenet121", 32, "features.conv0", 8),
    ("inception_v3", 75, "Conv2d_1a_3x3", 16), ("googlenet", 32, "conv1", 12), ("mobilenet_v3_small", 32, "features.0.0", 13),
])  # fmt: skip
def test_networks_of_torchvision(name, size, first, count):
    torch.manual_seed(0)
    if name == "vit_b_16":  # small, but of its class
        model, size = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32), 32
    else:
        options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
        model = torchvision.models.get_model(name, weights=None, **options)
    taken = list(features(model, torch.rand(3, 3, size, size), reduce="mean"))
    assert taken[0] == first and len(taken) == count
    assert not any("aux" in layer.lower() for layer in taken)


# ---- what is left as it was


def test_a_train_of_its_own_is_honoured(pixels):
    class Merging(nn.Conv2d):
        log = ()

        def train(self, mode=True):
            self.log = (*self.log, mode)
            return super().train(mode)

    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    model = nn.Sequential(Merging(3, 4, 3), Frozen(4)).train()
    model[0].log = ()
    features(model, pixels, ["0"])
    assert model[0].log == (False, True) and model[0].training and model.training and not model[1].training
    model.eval()
    model[0].log = ()
    features(model, pixels, ["0"])
    assert model[0].log == ()  # at rest already


def test_the_users_hooks_come_in_pairs(network, pixels):
    log = []
    model = nn.Sequential(network, nn.Identity())
    features(model, pixels, ["0.0"], memory=31_000)
    model.register_forward_pre_hook(lambda *_: log.append("in"))
    model.register_forward_hook(lambda *_: log.append("out"))
    features(model, pixels, ["0.0"], batch_size=10)
    assert log == ["in", "out"] * 4  # the image sent ahead, and three batches


def test_an_early_end_is_not_caught_by_the_network(network, pixels):
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.spare = network, nn.Flatten()

        def forward(self, x):
            try:
                return self.inner(x)
            except Exception:
                return self.spare(x)

    ran = []
    model = Careful()
    model.spare.register_forward_pre_hook(lambda *_: ran.append(1))
    features(model, pixels, ["inner.0"])
    assert not ran


class Steps(nn.Module):
    """Works on (T, N, D), as torch's transformer modules do by default."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.inner(self.embed(x).transpose(0, 1)).mean(0))


def test_samples_along_the_second_axis_are_told_also_where_there_are_as_many_as_steps():
    model, x = Steps(), torch.randint(0, 50, (7, 7))
    with pytest.raises(ValueError, match="samples lie along the second axis. Say output="):
        features(model, x, ["inner"])
    found = features(model, x, ["inner"], output=lambda given: given.transpose(0, 1))["inner"]
    assert torch.allclose(found, model.inner(model.embed(x)).flatten(1), atol=1e-6)


class Restless(nn.Module):
    """Takes in statistics and draws random numbers also at rest."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        h = nn.functional.batch_norm(self.conv(x), self.norm.running_mean, self.norm.running_var, training=True)
        return nn.functional.dropout(h, 0.5, training=True)


def test_buffers_and_random_numbers_are_as_before():
    model = Restless()
    before, chance = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    first, second = (
        features(model, torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)), ["conv"], batch_size=20)
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(first["conv"], second["conv"])


def test_batches_do_not_share_their_chance():
    model = nn.Sequential(nn.Identity(), type("Noise", (nn.Module,), {"forward": lambda self, x: torch.rand_like(x)})())
    found = features(model, torch.ones(8, 5), ["1"], batch_size=4)["1"]
    assert not (found[:4] == found[4:]).any()


@dataclasses.dataclass(slots=True)
class Slots:
    logits: torch.Tensor


def test_outputs_with_slots_sparse_ones_and_packed_sequences():
    def of(rule):
        return nn.Sequential(nn.Linear(4, 3), type("End", (nn.Module,), {"forward": lambda self, x: rule(x)})())

    x = torch.rand(6, 4)
    for rule in (Slots, torch.Tensor.to_sparse):
        assert features(of(rule), x, ["1"])["1"].shape == (6, 3)
    packed = nn.utils.rnn.pack_sequence
    with pytest.raises(ValueError, match="PackedSequence, whose rows are steps"):
        features(of(lambda x: packed([*x[:, :, None]])), x, ["1"])


def test_loaders_that_shuffle_by_batches_are_refused():
    from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

    data = TensorDataset(torch.rand(40, 4), torch.arange(40))
    ordered = DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 7, False))
    assert torch.equal(features(nn.Sequential(nn.Identity(), nn.Linear(4, 2)), ordered, ["0"])["0"], data.tensors[0])
    with pytest.raises(ValueError, match="DataLoader that shuffles"):
        list(iter_features(nn.Linear(4, 2), DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 7, False)), [""]))


def test_traced_networks_have_their_convolutions_as_layers():
    traced = torch.fx.symbolic_trace(torchvision.models.resnet18(weights=None).eval())
    assert [*features(traced, torch.rand(2, 3, 32, 32))][1:3] == ["layer1.0.conv1", "layer1.0.conv2"]


def test_exported_networks_count():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    assert cost(torch.export.export(flat, (torch.rand(1, 3, 32, 32),)).module()).macs == 30720


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.rand(4, 32, 32, 3), "Images are"),
        (torch.zeros(4, 9, dtype=torch.uint8), "token ids must be of another type"),
        ([np.zeros((4, 3)), np.zeros((4, 2))], "Several inputs are a tuple"),
        ((i for i in range(3)), "Stack what it gives"),
    ],
)
def test_ways_out_of_inputs_that_do_not_fit(x, message):
    with pytest.raises(ValueError, match=message):
        list(iter_features(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), x))
