"""Features: exact copies, the same in any number of passes and batches, and a model that is left as it was."""

import errno
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import modlib
import modlib.features
import modlib.similarity
from modlib import build_model, iter_features


def features(model, x, layers=None, **options) -> dict[str, torch.Tensor]:
    return dict(iter_features(model, x, layers, **options))


def hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def modes(model) -> list[bool]:
    return [module.training for module in model.modules()]


def test_in_place_relu_does_not_reach_the_copies(network, pixels):
    taken = features(network, pixels, ["0", "1", "2", "3"])
    x = torch.from_numpy(pixels).float() / 255
    network.eval()
    with torch.no_grad():
        by_hand = {"0": network[0](x)}
        by_hand["1"] = network[1](by_hand["0"])
        by_hand["2"] = by_hand["1"].clamp(min=0)
        by_hand["3"] = network[3](by_hand["2"])
    assert by_hand["1"].min() < 0
    for name, output in by_hand.items():
        assert torch.equal(taken[name], output.flatten(1)), name


def test_in_place_addition_of_a_shortcut_does_not_reach_the_copies(sample):
    model = build_model("resnet20")
    taken = features(model, sample.x[:20], ["conv1", "layer1.0.conv2", "layer1.0.bn2", "layer1.0"])
    with torch.no_grad():
        stem = model.conv1((torch.from_numpy(sample.x[:20]).float() / 255 - model.mean) / model.std)
        assert torch.equal(taken["conv1"], stem.flatten(1))
        block, stem = model.layer1[0], model.bn1(stem).relu()
        conv2 = block.conv2(block.bn1(block.conv1(stem)).relu())
        assert torch.equal(taken["layer1.0.conv2"], conv2.flatten(1))
        assert torch.equal(taken["layer1.0.bn2"], block.bn2(conv2).flatten(1))
        assert torch.equal(taken["layer1.0"], (block.bn2(conv2) + stem).relu().flatten(1))


def test_shape_order_and_type(network, pixels):
    taken = list(iter_features(network, pixels, ["3", "0", "7"]))
    assert [(name, tuple(f.shape)) for name, f in taken] == [("3", (30, 54)), ("0", (30, 256)), ("7", (30, 5))]
    assert all(f.dtype == torch.float32 and not f.requires_grad for _, f in taken)


def test_default_layers_are_those_of_layer_names(network, pixels):
    assert list(features(network, pixels)) == modlib.layer_names(network) == ["0", "3"]


# One sample's features of layers 0, 1, 2 and 3 take 1024, 1024, 1024 and 216 bytes, of 30 samples 30 times that.
@pytest.mark.parametrize("memory, passes", [("1GB", 1), (70_000, 2), (31_000, 4), ("30.72KB", 4)])
def test_passes_as_memory_asks_for_and_the_same_features(network, pixels, memory, passes):
    whole = features(network, pixels, ["0", "1", "2", "3"])
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    parted = features(network, pixels, ["0", "1", "2", "3"], memory=memory)
    assert sum(seen) == 1 + 30 * passes  # one image is sent ahead to learn the widths
    assert list(parted) == list(whole)
    assert all(torch.equal(parted[name], whole[name]) for name in whole)


