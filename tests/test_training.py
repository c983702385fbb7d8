"""Training: resumable to the same bits, recorded at every epoch, by the schedules and augmentation that recipes name."""

import itertools
import os
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import modlib
from modlib import Images, build_model, training
from modlib.cost import accuracy
from modlib.data.batches import Batches
from modlib.results import STUDIES, Records, measurement, read_result
from modlib.training import RECIPES, OutOfTime, Recipe, _Run, train

SMALL = Recipe(epochs=3, batch_size=64, lr=0.05, weight_decay=5e-4, schedule="one-cycle", nesterov=True, label_smoothing=0.1)


@pytest.fixture(scope="module")
def data():
    """160 training and 100 test images, cut to 16 x 16."""
    images = modlib.load_images("cifar10", n=260)
    images = Images(np.ascontiguousarray(images.x[:, :, 8:24, 8:24]), images.y, images.classes, images.name)
    return images[:160], images[160:]


def run(folder, data, recipe=SMALL, name="resnet20", **options):
    return train(name, recipe=recipe, folder=folder, data=data, **options)


class Stop(Exception):
    pass


def interrupt(monkeypatch, where: str, call: int) -> None:
    """Let ``training.where`` fail at its call-th call, counted from 1."""
    whole, calls = getattr(training, where), []

    def wrapped(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return whole(*arguments, **options)

    monkeypatch.setattr(training, where, wrapped)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is a minute later whenever ``train`` looks at it."""
    minutes = itertools.count()
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: 60 * next(minutes)))


def measured(result) -> dict:
    return {name: value for name, value in result.values.items() if name != "seconds"}


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """Folder and result of a run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, data)


@pytest.mark.parametrize("where, call", [("accuracy", 1), ("accuracy", 2), ("modularity_curve", 3), ("write_result", 2)])
def test_resumed_equals_uninterrupted(monkeypatch, data, uninterrupted, tmp_path, where, call):
    whole, expected = uninterrupted
    with monkeypatch.context() as patch, pytest.raises(Stop):
        interrupt(patch, where, call)
        run(tmp_path, data)
    assert not (tmp_path / "model.safetensors").exists()
    torch.manual_seed(99)  # whatever else happened in between
    result = run(tmp_path, data)
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert measured(result) == measured(expected)


def test_resumed_equals_uninterrupted_with_dropout(monkeypatch, sample, tmp_path):
    data, recipe = (sample[:16], sample[16:36]), Recipe(2, 8, 0.01, 5e-3, "steps")
    run(tmp_path / "whole", data, recipe, "vgg11")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        interrupt(patch, "accuracy", 2)
        run(tmp_path / "parts", data, recipe, "vgg11")
    torch.manual_seed(99)
    run(tmp_path / "parts", data, recipe, "vgg11")
    whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_seed_gives_the_run(data, uninterrupted, tmp_path):
    whole, expected = uninterrupted
    run(tmp_path / "other", data, seed=1)
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


def test_random_numbers_of_the_caller_go_on(data, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(tmp_path, data, epochs=1)
    assert torch.equal(torch.rand(4), expected)


def test_every_epoch_is_recorded(monkeypatch, data, tmp_path):
    at_epoch = []

    def look(model, x, y, k):  # runs before the epoch is written: sees what the epochs before have left
        path = tmp_path / "result.json"
        at_epoch.append(len(read_result(path).coords["epoch"]) if path.exists() else 0)
        return curve_of(model, x, y, k)

    curve_of = training.modularity_curve
    monkeypatch.setattr(training, "modularity_curve", look)
    result = run(tmp_path, data)
    assert at_epoch == [0, 1, 2]
    assert read_result(tmp_path / "result.json") == result
    assert result.settings["model"] == "resnet20" and result.settings["batch_size"] == 64
    assert result.coords == {"epoch": [1, 2, 3], "layer": modlib.layer_names(build_model("resnet20"))}
    assert result["q"].shape == (3, 10)
    assert result.evidence["finished"] is True
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "result.json", "model.safetensors"}


