"""Networks as ONNX graphs: run by onnxruntime, they give what torch gives; what would not is refused."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from test_cli import modlib_  # noqa: F401 (a fixture)
from torch import nn
from torch.nn import functional as F

import modlib
from modlib import build_model, load_model, zoo
from modlib.models.export import export_onnx, tensors

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

TRAINED = ("resnet20", "resnet56", "vgg11", "resnet18")
IMAGES = modlib.load_images("cifar10", 100)
PIXELS = (IMAGES.x / 255).astype(np.float32)


def run(path, outputs=None, **given) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = outputs or [each.name for each in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, given), strict=True))


def torch_gradient(model: nn.Module, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss (N,) and its gradient by the pixels, in the precision of x."""
    x = torch.from_numpy(x).requires_grad_()
    loss = F.cross_entropy(model(x), torch.from_numpy(y), reduction="none")
    return loss.detach().numpy(), torch.autograd.grad(loss.sum(), x)[0].numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Trained networks by name: the model, and what was written."""
    made = {}

    def export(name):
        if name not in made:
            model = load_model(name)
            made[name] = model, export_onnx(model, tmp_path_factory.mktemp(name), name, gradient=True)
        return made[name]

    return export


@pytest.mark.parametrize("name", TRAINED)
def test_features_logits_and_q_of_trained_networks(exported, name):
    model, written = exported(name)
    n = 40 if name == "resnet18" else 100
    got = run(written["graph"], images=PIXELS[:n])
    assert list(got) == ["logits", *modlib.layer_names(model)] and written["layers"] == modlib.layer_names(model)
    for layer, features in modlib.iter_features(model, IMAGES.x[:n]):
        np.testing.assert_allclose(got[layer], features.numpy(), atol=1e-4, err_msg=layer)
    with torch.no_grad():
        np.testing.assert_allclose(got["logits"], model(torch.from_numpy(PIXELS[:n])).numpy(), atol=1e-4)
    curve = modlib.modularity_curve(model, IMAGES.x[:n], IMAGES.y[:n], k=3)
    q = [modlib.modularity(modlib.knn_graph(got[layer], k=3), IMAGES.y[:n]) for layer in curve.layers]
    np.testing.assert_allclose(q, curve.q, atol=1e-6)


@pytest.mark.parametrize("name", TRAINED)
def test_gradient_of_trained_networks(exported, name):
    """In single precision, an image with a feature near 0, which one sum makes negative and another does not, has two gradients."""
    model, written = exported(name)
    x, y = PIXELS[:20], IMAGES.y[:20]
    got = run(written["gradient"], images=x, labels=y)
    assert list(got) == ["gradient", "loss", "logits"]
    loss, gradient = torch_gradient(model, x, y)
    np.testing.assert_allclose(got["loss"], loss, atol=1e-5)
    far = np.linalg.norm((got["gradient"] - gradient).reshape(20, -1), axis=1) / np.linalg.norm(gradient.reshape(20, -1), axis=1)
    assert np.median(far) < 1e-5 and (far < 1e-4).sum() >= 16, far
    one = run(written["gradient"], images=x[3:4], labels=y[3:4])["gradient"]
    np.testing.assert_allclose(one[0], got["gradient"][3], atol=1e-5 * abs(one).max())  # of its own loss, whatever is beside it


class Net(nn.Module):
    """A convolution, what is tested, and a linear module behind the mean of each channel."""

    def __init__(self, *middle: nn.Module, channels: int = 8):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.middle = nn.Sequential(*middle)
        self.fc = nn.Linear(channels, 4)

    def forward(self, x):
        return self.fc(self.middle(self.conv(x)).mean((2, 3)))


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 4))

    def forward(self, x):
        return self.layers(x)


def lively(model: nn.Module) -> nn.Module:
    """Batch normalisations as after training, each channel with statistics of its own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5), (module.bias, -0.5)):
                values.data.uniform_(low, low + 1, generator=generator)
    return model.eval()


