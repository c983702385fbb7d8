"""Pruned networks in tables."""

from pruned import pruned_record

from modlib.book.records import variants
from modlib.book.tables import pruned, variant_table
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
    columns = {"lost": ("lost", "{:.1f}"), "behind": ("behind", "{:.1f}")}
    table = variant_table(variants(Records.read(tmp_path)), columns, ["VGG11"])
    assert table.loc["VGG11"].tolist() == ["0.5", ""]