def test_what_is_recorded_is_true_of_the_weights(data, uninterrupted):
    folder, result = uninterrupted
    model = modlib.load_model("resnet20", weights=folder / "model.safetensors")
    assert accuracy(model, data[1]) == result["test_accuracy"][-1] == result.evidence["accuracy"]
    curve = modlib.modularity_curve(model, data[1].x, data[1].y)
    np.testing.assert_allclose(result["q"][-1], curve.q, atol=1e-6)
    assert (result.settings["n"], result.settings["k"]) == (100, 3)


def test_a_finished_run_is_not_trained_again(monkeypatch, data, uninterrupted):
    folder, expected = uninterrupted
    before = (folder / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(_Run, "one_epoch", lambda *_: pytest.fail("it trained"))
    again = run(folder, data)
    assert measured(again) == measured(expected)
    assert again.evidence["finished"] and again.settings == expected.settings
    assert (folder / "checkpoint.pt").read_bytes() == before


@pytest.fixture(scope="module")
def colors():
    """Reddish and bluish noise, in two classes: easy to tell apart."""
    rng = np.random.default_rng(0)
    y = np.arange(192) % 2
    x = rng.integers(0, 160, (192, 3, 12, 12))
    x[y == 0, 0] += 90
    x[y == 1, 2] += 90
    images = Images(x.astype(np.uint8), y, ("red", "blue"), "colors")
    return images[:128], images[128:]


@pytest.mark.parametrize("recipe", [
    Recipe(6, 32, 0.05, 5e-3, "steps", steps=(4,)),
    Recipe(6, 32, 0.1, 5e-4, "one-cycle", nesterov=True, label_smoothing=0.1),
    Recipe(6, 32, 3e-3, 0.06, "one-cycle", optimizer="adamw"),
], ids=lambda r: f"{r.optimizer}, {r.schedule}")  # fmt: skip
def test_an_easy_problem_is_learnt(colors, tmp_path, recipe):
    result = run(tmp_path, colors, recipe)
    assert result["loss"][-1] < 0.7 * result["loss"][0]
    assert result["test_accuracy"][-1] >= 90 and result["train_accuracy"][-1] >= 90


@pytest.mark.parametrize("schedule, steps, expected", [
    ("steps", (1, 3), [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]),
    ("one-cycle", (), [0.5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]),
])  # fmt: skip
def test_rates_that_the_optimizer_was_given(data, tmp_path, schedule, steps, expected):
    """Four epochs of two batches."""
    rates = []
    spy = register_optimizer_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    try:
        run(tmp_path, data, Recipe(4, 80, 0.02, 0, schedule, steps))
    finally:
        spy.remove()
    np.testing.assert_allclose(rates, 0.02 * np.array(expected), atol=1e-12)


@pytest.mark.parametrize("recipe, moments", [
    ("paper", {1: 0.01, 50: 0.01, 50.01: 1e-3, 100: 1e-3, 100.01: 1e-4, 150: 1e-4}),
    ("fast", {0: 0, 2.5: 0.1, 5: 0.2, 12.5: 0.1, 20: 0}),
])  # fmt: skip
def test_rates_of_the_recipes(recipe, moments):
    assert {at: RECIPES[recipe].rate(at) for at in moments} == pytest.approx(moments)


def test_adamw_is_torchs_and_is_named_in_the_settings():
    one = _Run("cct6", "cifar10", RECIPES["adamw"], "adamw", 0, torch.device("cpu"))
    assert type(one.optimizer) is torch.optim.AdamW and one.optimizer.param_groups[0]["weight_decay"] == 0.06
    assert one.settings["optimizer"] == "adamw"
    assert "optimizer" not in _Run("resnet20", "cifar10", RECIPES["fast"], "fast", 0, torch.device("cpu")).settings
    with pytest.raises(ValueError, match="optimizer of the recipe 'lion'"):
        Recipe(1, 1, 0.1, 0, "steps", optimizer="lion")


def test_paper_recipe_is_the_papers():
    paper = RECIPES["paper"]
    assert (paper.lr, paper.batch_size, paper.weight_decay, paper.epochs) == (0.01, 256, 5e-3, 150)
    group = _Run("resnet20", "cifar10", paper, "paper", 0, torch.device("cpu")).optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-3, False)


