"""A network's ONNX graph cut at its layers, for the live laboratory: features stay in memory for one layer at a time."""

import base64
import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def pieces(model: onnx.ModelProto) -> list[dict]:
    """A graph from one layer to the next for each layer, and one from the last layer to the logits.

    Args:
        model: with input ``images`` (N, ...), one output (N, M) a layer, which flattens what the module gives, and ``logits``.

    Returns:
        ``name`` of the layer or ``logits``, ``input`` and ``output`` of its graph, and ``graph``, serialised.

    Raises:
        ValueError: if something passes by a layer, so that what follows cannot be computed from it.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {each.name: each for each in (*graph.input, *graph.value_info, *graph.output)}
    maker = {name: node for node in graph.node for name in node.output}
    names = [each.name for each in graph.output if each.name != "logits"]
    cuts = {name: maker[name].input[0] if maker[name].op_type in ("Flatten", "Reshape") else name for name in names}
    cuts["logits"] = "logits"
    found, start = [], "images"
    for name, end in cuts.items():
        wanted, nodes = {end}, []
        for node in reversed(graph.node):
            if wanted.intersection(node.output) and start not in node.output:
                wanted.update(node.input)
                nodes.insert(0, node)
        if start != "images" and "images" in wanted:
            raise ValueError(f"{name!r} cannot be computed from the layer before it alone")
        inside = [each for each in graph.initializer if each.name in wanted]
        part = helper.make_graph(nodes, name, [known[start]], [known[end]], inside)
        proto = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        found.append({"name": name, "input": start, "output": end, "graph": proto.SerializeToString()})
        start = end
    return found


def product() -> bytes:
    """The graph of all inner products of the rows of ``a`` (P, M) with those of ``b`` (R, M)."""
    a, b, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("a", ["P", "M"]), ("b", ["R", "M"]), ("products", ["P", "R"]))
    )
    node = helper.make_node("Gemm", ["a", "b"], ["products"], transB=1)
    graph = helper.make_graph([node], "product", [a, b], [out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def write_pieces(path: Path, to: Path) -> None:
    """The pieces of the graph at ``path`` as one JSON file, graphs in base64."""
    found = [
        each | {"graph": base64.b64encode(each["graph"]).decode()} for each in pieces(onnx.load(path, load_external_data=False))
    ]
    to.write_text(json.dumps(found))