def in_double(path: Path) -> ReferenceEvaluator:
    """A graph computed in float64 by onnx itself, without onnxruntime."""
    proto = onnx.load(path)
    values = [each.t for node in proto.graph.node for each in node.attribute if each.name == "value"]
    for tensor in (*proto.graph.initializer, *values):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(float), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return ReferenceEvaluator(proto)


NETWORKS = {
    "thin": lambda: build_model("resnet20", stages=(1, 1, 1), seed=0),
    "thin, convolution as shortcut": lambda: build_model("resnet20", stages=(1, 1, 1), shortcut="conv", seed=0),
    "vgg": lambda: build_model("vgg11", stages=[8, "M", 16, "M", 512, "M"], seed=0),
    "resnet of ImageNet": lambda: build_model("resnet18", "imagenet", num_classes=4, stages=(1, 1, 1, 1), seed=0),
    "bottleneck": lambda: build_model("resnet50", stages=(1, 1, 1, 1), stride_in="conv1", seed=0),
    "mlp": Mlp,
    "convolutions": lambda: Net(
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 2, dilation=2, bias=False), nn.ReLU()
    ),
    "a stride's rest": lambda: Net(nn.Conv2d(8, 8, (2, 3), stride=(3, 5), padding=(1, 0)), nn.ReLU()),
    "overlapping maxima": lambda: Net(nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)),
    "maxima of a broken window": lambda: Net(nn.ReLU(), nn.MaxPool2d(3, ceil_mode=True)),
    "means": lambda: Net(nn.AvgPool2d(3, 2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
    "some means": lambda: Net(nn.AdaptiveAvgPool2d(7), nn.ReLU()),
    "slices": lambda: Net(Do(lambda x: F.pad(x[:, 1:-1, 3::4, -9:], (1, 2, 0, 1, 2, 0)))),
    "sums": lambda: Net(Do(lambda x: x + x.sum(1, keepdim=True) - 2 * x.mean(3, keepdim=True) / 3)),
    "products": lambda: Net(Do(lambda x: x * x.relu().mean((2, 3), keepdim=True) * torch.arange(8.0).view(8, 1, 1))),
    "shapes": lambda: Net(Do(lambda x: x.reshape(len(x), 4, -1).unsqueeze(2).view(-1, 4, 14, 28).relu()), channels=4),
    "nothing": lambda: Net(nn.Identity(), nn.Dropout2d(), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_rule_is_exact(tmp_path, kind):
    """Forward against torch in float32; the gradient in float64, where no feature is too near to 0."""
    torch.manual_seed(0)
    model = lively(NETWORKS[kind]())
    width = 56 if "ImageNet" in kind else 16
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3, width, width)), np.array([3, 1])
    written = export_onnx(model, tmp_path, "net", size=(3, width, width), gradient=True)
    got = run(written["graph"], images=x.astype(np.float32))
    features = dict(modlib.iter_features(model, x.astype(np.float32)))
    assert got.keys() == {"logits", *features}
    for layer, right in features.items():
        np.testing.assert_allclose(got[layer], right.numpy(), atol=1e-4 * max(1, right.abs().max()), err_msg=layer)
    loss, gradient = torch_gradient(model.double(), x, y)
    got = in_double(written["gradient"]).run(["loss", "gradient"], {"images": x, "labels": y})
    np.testing.assert_allclose(got[0], loss, rtol=1e-6)
    np.testing.assert_allclose(got[1], gradient, atol=1e-6 * abs(gradient).max())
    assert abs(gradient).max() > 1e-6


def test_convolutions_in_groups(tmp_path):
    """By onnxruntime: onnx's own transposed convolution takes no groups of several channels. No ReLU, so float32 is enough."""
    torch.manual_seed(0)
    model = Net(nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), channels=12)
    written = export_onnx(model, tmp_path, "net", size=(3, 16, 16), gradient=True)
    x, y = np.random.default_rng(0).random((5, 3, 16, 16), np.float32), np.arange(5) % 4
    _, right = torch_gradient(model, x, y)
    np.testing.assert_allclose(run(written["gradient"], images=x, labels=y)["gradient"], right, atol=1e-5 * abs(right).max())


