"""Pruned networks in words: who lost least, whether by more than chance, and in which arithmetic they were trained on."""

import json

import pytest
from pruned import pruned_record

from modlib.book.records import variants
from modlib.book.tables import arithmetic, best, pruned, variant_table
from modlib.results import Records


def test_a_row_for_each_recorded_pruning(tmp_path):
    pruned_record(tmp_path, "vgg11", "last", 2, lost=0.5)
    [row] = pruned(Records.read(tmp_path), "vgg11", "cifar10").reset_index().values.tolist()
    assert row == ["2 layers: the last, inherited weights", "90.00", "89.50", "3", "48.4%", "12.3%"]
    assert pruned(Records.read(tmp_path), "vgg11", "cifar100").empty
    pruned_record(tmp_path, "vgg11", "last", 1, lost=0.5, seed=4)
    assert pruned(Records.read(tmp_path), "vgg11", "cifar10").index[0] == "1 layer: the last, inherited weights, seed 4"


def test_what_is_missing_stays_empty(tmp_path):
    pruned_record(tmp_path, "vgg11", "l1", 1, lost=0.5)
    table = variant_table(variants(Records.read(tmp_path)), {"lost": ("lost", "{:.1f}"), "behind": ("behind", "{:.1f}")})
    assert table.loc["VGG11 on CIFAR-10, 1 layer: smallest L1 norm"].tolist() == ["0.5", ""]


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ({"last": 0.25, "l1": 0.5}, "0.25 points below the network as it was, 0.25 points better than the next. That is less than"),
        ({"last": 4.0, "l1": -1.0}, "1.00 points above the network as it was, 5.00 points better than the next. That is more than"),
    ],
)
def test_the_best_of_equally_long_trainings(tmp_path, lost, says):
    for criterion, points in lost.items():
        pruned_record(tmp_path, "vgg11", criterion, 2, lost=points)
    pruned_record(tmp_path, "vgg11", "last", 2, lost=-9, tune_epochs=30)  # a training that the other has not had
    pruned_record(tmp_path, "vgg11", "last", 2, lost=-9, dataset="cifar100")
    words = best(variants(Records.read(tmp_path), longest=False), "vgg11", 2, *lost)
    assert says in words and "after 3 epochs" in words and words.endswith("there is one seed of each.")
    assert f"*{'the last' if lost['last'] < lost['l1'] else 'smallest L1 norm'}* lost least" in words
    for criterion in lost:
        pruned_record(tmp_path, "vgg11", criterion, 2, lost=lost[criterion], seed=1)
    assert best(variants(Records.read(tmp_path), longest=False), "vgg11", 2, *lost).endswith("with 2 seeds.")


def test_no_best_before_all_ways_are_measured(tmp_path):
    pruned_record(tmp_path, "vgg11", "last", 2, lost=1)
    assert best(variants(Records.read(tmp_path), longest=False), "vgg11", 2, "last", "random") == (
        "The controls of VGG11 are not measured yet, or not all of them."
    )


def test_arithmetic_is_told_only_where_it_differs(tmp_path):
    def record(criterion, removed, **evidence):
        path = pruned_record(tmp_path, "vgg11", criterion, removed, lost=1)
        stored = json.loads(path.read_text())
        stored["evidence"] |= evidence
        path.write_text(json.dumps(stored))

    record("none", [], precision="float32")
    record("last", 1, precision="float32")
    assert arithmetic(Records.read(tmp_path), "vgg11", 3) == ""
    record("random", ["features.11"], precision="bfloat16")
    assert arithmetic(Records.read(tmp_path), "vgg11", 3) == (
        "Arithmetic of training on, by the layers removed: bfloat16 for 11; float32 for 25 | none."
    )
    together = "None of them has networks with features.11 and without, so the two go together here."
    assert arithmetic(Records.read(tmp_path), "vgg11", 3, "features.11").endswith(together)
    record("l1", ["features.22"], precision="bfloat16")
    assert together not in arithmetic(Records.read(tmp_path), "vgg11", 3, "features.11")
    assert arithmetic(Records.read(tmp_path), "vgg11", 99) == ""
