"""Tables of pruned networks: what a row says can be computed by hand; the line's intervals are another library's."""

import numpy as np
import pytest
from pruned import curve_record, pruned_record
from scipy import stats
from scipy.optimize import curve_fit

from modlib.book.records import printed_variants, variants
from modlib.book.statistics import FAILS, HOLDS, UNDECIDED, worth
from modlib.results import Records

Q = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.8]


def test_a_row_says_what_was_removed_and_what_it_cost(tmp_path):
    curve_record(tmp_path, "vgg11", Q)
    pruned_record(tmp_path, "vgg11", "last", 2, lost=1.5)
    (row,) = variants(Records.read(tmp_path)).to_dict("records")
    assert row["removed"] == ("features.22", "features.25") and row["count"] == 2
    assert (row["whole"], row["pruned"], row["lost"], row["at_once"], row["seconds"]) == (90, 88.5, 1.5, 40, 50)
    conv = 512 * 512 * 9
    assert row["macs"] == pytest.approx(100 * 2 * 2 * 2 * conv / 153_293_824)  # 2 x 2 pixels; two convolutions
    assert row["params"] == pytest.approx(100 * 2 * (conv + 3 * 512) / 9_756_426)  # bias, and scale and shift of the BN
    assert row["dq_step"] == pytest.approx(0.05) and row["dq"] == pytest.approx(0.2)  # of the first; of both
    assert row["dq_std"] == pytest.approx(0)  # what all layers of a draw share is no rise
    np.testing.assert_allclose(row["q"], np.linspace(0.1, 0.7, 6))


def test_rises_of_scattered_layers_add_up_and_a_curve_of_another_training_is_not_used(tmp_path):
    pruned_record(tmp_path, "vgg11", "random", ["features.11", "features.25"], lost=1)
    assert variants(Records.read(tmp_path))["dq"].isna().all()
    curve_record(tmp_path, "vgg11", Q, epochs=7)
    assert variants(Records.read(tmp_path))["dq"].isna().all()
    curve_record(tmp_path, "vgg11", Q)
    assert variants(Records.read(tmp_path))["dq"].tolist() == pytest.approx([0.1 + 0.15])


def test_the_longest_training_counts(tmp_path):
    for lost, tune, seed in ((1, 3, 0), (2, 5, 0), (3, 3, 1)):
        pruned_record(tmp_path, "vgg11", "last", 1, lost=lost, tune_epochs=tune, seed=seed)
    assert variants(Records.read(tmp_path))[["lost", "tune_epochs", "seed"]].values.tolist() == [[2, 5, 0], [3, 3, 1]]
    assert variants(Records.read(tmp_path), longest=False)["tune_epochs"].tolist() == [3, 5, 3]
    pruned_record(tmp_path, "vgg11", "last", 1, lost=4, epochs=99, tune_epochs=1)
    assert variants(Records.read(tmp_path))["lost"].tolist() == [4]
    pruned_record(tmp_path, "vgg11", "last", 1, lost=5, epochs=20, recipe="paper")
    pruned_record(tmp_path, "vgg11", "last", 1, lost=6, epochs=1000, recipe="paper", scale="smoke")
    assert variants(Records.read(tmp_path))["lost"].tolist() == [5]
    assert len(variants(Records.read(tmp_path), model="vgg19")) == 0


def test_behind_the_whole_network_trained_on_for_as_long(tmp_path):
    pruned_record(tmp_path, "vgg11", "none", [], lost=2, tune_epochs=3)
    for criterion, lost, tune, seed in (("last", 3, 3, 0), ("l1", 1.5, 3, 0), ("random", 3, 4, 0), ("last", 3, 3, 1)):
        pruned_record(tmp_path, "vgg11", criterion, 1, lost=lost, tune_epochs=tune, seed=seed)
    behind = variants(Records.read(tmp_path)).set_index(["criterion", "seed"])["behind"]
    assert behind.dropna().to_dict() == {("none", 0): 0, ("last", 0): 1, ("l1", 0): -0.5}  # the others were trained otherwise


def test_networks_of_others_stand_apart_and_meet_an_opponent_trained_on_alike(tmp_path):
    for criterion, removed, lost, recipe in (("none", [], 0.1, "gentle"), ("none", [], 5, "fast"), ("rise", 1, 1.6, "gentle")):
        pruned_record(tmp_path, "resnet20", criterion, removed, lost, weights="akamaster", tune_recipe=recipe)
    assert variants(Records.read(tmp_path)).empty
    found = variants(Records.read(tmp_path), weights="akamaster").query("criterion == 'rise'")
    assert found["behind"].tolist() == [pytest.approx(1.5)] and found["tune_recipe"].tolist() == ["gentle"]


def test_the_papers_numbers():
    table = printed_variants()
    assert len(table) == 18 + 6 + 1
    table1 = table[table["criterion"] == "table1"].iloc[0]
    assert (table1["macs"], table1["params"]) == (60.3, 43.0) and table1["lost"] == pytest.approx(93.27 - 93.38)
    vgg19 = table[table["model"] == "vgg19"]
    assert vgg19["count"].tolist() == [1, 2, 3, 4, 5, 6] and vgg19["pruned"].iloc[-1] == 93.5


def test_lines_are_least_squares(rng):
    """Against scipy's general curve fitting."""
    x = rng.uniform(0, 0.3, 9)
    y = 7 * x + 0.2 + rng.normal(0, 0.3, 9)
    line = worth(x, y)
    fits = ((lambda x, a, b: a * x + b, [line.slope, line.intercept]), (lambda x, a: a * x, [line.per_q]))
    for model, ours in fits:
        middle, covariance = curve_fit(model, x, y)
        half = stats.t.ppf(0.975, 9 - len(ours)) * np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(ours, np.stack([middle, middle - half, middle + half], 1), rtol=1e-4)


@pytest.mark.parametrize("lost, is_so", [
    ([1, 2, 3, 4.01], HOLDS), ([5, 6, 7, 8.01], FAILS), ([4, 3, 2, 1.01], FAILS), ([1, 4, 0, 2], UNDECIDED),
])  # fmt: skip
def test_proportional_can_be_refused(lost, is_so):
    line = worth([0.1, 0.2, 0.3, 0.4], lost)
    assert line.proportional == is_so
    bigger = worth([1, 2, 3, 4], lost)  # another unit of Q changes no verdict
    assert bigger.proportional == is_so and bigger.per_q[0] == pytest.approx(line.per_q[0] / 10)


def test_two_points_or_one_rise_make_no_line():
    assert worth([0.1, 0.2], [1, 2]) is None and worth([0.1] * 4, [1, 2, 3, 4]) is None