def crops(image: np.ndarray, pad: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every shifted crop of the padded image, as it is and mirrored."""
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    size = image.shape[-1]
    found = {}
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = padded[:, top : top + size, left : left + size]
            found[crop.tobytes()] = (top, left, False)
            found[np.ascontiguousarray(crop[:, :, ::-1]).tobytes()] = (top, left, True)
    return found


def epoch_of(images, recipe, seed=0):
    batches = Batches(images, recipe.batch_size, recipe.crop, recipe.flip, torch.device("cpu"))
    parts = list(batches.epoch(torch.Generator().manual_seed(seed)))
    assert len(parts) == len(batches)
    return parts


def test_augmented_images_are_shifted_and_mirrored_crops(rng):
    images = Images(rng.integers(1, 256, (40, 3, 8, 8), dtype=np.uint8), np.arange(40), (), "")
    known = [crops(image, 4) for image in images.x]
    assert all(len(found) == 2 * 81 for found in known)
    seen = []
    for seed in range(12):
        parts = epoch_of(images, Recipe(1, 10, 0.1, 0, "steps"), seed)
        assert [tuple(x.shape) for x, _ in parts] == [(10, 3, 8, 8)] * 4
        x, y = (torch.cat(each) for each in zip(*parts, strict=True))
        assert sorted(y.tolist()) == list(range(40)) != y.tolist()  # each image once, shuffled
        assert x.dtype == torch.float32 and 0 <= x.min() and x.max() <= 1
        bytes_of = (255 * x).round().to(torch.uint8).numpy()
        seen += [known[label][image.tobytes()] for image, label in zip(bytes_of, y.tolist(), strict=True)]
    top, left, flipped = zip(*seen, strict=True)
    assert set(top) == set(left) == set(range(9))
    assert abs(np.mean(flipped) - 0.5) < 4 * np.sqrt(0.25 / len(flipped))
    assert len(set(seen)) > 100  # rows, columns and mirrors are drawn independently
    assert abs(np.corrcoef([top, left, flipped])[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(len(seen))


def test_augmentation_can_be_left_out(rng):
    images = Images(rng.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8), np.arange(20), (), "")
    ((x, y),) = epoch_of(images, Recipe(1, 20, 0.1, 0, "steps", crop=0, flip=False))
    np.testing.assert_array_equal((255 * x).round().numpy(), images.x[y.numpy()])


@pytest.mark.parametrize("n, batch, sizes", [(25, 10, [10, 10]), (20, 10, [10, 10]), (7, 10, [7])])
def test_batches_are_full_unless_there_is_only_one(rng, n, batch, sizes):
    images = Images(rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8), np.arange(n), (), "")
    assert [len(y) for _, y in epoch_of(images, Recipe(1, batch, 0.1, 0, "steps"))] == sizes


def test_training_stops_in_time_and_goes_on(clock, data, uninterrupted, tmp_path):
    whole, expected = uninterrupted
    epochs = []
    while len(epochs) < 3:
        result = run(tmp_path, data, max_minutes=1.5)
        epochs.append(len(result.coords["epoch"]))
        assert result.evidence["finished"] is (epochs[-1] == 3)
    assert epochs == [1, 2, 3]
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_no_time_at_all(data, tmp_path):
    with pytest.raises(OutOfTime, match="max_minutes=0 leaves no time for one epoch"):
        run(tmp_path, data, max_minutes=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other, says", [
    (dict(name="resnet32"), "model is 'resnet20' there, 'resnet32' here"),
    (dict(seed=1), "seed is 0 there, 1 here"),
    (dict(epochs=4), "epochs is 3 there, 4 here"),
    (dict(recipe="paper"), "recipe is 'custom' there, 'paper' here; epochs is 3 there, 150 here"),
])  # fmt: skip
def test_checkpoint_of_another_run_is_refused_and_left_alone(data, uninterrupted, other, says):
    folder, _ = uninterrupted
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"checkpoint.pt is of another run: {says}.*Name another folder"):
        run(folder, data, **other)
    with pytest.raises(ValueError, match="is of another run: data_sha256"):
        run(folder, [data[0], replace(data[1], y=data[1].y[::-1])])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def foreign(what):
    def write(path):
        torch.save(what, path)

    return write


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"no checkpoint"),
    foreign({"weight": torch.ones(3)}),
    foreign(torch.ones(3)),
    foreign([1, 2]),
], ids=["truncated", "empty", "text", "state_dict", "tensor", "list"])  # fmt: skip
def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(data, uninterrupted, tmp_path, spoil):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes((uninterrupted[0] / "checkpoint.pt").read_bytes())
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="checkpoint.pt is not a checkpoint of modlib .*delete it"):
        run(tmp_path, data)
    assert path.read_bytes() == before


def test_a_loss_that_diverges_stops_the_run_and_keeps_what_was_good(monkeypatch, clock, data, tmp_path):
    run(tmp_path, data, max_minutes=1.5)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(Recipe, "rate", lambda self, epoch: 1e30)
    with pytest.raises(FloatingPointError, match="no longer finite in epoch 2; lower the recipe's lr=0.05"):
        run(tmp_path, data)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def made(n=9, channels=3, size=32, top=9):
    """Black images with labels up to ``top``."""
    y = np.minimum(np.arange(n) % 2, top)
    y[-1:] = max(top, 1) if top > 0 else top
    return Images(np.zeros((n, channels, size, size), np.uint8), y, ("a",) * 10, "mine")


@pytest.mark.parametrize("arguments, says", [
    (dict(name="resnet65"), "unknown model 'resnet65'; did you mean 'resnet56'"),
    (dict(recipe="fats"), "unknown recipe 'fats'; did you mean 'fast'"),
    (dict(dataset="cifar11"), "unknown dataset 'cifar11'; did you mean 'cifar10"),
    (dict(epochs=0), "epochs must be .* got epochs=0"),
    (dict(recipe=["fast"]), r"recipe must be text or modlib.Recipe; got recipe=\['fast'\]"),
    (dict(batch_size=0), "batch_size must be a whole number of at least 1; got batch_size=0"),
    (dict(batch_size="8"), "batch_size must be a whole number"),
    (dict(seed=-1), "seed must be a whole number in 0..4294967295; got seed=-1"),
    (dict(seed="one"), "seed must be a whole number"),
    (dict(max_minutes=-1), "max_minutes must be a number of at least 0; got max_minutes=-1"),
    (dict(max_minutes=float("nan")), "max_minutes must be a number of at least 0; got max_minutes=nan"),
    (dict(device="cuda:99"), "device 'cuda:99' cannot be used"),
    (dict(device="meta"), "device 'meta' cannot be used: it holds no numbers"),
    (dict(device=None), "device 'None' cannot be used"),
    (dict(dataset="imagenet", data=None), "unknown dataset 'imagenet'"),
    (dict(data=[Images(np.zeros((9, 3, 32, 32), np.float32), np.arange(9), ("a",) * 9, "mine")] * 2),
     "data must be uint8 images; got float32 in 'mine'"),
    (dict(data=[made(0), made()]), r"data must hold 1 images or more; got 0 in 'mine'"),
    (dict(data=[made(), made(3)]), r"data must hold 4 images or more; got 3 in 'mine'"),
    (dict(data=[made(), made(channels=1)]), r"data must be images of shape \(N, 3, H, W\); got \(9, 1, 32, 32\) in 'mine'"),
    (dict(data=[made(), made(top=10)]), r"labels must be whole numbers in 0..9; got 0 to 10 \(int64\) in 'mine'"),
    (dict(data=[made(top=-1), made()]), r"labels must be whole numbers in 0..9; got -1 to -1"),
    (dict(name="vgg11", data=[made(size=8), made()]), "the network cannot take the 8 x 8 pixels of the data in 'mine'"),
])  # fmt: skip
def test_wrong_arguments_are_told_in_a_sentence(data, tmp_path, arguments, says):
    with pytest.raises(ValueError, match=says):
        train(**{"name": "resnet20", "folder": tmp_path / "new", "data": data, **arguments})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_accuracy_counts_right_answers(network, pixels, rng, batch_size):
    labels = rng.integers(0, 5, 30)
    with torch.no_grad():
        answers = network.eval()(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
    labels[:11] = answers[:11]
    images = Images(pixels, labels, (), "")
    network.train()
    assert accuracy(network, images, batch_size) == pytest.approx(100 * (answers == labels).mean())


def test_accuracy_leaves_the_mode_and_takes_any_precision_and_memory_order(network, pixels):
    network = nn.Sequential(*network, nn.Flatten()).train()
    images = Images(pixels, np.zeros(len(pixels), np.int64), ("a", "b"), "mine")
    expected = accuracy(network, images)
    assert network.training and network[4].training
    flipped = replace(images, x=pixels[:, ::-1][:, ::-1])
    assert accuracy(network, flipped) == expected == accuracy(network.double(), images)
    with pytest.raises(ValueError, match="images must be modlib.Images, one or more; got none"):
        accuracy(network, images[:0])


def test_another_batch_size_scales_the_rate(data, tmp_path):
    result = run(tmp_path, data, batch_size=32, epochs=1)
    assert (result.settings["batch_size"], result.settings["lr"]) == (32, SMALL.lr / 2)


def test_a_full_memory_says_which_batch_size_to_try(data, tmp_path, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_Run, "one_epoch", full)
    with pytest.raises(MemoryError, match="batch_size=64 does not fit in the memory of cpu; try batch_size=32"):
        run(tmp_path, data)
    assert not [*tmp_path.iterdir()]


def test_runs_are_called_after_what_makes_them(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train("resnet20", recipe="fast", epochs=1, data=data, seed=3)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["resnet20-cifar10-fast-1-3"]


@pytest.mark.parametrize("supported", [True, False])
def test_the_record_names_the_precision(data, tmp_path, monkeypatch, supported):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    assert run(tmp_path, data, epochs=1).evidence["precision"] == ("bfloat16" if supported else "float32")


@pytest.mark.parametrize("numbers, says", [
    (dict(schedule="cosine"), "unknown schedule of the recipe 'cosine'.* Known: steps, one-cycle"),
    (dict(epochs=0), "epochs must be a whole number in 1..1000000; got epochs=0"),
    (dict(batch_size=-5), "batch_size must be a whole number of at least 1"),
    (dict(crop=-1), "crop must be a whole number in 0..1000"),
    (dict(lr=float("nan")), "lr must be a number of at least 0; got lr=nan"),
    (dict(weight_decay=-1e-4), "weight_decay must be a number of at least 0"),
    (dict(label_smoothing=2), r"label_smoothing must be a number in 0..1; got label_smoothing=2"),
])  # fmt: skip
def test_a_recipe_refuses_what_cannot_be(numbers, says):
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **numbers)


def test_the_recipes_of_a_study_differ_in_one_thing_each():
    def differs(one, other):
        return {key for key, value in vars(RECIPES[one]).items() if vars(RECIPES[other])[key] != value}

    assert differs("short", "unsmoothed") == {"label_smoothing"} and RECIPES["unsmoothed"].label_smoothing == 0
    assert differs("unsmoothed", "decayed") == {"weight_decay"} and RECIPES["decayed"].weight_decay == 5e-3


def test_variants_of_a_recipe_are_never_the_record_to_show():
    def made(recipe, epochs):
        return measurement("curves", {"model": "vgg16", "dataset": "cifar10", "recipe": recipe, "epochs": epochs}, {}, {})

    short, longer = made("short", 12), made("fast", 20)
    studies = [made(recipe, epochs) for recipe in STUDIES for epochs in (8, 12, 30)]
    assert Records([*studies, short]).best("curves", "vgg16", "cifar10") is short
    assert Records([short, *studies]).best("curves", "vgg16", "cifar10") is short
    assert Records([short, longer, *studies]).best("curves", "vgg16", "cifar10") is longer
    assert Records(studies[:1]).best("curves", "vgg16", "cifar10") is studies[0]  # where there is no other
    assert set(STUDIES) < set(RECIPES)


@pytest.mark.parametrize("capability, precision", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_only_on_gpus_that_multiply_it(monkeypatch, capability, precision):
    """Colab's T4 has 7.5, and only imitates it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(nn.Module, "to", lambda self, *_, **__: self)
    assert _Run("resnet20", "cifar10", SMALL, "custom", 0, torch.device("cuda")).mixed is precision


def test_images_that_are_no_squares_are_trained_on_whole(rng):
    images = Images(rng.integers(0, 256, (20, 3, 12, 6), dtype=np.uint8), np.arange(20), (), "")
    ((x, y),) = epoch_of(images, Recipe(1, 20, 0.1, 0, "steps", crop=0, flip=False))
    np.testing.assert_array_equal((255 * x).round().numpy(), images.x[y.numpy()])


def test_labels_of_any_whole_type_give_the_same_run(data, uninterrupted, tmp_path):
    small = [replace(each, y=each.y.astype(np.int32)) for each in data]
    assert measured(run(tmp_path, small)) == measured(uninterrupted[1])


def test_one_wrong_bit_in_a_checkpoint_is_told(data, uninterrupted, tmp_path, rng):
    path, whole = tmp_path / "checkpoint.pt", (uninterrupted[0] / "checkpoint.pt").read_bytes()
    for at in (0, len(whole) - 1, *rng.integers(0, len(whole), 30)):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        with pytest.raises(OSError, match="checkpoint.pt is not a checkpoint of modlib that is whole.*delete it"):
            run(tmp_path, data)
        assert path.read_bytes() == spoilt and [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoints_of_earlier_versions_go_on(clock, data, uninterrupted, tmp_path):
    run(tmp_path, data, max_minutes=1.5)
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for row in content["history"]:
        for key in ("n", "threads", "precision"):
            del row[key]
    torch.save(content, path)
    assert measured(run(tmp_path, data)) == measured(uninterrupted[1])
    assert (tmp_path / "model.safetensors").read_bytes() == (uninterrupted[0] / "model.safetensors").read_bytes()


def test_another_number_of_threads_is_told_and_recorded(clock, data, tmp_path):
    run(tmp_path, data, max_minutes=1.5)
    torch.set_num_threads(2)
    with pytest.warns(UserWarning, match="checkpoint.pt was made with threads=1 and goes on with threads=2.*set_num_threads"):
        result = run(tmp_path, data, epochs=3)
    assert result.evidence["threads"] == "1, 2"
    torch.set_num_threads(1)
    assert run(tmp_path, data).evidence["threads"] == "1, 2"  # nothing is left to compute, so nothing to warn of


@pytest.mark.parametrize("dies_in", ["save", "save_model", "write_result"])
def test_a_run_that_is_said_to_be_finished_has_its_weights(monkeypatch, data, uninterrupted, tmp_path, dies_in):
    def dies(*arguments):
        if len(arguments[0].history) == 3 if dies_in == "save" else (tmp_path / "checkpoint.pt").stat().st_mtime_ns != begun:
            raise Stop
        return whole(*arguments)

    run_of = _Run if dies_in == "save" else training
    whole, begun = getattr(run_of, dies_in), 0
    if dies_in != "save":
        two = itertools.count()
        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: 60 * next(two)))
        for _ in range(2):
            run(tmp_path, data, max_minutes=1.5)
        begun = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(run_of, dies_in, dies)
        run(tmp_path, data)
    assert not read_result(tmp_path / "result.json").evidence["finished"]
    result = run(tmp_path, data, max_minutes=0)  # whatever the checkpoint holds is the answer
    assert result.evidence["finished"] is (tmp_path / "model.safetensors").exists() is (dies_in != "save")
    assert read_result(tmp_path / "result.json") == result
    assert measured(run(tmp_path, data)) == measured(uninterrupted[1])


def test_a_record_that_lags_or_is_damaged_is_made_again_from_the_checkpoint(data, uninterrupted, tmp_path):
    whole, expected = uninterrupted
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "result.json"
    for spoil in (path.unlink, lambda: path.write_text("{"), lambda: path.write_text(path.read_text().replace("0.", "1."))):
        spoil()
        assert measured(run(tmp_path, data)) == measured(expected)
        assert measured(read_result(tmp_path / "result.json")) == measured(expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_kills_at_any_moment_lead_to_the_same_weights(data, uninterrupted, tmp_path, rounds):
    random = np.random.default_rng(0)
    for folder in (tmp_path / str(i) for i in range(rounds)):
        kills = 0
        while True:
            if not (child := os.fork()):
                run(folder, data)
                os._exit(0)
            time.sleep(random.uniform(0.02, 0.4) * (1 + kills / 8))
            os.kill(child, signal.SIGKILL)
            if os.WIFEXITED(os.waitpid(child, 0)[1]):
                break
            kills += 1
            assert kills < 100
        assert kills
        assert (folder / "model.safetensors").read_bytes() == (uninterrupted[0] / "model.safetensors").read_bytes()
        assert measured(read_result(folder / "result.json")) == measured(uninterrupted[1])
