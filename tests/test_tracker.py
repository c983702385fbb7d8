"""The tracker: curves as measured by hand, a training that goes on as if nothing had been measured, callbacks of two libraries."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from modlib import modularity_curve
from modlib.tracker import ModularityTracker


def train(network, pixels, tracker=None, epochs=4):
    """Batch normalisation and dropout: both would show a measurement that is not at rest."""
    torch.manual_seed(0)
    model = nn.Sequential(*network[:6], nn.Dropout(0.5), *network[6:])
    x, y = torch.from_numpy(pixels).float() / 255, torch.arange(30) % 5
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    tracker = tracker and tracker(model)
    for epoch in range(1, epochs + 1):
        model.train()
        nn.functional.cross_entropy(model(x), y).backward()
        if tracker:
            tracker.step(epoch)
        optimizer.step()
        optimizer.zero_grad()
    return model, tracker


def test_training_goes_on_as_if_nothing_had_been_measured(network, pixels):
    import copy

    alone, _ = train(copy.deepcopy(network), pixels)
    tracked, tracker = train(network, pixels, lambda model: ModularityTracker(model, pixels, np.arange(30) % 5, every=2))
    assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), tracked.state_dict().values(), strict=True))
    assert [*tracker.curves] == [2, 4] and tracker.seconds > 0
    table = tracker.table()
    assert table.columns.tolist() == ["step", "layer", "q"] and table["step"].tolist() == [2, 2, 4, 4]
    assert table["layer"].tolist() == ["0", "3"] * 2


def test_curves_are_those_of_modularity_curve_and_go_to_tensorboard(network, pixels):
    written = []
    writer = SimpleNamespace(add_scalar=lambda *row: written.append(row))
    tracker = ModularityTracker(network, pixels, np.arange(30) % 3, k=2, layers=["3"], writer=writer)
    curve = tracker.step(7)
    assert np.array_equal(curve.q, modularity_curve(network, pixels, np.arange(30) % 3, 2, ["3"]).q)
    assert written == [("modularity/3", curve.q[0], 7)]


def test_a_callback_for_lightning(network, pixels, monkeypatch):
    package, logged = ModuleType("lightning.pytorch"), []
    package.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", package)
    tracker = ModularityTracker(network, pixels, np.arange(30) % 3, every=2, layers=["3"])
    callback = tracker.lightning()
    assert isinstance(callback, package.Callback)
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics, step)))
    for epoch in range(4):
        callback.on_train_epoch_end(SimpleNamespace(current_epoch=epoch, loggers=[logger], global_step=10 * epoch), network)
    assert [*tracker.curves] == [2, 4] and [step for _, step in logged] == [10, 30]
    assert logged[0][0] == {"modularity/3": tracker.curves[2].q[0]}


def test_a_callback_for_hugging_face(network, pixels, monkeypatch):
    package = ModuleType("transformers")
    package.TrainerCallback = type("TrainerCallback", (), {})
    monkeypatch.setitem(sys.modules, "transformers", package)
    tracker = ModularityTracker(network, pixels, np.arange(30) % 3, layers=["3"])
    callback = tracker.hugging_face()
    assert isinstance(callback, package.TrainerCallback)
    callback.on_epoch_end(None, SimpleNamespace(epoch=1.0), None, model=network)
    assert [*tracker.curves] == [1]


@pytest.mark.parametrize("options, says", [
    (dict(every=0), "every must be"), (dict(k=30), "k must be a whole number in 1..29"), (dict(y=[0]), "labels must be"),
    (dict(model="resnet20"), "model must be a torch.nn.Module"),
])  # fmt: skip
def test_wrong_arguments_are_told_before_the_training(network, pixels, options, says):
    with pytest.raises(ValueError, match=says):
        ModularityTracker(**{"model": network, "x": pixels, "y": np.arange(30) % 3} | options)


def test_a_library_that_is_not_there_is_named(network, pixels, monkeypatch):
    for name in ("lightning", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    tracker = ModularityTracker(network, pixels, np.arange(30) % 3)
    with pytest.raises(ImportError, match=r"needs lightning.*tracker\.step\(epoch\)"):
        tracker.lightning()
    with pytest.raises(ImportError, match="needs transformers"):
        tracker.hugging_face()


def test_samples_are_read_once(rng):
    x, y = rng.random((20, 3, 8, 8)).astype(np.float32), np.arange(20) % 2
    tracker = ModularityTracker(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), x, y)
    first = tracker.step(1).q
    x[:] = rng.random(x.shape)
    assert np.array_equal(tracker.step(2).q, first)
