"""Recorded attacks: what belongs together is compared, and nothing is made up where nothing was measured."""

from modlib import attack_records
from modlib.results import measurement, write_result


def test_smoothings_are_compared_after_as_many_epochs(tmp_path):
    for smoothing, epochs in ((0.0, 2), (0.1, 2), (0.1, 5)):
        settings = {"model": "vgg16", "dataset": "cifar10", "recipe": "short", "epochs": 12}
        settings |= {"smoothing": smoothing, "tune_epochs": epochs}
        write_result(measurement("smoothing", settings, {}, {"accuracy": ([], 90)}), tmp_path / f"{smoothing}-{epochs}.json")
    found = attack_records.smoothed("vgg16", tmp_path)
    assert {smoothing: record.settings["tune_epochs"] for smoothing, record in found.items()} == {0.0: 2, 0.1: 2}
    assert attack_records.smoothed("resnet18", tmp_path) == {}
