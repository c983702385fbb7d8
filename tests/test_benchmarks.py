"""The page of benchmarks: it says what a record says, and what none says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modlib.book import benchmarks
from modlib.results import measurement, read_result, write_result

ROOT = Path(__file__).parents[1]


@pytest.fixture
def record():
    names = [
        "one layer / bare product, N = 2000, M = 8192, CPU", "one layer / bare product, N = 5000, M = 8192, CPU",
        "after the forward pass / forward pass, resnet56, N = 500, CPU",
        "straightforward / ours, after the forward pass, resnet56, N = 500, CPU",
        "whole curve / forward pass, resnet18, N = 10000, GPU",
    ]  # fmt: skip
    values = {"first": (["ratio"], [9, 0.7, 0.4, 12, 4.9]), "second": (["ratio"], [10, 1, 1, 1, 1])}
    values |= {"rounding_1e9": (["size"], [20.0]), "sketch_error": (["sketch"], [0.01])}
    grown = {"seconds": [[20, 400]], "product": [[15, 500]], "peak": [[2**30, 4 * 2**30]]}
    values |= {name: (["network", "n"], data) for name, data in grown.items()}
    coords = {"ratio": names, "size": ["N = 500, M = 512"], "sketch": [512], "network": ["vgg16"], "n": [500, 10_000]}
    return measurement("benchmarks", {"scale": "full", "k": 3, "rounds": 5}, coords, values, numpy="2", gpu="none")


def test_ratios_and_growth_are_those_of_the_record(record):
    assert benchmarks.ratios(record)["ratio"].tolist() == ["0.900", "0.700", "0.400", "12.000", "4.900"]
    assert benchmarks.growth(record).loc["VGG16, N = 10,000"].tolist() == [400, 4]


def test_the_plot_shows_times_and_floor(record):
    (axes,) = benchmarks.plot_growth(record).axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [line.get_ydata().tolist() for line in axes.lines] == [[20, 400], [15, 500]]


def test_one_size_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--part", "curve", "resnet20", "20"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["seconds"] > 0 and 2**26 < found["peak"] < 2**33


def test_one_part_of_a_record_is_measured_again(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    names = ["one layer / bare product, N = 100, M = 512, CPU", "grid at once / draw by draw, resnet20, N = 20 50, CPU"]
    values = {name: (["ratio"], [1000, 2000]) for name in ("first", "second")}
    coords = {"ratio": names, "network": ["resnet20"], "n": [50]}
    path = write_result(measurement("benchmarks", {"scale": "quick"}, coords, values), tmp_path / "benchmarks.json")
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--out", str(path), "--again"]
    subprocess.run([*command, "shared"], check=True, capture_output=True)
    again = read_result(path)
    assert again["first"][0] == 1000 and 0 < again["first"][1] < 1000 and 0 < again["second"][1] < 1000
    wrong = subprocess.run([*command, "resnet20", "60"], check=False, capture_output=True, text=True)
    assert wrong.returncode == 1 and "no part 'resnet20 60'; it has layers" in wrong.stderr
