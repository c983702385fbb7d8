"""A traced network as a graph without weights, and the graph of its gradient."""

import io
import re
import warnings
from math import prod
from unittest import mock

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from modlib.models.export.gradients import Unruled, add_gradient, needed

WEIGHTS = "weights"  # the name under which graphs look for their weights
OPSET = 18  # the first in which scattered numbers of one place are added


def forward(
    network: nn.Module, images: torch.Tensor, outputs: list[str], place: list[dict]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The graph from ``images`` to ``outputs`` with its weights outside, and the values in it that are constant, by name."""
    try:
        proto = _traced(network, images, outputs)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise ValueError(f"{_culprit(network, images)} has no ONNX graph: {reason}") from error
    graph, weights = proto.graph, {each["name"]: each for each in place}
    inside = {each.name: numpy_helper.to_array(each) for each in graph.initializer if each.name not in weights}
    constants = _fold(graph, inside, {*weights})
    del graph.initializer[:]
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.initializer.extend(_outside(each) for each in place)
    _drop_unused(graph)
    return proto, constants


def _traced(network: nn.Module, images: torch.Tensor, outputs: list[str]) -> onnx.ModelProto:
    """By torch's exporter from traces, which keeps every weight under its name; the other one takes packages of its own."""
    file, numbered = io.BytesIO(), {f"output_{i}": name for i, name in enumerate(outputs)}  # torch takes no "0" for a name
    # Where it fails, torch prints the whole graph. Of what a trace cannot follow it warns, and the trial finds it.
    with warnings.catch_warnings(), mock.patch.object(torch._C, "_jit_onnx_log", lambda *_: None, create=True):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (images,), file, dynamo=False, opset_version=OPSET, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False, input_names=["images"], output_names=[*numbered],
            dynamic_axes={each: {0: "N"} for each in ("images", *numbered)},
        )  # fmt: skip
    proto = onnx.load_from_string(file.getvalue())
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [numbered.get(name, name) for name in names]
    for each in proto.graph.output:
        each.name = numbered[each.name]
    return proto


def _culprit(network: nn.Module, images: torch.Tensor) -> str:
    """The innermost module without a graph, by name and type. The network is of no use afterwards."""
    given: dict[str, tuple] = {}
    for name, module in network.named_modules():
        module._forward_hooks.clear()  # of taps
        module.register_forward_pre_hook(lambda _, inputs, name=name: given.update({name: inputs}))
    network(images)
    for name, inputs in sorted(given.items(), key=lambda each: -each[0].count(".")):
        module = network.get_submodule(name)
        try:
            if name and len(inputs) == 1:
                _traced(module, inputs[0], ["output"])
        except RuntimeError:
            return f"module {name!r} ({type(module).__name__})"
    return f"model ({type(network).__name__})"


def _outside(place: dict) -> TensorProto:
    """An initializer whose numbers are in the file of weights."""
    tensor = TensorProto(name=place["name"], dims=place["shape"], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", WEIGHTS), ("offset", place["offset"]), ("length", 4 * prod(place["shape"]))):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _fold(graph: onnx.GraphProto, constants: dict[str, np.ndarray], weights: set[str]) -> dict[str, np.ndarray]:
    """Compute what depends on neither images nor weights, and leave out what no output needs; all constants by name.

    Of equal weights torch writes one, and the others as its copies. Here each is its own: they may be exchanged.
    """
    constants, left = dict(constants), []
    for node in graph.node:
        if node.op_type == "Identity" and node.output[0] in weights:
            continue
        given = [name for name in node.input if name]
        if all(name in constants for name in given) and not node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
            values = ReferenceEvaluator(node).run(None, {name: constants[name] for name in given})
            constants.update(zip(node.output, map(np.asarray, values), strict=True))
        else:
            left.append(node)
    left = needed(left, [each.name for each in graph.output])
    del graph.node[:], graph.value_info[:]
    graph.node.extend(left)
    return constants


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def gradient(proto: onnx.ModelProto, constants: dict[str, np.ndarray], network: nn.Module) -> onnx.ModelProto:
    """The graph from ``images`` and ``labels`` to ``gradient``, ``loss`` and ``logits``."""
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {each.name: tuple(each.dims) for each in proto.graph.initializer}
    for each in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = each.type.tensor_type.shape.dim
        shapes[each.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    second = onnx.ModelProto()
    second.CopyFrom(proto)
    graph = second.graph
    kept = needed(graph.node, ["logits"])
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    try:
        add_gradient(graph, constants, shapes)
    except Unruled as error:
        raise ValueError(f"the gradient has no rule for {error} in {_module(network, error.node.name)}") from None
    graph.input.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]))
    pixels, classes = ["N", *shapes["images"][1:]], ["N", *shapes["logits"][1:]]
    for name, shape in (("gradient", pixels), ("loss", ["N"]), ("logits", classes)):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    _drop_unused(graph)
    return second


def _module(network: nn.Module, scope: str) -> str:
    """The module in which a node was traced, by name and type: torch calls nodes ``/layer1/layer1.0/relu_1/Relu``."""
    module, path = network, []
    for part in scope.split("/")[1:-1]:
        own = part.rpartition(".")[2]
        children = dict(module.named_children())
        own = own if own in children else re.sub(r"_\d+$", "", own)  # called for the second time
        if own not in children:
            break
        module = children[own]
        path.append(own)
    return f"module {'.'.join(path)!r} ({type(module).__name__})" if path else f"model ({type(module).__name__})"
