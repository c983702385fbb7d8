"""Campaigns on several workers: what they record, and what a worker that dies costs."""

import os
import signal
import sys
from dataclasses import replace
from functools import partial

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from modlib.campaign import parallel
from modlib.campaign import reproduce as experiments
from modlib.campaign.figures import FIGURES
from modlib.campaign.networks import Unit
from modlib.campaign.reproduce import reproduce
from modlib.results import find_results, measurement

MODELS = ["resnet20", "resnet32", "resnet44"]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def deadly(monkeypatch, tmp_path):
    """A figure whose measurements take no time; each kills its process as many times as ``tmp_path/MODEL`` says."""

    def measure(campaign, unit, left):
        deaths = campaign.runs.parents[1] / unit.model
        left = int(deaths.read_text()) if deaths.exists() else 0
        if left:
            deaths.write_text(str(left - 1))
            die()
        return measurement("curves", figure.settings(campaign, unit), {}, {"pid": ([], os.getpid())})

    def settings(campaign, unit):
        return {"model": unit.model, "scale": campaign.scale_name, "seed": campaign.seed}

    figure = replace(FIGURES["fig4"], settings=settings, measure=measure)
    monkeypatch.setitem(FIGURES, "fig4", figure)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return {"models": MODELS, "datasets": ["cifar10"], "scale": "smoke", "runs": tmp_path / "runs", "out": tmp_path / "results"}


def states(steps) -> dict[str, str]:
    return {step.unit.model: step.state for step in steps}


class Death(BaseException):
    """What ends a process, in the tests that have but one."""


class Processes:
    """In the place of joblib.Parallel: the same answer to a death, in this process and at once."""

    def __init__(self, **options):
        assert options["batch_size"] == 1

    def __call__(self, calls):
        for function, arguments, options in calls:
            try:
                yield function(*arguments, **options)
            except Death:
                raise TerminatedWorkerError("killed") from None


def test_a_process_that_dies_again_and_again_costs_its_unit(deadly, tmp_path, monkeypatch):
    def die():
        raise Death

    monkeypatch.setattr(parallel, "Parallel", Processes)
    monkeypatch.setitem(globals(), "die", die)
    (tmp_path / "resnet32").write_text("2")
    steps = [*reproduce("fig4", **deadly, jobs=2)]
    assert states(steps) == {"resnet20": "measured", "resnet32": "failed", "resnet44": "measured"}
    (lost,) = [step for step in steps if step.state == "failed"]
    assert "took 2 workers with it" in lost.note
    records = find_results("curves", deadly["out"])
    assert sorted(record.settings["model"] for record in records) == ["resnet20", "resnet44"]
    assert states(reproduce("fig4", **deadly)) == {"resnet20": "recorded", "resnet32": "measured", "resnet44": "recorded"}


def test_dask_gives_the_unit_of_a_dead_worker_to_another(deadly, tmp_path):
    distributed = pytest.importorskip("distributed")
    (tmp_path / "resnet32").write_text("1")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster:
        steps = [*reproduce("fig4", **deadly, backend="dask", scheduler=cluster.scheduler_address)]
    assert (tmp_path / "resnet32").read_text() == "0"  # it did die
    assert states(steps) == dict.fromkeys(MODELS, "measured")
    assert len(find_results("curves", deadly["out"])) == 3
    assert sorted(path.suffix for path in deadly["out"].rglob("*")) == ["", ".json", ".json", ".json"]  # no note is left


@pytest.fixture
def counted(tmp_path):
    """Run a task of one unit as a worker of a campaign does, with the note as another worker has left it; the starts it finds."""
    unit, note = Unit("resnet20", "cifar10", "pgd"), tmp_path / ".resnet20-cifar10-pgd.started"

    def run(left=None, task=lambda unit: note.read_text()):
        if left is not None:
            note.write_text(left)
        return parallel._counted(task, partial(experiments._lost, ""), tmp_path, "mine", unit)

    run.note = note
    return run


def test_a_unit_that_took_too_many_workers_is_given_up_and_may_be_tried_later(counted):
    assert counted() == "mine 1" and not counted.note.exists()
    assert counted("mine 1") == "mine 2" and not counted.note.exists()
    assert counted(f"mine {parallel.LOSSES}").state == "failed" and not counted.note.exists()
    assert counted() == "mine 1"


@pytest.mark.parametrize("note", ["", "1", "mine", "mine x", "mine 1 1", "another 2", "another 99"])
def test_campaigns_that_were_killed_and_notes_that_say_nothing_cost_no_unit(counted, note):
    assert counted(note) == "mine 1" and not counted.note.exists()


def test_the_first_error_is_the_one_that_is_told(counted):
    def fails(unit):
        counted.note.unlink()
        counted.note.mkdir()  # as good as any reason why a note cannot be deleted
        raise KeyError("the first")

    with pytest.raises(KeyError, match="the first"):
        counted(task=fails)
    assert counted(task=lambda unit: "measured") == "measured"  # nor does a note that cannot be written end anything


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_campaigns_that_are_killed_leave_the_unit_to_the_third(counted, tmp_path):
    for campaign in ("one", "two"):
        if not (child := os.fork()):
            parallel._counted(lambda unit: die(), experiments._lost, tmp_path, campaign, Unit("resnet20", "cifar10", "pgd"))
        os.waitpid(child, 0)
        assert counted.note.read_text() == f"{campaign} 1"
    assert counted(task=lambda unit: "measured") == "measured"


@pytest.mark.parametrize("options, error, says", [
    (dict(jobs=0), ValueError, "jobs must be a whole number in 1..1000; got jobs=0"),
    (dict(backend="dask"), ValueError, "needs scheduler=ADDRESS"),
])  # fmt: skip
def test_what_cannot_be_run_is_told_in_a_sentence(deadly, options, error, says):
    with pytest.raises(error, match=says):
        reproduce("fig4", **deadly, **options)


def test_without_dask_the_way_to_it_is_named(deadly, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r'pip install "graph-modularity\[cluster\]"'):
        reproduce("fig4", **deadly, backend="dask", scheduler="tcp://127.0.0.1:1")
