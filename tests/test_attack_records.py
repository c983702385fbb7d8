"""Recorded attacks: what belongs together is compared, and nothing is made up where nothing was measured."""

from modlib.book.records import recorded_smoothing
from modlib.results import Records, measurement, write_result


def test_smoothings_are_compared_after_as_many_epochs(tmp_path):
    for smoothing, epochs in ((0.0, 2), (0.1, 2), (0.1, 5)):
        settings = {"model": "vgg16", "dataset": "cifar10", "recipe": "short", "epochs": 12}
        settings |= {"smoothing": smoothing, "tune_epochs": epochs}
        write_result(measurement("smoothing", settings, {}, {"accuracy": ([], 90)}), tmp_path / f"{smoothing}-{epochs}.json")
    found = recorded_smoothing(Records.read(tmp_path), "vgg16")
    assert {smoothing: record.settings["tune_epochs"] for smoothing, record in found.items()} == {0.0: 2, 0.1: 2}
    assert recorded_smoothing(Records.read(tmp_path), "resnet18") == {}