def test_a_layer_that_memory_does_not_hold_goes_through_a_file(network, pixels, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole = features(network, pixels, ["0", "1", "3"])
    on_disk, shapes = modlib.features._on_disk, []
    monkeypatch.setattr(modlib.features, "_on_disk", lambda *shape: shapes.append(shape[:2]) or on_disk(*shape))
    parted = features(network, pixels, ["0", "1", "3"], batch_size=5, memory=10_000, spool=True)
    assert all(torch.equal(parted[name], whole[name]) for name in whole)
    assert shapes == [(30, 256), (30, 256)]  # 30 x 54 x 4 bytes do fit
    assert not [*tmp_path.iterdir()]
    with pytest.raises(MemoryError, match=r"does not hold layer '0': 5 samples of 1,024 bytes .* smaller batch_size"):
        features(network, pixels, batch_size=5, memory=5_000, spool=True)


def test_a_pass_ends_behind_its_last_layer(network, pixels):
    """Of the four passes, each of two batches, only the image sent ahead goes through the whole network."""
    ran = []
    for i, module in enumerate(network):
        module.register_forward_pre_hook(lambda module, inputs, i=i: ran.append(i))
    features(network, pixels, ["0", "3"], memory=31_000, batch_size=15)
    assert [ran.count(i) for i in range(8)] == [1 + 2 * 2] + [1 + 2] * 3 + [1] * 4


def test_half_precision_rounds_and_takes_half_the_memory(network, pixels):
    whole = features(network, pixels, ["0", "1", "3"])
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    half = features(network, pixels, ["0", "1", "3"], storage="float16", memory=31_000)
    assert sum(seen) == 1 + 30 * 2  # 15,360 + 15,360 and 3,240 bytes
    for name, matrix in half.items():
        assert matrix.dtype == torch.float16
        torch.testing.assert_close(matrix.float(), whole[name], rtol=2**-11, atol=2**-25)


def test_half_precision_on_disk(network, pixels):
    held, spooled = (
        features(network, pixels, ["0"], storage="float16", memory=memory, spool=True, batch_size=5) for memory in (None, 8_000)
    )
    assert torch.equal(held["0"], spooled["0"])


def test_a_full_disk_is_told_in_a_sentence(network, pixels, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match=r"does not hold 30,720 bytes of features \(No space left on device\)\. Let TMPDIR name"):
        features(network, pixels, batch_size=5, memory=10_000, spool=True)
    assert hooks(network) == 0


def test_a_layer_is_let_go_before_the_next_is_taken(network, pixels):
    for _, matrix in iter_features(network, pixels):
        held = weakref.ref(matrix)
        del matrix
        assert held() is None


@pytest.mark.parametrize("batch_size", [1, 7, 30, 1000])
def test_batch_size_does_not_matter(network, pixels, batch_size):
    """Up to rounding: convolutions may sum in another order."""
    whole = features(network, pixels)
    for name, part in features(network, pixels, batch_size=batch_size).items():
        torch.testing.assert_close(part, whole[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convert", [
    lambda x: torch.from_numpy(x),
    lambda x: x.astype(np.float32) / np.float32(255),
    lambda x: torch.from_numpy(x).float() / 255,
    lambda x: torch.from_numpy(x).contiguous(memory_format=torch.channels_last),
    lambda x: x[::-1].copy()[::-1],
    lambda x: np.broadcast_to(x, x.shape),
])  # fmt: skip
def test_uint8_and_floats_and_any_memory_order_are_the_same_images(network, pixels, convert):
    expected = features(network, pixels)
    for name, part in features(network, convert(pixels)).items():
        torch.testing.assert_close(part, expected[name], rtol=1e-6, atol=1e-6)


def test_images_come_in_the_precision_of_the_model(network, pixels):
    expected = features(network, pixels)
    for name, part in features(network, pixels / 255).items():  # float64 images
        torch.testing.assert_close(part, expected[name], rtol=1e-5, atol=1e-5)
    for name, part in features(network.double(), pixels).items():  # float64 model
        assert part.dtype == torch.float32
        torch.testing.assert_close(part, expected[name], rtol=1e-5, atol=1e-5)


def test_model_is_left_as_it_was(network, pixels):
    network.train()
    network[4].eval()
    before, state = modes(network), {name: value.clone() for name, value in network.state_dict().items()}
    features(network, pixels)
    assert modes(network) == before
    assert hooks(network) == 0
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_features_are_those_of_evaluation_mode(network, pixels):
    expected = features(network.eval(), pixels)
    trained = features(network.train(), pixels)
    assert all(torch.equal(trained[name], expected[name]) for name in expected)


def test_model_is_restored_when_the_stream_is_closed_early(network, pixels):
    network.train()
    stream = iter_features(network, pixels, memory=31_000)
    next(stream)
    stream.close()
    assert all(modes(network)) and hooks(network) == 0


def test_model_is_restored_after_an_error(network, pixels):
    network.train()

    def fail(module, inputs, output):
        if len(output) == 2:  # the last batch
            raise RuntimeError("on purpose")

    handle = network[3].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        features(network, pixels, batch_size=7)
    handle.remove()
    assert all(modes(network)) and hooks(network) == 0
    assert len(features(network, pixels)) == 2


@pytest.mark.parametrize("use", [
    lambda model, x: modlib.modularity_curve(model, x, np.arange(len(x)) % 2, layers=["3", "7"]),
    lambda model, x: modlib.similarity.linear_cka(model, x, layers=["3", "7"]),
])  # fmt: skip
def test_model_is_restored_while_an_error_of_what_uses_the_stream_is_still_held(network, pixels, use):
    network.train()
    with torch.no_grad():
        network[7].weight.zero_(), network[7].bias.zero_()
    try:
        use(network, pixels)
        raise AssertionError("zeros are no features")
    except ValueError as error:
        assert error.__traceback__ and all(modes(network))  # the traceback keeps the frames, and with them any stream


def test_pixels_are_asked_for_where_images_are_given(sample):
    with pytest.raises(ValueError, match=r"x must be an array or a tensor; got Images\. Give their pixels: images\.x"):
        features(build_model("resnet20"), sample)


def test_the_users_own_hooks_and_settings_stay(network, pixels):
    seen = []
    network[0].register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    assert torch.backends.cudnn.enabled
    features(network, pixels)
    assert seen and all(seen)  # cuDNN computes, and only its TF32 is off
    assert hooks(network) == 1
    assert torch.is_grad_enabled()


class Odd(nn.Module):
    """Has a layer that runs twice, one that never runs, one that mixes the samples and one that gives a number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.never = nn.Conv2d(3, 3, 1)
        self.pool = nn.AdaptiveMaxPool2d(4, return_indices=True)
        self.mix = nn.Flatten(0, 1)
        self.scalar = nn.CrossEntropyLoss()

    def forward(self, x):
        x = self.conv(self.conv(x))
        x, _ = self.pool(x)
        self.scalar(x, x)
        return self.mix(x)


@pytest.mark.parametrize("layer, says", [
    ("conv", "layer 'conv' runs several times in one pass"),
    ("never", "layer 'never' gives no features"),
    ("mix", "layer 'mix' gives no features for a batch of 1 images"),
    ("scalar", "layer 'scalar' gives no tensor of features"),
])  # fmt: skip
def test_layers_that_give_no_features_are_named(pixels, layer, says):
    model = Odd().train()
    with pytest.raises(ValueError, match=says):
        features(model, pixels, [layer])
    assert model.conv.training and hooks(model) == 0


@pytest.mark.parametrize("layers, says", [
    (["layr1.0"], "unknown layer 'layr1.0'; did you mean 'layer1.0'"),
    (["conv1", "nothing alike"], r"unknown layer 'nothing alike'\. Known: conv1, bn1"),
    ([""], "unknown layer ''"),
    ([], "at least one"),
    (["conv1", "conv1"], "each once"),
])  # fmt: skip
def test_wrong_layers_are_told_in_a_sentence(sample, layers, says):
    with pytest.raises(ValueError, match=says):
        features(build_model("resnet20"), sample.x, layers)


@pytest.mark.parametrize("x, says", [
    (np.zeros((0, 3, 8, 8), np.uint8), r"shape \(0, 3, 8, 8\)"),
    (np.zeros(8, np.uint8), r"shape \(8,\)"),
    (np.zeros((5, 8, 8, 3), np.uint8), r"shape \(5, 8, 8, 3\)"),
    (np.zeros((5, 1, 8, 8), np.uint8), r"shape \(5, 1, 8, 8\)"),
])  # fmt: skip
def test_images_of_a_wrong_shape_are_told_in_a_sentence(network, x, says):
    network.train()
    with pytest.raises(ValueError, match=says):
        features(network, x)
    assert all(modes(network)) and hooks(network) == 0


@pytest.mark.parametrize("options, error, says", [
    (dict(memory="5 KB"), MemoryError, r"memory=5,000 bytes does not hold layer '0': 30 samples of 1,024 bytes take 30,720"),
    (dict(memory="much"), ValueError, "memory must be .* got 'much'"),
    (dict(memory=-5), ValueError, "memory must be .* got -5"),
    (dict(memory=0), ValueError, "memory must be .* got 0"),
    (dict(batch_size=0), ValueError, "batch_size must be .* got batch_size=0"),
    (dict(batch_size=2.5), ValueError, "batch_size must be .* got batch_size=2.5"),
    (dict(storage="float8"), ValueError, "unknown storage 'float8'"),
])  # fmt: skip
def test_wrong_options_are_told_in_a_sentence(network, pixels, options, error, says):
    network.train()
    with pytest.raises(error, match=says):
        features(network, pixels, **options)
    assert all(modes(network)) and hooks(network) == 0


@pytest.mark.parametrize("scale", [1, 1e-3, 1e-7, 1e-30, 1e30])
def test_half_precision_keeps_directions_at_any_scale(network, pixels, scale):
    """Rows within 11 bits, whatever their length: rows as different as can be, and cosine similarities as of the whole."""
    lengths = scale * torch.logspace(-6, 0, 30)[:, None]

    def scaled(module, inputs, output):
        return (output.flatten(1) * lengths[: len(output)]).view_as(output)

    network[0].register_forward_hook(scaled)
    whole, half = (features(network, pixels, ["0"], storage=storage)["0"].double() for storage in ("float32", "float16"))
    factor = (half.abs().amax(1) / whole.abs().amax(1)).log2().round().exp2()[:, None]  # a power of two, but for rounding
    error = (half / factor - whole).abs()
    assert (error <= 2**-11 * whole.abs() + 2.0**-22 * whole.abs().amax(1, keepdim=True)).all()
    kept = (whole.abs().amax(1) >= 1 / 8) & (whole.abs().amax(1) <= 65504)
    assert (factor[kept] == 1).all()


@pytest.mark.parametrize("files, room", [
    ({"memory.max": "1000000", "memory.current": "400000", "memory.stat": "anon 1\ninactive_file 100000"}, 700_000),
    ({"memory.max": "max", "memory.current": "400000", "memory.stat": "anon 1"}, 2**63),
    ({"memory/memory.limit_in_bytes": "500", "memory/memory.usage_in_bytes": "600", "memory/memory.stat": "cache 1"}, 0),
    ({}, 2**63),
])  # fmt: skip
def test_the_memory_limit_of_a_container_counts(tmp_path, files, room):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert modlib.features.container_room(tmp_path) == room


def test_a_model_without_parameters(pixels):
    x = pixels.astype(np.float32)
    (taken,) = features(nn.Sequential(nn.Flatten(), nn.ReLU()), x, ["1"]).values()
    assert torch.equal(taken, torch.from_numpy(x).flatten(1))