def test_weights_are_only_in_their_file(exported, tmp_path):
    """Shuffled there, they make the network that torch makes of the shuffled ones."""
    model, written = exported("resnet20")
    place = tensors(model)
    packed = np.fromfile(written["weights"], "<f4")
    assert place == written["tensors"] and 4 * packed.size == place[-1]["offset"] + 4 * 10
    assert written["graph"].stat().st_size < 40_000 < written["weights"].stat().st_size
    assert onnx.checker.check_model(written["graph"], full_check=True) is None
    assert onnx.checker.check_model(written["gradient"], full_check=True) is None

    rng, state = np.random.default_rng(0), model.state_dict()
    other = load_model("resnet20")
    for each in place:
        values = packed[each["offset"] // 4 :][: int(np.prod(each["shape"]))]
        np.testing.assert_array_equal(values.reshape(each["shape"]), state[each["name"]].numpy())
        rng.shuffle(values)
        other.state_dict()[each["name"]].copy_(torch.from_numpy(values.reshape(each["shape"])))
    packed.tofile(tmp_path / "weights")
    for key in ("graph", "gradient"):
        (tmp_path / written[key].name).write_bytes(written[key].read_bytes())
    got = run(tmp_path / "resnet20.onnx", ["logits"], images=PIXELS[:5])["logits"]
    with torch.no_grad():
        right = other(torch.from_numpy(PIXELS[:5])).numpy()
    assert abs(got - run(written["graph"], images=PIXELS[:5])["logits"]).max() > 0.1
    np.testing.assert_allclose(got, right, atol=1e-4 * abs(right).max())
    second = run(tmp_path / "resnet20-gradient.onnx", ["logits"], images=PIXELS[:5], labels=IMAGES.y[:5])["logits"]
    np.testing.assert_allclose(second, right, atol=1e-4 * abs(right).max())


def test_equal_weights_are_each_their_own(tmp_path):
    """Before training, all batch normalisations are equal; torch's exporter writes one of them."""
    model = build_model("resnet18", stages=(1, 1, 1, 1), seed=0)
    written = export_onnx(model, tmp_path, "resnet18")
    graph = onnx.load(written["graph"], load_external_data=False).graph
    used = {name for node in graph.node for name in node.input}
    assert {each["name"] for each in written["tensors"]} <= used
    outside = {each.name for each in graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL}
    assert outside == {each["name"] for each in written["tensors"]}


def test_what_a_graph_says_of_itself(exported):
    _, written = exported("vgg11")
    for key in ("graph", "gradient"):
        proto = onnx.load(written[key], load_external_data=False)
        about = {each.key: each.value for each in proto.metadata_props}
        assert about["name"] == "vgg11" and about["dataset"] == "cifar10"
        assert json.loads(about["layers"]) == written["layers"] and json.loads(about["classes"])[3] == "cat"
        assert about["weights_sha256"] == zoo.sha256(written["weights"])


def test_the_model_is_left_as_it_was(tmp_path):
    model = Net(nn.BatchNorm2d(8), nn.ReLU()).double().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    seed = torch.random.get_rng_state()
    export_onnx(model, tmp_path, "net", size=(3, 16, 16), gradient=True)
    assert model.training and "forward" not in vars(model) and not any(m._forward_hooks for m in model.modules())
    assert all(torch.equal(value, state[name]) and value.dtype == state[name].dtype for name, value in model.state_dict().items())
    assert torch.equal(seed, torch.random.get_rng_state())


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).view(x.shape)


