"""The command line: what it writes is true, what it cannot do is one sentence and a non-zero exit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors import safe_open

import modlib
from modlib import __main__ as cli
from modlib import training, zoo
from modlib.campaign import networks as campaign
from modlib.campaign import reproduce as experiments
from modlib.results import read_result


@pytest.fixture
def weights(tmp_path):
    """A file of untrained weights."""
    torch.manual_seed(0)
    return zoo.save_model(modlib.build_model("resnet20"), tmp_path / "w.safetensors")


@pytest.fixture
def modlib_(monkeypatch, capsys):
    """Runs a command in this process; gives exit status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["modlib", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return leaving.value.code or 0, out, err

    return run


def test_curve_as_table_picture_and_measurement(modlib_, weights, tmp_path):
    plot, record = tmp_path / "curve.png", tmp_path / "curve.json"
    options = ["--weights", weights, "--n", 80, "--k", 4, "--seed", 3, "--plot", plot, "--json", record]
    status, out, _ = modlib_("curve", "resnet20", *options)
    assert status == 0

    images = modlib.load_images("cifar10", 80, 3)
    curve = modlib.modularity_curve(modlib.load_model("resnet20", weights=weights), images.x, images.y, k=4)
    result = read_result(record)
    np.testing.assert_allclose(result["q"], curve.q, atol=1e-6)
    np.testing.assert_allclose(result["per_class"].sum(1), curve.q, atol=1e-5)
    assert result.coords["layer"] == list(curve.layers)
    said = {"model": "resnet20", "dataset": "cifar10/sample", "n": 80, "k": 4, "seed": 3}
    assert said.items() <= result.settings.items()
    for name, q in zip(curve.layers, curve.q, strict=True):
        (line,) = [line for line in out.splitlines() if f" {name} " in line]
        assert f"{q:.4f}" in line
    with Image.open(plot) as picture:
        assert picture.format == "PNG" and min(picture.size) > 200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # something is drawn


def test_few_images_that_lack_the_last_classes(modlib_, weights, tmp_path):
    status, _, err = modlib_("curve", "resnet20", "--weights", weights, "--n", 8, "--json", tmp_path / "r.json")
    assert status == 0, err
    assert read_result(tmp_path / "r.json").coords["class"][-1] == "ship"


@pytest.mark.parametrize("layers, expected", [
    ("conv1,layer3.2", ["conv1", "layer3.2"]),
    ("relu", ["relu", "layer1.0"]),
    ("conv", ["conv1", "layer1.0"]),
])  # fmt: skip
def test_layers_by_reading_and_by_name(modlib_, weights, tmp_path, layers, expected):
    options = ["--weights", weights, "--n", 30, "--layers", layers, "--json", tmp_path / "r.json"]
    assert modlib_("curve", "resnet20", *options)[0] == 0
    assert read_result(tmp_path / "r.json").coords["layer"][:2] == expected


def test_curve_of_a_folder_of_images(modlib_, weights, tmp_path, rng):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    status, out, err = modlib_("curve", "resnet20", "--weights", weights, "--dataset", tmp_path / "pets", "--n", 8)
    assert status == 0, err
    assert "layer3.2" in out


@pytest.mark.parametrize("options, width", [([], 224), (["--size", "40"], 40)])
def test_a_folders_images_get_the_size_that_the_network_is_used_to(modlib_, tmp_path, rng, options, width):
    network = modlib.build_model("resnet18", "imagenet")
    file, record = zoo.save_model(network, tmp_path / "w.safetensors"), tmp_path / "r.json"
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (250, 240, 3), dtype=np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    status, _, err = modlib_(
        "curve", "resnet18", "--weights", file, "--dataset", tmp_path / "pets", "--n", 6, "--layers", "conv1",
        "--json", record, *options,
    )  # fmt: skip
    assert status == 0, err
    images = modlib.load_images(tmp_path / "pets", size=width)
    assert read_result(record).settings["size"] == width
    assert read_result(record)["q"] == pytest.approx(
        modlib.modularity_curve(network, images.x, images.y, layers=["conv1"]).q, abs=1e-6
    )


def test_as_a_program(monkeypatch, weights, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-m", "modlib", "curve", "resnet20", "--weights", weights, "--n", "30", "--json", "r.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "layer3.2" in done.stdout
    result = read_result(tmp_path / "r.json")
    assert result.evidence["command"].startswith("python -m modlib curve resnet20 --weights")
    assert result.evidence["modlib"] == modlib.__version__

    done = subprocess.run([*command[:3], "curve", "resnet65"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown model 'resnet65'; did you mean 'resnet56'?")
    assert done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, says", [
    (["curve", "resnet65"], "unknown model 'resnet65'; did you mean 'resnet56'?"),
    (["curve", "resnet20", "--dataset", "cifar11"], "unknown dataset (nor is it a folder of images) 'cifar11'"),
    (["curve", "resnet20", "--split", "tset"], "unknown split of cifar10 'tset'; did you mean 'test'?"),
    (["curve", "resnet20", "--weights", "WEIGHTS", "--n", "50", "--k", "50"], "k must be a whole number in 1..49; got k=50"),
    (["curve", "resnet20", "--weights", "WEIGHTS", "--k", "0"], "k must be a whole number in 1..499; got k=0"),
    (["curve", "resnet20", "--n", "0"], "n must be a whole number in 1..2500; got n=0"),
    (["curve", "resnet20", "--n", "3000"], "n must be a whole number in 1..2500; got n=3000"),
    (["curve", "resnet20", "--weights", "WEIGHTS", "--layers", "conv1,layr3.2"],
     "unknown layer 'layr3.2'; did you mean 'layer3.2'?"),
    (["curve", "resnet56", "--weights", "WEIGHTS"], "are of 'resnet20', not of 'resnet56'"),
    (["curve", "resnet20", "--weights", "none.safetensors"], "no such file"),
    (["curve", "resnet20", "--weights", "/"], "is not a whole safetensors file"),
    (["curve", "resnet20", "--dataset", "cifar100", "--split", "test"], "could not fetch cifar100"),
    (["curve", "resnet20", "--device", "cuda:99"], "device 'cuda:99' cannot be used"),
    (["curve", "resnet20", "--device", "gpu"], "device 'gpu' cannot be used"),
    (["curve", "resnet20", "--device", "hpu"], "device 'hpu' cannot be used"),
    (["curve", "resnet20", "--device", "meta"], "device 'meta' cannot be used: it holds no numbers"),
    (["curve", "resnet20", "--plot", "."], "--plot . is a folder; name a file in it"),
    (["curve", "resnet20", "--plot", "curve.txt"], "--plot curve.txt must end with one of .pdf, .png, .svg"),
    (["curve", "resnet20", "--plot", "w.safetensors/curve.png"], "nothing can be written to 'w.safetensors': Not a directory"),
    (["curve", "resnet20", "--json", "/"], "--json / is a folder"),
    (["curve", "resnet20", "--json", "-"], "--json - is no file; name one"),
    (["curve", "resnet20", "--json", "/dev/null"], "--json must be the path of a file or a folder"),
    (["prune", "resnet20", "--tol", "nan"], "tol must be a number of at least 0"),
    (["prune", "resnet20", "--recipe", "fats"], "unknown recipe 'fats'; did you mean 'fast'?"),
    (["prune", "resnet20", "--folder", "run"], "--folder run is of fine-tuning: say --epochs, too"),
    (["prune", "resnet20", "--output", "."], "--output . is a folder"),
    (["reproduce", "fig4", "--models", ""], "unknown model ''. Known: vgg11"),
    (["reproduce", "fig4", "--datasets", "cifar10,"], "unknown dataset ''"),
    (["reproduce", "all", "--seed", "1"], "figure='all' has its own models, datasets, recipes, seeds and weights"),
    (["reproduce", "fig4", "--out", "w.safetensors"], "nothing can be written to 'w.safetensors': Not a directory"),
    (["train", "resnet20", "--max-minutes", "-1"], "max_minutes must be a number of at least 0"),
    (["train", "resnet65"], "unknown model 'resnet65'"),
    (["train", "resnet20", "--recipe", "fats"], "unknown recipe 'fats'; did you mean 'fast'?"),
    (["train", "resnet20", "--epochs", "0"], "epochs must be a whole number in 1..1000000; got epochs=0"),
    (["train", "resnet20", "--dataset", "imagenett"], "unknown dataset 'imagenett'; did you mean 'tinyimagenet50'?"),
    (["prune", "resnet20", "--weights", "WEIGHTS", "--dataset", "/", "--epochs", "1"],
     "--epochs trains on a dataset with a training set: cifar10"),
    (["data", "cifar11"], "unknown dataset 'cifar11'; did you mean 'cifar10"),
    (["data", "cifar10", "--door", "nmp"], "unknown door to cifar10 'nmp'; did you mean 'npm'?"),
    (["embed", "no-run"], "No such file"),
])  # fmt: skip
def test_errors_are_one_sentence(modlib_, monkeypatch, weights, tmp_path, arguments, says):
    monkeypatch.chdir(tmp_path)
    shut = OSError("no network")
    monkeypatch.setattr("modlib.data.downloads.retrieve", lambda *_: (_ for _ in ()).throw(shut))
    status, out, err = modlib_(*(str(weights) if a == "WEIGHTS" else a for a in arguments))
    (sentence,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1
    assert says in sentence
    assert "Traceback" not in out + err
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]  # nothing is left behind


@pytest.mark.parametrize("name", ["curve", "train", "data"])
def test_help_tells_every_option(modlib_, name):
    command = typer.main.get_command(cli.app).commands[name]
    status, out, _ = modlib_(name, "--help")
    text = " ".join(out.replace("│", " ").split())
    assert status == 0
    for parameter in command.params:
        if parameter.name != "help":
            option = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name
            assert option.lower() in text.lower()
            assert parameter.help and parameter.help.split(":")[0].split(",")[0] in text
    assert name == "data" or f"python -m modlib {name} resnet20" in text  # an example


def test_help_of_the_whole_names_the_commands(modlib_):
    status, out, _ = modlib_("--help")
    assert status == 0
    assert all(word in out for word in ("curve", "train", "data", "python -m modlib curve resnet20"))
    assert "embed" not in out


def raises(error):
    def call(*arguments, **options):
        raise error

    return call


@pytest.fixture
def tiny_cifar(monkeypatch):
    """What `train` takes for CIFAR-10: 160 and 60 images of 8 x 8."""
    images = modlib.load_images("cifar10", n=220)
    images = modlib.Images(np.ascontiguousarray(images.x[:, :, 12:20, 12:20]), images.y, images.classes, images.name)
    monkeypatch.setattr(training, "load_images", lambda name, split: images[:160] if split == "train" else images[160:])


def test_train_goes_on_where_it_stopped(modlib_, monkeypatch, tmp_path, tiny_cifar):
    monkeypatch.chdir(tmp_path)
    whole = training.accuracy

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "accuracy", interrupted)
        status, out, err = modlib_("train", "resnet20", "--epochs", 2)
    assert status == 130 and "interrupted" in err and "Traceback" not in out + err
    status, out, _ = modlib_("train", "resnet20", "--epochs", 2)
    assert status == 0
    result = read_result(tmp_path / "runs" / "resnet20-cifar10-fast-2-0" / "result.json")
    assert f"2 of 2 epochs, test accuracy {result['test_accuracy'][-1]:.2f} %" in out
    model = modlib.load_model("resnet20", weights=tmp_path / "runs" / "resnet20-cifar10-fast-2-0" / "model.safetensors")
    reached = whole(model, training.load_images("cifar10", split="test"))
    assert reached == pytest.approx(result["test_accuracy"][-1])

    folder = tmp_path / "runs" / "resnet20-cifar10-fast-2-0"
    again = modlib_("train", "resnet20", "--epochs", 3, "--folder", folder)
    assert again[0] == 1 and "epochs is 2 there, 3 here" in again[2]


def test_reproduce_goes_the_whole_way_and_tells_what_became_of_each_network(modlib_, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(campaign.EXTENTS, "smoke", campaign.Extent((20,), (1, 3), 2, epochs=1, images=60))
    command = ("reproduce", "fig4", "--models", "resnet20,resnet32", "--datasets", "cifar10", "--scale", "smoke")
    status, out, _ = modlib_(*command)
    assert status == 0 and "resnet20 on cifar10: measured\n" in out and out.endswith("resnet32 on cifar10: measured\n")
    status, out, _ = modlib_(*command)
    assert (status, out.splitlines()) == (0, ["resnet20 on cifar10: recorded", "resnet32 on cifar10: recorded"])
    assert len([*(tmp_path / "results" / "smoke").iterdir()]) == 4

    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    monkeypatch.setattr(training._Run, "one_epoch", raises(OSError("no data")))
    status, out, _ = modlib_(*command, "--seed", 1)
    assert (status, out.splitlines()) == (1, ["resnet20 on cifar10: failed: no data", "resnet32 on cifar10: failed: no data"])
    status, out, _ = modlib_(*command, "--seed", 1, "--max-minutes", 0)
    assert (status, out.splitlines()[0]) == (0, "resnet20 on cifar10: out of time: max_minutes=0.0 are over")


def test_what_train_writes_curve_reads(modlib_, tmp_path, tiny_cifar):
    folder = tmp_path / "run"
    assert modlib_("train", "resnet20", "--recipe", "paper", "--epochs", 1, "--seed", 4, "--folder", folder)[0] == 0
    assert read_result(folder / "result.json").settings["seed"] == 4
    status, out, _ = modlib_("curve", "resnet20", "--weights", folder / "model.safetensors", "--n", 30)
    assert status == 0 and "layer3.2" in out


def test_data_says_where_it_put_them(modlib_, monkeypatch, tmp_path):
    x, y = np.zeros((4, 3, 32, 32), np.uint8), np.arange(4)
    monkeypatch.setattr(
        "modlib.data.fetch", lambda name, folder, door, archive: ({"train": (x, y), "test": (x, y)}, list("abcd"), "")
    )
    monkeypatch.setenv("MODLIB_DATA", str(tmp_path / "cache"))
    status, out, _ = modlib_("data", "cifar100")
    assert status == 0
    assert out.split() == [str(tmp_path / "cache" / f"cifar100-{split}.safetensors") for split in ("train", "test")]
    with safe_open(tmp_path / "cache" / "cifar100-test.safetensors", "np") as file:
        assert json.loads(file.metadata()["classes"]) == list("abcd")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_output_that_cannot_show_blocks_loses_nothing(tmp_path, encoding):
    command = [sys.executable, "-m", "modlib", "curve", "resnet20", "--n", "40", "--layers", "conv1", "--json", tmp_path / "c.json"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and (tmp_path / "c.json").exists(), done.stderr
