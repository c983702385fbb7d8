"""Recorded measurements: what is written comes back, tidy; what is not a whole measurement is refused."""

import json
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from modlib import find_results, results_table
from modlib.results import EVIDENCE, FOLDER, measurement, read_result, write_result

SETTINGS = {"model": "resnet20", "dataset": "cifar10", "k": 3, "seed": None, "stages": (3, 3, 3)}
COORDS = {"layer": ("a", "b", "c"), "epoch": range(1, 3)}


def record(**settings):
    q = np.arange(6).reshape(2, 3) / 7
    values = {"q": (["epoch", "layer"], q), "loss": (["epoch"], [np.float32(0.5), 0.25]), "accuracy": ([], 91.5)}
    return measurement("training", {**SETTINGS, **settings}, COORDS, values, source="a test")


def test_a_result_comes_back_as_it_was_written(tmp_path):
    result = record()
    path = write_result(result, tmp_path / "deep" / "down" / "r.json")
    again = read_result(path)
    assert again == result
    np.testing.assert_allclose(again["q"], np.arange(6).reshape(2, 3) / 7, atol=5e-7)  # six decimals are kept
    assert again["accuracy"] == 91.5 and again["loss"].tolist() == [0.5, 0.25]
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_evidence_is_complete():
    evidence = record().evidence
    assert set(EVIDENCE) <= set(evidence) and all(evidence[name] for name in EVIDENCE)
    assert evidence["source"] == "a test"
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(evidence["date"])).total_seconds()) < 60


def test_table_is_tidy():
    table = record().table("q")
    assert len(table) == 6
    assert {"q", "epoch", "layer", *SETTINGS} == set(table.columns)
    row = table[(table.epoch == 2) & (table.layer == "b")]
    assert row.q.item() == pytest.approx(4 / 7, abs=1e-6)
    assert set(table.model) == {"resnet20"} and set(table.stages) == {"[3, 3, 3]"}
    assert len(record().table("accuracy")) == 1 and record().table("accuracy").accuracy.item() == 91.5


def test_a_dimension_wins_over_a_setting_of_its_name():
    table = measurement("sweep", {"k": [1, 2]}, {"k": [1, 2]}, {"q": (["k"], [0.1, 0.2])}).table("q")
    assert table[["k", "q"]].to_numpy().tolist() == [[1, 0.1], [2, 0.2]]


def test_results_are_found_by_their_settings(tmp_path):
    for model in ("resnet20", "resnet56"):
        for seed in (0, 1):
            write_result(record(model=model, seed=seed), tmp_path / model / f"{seed}.json")
    write_result(measurement("curve", {"model": "resnet20"}, {"layer": ["a"]}, {"q": (["layer"], [1])}), tmp_path / "c.json")
    assert len(find_results(folder=tmp_path)) == 5
    assert len(find_results("training", tmp_path)) == 4
    (found,) = find_results("training", tmp_path, model="resnet56", seed=1)
    assert (found.settings["model"], found.settings["seed"]) == ("resnet56", 1)
    assert len(find_results("training", tmp_path, stages=(3, 3, 3))) == 4
    assert find_results("training", tmp_path, model="vgg11") == find_results("attack", tmp_path) == []


def test_what_was_found_is_the_callers_own(tmp_path):
    write_result(record(), tmp_path / "r.json")
    (first,) = find_results(folder=tmp_path)
    first.settings["model"] = first.evidence["device"] = "mine"
    (second,) = find_results(folder=tmp_path)
    assert "mine" not in (second.settings["model"], second.evidence["device"])


def test_numbers_of_numpy_are_written_as_any(tmp_path):
    made = measurement(
        "curve", {"how": {"eps": np.float32(0.5)}}, {}, {}, accuracy=np.float64(0.25), sizes=(np.int64(3), np.arange(2))
    )
    again = read_result(write_result(made, tmp_path / "r.json"))
    assert again.settings == {"how": {"eps": 0.5}} and (again.evidence["accuracy"], again.evidence["sizes"]) == (0.25, [3, [0, 1]])


def test_tables_of_several_results_stand_in_one(tmp_path):
    for seed in (0, 1):
        write_result(record(seed=seed), tmp_path / f"{seed}.json")
    table = results_table("q", "training", tmp_path)
    assert len(table) == 12
    assert table.groupby("seed").q.sum().tolist() == pytest.approx([15 / 7, 15 / 7], abs=1e-5)
    assert list(results_table("q", "attack", tmp_path).columns) == ["q"]
    assert isinstance(results_table("lost", "training", tmp_path), pd.DataFrame)


