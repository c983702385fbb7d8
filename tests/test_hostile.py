"""What comes from outside: no file is executed, asks for more than it may, or is read as something that it is not.

Every reader meets damaged files, drawn by a seed: each is refused by its name with one of the documented errors, or read as
what it says. ``pytest -m slow`` draws some thousands; the page book/tried.md has the counts.
"""

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import resource
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import Evil, bytes_damaged, json_damaged, safetensors_of, safetensors_parts
from hosting import answering, sends
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

import modlib
from modlib import Images, build_model, load_images, load_model, training, zoo
from modlib.data import archives, cache_folder, downloads, files, folders, store, write_atomically
from modlib.results import Records, measurement, read_result, write_result
from modlib.zoo import save_model


@pytest.fixture(params=[1, pytest.param(40, marks=pytest.mark.slow)], ids=["few", "many"])
def tries(request):
    """How many times a reader's number of damaged files is drawn."""
    if request.node.get_closest_marker("slow") and "slow" not in (request.config.option.markexpr or ""):
        pytest.skip("thousands of files; pytest -m slow")
    return request.param


@pytest.fixture
def refused(request):
    """Calls a reader on a file: what it read, or None if it refused it as documented; counts both."""
    counts = {"refused": 0, "read": 0}

    def call(reader, path, errors=(ValueError, OSError)):
        try:
            found = reader()
        except errors as error:
            assert str(path) in str(error), f"{type(error).__name__} without the file's name: {error}"
            counts["refused"] += 1
            return None
        counts["read"] += 1
        return found

    yield call
    print(f"{request.node.name}: {sum(counts.values())} files, {counts['refused']} refused, {counts['read']} read")


# ------------------------------------------------------------------------------------------------------- records


def test_damaged_records(tries, refused, tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "r.json"
    values = {"q": (["epoch", "layer"], np.arange(6).reshape(2, 3) / 7), "loss": (["epoch"], [0.5, 0.25]), "accuracy": ([], 91.5)}
    write_result(measurement("training", {"model": "resnet20", "k": 3}, {"layer": list("abc"), "epoch": [1, 2]}, values), path)
    text, record = path.read_bytes(), json.loads(path.read_text())
    for i in range(250 * tries):
        path.write_bytes(bytes_damaged(text, rng) if i % 2 else json.dumps(json_damaged(record, rng)).encode())
        result = refused(lambda: read_result(path), path, ValueError)
        for name, value in (result.values if result else {}).items():  # what is read holds together
            assert result[name].shape == tuple(len(result.coords[dim]) for dim in value["dims"])
            assert np.isfinite(result[name].astype(float)).all() and len(result.table(name)) == result[name].size


@pytest.mark.parametrize("content", [
    b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b"null", b"", b'{"format": 1e999}', b"\0" * 100,
], ids=["no text", "deep", "long number", "null", "empty", "infinite", "zeros"])  # fmt: skip
def test_what_is_no_record_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not a recorded result"):
        read_result(path)
    with pytest.warns(UserWarning, match=r"left out: .*x\.json"):
        assert len(Records.read(tmp_path)) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("edit, says", [
    (lambda r: r["coords"]["layer"].pop(), r"'q' must have the shape \(2,\) .* got \(3,\)"),
    (lambda r: r["values"]["q"].update(data=[1, 2, float("nan")]), "'q' must be finite"),
    (lambda r: r["values"]["q"].update(data=[1, [2], 3]), "'q' must be a regular array of numbers"),
    (lambda r: r["values"]["q"].update(data=["1", "2", "3"]), "'q' must be numbers"),
    (lambda r: r["values"]["q"].update(dims=["epoch"]), "'q' has the dimension 'epoch', which has no coordinates"),
    (lambda r: r["values"].update(p=3), "'p' must have dims and data"),
    (lambda r: r["coords"].update(layer=["a", "b", "a"]), "'layer' must name each label once"),
    (lambda r: r["coords"].update(layer="abc"), "'layer' must be a list"),
    (lambda r: r.update(values=[]), "values must be a dict"),
    (lambda r: r.update(experiment=3), "experiment must be text"),
    (lambda r: r.update(evidence="date command device python torch modlib"), r"it lacks evidence\.date"),
    (lambda r: r["evidence"].update(date=None), r"it lacks evidence\.date"),
    (lambda r: r.update(format=True), "has format True"),
])  # fmt: skip
def test_a_record_that_does_not_hold_together_is_refused(tmp_path, edit, says):
    path = write_result(measurement("curve", {}, {"layer": list("abc")}, {"q": (["layer"], [0.1, 0.2, 0.3])}), tmp_path / "r.json")
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"r\.json .*{says}"):
        read_result(path)


