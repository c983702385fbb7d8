"""What all tests share: no network, no cache of the user's, few and repeatable property examples."""

import os
import socket

import matplotlib

matplotlib.use("Agg")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from torch import nn  # noqa: E402

import modlib  # noqa: E402

settings.register_profile("modlib", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("modlib")


@pytest.fixture(autouse=True)
def offline(request, monkeypatch, tmp_path_factory):
    """Downloads go to an empty folder, and no test reaches another host unless it is marked to."""
    if request.node.get_closest_marker("network") or request.node.get_closest_marker("browser"):
        return
    monkeypatch.setenv("MODLIB_DATA", os.fspath(tmp_path_factory.mktemp("cache")))
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test reached for {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, which wait long for each other where the machine is busy. (Before each
    test, since other libraries set the number too.)"""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=[1, pytest.param(20, marks=pytest.mark.slow)], ids=["few", "many"])
def rounds(request):
    """How often a piece of work is killed on its way to the end."""
    if request.node.get_closest_marker("slow") and "slow" not in (request.config.option.markexpr or ""):
        pytest.skip("minutes of kills; pytest -m slow")
    return request.param


@pytest.fixture(scope="module")
def browser():
    from browser import chromium  # of playwright, which other tests need not

    with chromium() as running:
        yield running


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def sample():
    """The first 120 images of the embedded sample."""
    return modlib.load_images("cifar10", n=120)


@pytest.fixture
def network():
    """A small convolutional network with batch normalisation, in-place ReLUs and 3 x 8 x 8 input."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(54, 5),
    )


@pytest.fixture
def pixels(rng):
    """30 images for ``network``."""
    return rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
