"""The name of a computation: the same in every process, another wherever the outcome may be another."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import modlib
from modlib.models.identity import fingerprint

X = torch.zeros(2, 3, 4, 4)


class Net(nn.Module):
    def __init__(self, act, width=4):
        super().__init__()
        self.conv, self.act, self.scale = nn.Conv2d(3, width, 3), act, 2

    def forward(self, x):
        return self.act(self.conv(x)) * self.scale


class Callable_:
    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x):
        return x * self.slope


def seeded(act=torch.relu, kind=Net):
    torch.manual_seed(0)
    return kind(act)


def closure(slope):
    return lambda x: x * slope


def edited(forward):
    return type("Net", (Net,), {"forward": forward, "__module__": "m", "__qualname__": "Net"})


def with_hook(factor):
    model = seeded()
    model.conv.register_forward_hook(lambda module, inputs, output: output * factor)
    return model


def changed(**attributes):
    model = seeded()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


DIFFERENT = [
    lambda: seeded(),
    lambda: seeded(torch.sin),
    lambda: seeded(nn.ReLU()),
    lambda: seeded(nn.LeakyReLU(0.1)),
    lambda: seeded(nn.LeakyReLU(0.2)),
    lambda: seeded(lambda x: x + 1),
    lambda: seeded(lambda x: x + 2),
    lambda: seeded(closure(1)),
    lambda: seeded(closure(2)),
    lambda: seeded(partial(torch.clamp, min=0)),
    lambda: seeded(partial(torch.clamp, min=1)),
    lambda: seeded(Callable_(1)),
    lambda: seeded(Callable_(2)),
    lambda: seeded(kind=edited(lambda self, x: self.conv(x))),
    lambda: seeded(kind=edited(lambda self, x: -self.conv(x))),
    lambda: changed(scale=3),
    lambda: changed(forward=lambda x: x),
    lambda: with_hook(1),
    lambda: with_hook(0),
]


def test_every_difference_is_another_name_and_the_same_is_the_same():
    names = [fingerprint(make(), X, k=3) for make in DIFFERENT]
    assert len({*names}) == len(DIFFERENT)
    assert names == [fingerprint(make(), X, k=3) for make in DIFFERENT]


def test_inputs_and_settings_count_and_the_mode_does_not():
    model, base = seeded(), fingerprint(seeded(), X, k=3)
    others = [
        fingerprint(model, X + 1, k=3), fingerprint(model, X.double(), k=3), fingerprint(model, X[:, :, :2], k=3),
        fingerprint(model, X, k=4), fingerprint(model, X, k=3, forward=closure(1)), fingerprint(model, {"x": X}, k=3),
        fingerprint(model, {"y": X}, k=3), fingerprint(model, (X,), k=3),
    ]  # fmt: skip
    assert len({base, *others}) == 9
    assert fingerprint(model.train(), X, k=3) == fingerprint(model.eval(), X, k=3) == base
    assert fingerprint(torch.compile(model, backend="eager"), X, k=3) == base


def test_the_same_in_every_process():
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_identity import DIFFERENT, X, fingerprint\n"
        "print(*[fingerprint(make(), X, words={'a', 'b', 'c'}) for make in DIFFERENT])"
    )
    found = {subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(found) == 1 and len(next(iter(found)).split()) == len(DIFFERENT)


@pytest.mark.parametrize("change", [
    lambda model: setattr(model, "act", torch.sin),
    lambda model: model.conv.register_forward_hook(lambda module, inputs, output: output * 0 + 1),
])  # fmt: skip
def test_resuming_refuses_another_computation(change, rng, tmp_path):
    x, y, model, file = rng.integers(0, 256, (30, 3, 6, 6), dtype=np.uint8), np.arange(30) % 2, seeded(), tmp_path / "work"
    first = modlib.modularity_curve(model, x, y, layers=["conv"], resume=file)
    assert np.array_equal(modlib.modularity_curve(seeded(), x, y, layers=["conv"], resume=file).q, first.q)
    change(model)
    with pytest.raises(ValueError, match="another network"):
        modlib.modularity_curve(model, x, y, layers=["conv"], resume=file)


def test_what_a_function_has_taken_with_it_counts_where_it_is_none_too():
    def bound(first, second):
        return lambda model, x: (first, second)

    base = fingerprint(seeded(), X, k=3, forward=bound(None, 3))
    assert base == fingerprint(seeded(), X, k=3, forward=bound(None, 3)) != fingerprint(seeded(), X, k=3, forward=bound(3, None))


OF_THIS_FILE = {"slope": 0.1}


class OfThisFile:
    slope = [0.1]


def by_globals(x):
    return (lambda y: y * OF_THIS_FILE["slope"] * OfThisFile.slope[0])(x)


@pytest.mark.parametrize("held, key", [(OF_THIS_FILE, "slope"), (OfThisFile.slope, 0)])
def test_what_an_activation_reads_elsewhere_counts(held, key, monkeypatch):
    model, x = nn.Linear(4, 4), torch.zeros(2, 4)
    model.act = by_globals
    before = fingerprint(model, x)
    assert fingerprint(model, x) == before
    if isinstance(held, dict):
        monkeypatch.setitem(held, key, 3.0)
    else:
        monkeypatch.setattr(OfThisFile, "slope", [3.0])
    assert fingerprint(model, x) != before


def test_attributes_of_the_class_and_slots_count(monkeypatch):
    class Slots:
        __slots__ = ("slope",)

    class Net(nn.Linear):
        scales = torch.ones(1)

    model, x = Net(4, 4), torch.zeros(2, 4)
    model.settings = Slots()
    keys = []
    for slope, scale in ((0.1, 1), (3.0, 1), (3.0, 2)):
        model.settings.slope = slope
        monkeypatch.setattr(Net, "scales", torch.full((1,), float(scale)))
        keys.append(fingerprint(model, x))
    assert len(set(keys)) == 3


def test_methods_of_tensors_are_known_by_name():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.load_state_dict(a.state_dict())
    a.act, b.act = torch.Tensor.sin, torch.Tensor.cos
    assert fingerprint(a, torch.zeros(2, 2)) != fingerprint(b, torch.zeros(2, 2))
