"""MACs as by hand for attention and recurrent networks; what cannot be counted is said; a model stays as it was."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import modlib
from modlib._torchvision import torchvision
from modlib.cost import accuracy, cost, seconds

S, D, H = 12, 8, 16  # tokens, width, hidden


class Shaped(nn.Module):
    """A network over tokens (N, S, D), made from an image."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.flatten(1).view(len(x), S, D))


class Fused(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])


class Vector(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        return x[0] @ self.weight


@pytest.mark.parametrize("inner, macs", [
    (nn.TransformerEncoderLayer(D, 2, H, batch_first=True), 4 * S * D * D + 2 * S * S * D + 2 * S * D * H),
    (nn.MultiheadAttention(D, 2, batch_first=True), None),
    (Fused(), 2 * S * S * D),
    (nn.LSTM(D, H, batch_first=True), S * 4 * H * (D + H)),
    (nn.LSTM(D, H, 2, bidirectional=True, batch_first=True), 2 * S * 4 * H * (D + H) + 2 * S * 4 * H * (2 * H + H)),
    (nn.GRU(D, H, batch_first=True), S * 3 * H * (D + H)),
    (nn.RNN(D, H, batch_first=True), S * H * (D + H)),
    (Vector(), S * D),
])  # fmt: skip
def test_attention_and_recurrent_modules(inner, macs):
    if macs is None:

        class Self(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention = inner

            def forward(self, x):
                return self.attention(x, x, x)

        inner, macs = Self(), 4 * S * D * D + 2 * S * S * D
    found = cost(Shaped(inner), (1, S, D))
    assert found.macs == macs == sum(row["macs"] for row in found.layers.values()) and not found.uncounted
    assert torch.backends.mkldnn.enabled and torch.backends.cudnn.enabled


def test_vit_b_16_is_what_torchvision_records():
    with torch.device("meta"):
        model = torchvision.models.vit_b_16(weights=None)
    record = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["_ops"]
    assert cost(model, (3, 224, 224)).macs / 1e9 == pytest.approx(record, rel=1e-4)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization")
def test_what_cannot_be_counted_is_said():
    class Transform(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    with pytest.warns(UserWarning, match="MACs are incomplete: _fft"):
        assert cost(nn.Sequential(Transform()), (3, 4, 4)).uncounted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, once a process: that it will be gone
        quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(48, 8)), {nn.Linear})
    with pytest.warns(UserWarning, match="MACs are incomplete: quantized.linear"):
        cost(quantised, (3, 4, 4))


def test_cost_of_other_inputs():
    assert cost(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5)), x=np.zeros((3, 7), int)).macs == 7 * 4 * 5
    assert cost(nn.Linear(6, 2), (6,)).macs == 12
    for shape in ((3, 32), (), (3, 0, 3), (1, 32, 32), "abc"):
        with pytest.raises(ValueError, match=r"model takes images \(N, 3, H, W\)|shape must be"):
            cost(modlib.build_model("resnet20"), shape)


def test_time_and_accuracy_leave_a_model_in_training_as_it_was(sample):
    model = modlib.build_model("resnet20", stages=(1, 1, 1)).train()
    before = copy.deepcopy(model.state_dict())
    assert seconds(model, batch_size=2, min_seconds=0.01) > 0
    accuracy(model, sample[:20])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    for options in (dict(batch_size=0), dict(batch_size=-5)):
        with pytest.raises(ValueError, match="batch_size must be"):
            accuracy(model, sample, **options)
        with pytest.raises(ValueError, match="batch_size must be"):
            seconds(model, **options)


def test_accuracy_of_a_network_that_returns_more_than_logits(sample):
    class Output(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3072, 10)

        def forward(self, x):
            return {"loss": None, "logits": self.fc(x.flatten(1))}

    assert 0 <= accuracy(Output(), sample[:30]) <= 100
    with pytest.raises(ValueError, match="one row of logits an image"):
        accuracy(nn.Identity(), sample[:30])
    with pytest.raises(ValueError, match="images must be modlib.Images; got"):
        accuracy(Output(), sample.x)
