"""Graphs run by onnxruntime on a few images, held against torch: what is wrong is not written."""

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

from modlib._tensors import exactly

TOLERANCE = 1e-3  # relative: float32 added up in another order is below, a wrong graph above


def forward(name: str, proto: onnx.ModelProto, packed: bytes, images: torch.Tensor, right: dict[str, torch.Tensor]) -> None:
    """Refuse a graph whose outputs are not ``right``.

    Raises:
        ValueError: with the output that differs most.
    """
    got = _run(name, proto, packed, {"images": images.numpy()}, [*right])
    far = {output: _distance(got[output], expected.numpy()).max() for output, expected in right.items()}
    _judge(name, far)


def gradient(name: str, proto: onnx.ModelProto, packed: bytes, images: torch.Tensor, network: nn.Module) -> None:
    """Refuse a graph whose gradient is not torch's, by labels of which no image is sure.

    An image with a feature so near to 0 that a ReLU passes it here and not there has another gradient: most must agree.
    """
    x = images.clone().requires_grad_()
    with torch.enable_grad(), exactly(torch.device("cpu")):
        logits = network(x)[0]
        labels = logits.argmin(1)
        loss = F.cross_entropy(logits, labels, reduction="none")
        (right,) = torch.autograd.grad(loss.sum(), x)
    got = _run(name, proto, packed, {"images": images.numpy(), "labels": labels.numpy()}, ["loss", "gradient"])
    far = {
        "loss": _distance(got["loss"], loss.detach().numpy()).max(),
        "gradient": np.median(_distance(got["gradient"], right.numpy())),
    }
    _judge(name, far)


def _run(name: str, proto: onnx.ModelProto, packed: bytes, given: dict[str, np.ndarray], outputs: list[str]) -> dict:
    outside = [each for each in proto.graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    values = {each.name: onnxruntime.OrtValue.ortvalue_from_numpy(_outside(each, packed)) for each in outside}
    options.add_external_initializers([*values], [*values.values()])
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(outputs, session.run(outputs, given), strict=True))
    except Exception as error:  # onnxruntime's errors have no class of their own
        raise ValueError(f"{name}.onnx does not run: {str(error).splitlines()[0]}") from error


def _outside(tensor: onnx.TensorProto, packed: bytes) -> np.ndarray:
    """What the file of weights holds for an initializer."""
    where = {each.key: each.value for each in tensor.external_data}
    return np.frombuffer(packed, "<f4", int(where["length"]) // 4, int(where["offset"])).reshape(tensor.dims)


def _distance(got: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of each image: the largest difference, relative to the largest number."""
    if got.shape != right.shape:
        return np.array([np.inf])
    got, right = got.reshape(len(got), -1), right.reshape(len(right), -1)
    return np.abs(got - right).max(1) / np.maximum(np.abs(right).max(1), 1e-30)


def _judge(name: str, far: dict[str, float]) -> None:
    worst = max(far, key=far.get)
    if not all(each <= TOLERANCE for each in far.values()):
        raise ValueError(
            f"{name}.onnx is wrong and is not written: its {worst!r} differs from torch's by {far[worst]:.1%}. A network that "
            "goes another way for other images, or other numbers of them, has no graph"
        )