@pytest.mark.parametrize("values, says", [
    ({"q": (["layer"], [1, 2])}, r"'q' must have the shape \(3,\) .* got \(2,\)"),
    ({"q": (["epoch", "layer"], np.zeros((3, 2)))}, r"shape \(2, 3\) .* got \(3, 2\)"),
    ({"q": (["layer"], [1, np.nan, 2])}, "'q' must be finite"),
    ({"q": (["layer"], [1, np.inf, 2])}, "'q' must be finite"),
    ({"accuracy": ([], np.nan)}, "'accuracy' must be finite"),
])  # fmt: skip
def test_what_is_not_a_measurement_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        measurement("curve", {}, COORDS, values)


def test_a_value_that_was_not_measured():
    with pytest.raises(KeyError, match="'macs' was not measured; this training has q, loss, accuracy"):
        record()["macs"]
    with pytest.raises(KeyError, match="'macs' was not measured"):
        record().table("macs")


@pytest.mark.parametrize("field", ["experiment", "settings", "coords", "values", "evidence", "format"])
def test_missing_fields_are_named(tmp_path, field):
    path = write_result(record(), tmp_path / "r.json")
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"r.json is not a recorded result: it lacks {field}"):
        read_result(path)


@pytest.mark.parametrize("field", EVIDENCE)
def test_missing_evidence_is_named(tmp_path, field):
    path = write_result(record(), tmp_path / "r.json")
    content = json.loads(path.read_text())
    del content["evidence"][field]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"it lacks evidence.{field}"):
        read_result(path)


def test_other_formats_and_other_files(tmp_path):
    path = write_result(record(), tmp_path / "r.json")
    text = path.read_text()
    path.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2; this modlib reads 1"):
        read_result(path)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match="r.json is not a recorded result: no JSON at line"):
        read_result(path)
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="it lacks experiment, settings"):
        read_result(path)
    with pytest.raises(OSError):
        read_result(tmp_path / "none.json")


def test_an_interrupted_write_leaves_the_old_result(tmp_path, monkeypatch):
    path = write_result(record(seed=1), tmp_path / "r.json")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_result(record(seed=2), path)
    assert read_result(path).settings["seed"] == 1
    assert len(find_results(folder=tmp_path)) == 1


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.json")), ids=lambda path: path.stem)
def test_embedded_results_are_whole(path):
    result = read_result(path)
    for name, value in result.values.items():
        array = result[name]
        assert array.shape == tuple(len(result.coords[dim]) for dim in value["dims"])
        assert np.isfinite(array.astype(float)).all()
        assert len(result.table(name)) == array.size
    assert not any(word.startswith("/") for word in result.evidence["command"].split())  # no folder of the machine


def test_a_part_of_a_value_by_its_labels():
    q = np.arange(24).reshape(2, 3, 4) / 100
    result = measurement("curve", {}, {"n": [200, 500], "k": [1, 3, 5], "layer": list("abcd")}, {"q": (["n", "k", "layer"], q)})
    np.testing.assert_array_equal(result.at("q"), q)
    np.testing.assert_array_equal(result.at("q", n=500, k=3), q[1, 1])
    np.testing.assert_array_equal(result.at("q", k=5, layer=["d", "a"]), q[:, 2, [3, 0]])
    np.testing.assert_array_equal(result.at("q", layer="b", n=200, k=1), q[0, 0, 1])


@pytest.mark.parametrize("name, labels, error, says", [
    ("p", {}, KeyError, "'p' was not measured; this curve has q"),
    ("q", {"n": 300}, ValueError, r"n=300 was not measured in this curve; it has \[200, 500\]"),
    ("q", {"n": [200, 300]}, ValueError, "n=300 was not measured"),
    ("q", {"m": 1}, ValueError, "unknown dimension of 'q' 'm'. Known: n"),
])  # fmt: skip
def test_what_was_not_measured_is_told(name, labels, error, says):
    result = measurement("curve", {}, {"n": [200, 500]}, {"q": (["n"], [0.1, 0.2])})
    with pytest.raises(error, match=says):
        result.at(name, **labels)


def test_a_record_is_written_one_value_a_line(tmp_path):
    result = measurement("curve", {"k": 3}, {"layer": ["a", "b"]}, {"q": (["layer"], [0.1, 0.4]), "accuracy": ([], 90.5)})
    lines = write_result(result, tmp_path / "r.json").read_text().splitlines()
    assert ' "q": {"dims": ["layer"], "data": [0.1, 0.4]},' in lines
    assert read_result(tmp_path / "r.json") == result