@pytest.mark.parametrize(
    "middle, named",
    [
        (nn.GELU(), "module 'middle.0' (GELU)"),
        (nn.Sigmoid(), "module 'middle.0' (Sigmoid)"),
        (nn.GroupNorm(2, 8), "module 'middle.0' (GroupNorm)"),
        (nn.AvgPool2d(3, ceil_mode=True), "module 'middle.0' (AvgPool2d)"),
        (nn.AvgPool2d(3, padding=1, count_include_pad=False), "module 'middle.0' (AvgPool2d)"),
        (nn.ReflectionPad2d(1), "module 'middle.0' (ReflectionPad2d)"),
        (nn.Sequential(nn.ReLU(), Attention()), "module 'middle.0.1"),
    ],
)  # fmt: skip
def test_a_module_without_a_rule_is_named_and_its_features_are_still_written(tmp_path, middle, named):
    model = Net(middle).eval()
    with pytest.raises(ValueError, match="the gradient has no rule for") as refused:
        export_onnx(model, tmp_path / "both", "net", size=(3, 8, 8), gradient=True)
    assert named in str(refused.value) and not (tmp_path / "both").exists()
    written = export_onnx(model, tmp_path / "one", "net", size=(3, 8, 8))
    x = np.random.default_rng(0).random((5, 3, 8, 8), np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(run(written["graph"], images=x)["logits"], model(torch.from_numpy(x)).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "model, options, sentence",
    [
        (Net(nn.AdaptiveAvgPool2d(5)), {}, r"module 'middle.0' \(AdaptiveAvgPool2d\) has no ONNX graph"),
        (Net(Do(lambda x: torch.fft.fft2(x).abs())), {}, r"module 'middle.0' \(Do\) has no ONNX graph"),
        (Net(Do(lambda x: x if x.sum() > 1e3 else x * len(x))), {}, "is wrong and is not written"),  # as for the traced two images
        (Net(Do(lambda x: x - x.view(int(len(x)), -1)[:, :1, None, None])), {"size": (3, 9)}, r"size must be \(channels, H, W\)"),
        (Net(), {"size": None}, "size of an image is not known"),
        (Net(), {"size": (3, 0, 9)}, "size must be a whole number"),
        (Net(), {"size": (4, 9, 9)}, "model cannot take x of shape"),
        (Net(), {"layers": ["cnv"]}, "unknown layer 'cnv'; did you mean 'conv'"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {}, r"model must return logits \(N, C\)"),
        (Net(), {"name": "a/b"}, "name must be the name of a file"),
        ("resnet20", {}, "Load it: modlib.load_model"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, model, options, sentence):
    options = {"name": "net", "size": (3, 9, 9), **options}
    with pytest.raises(ValueError, match=sentence):
        export_onnx(model, tmp_path / "out", options.pop("name"), **options)
    assert not (tmp_path / "out").exists()


def test_a_layer_that_runs_twice_or_has_a_taken_name(tmp_path):
    class Twice(Net):
        def forward(self, x):
            return self.fc(self.middle(self.middle(self.conv(x))).mean((2, 3)))

    with pytest.raises(ValueError, match="layer 'middle' runs several times in one pass"):
        export_onnx(Twice(nn.ReLU()), tmp_path, "net", size=(3, 9, 9), layers=["middle"])
    model = nn.Sequential()
    model.add_module("logits", nn.Conv2d(3, 4, 9))
    model.add_module("flat", nn.Flatten())
    with pytest.raises(ValueError, match="layer 'logits' has the name of an input or output"):
        export_onnx(model, tmp_path, "net", size=(3, 9, 9))


def test_a_folder_holds_one_network(tmp_path):
    export_onnx(Net(), tmp_path, "one", size=(3, 9, 9), gradient=True)
    before = (tmp_path / "weights").read_bytes()
    for name in ("two", "one"):  # the second without its gradient, which would be left with other weights
        with pytest.raises(ValueError, match="holds one.*whose weights would be replaced; name a folder of its own"):
            export_onnx(Net(), tmp_path, name, size=(3, 9, 9))
    assert (tmp_path / "weights").read_bytes() == before
    export_onnx(Net(), tmp_path, "two", size=(3, 9, 9), weights=False)
    export_onnx(Net(), tmp_path / "new", "one", size=(3, 9, 9), gradient=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        export_onnx(Net(), tmp_path / "file", "one", size=(3, 9, 9))


def test_without_the_packages(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    with pytest.raises(ImportError, match="with the package onnx: pip install onnx onnxruntime"):
        export_onnx(Net(), tmp_path, "net", size=(3, 9, 9))


def test_the_command(modlib_, tmp_path):  # noqa: F811
    folder = tmp_path / "graphs"
    status, out, _ = modlib_("export", "resnet20", "--untrained", "--gradient", "--out", folder)
    assert status == 0
    assert [Path(line).name for line in out.split()] == ["resnet20.onnx", "resnet20-gradient.onnx", "weights"]
    with torch.no_grad():
        right = build_model("resnet20", seed=0)(torch.from_numpy(PIXELS[:3])).numpy()
    np.testing.assert_allclose(run(folder / "resnet20.onnx", images=PIXELS[:3])["logits"], right, atol=1e-4)

    file = zoo.save_model(build_model("resnet32", seed=1), tmp_path / "w.safetensors")
    assert modlib_("export", "resnet32", "--weights", file, "--out", tmp_path / "b")[0] == 0
    assert {each.name for each in (tmp_path / "b").iterdir()} == {"resnet32.onnx", "weights"}
    status, _, err = modlib_("export", "resnet20", "--weights", file, "--untrained", "--out", tmp_path / "c")
    assert status == 1 and err.startswith("error: --untrained are weights") and not (tmp_path / "c").exists()


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The extension of the book, for one small network, without npm; and the build that it writes into."""
    import live

    monkeypatch.setattr(live, "NETWORKS", ("resnet20",))
    monkeypatch.setattr(live, "UNTRAINED", ())
    monkeypatch.setattr(live, "outputs_key", lambda root: "state 1")
    monkeypatch.setenv("PATH", "")
    out = tmp_path / "_build" / "html"
    return live, SimpleNamespace(outdir=out, srcdir=tmp_path, builder=SimpleNamespace(format="html")), out / "_static" / "live"


def test_a_build_without_npm_says_so_and_with_ci_it_fails(built, monkeypatch):
    live, app, out = built
    said = []
    monkeypatch.setattr(live.logger, "info", lambda message, *words: said.append(message % words))
    monkeypatch.delenv("CI", raising=False)
    live.write_live(app, None)
    assert said == ["the live laboratory is not in this build: npm is not installed"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["runtime"] is None

    monkeypatch.setattr(live, "network", None)  # what was made is not made again
    monkeypatch.setenv("CI", "1")
    with pytest.raises(OSError, match="npm is not installed"):
        live.write_live(app, None)

    (net,) = manifest["networks"]
    assert net["layers"] == modlib.layer_names(load_model("resnet20"))
    assert net["widths"] == 4 * [16384] + 3 * [8192] + 3 * [4096] and 4.0e7 < net["macs"] < 4.1e7
    first = manifest["images"]["parts"][1]
    described = [net["gradient"], net["pieces"], *net["weights"].values(), manifest["product"], first]
    assert all((out / each["file"]).stat().st_size == each["bytes"] for each in described)


def test_the_images_of_a_build(built, tmp_path):
    from PIL import Image

    live, *_ = built
    about = live.images(tmp_path)
    assert sum(part["count"] for part in about["parts"]) == 2500
    part = about["parts"][1]
    mosaic = np.asarray(Image.open(tmp_path / part["file"]).convert("RGB"))
    x = mosaic.reshape(20, 32, 25, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    every = modlib.load_images("cifar10")[500:1000]
    np.testing.assert_array_equal(x, every.x)
    assert part["labels"] == every.y.tolist()
    assert part["sum"] == sum(int(value) * place for place, value in enumerate(x.reshape(-1), 1)) % 2**32