def test_a_record_that_a_caller_changes_is_not_changed_for_the_next():
    def find():
        return modlib.find_results("curves", model="resnet20", weights="trained")[0]

    right = find().at("q", n=500, k=3, draw=1, layer="conv1")
    mine = find()
    mine.coords["layer"].reverse()
    mine.values["q"]["data"][0] = None
    assert find().at("q", n=500, k=3, draw=1, layer="conv1") == right


def test_others_networks_do_not_stand_in_for_ours(tmp_path):
    for weights, how in (("trained", {"recipe": "fast", "epochs": 5}), ("akamaster", {}), ("untrained", {"seed": 0})):
        settings = {"model": "resnet20", "dataset": "cifar10", "weights": weights, **how}
        write_result(measurement("curves", settings, {}, {"accuracy": ([], 90)}), tmp_path / f"{weights}.json")
    records = Records.read(tmp_path)
    assert records.best("curves", "resnet20", "cifar10").settings["weights"] == "trained"
    for weights in ("trained", "akamaster", "untrained"):
        assert records.best("curves", "resnet20", "cifar10", weights=weights).settings["weights"] == weights


# ------------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def small():
    return build_model("resnet20", num_classes=7, stages=(1, 1, 2), seed=5)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_damaged_weights(tries, refused, small, tmp_path, precision):
    rng, path = np.random.default_rng(2), tmp_path / "w.safetensors"
    content = save_model(small, path, precision).read_bytes()
    header, body = safetensors_parts(content)
    right = load_model("resnet20", weights=path).state_dict()
    for i in range(60 * tries):
        if i % 3 == 0:
            path.write_bytes(bytes_damaged(content, rng))
        elif i % 3 == 1:
            path.write_bytes(safetensors_of(json_damaged(header, rng), body))
        else:
            record = json_damaged(json.loads(header["__metadata__"]["architecture"]), rng)
            path.write_bytes(safetensors_of({**header, "__metadata__": {"architecture": json.dumps(record)}}, body))
        model = refused(lambda: load_model("resnet20", weights=path), path)
        if model is not None and model.architecture["num_classes"] == 7:
            assert all(torch.equal(value, right[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("change, says", [
    ({"stages": [1_000_000, 1, 2]}, "asks for 1000003 blocks"),
    ({"stages": [1, 1, 3]}, "another architecture|is missing"),
    ({"num_classes": 10**9}, "num_classes must be"),
    ({"num_classes": 10**30}, "num_classes must be"),
    ({"foo": 1}, "that modlib did not write"),
    ({"dataset": {}}, "no network can be built|dataset must be text"),
    ({"pixels": [1]}, "pixels must be a tuple of 2"),
    ({"pixels": [[0.5] * 7, [1] * 7]}, "pixels must be the means"),
    ({"pixels": [[0, 0, 0], [0, 0, 0]]}, "pixels must be the means"),
    ({"pixels": [[float("nan"), 0, 0], [1, 1, 1]]}, "pixels must be the means"),
])  # fmt: skip
def test_a_file_that_asks_for_another_network_is_refused_before_anything_large_is_built(small, tmp_path, change, says):
    header, body = safetensors_parts(save_model(small, tmp_path / "w.safetensors").read_bytes())
    record = json.loads(header["__metadata__"]["architecture"]) | change
    header["__metadata__"]["architecture"] = json.dumps(record)
    (tmp_path / "w.safetensors").write_bytes(safetensors_of(header, body))
    with pytest.raises(ValueError, match=rf"w\.safetensors.*({says})"):
        load_model("resnet20", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("spoil, says", [
    (lambda state: state["fc.bias"].fill_(float("nan")), "fc.bias is not finite"),
    (lambda state: state["conv1.weight"].view(-1)[:1].fill_(float("inf")), "conv1.weight is not finite"),
    (lambda state: state["bn1.running_var"].neg_(), "bn1.running_var has negative variances"),
    (lambda state: state.update({"fc.bias": state["fc.bias"].long()}), "fc.bias is of kind torch.int64"),
    (lambda state: state.update({"fc.weight": state["fc.weight"].to(torch.int8)}), "fc.weight is int8 without a float32 scale"),
    (lambda state: state.update({"fc.bias.scale": torch.ones(7)}), "fc.bias.scale is the scale of no int8 weights"),
])  # fmt: skip
def test_weights_that_cannot_be_right_are_refused(small, tmp_path, spoil, says):
    state = {key: value.clone() for key, value in small.state_dict().items()}
    spoil(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=rf"w\.safetensors.*{says}"):
        load_model("resnet20", weights=tmp_path / "w.safetensors", num_classes=7, stages=(1, 1, 2))


def test_a_network_makes_the_same_file_each_time(small, tmp_path):
    first, *others = (save_model(small, tmp_path / f"{i}.safetensors").read_bytes() for i in range(5))
    assert all(each == first for each in others)


def test_one_wrong_bit_of_saved_weights_is_noticed(small, tmp_path):
    path = save_model(small, tmp_path / "w.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"w\.safetensors.* is damaged: .*sha256"):
        load_model("resnet20", weights=path)


def test_nothing_that_is_said_of_a_file_is_ignored(small, tmp_path):
    path = save_model(small, tmp_path / "w.safetensors")
    assert load_model("resnet20", weights=path, num_classes=7, stages=(1, 1, 2)).fc.out_features == 7
    with pytest.raises(ValueError, match=r"num_classes=10: .*w\.safetensors.* num_classes=7, as the file says"):
        load_model("resnet20", weights=path, num_classes=10)
    with pytest.raises(ValueError, match="unknown argument of load_model 'nmu_classes'; did you mean 'num_classes'"):
        load_model("resnet20", weights=path, nmu_classes=7)


def test_damaged_registries(tries, refused, tmp_path, monkeypatch):
    rng, entries = np.random.default_rng(3), zoo.registry()
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    for i in range(100 * tries):
        damaged = bytes_damaged(json.dumps(entries).encode(), rng) if i % 2 else json.dumps(json_damaged(entries, rng)).encode()
        (tmp_path / "registry.json").write_bytes(damaged)
        found = refused(zoo.registry, tmp_path / "registry.json", OSError)
        assert all(Path(each["file"]).name == each["file"] for each in found or [])


# --------------------------------------------------------------------------------------------------- checkpoints


def test_damaged_checkpoints(tries, refused, tmp_path, sample):
    """No code is run, no other error than those of :func:`modlib.training.train`, and no other weights."""
    rng, data = np.random.default_rng(4), (sample[:32], sample[32:64])
    how = dict(recipe=training.Recipe(2, 16, 0.05, 5e-4, "one-cycle"), stages=(1, 1, 1), folder=tmp_path, data=data)
    training.train("resnet20", **how)
    path, weights = tmp_path / "checkpoint.pt", tmp_path / "model.safetensors"
    content, right = path.read_bytes(), weights.read_bytes()
    for _ in range(30 * tries):
        path.write_bytes(bytes_damaged(content, rng))
        weights.unlink(missing_ok=True)
        if refused(lambda: training.train("resnet20", max_minutes=0, **how), tmp_path) is not None:
            assert weights.read_bytes() == right


def test_a_malicious_checkpoint_is_not_executed(tmp_path, sample):
    evil = Evil(tmp_path / "EXECUTED")
    for content in (evil, {"settings": evil, "model": {}, "optimizer": {}, "history": []}):
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(OSError, match="checkpoint.pt is not a checkpoint"):
            training.train("resnet20", folder=tmp_path, data=(sample[:16], sample[16:32]), max_minutes=0)
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_malicious_file_is_executed_at_no_door(tmp_path, sample, protocol, monkeypatch):
    """Weights, checkpoints, caches, resumed graphs, records, archives and images, each as a pickle that runs a command."""
    trace = tmp_path / "EXECUTED"
    raw = io.BytesIO()
    torch.save(Evil(trace), raw)
    content = raw.getvalue() if protocol == "torch" else pickle.dumps(Evil(trace))
    model = build_model("resnet20", seed=0)
    (tmp_path / "images" / "a").mkdir(parents=True)
    names = ("images/a/x.png", "w.safetensors", "w.th", "archive.zip", "archive.tar.gz", "graph.npz", "r.json", "run/checkpoint.pt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    cache = cache_folder()
    (cache / "cifar10-test.safetensors").write_bytes(content)
    monkeypatch.setattr(modlib.data.downloads, "retrieve", lambda *a: (_ for _ in ()).throw(OSError("no host")))
    doors = {
        "images": lambda: load_images(tmp_path / "images"),
        "weights": lambda: load_model("resnet20", weights=tmp_path / "w.safetensors"),
        "published": lambda: load_model("resnet20", weights=tmp_path / "w.th", source="akamaster"),
        "unverified": lambda: load_model("resnet18", weights=tmp_path / "w.th", source="timm"),
        "zip": lambda: store("tinyimagenet50", archive=tmp_path / "archive.zip"),
        "tar": lambda: store("cifar100", archive=tmp_path / "archive.tar.gz"),
        "cache": lambda: load_images("cifar10", split="test"),
        "graph": lambda: modlib.dynamic_graph(model, sample.x[:20], 3, resume=tmp_path / "graph.npz"),
        "record": lambda: read_result(tmp_path / "r.json"),
        "checkpoint": lambda: training.train("resnet20", folder=tmp_path / "run", data=(sample[:16], sample[16:32]), max_minutes=0),
    }
    for name, door in doors.items():
        with pytest.raises((ValueError, OSError)):
            door()
        assert not trace.exists(), name


# -------------------------------------------------------------------------------------------------- image folders


def encoded(image: Image.Image, kind: str) -> bytes:
    with io.BytesIO() as file:
        image.save(file, kind)
        return file.getvalue()


def test_damaged_images(tries, refused, tmp_path, rng):
    (tmp_path / "a").mkdir()
    image = Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8))
    kinds = {kind: encoded(image, kind) for kind in ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")}
    path = tmp_path / "a" / "x.png"
    draw = np.random.default_rng(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of damaged tags
        for i in range(280 * tries):
            path.write_bytes(bytes_damaged([*kinds.values()][i % len(kinds)], draw))
            images = refused(lambda: load_images(tmp_path, size=16), path, OSError)
            assert images is None or (images.x.shape, images.x.dtype) == ((1, 3, 16, 16), np.uint8)


def test_postscript_by_another_name_starts_no_program(tmp_path, monkeypatch):
    started = tmp_path / "STARTED"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f'#!/bin/sh\ntouch {started}\n[ "$1" = --version ] && echo 10.0\nexit 0\n')
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "x.png").write_bytes(script)
    with pytest.raises(OSError, match=r"cannot read the image .*x\.png"):
        load_images(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for c in json.loads(archives.TINY_CLASSES.read_text()):
            for i in range(550):
                file.writestr(f"{'train' if i < 500 else 'val'}/{c}/{i}.JPEG", script)
    with pytest.raises(OSError, match=r"a\.zip.* cannot be read"):
        store("tinyimagenet50", archive=tmp_path / "a.zip")
    assert not started.exists()


@pytest.mark.parametrize("width, height", [(1, 3_000_000), (3_000_000, 1), (2, 50)])
def test_a_narrow_image_costs_no_more_than_its_pixels(tmp_path, width, height):
    (tmp_path / "a").mkdir()
    Image.new("L", (width, height), 77).save(tmp_path / "a" / "x.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = load_images(tmp_path, size=64)
    assert images.x.shape == (1, 3, 64, 64) and (images.x == 77).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # kB; 36 GB once


def test_an_image_too_long_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("1", (1, folders.LARGEST + 1)).save(tmp_path / "a" / "x.png")
    with pytest.raises(OSError, match=r"x\.png: it has 1 x 5,000,001 pixels; a side may have 5,000,000"):
        load_images(tmp_path)


def picture(path, color=(200, 30, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), color).save(path, **options)


def test_hidden_folders_and_files_are_no_class(tmp_path):
    for name in ("cat/0.png", "dog/0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png", "cat/._0.png", "cat/.thumbs/0.png"):
        picture(tmp_path / name)
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    images = load_images(tmp_path, size=16)
    assert images.classes == ("cat", "dog") and len(images) == 2


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("training", "validation", "test")])
def test_splits_are_asked_about_instead_of_taken_for_classes(tmp_path, names):
    for name in names:
        picture(tmp_path / name / "cat" / "0.png")
        picture(tmp_path / name / "dog" / "0.png")
    with pytest.raises(ValueError, match="holds the splits .*, not classes; choose one by split="):
        load_images(tmp_path, size=16)
    assert load_images(tmp_path, split=names[0], size=16).classes == ("cat", "dog")


def test_splits_without_classes_are_no_classes(tmp_path):
    picture(tmp_path / "train" / "0.png")
    picture(tmp_path / "val" / "0.png")
    with pytest.raises(ValueError, match="holds the splits train, val, not classes"):
        load_images(tmp_path, size=16)


def test_a_link_to_an_image_that_is_gone_is_told(tmp_path):
    picture(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(OSError, match=r"cannot read the image .*1\.png"):
        load_images(tmp_path, size=16)


def test_a_class_may_be_called_test(tmp_path):
    picture(tmp_path / "test" / "0.png")
    picture(tmp_path / "other" / "0.png")
    assert load_images(tmp_path, size=16).classes == ("other", "test")


def test_links_are_followed_once(tmp_path):
    picture(tmp_path / "set" / "cat" / "0.png")
    picture(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "set" / "cat" / "loop").symlink_to(tmp_path / "set" / "cat")
    (tmp_path / "set" / "cat" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "cat" / "again.png").symlink_to(tmp_path / "set" / "cat" / "0.png")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere")
    images = load_images(tmp_path / "set", size=16)
    assert images.classes == ("cat", "dog") and sorted(images.y) == [0, 1]
    (tmp_path / "set" / "fish").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"1\.png is an image of two classes, 'dog' and 'fish'"):
        load_images(tmp_path / "set", size=16)


def test_a_photograph_is_upright_as_its_camera_noted(tmp_path):
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[:30, :, 0] = pixels[30:, :, 2] = 200  # red sky, blue sea
    turns = {1: pixels, 3: np.rot90(pixels, 2), 6: np.rot90(pixels), 8: np.rot90(pixels, -1)}
    for orientation, turned in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a" / f"{orientation}.jpg", exif=exif, quality=95)
    images = load_images(tmp_path, size=32)
    assert len(images) == 4
    for x, _ in images:
        assert x[0, 3, 16] > 150 > 90 > x[2, 3, 16] and x[2, 28, 16] > 150 > 90 > x[0, 28, 16]


def test_a_folder_that_is_none_of_images_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "STRANGERS", 50)
    (tmp_path / "a").mkdir()
    for i in range(60):
        (tmp_path / "a" / f"{i}.txt").touch()
    with pytest.raises(ValueError, match="is in no folder of images: more than 50 other files"):
        load_images(tmp_path)


def test_images_are_gone_through_one_by_one(sample):
    seen = list(sample)
    assert len(seen) == len(sample) and all(isinstance(label, int) for _, label in seen)
    np.testing.assert_array_equal(np.stack([pixels for pixels, _ in seen]), sample.x)
    pixels, label = sample[np.int64(3)]
    assert pixels.shape == (3, 32, 32) and label == sample.y[3]
    assert isinstance(sample[3:4], Images) and isinstance(sample[sample.y == 3], Images)


@pytest.mark.parametrize("name", [3, None, ["cifar10"]])
def test_the_name_of_a_dataset_is_a_name(name):
    with pytest.raises(ValueError, match="name must be the path of a file or a folder"):
        load_images(name)


# ------------------------------------------------------------------------------------------------------ archives


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Two classes with 2 + 1 images each: the images by their names in an archive."""
    (tmp_path / "classes.json").write_text(json.dumps({"n00000001": "fish", "n00000002": "toad"}))
    monkeypatch.setattr(archives, "TINY_CLASSES", tmp_path / "classes.json")
    monkeypatch.setattr(archives, "TINY_IMAGES", {"train": 2, "val": 1})
    monkeypatch.setitem(modlib.data.SPLITS, "tinyimagenet50", {"test": 2, "train": 4})
    jpeg = encoded(Image.new("RGB", (64, 64), (9, 99, 199)), "JPEG")
    return {f"{split}/n0000000{c}/{i}.JPEG": jpeg for split, n in (("train", 2), ("val", 1)) for c in (1, 2) for i in range(n)}


def packed(contents: dict[str, bytes], kind: str) -> bytes:
    with io.BytesIO() as raw:
        if kind == "zip":
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
                for name, content in contents.items():
                    file.writestr(name, content)
        else:
            with tarfile.open(fileobj=raw, mode=f"w:{kind.removeprefix('tar').removeprefix('.')}") as file:
                for name, content in contents.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    file.addfile(member, io.BytesIO(content))
        return raw.getvalue()


KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_archives(tries, refused, tiny, tmp_path, kind):
    draw, content = np.random.default_rng(7), packed(tiny, kind)
    path = tmp_path / "deep" / "archive"
    path.parent.mkdir()
    path.write_bytes(content)
    assert len(store("tinyimagenet50", archive=path)) == 2
    for _ in range(40 * tries):
        path.write_bytes(bytes_damaged(content, draw))
        refused(lambda: store("tinyimagenet50", archive=path), path, OSError)
    assert sorted(p.name for p in path.parent.iterdir()) == ["archive"]
    assert {p.suffix for p in cache_folder().iterdir()} <= {".safetensors"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_writes_nothing_but_the_cache(tiny, tmp_path, kind):
    hostile = {name: b"x" for name in ("../../a.JPEG", str(tmp_path / "b.JPEG"), "train/n00000001/../../../up_3.JPEG")} | tiny
    (tmp_path / "in" / "deep").mkdir(parents=True)
    path = tmp_path / "in" / "deep" / "archive"
    path.write_bytes(packed(hostile, kind))
    before = sorted(tmp_path.rglob("*"))
    store("tinyimagenet50", archive=path)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_an_archive_lead_nowhere(tiny, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(tiny["train/n00000001/0.JPEG"])
    lost = tiny.pop("train/n00000001/0.JPEG")
    assert lost
    raw = io.BytesIO(packed(tiny, "tar"))
    with tarfile.open(fileobj=raw, mode="a") as file:
        member = tarfile.TarInfo("train/n00000001/0.JPEG")
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        file.addfile(member)
    (tmp_path / "a.tar").write_bytes(raw.getvalue())
    with pytest.raises(OSError, match="2 train images are expected of each class; it has n00000001: 1"):
        store("tinyimagenet50", archive=tmp_path / "a.tar")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_asks_for_too_much(tiny, tmp_path, kind, monkeypatch):
    tiny["train/n00000001/0.JPEG"] = bytes(archives.LARGEST + 1)
    path = tmp_path / "bomb"
    path.write_bytes(packed(tiny, kind))
    with pytest.raises(OSError, match="bomb.*too much memory"):
        store("tinyimagenet50", archive=path)
    tiny["train/n00000001/0.JPEG"] = bytes(300_000)
    path.write_bytes(packed(tiny, kind))
    monkeypatch.setattr(archives, "WHOLE", 200_000)
    with pytest.raises(OSError, match="bomb.*(too much memory|too long)"):
        store("tinyimagenet50", archive=path)


def test_an_image_of_another_size_is_not_decoded(tiny, tmp_path):
    tiny["train/n00000001/0.JPEG"] = encoded(Image.new("L", (5000, 5000)), "PNG")
    (tmp_path / "a.zip").write_bytes(packed(tiny, "zip"))
    with pytest.raises(OSError, match=r"a\.zip.*5000 x 5000 pixels instead of 64 x 64"):
        store("tinyimagenet50", archive=tmp_path / "a.zip")


# ------------------------------------------------------------------------------------------------- cached datasets


@pytest.fixture
def cached(monkeypatch):
    """A small CIFAR-100 in the cache."""
    monkeypatch.setitem(modlib.data.SPLITS, "cifar100", {"test": 4, "train": 4})
    rng = np.random.default_rng(0)
    sets = {split: (rng.integers(0, 256, (4, 3, 32, 32), np.uint8), np.arange(4)) for split in ("train", "test")}
    monkeypatch.setattr(modlib.data, "fetch", lambda *a: archives.Fetched(sets, [f"class {i}" for i in range(100)]))
    store("cifar100")
    return cache_folder() / "cifar100-test.safetensors"


def test_damaged_caches(tries, refused, cached):
    draw, content, right = np.random.default_rng(8), cached.read_bytes(), load_images("cifar100")
    header, body = safetensors_parts(content)
    for i in range(60 * tries):
        cached.write_bytes(bytes_damaged(content, draw) if i % 2 else safetensors_of(json_damaged(header, draw), body))
        images = refused(lambda: load_images("cifar100"), cached, OSError)
        if images is not None:
            np.testing.assert_array_equal(images.x, right.x)
            np.testing.assert_array_equal(images.y, right.y)


@pytest.mark.parametrize("x, y, says", [
    (np.zeros((4, 3, 32, 32), np.float32), np.arange(4), r"float32 \(4, 3, 32, 32\) instead of uint8"),
    (np.zeros((4, 3, 32, 16), np.uint8), np.arange(4), r"uint8 \(4, 3, 32, 16\) instead of"),
    (np.zeros((3, 3, 32, 32), np.uint8), np.arange(3), r"uint8 \(3, 3, 32, 32\) instead of"),
    (np.zeros((4, 3, 32, 32), np.uint8), np.arange(4, dtype=np.int32), r"int32 \(4,\) instead of int64"),
    (np.zeros((4, 3, 32, 32), np.uint8), np.array([0, 1, 2, 100]), "labels of 0 to 100; cifar100 has 100 classes"),
    (np.zeros((4, 3, 32, 32), np.uint8), np.array([0, 1, 2, -1]), "labels of -1 to 2"),
])  # fmt: skip
def test_a_cache_of_another_kind_is_refused_though_its_hash_is_right(cached, x, y, says):
    save_arrays({"x": x, "y": y}, cached, {"sha256": downloads.pixel_hash(x, y)})
    with pytest.raises(OSError, match=rf"cifar100-test\.safetensors .*{says}.*delete it"):
        load_images("cifar100")


@pytest.mark.parametrize("beside", [None, b"", b"[1, 2]", b"{}", b"[" * 100_000])
def test_names_of_classes_that_are_lost_are_those_that_are_known(cached, beside):
    """Caches of an earlier modlib have them in a file of their own."""
    assert load_images("cifar100").classes[3] == "class 3"
    header, body = safetensors_parts(cached.read_bytes())
    del header["__metadata__"]["classes"]
    cached.write_bytes(safetensors_of(header, body))
    if beside is not None:
        (cached.parent / "cifar100-classes.json").write_bytes(beside)
    assert load_images("cifar100").classes[:3] == ("apple", "aquarium_fish", "baby")
    (cached.parent / "cifar100-classes.json").write_text(json.dumps([f"old {i}" for i in range(100)]))
    assert load_images("cifar100").classes[:2] == ("old 0", "old 1")


# ------------------------------------------------------------------------------------------------------ downloads

CONTENT = np.random.default_rng(0).bytes(900_000)


def retrieve(address, folder, known=64):
    """With so many digits of the hash known."""
    return downloads.retrieve(f"{address}/f.bin", folder, "f.bin", f"sha256:{hashlib.sha256(CONTENT).hexdigest()[:known]}")


def test_a_host_that_compresses_on_the_way_is_understood(tmp_path):
    with answering(sends(gzip.compress(CONTENT), **{"Content-Encoding": "gzip"})) as (address, asked):
        assert retrieve(address, tmp_path).read_bytes() == CONTENT
    assert asked[0][1]["Accept-Encoding"] == "identity"


def test_what_arrived_before_a_cut_is_kept(tmp_path):
    with answering(sends(CONTENT[:800_000], **{"Content-Length": "900000"})) as (address, _), pytest.raises(OSError):
        retrieve(address, tmp_path)
    assert (tmp_path / "f.bin.part").stat().st_size > 780_000


def test_an_endless_answer_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "LIMIT", 2_000_000)

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(100_000))
        except OSError:
            pass

    with answering(endless) as (address, _), pytest.raises(OSError, match="sends more than 2,000,000 bytes"):
        retrieve(address, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_nothing_left_to_send_where_nothing_was_sent(tmp_path):
    with answering(sends(b"", status=416)) as (address, _), pytest.raises(OSError, match="416"):
        retrieve(address, tmp_path)


def test_a_file_without_a_known_hash_never_goes_on_with_anothers_part(tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"of another version")
    with answering(sends(CONTENT)) as (address, asked):
        assert retrieve(address, tmp_path, known=8).read_bytes() == CONTENT
    assert "Range" not in asked[0][1]


# --------------------------------------------------------------------------------------------------------- writes


def test_the_parts_of_killed_writes_are_cleaned_up(tmp_path):
    def killed():
        Path.replace = lambda *_: os.kill(os.getpid(), 9)
        write_atomically(tmp_path / "file", b"half")

    for _ in range(2):
        process = multiprocessing.get_context("fork").Process(target=killed)
        process.start()
        process.join()
        assert process.exitcode == -9
    assert len([*tmp_path.glob("file.*.part")]) == 1  # the second removed what the first had left
    living = tmp_path / f"file.{files._HOST}-{os.getpid()}-00000000.part"
    living.write_bytes(b"of a writer that lives")
    other = tmp_path / "file.abcdef-1-00000000.part"
    other.write_bytes(b"of another machine")
    write_atomically(tmp_path / "file", b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["file", living.name, other.name])
    os.utime(other, (0, 0))
    write_atomically(tmp_path / "file", b"again")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["file", living.name])


def test_a_write_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("fsync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1])
    write_atomically(tmp_path / "file", b"x")
    assert order == ["fsync", "rename", "fsync"]  # the file, then its name, then the folder


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'"):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old" and len([*tmp_path.iterdir()]) == 1


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"
