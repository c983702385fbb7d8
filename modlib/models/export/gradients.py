"""The gradient of a network's loss by its pixels, written out as a network: the chain rule over the nodes of an ONNX graph.

Each rule takes a node and the gradient by its output, and adds the nodes that compute the gradient by its inputs, from the same
weights: a convolution's is a transposed convolution, a ReLU's a mask, a pooling's goes back to where its numbers came from.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Unruled(ValueError):
    """A ``node`` without a rule, and why."""

    def __init__(self, node: onnx.NodeProto, why: str = ""):
        super().__init__(f"{node.op_type}{why and f' ({why})'}")
        self.node = node


class Writer:
    """Adds nodes behind those of a graph, under names of their own.

    Args:
        graph: whose gradient is asked for; it is added to.
        shapes: name of a value -> its shape; a number that is not known, such as N, is None.
        constants: name -> value of what depends on neither images nor weights.
    """

    def __init__(self, graph: onnx.GraphProto, shapes: dict[str, tuple], constants: dict[str, np.ndarray]):
        self.graph, self.known, self.constants = graph, shapes, constants
        self.count = 0

    def add(self, kind: str, *inputs: str, output: str | None = None, outputs: int = 1, **attributes) -> str:
        """The name of what a new node computes; of several outputs, of the last."""
        self.count += 1
        names = [f"gradient/{self.count}-{kind}-{i}" for i in range(outputs)]
        names[-1] = output or names[-1]
        self.graph.node.append(helper.make_node(kind, inputs, names, name=f"gradient/{self.count}-{kind}", **attributes))
        return names[-1]

    def constant(self, value) -> str:
        """The name of a small array that stays in the graph."""
        self.count += 1
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"gradient/{self.count}"))
        return self.graph.initializer[-1].name

    def shape(self, name: str) -> tuple:
        if name not in self.known:
            raise ValueError(f"the gradient needs the shape of {name}, which cannot be told from the graph")
        return self.known[name]

    def size(self, name: str, *axes: int) -> list[int]:
        """Of a value along some of its axes, by default all but the first."""
        shape = self.shape(name)
        sizes = [shape[axis] for axis in axes or range(1, len(shape))]
        if None in sizes:
            raise ValueError(f"the gradient needs the shape of {name}, of which {shape} is known")
        return sizes

    def like(self, g: str, x: str) -> str:
        """``g`` in the shape of ``x``, which holds as many numbers."""
        return self.add("Reshape", g, self.add("Shape", x))


def attributes(node: onnx.NodeProto) -> dict:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _convolution(to: Writer, node, g):
    about, (x, weight, *_) = attributes(node), node.input
    if about.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise Unruled(node, "padding that it chooses itself")
    sizes, results = to.size(x)[1:], to.size(node.output[0])[1:]
    rank = len(sizes)
    kernel = to.size(weight)[1:]
    strides, dilations = about.get("strides", [1] * rank), about.get("dilations", [1] * rank)
    pads = about.get("pads", [0] * 2 * rank)
    # what a stride left over at the end of each axis: it met no window
    rest = [
        size - ((result - 1) * s - before - after + d * (k - 1) + 1)
        for size, result, s, d, k, before, after in zip(
            sizes, results, strides, dilations, kernel, pads[:rank], pads[rank:], strict=True
        )
    ]
    kept = {"strides": strides, "dilations": dilations, "pads": pads, "group": about.get("group", 1)}
    return {x: to.add("ConvTranspose", g, weight, output_padding=rest, **kept)}


def _normalisation(to: Writer, node, g):
    about, (x, scale, _, _, variance) = attributes(node), node.input
    if about.get("training_mode"):
        raise Unruled(node, "statistics of the batch: an image's gradient would depend on the others")
    deviation = to.add("Sqrt", to.add("Add", variance, to.constant(np.float32(about.get("epsilon", 1e-5)))))
    shape = to.constant(np.array([1, -1] + [1] * (len(to.shape(x)) - 2)))
    return {x: to.add("Mul", g, to.add("Reshape", to.add("Div", scale, deviation), shape))}


def _relu(to: Writer, node, g):
    return {node.input[0]: to.add("Mul", g, to.add("Sign", node.output[0]))}  # of what is not negative: 0 or 1


def _max_pooling(to: Writer, node, g):
    """To where each maximum was found, of equal ones the first, as in torch; windows may overlap."""
    x = node.input[0]
    if len(node.output) == 1:
        node.output.append(f"gradient/where-{node.output[0]}")  # places in x as one row
    shape = to.add("Shape", x)
    row = to.constant(np.array([-1]))
    size = to.add("ReduceProd", shape, keepdims=1)
    zeros = to.add("ConstantOfShape", size, value=numpy_helper.from_array(np.zeros(1, np.float32)))
    where, g = to.add("Reshape", node.output[1], row), to.add("Reshape", g, row)
    return {x: to.add("Reshape", to.add("ScatterElements", zeros, where, g, axis=0, reduction="add"), shape)}


def _average_pooling(to: Writer, node, g):
    about, x = attributes(node), node.input[0]
    if about.get("ceil_mode") or about.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise Unruled(node, "ceil_mode")
    kernel, channels = about["kernel_shape"], to.size(x)[0]
    counts = math.prod(kernel)
    if any(about.get("pads", [])) and not about.get("count_include_pad"):
        raise Unruled(node, "count_include_pad=False with padding")
    to.known[ones := to.constant(np.full((channels, 1, *kernel), 1 / counts, np.float32))] = (channels, 1, *kernel)
    kept = {key: value for key, value in about.items() if key in ("strides", "pads", "dilations")}
    alike = helper.make_node("Conv", [x, ones], [node.output[0]], group=channels, **kept)
    return _convolution(to, alike, g)


def _mean(to: Writer, node, g):
    """Of ReduceMean and ReduceSum over axes, and of GlobalAveragePool."""
    about, x = attributes(node), node.input[0]
    rank = len(to.shape(x))
    if node.op_type == "GlobalAveragePool":
        axes = [*range(2, rank)]
    else:
        given = to.constants.get(node.input[1]) if len(node.input) > 1 else about.get("axes")
        if given is None:
            raise Unruled(node, "axes that are not known")
        axes = sorted(int(axis) % rank for axis in given)
        if not about.get("keepdims", 1):
            g = to.add("Unsqueeze", g, to.constant(np.array(axes)))
    if node.op_type != "ReduceSum":
        g = to.add("Div", g, to.constant(np.float32(math.prod(to.size(x, *axes)))))
    return {x: to.add("Expand", g, to.add("Shape", x))}


def _summed(to: Writer, g: str, x: str, whole: str) -> str:
    """The gradient by an ``x`` that was repeated to the shape of ``whole``."""
    shape, large = to.shape(x), to.shape(whole)
    if shape == large:
        return g
    padded = (1,) * (len(large) - len(shape)) + shape
    axes = [axis for axis, (a, b) in enumerate(zip(padded, large, strict=True)) if a == 1 and b != 1]
    return to.like(to.add("ReduceSum", g, to.constant(np.array(axes)), keepdims=1), x) if axes else to.like(g, x)


def _arithmetic(to: Writer, node, g):
    """Of a + b, a - b, a * b and a / b; the last by a alone."""
    a, b = node.input
    if a == b:
        raise Unruled(node, "of a value with itself")
    if node.op_type == "Mul":
        by = {a: to.add("Mul", g, b), b: to.add("Mul", g, a)}
    elif node.op_type == "Div":
        by = {a: to.add("Div", g, b)}
    else:
        by = {a: g, b: to.add("Neg", g) if node.op_type == "Sub" else g}
    return {x: _summed(to, each, x, node.output[0]) for x, each in by.items()}


def _linear(to: Writer, node, g):
    about = attributes(node)
    if about.get("transA"):
        raise Unruled(node, "transA")
    x, weight = node.input[:2]
    return {x: to.add("Gemm", g, weight, alpha=about.get("alpha", 1.0), transB=1 - about.get("transB", 0))}


def _same_numbers(to: Writer, node, g):
    return {node.input[0]: to.like(g, node.input[0])}


def _unchanged(to: Writer, node, g):
    return {node.input[0]: g}


def _padding(to: Writer, node, g):
    x, *given = node.input
    pads = to.constants.get(given[0])
    if attributes(node).get("mode", b"constant") != b"constant" or pads is None or len(given) > 2:
        raise Unruled(node, "another mode than constant")
    rank = len(to.shape(x))
    axes = [axis for axis in range(rank) if pads[axis] or pads[axis + rank]]
    if not axes:
        return {x: g}
    if pads.min() < 0 or 0 in axes:
        raise Unruled(node, "negative, or of the batch")
    starts = [int(pads[axis]) for axis in axes]
    ends = [start + size for start, size in zip(starts, to.size(x, *axes), strict=True)]
    return {x: to.add("Slice", g, *(to.constant(np.array(each, np.int64)) for each in (starts, ends, axes)))}


def _slice(to: Writer, node, g):
    """Each kept number goes back to its place; all other places take the zero that is put behind them."""
    x, *given = node.input
    known = [to.constants.get(each) for each in given]
    if len(known) < 2 or any(each is None for each in known):
        raise Unruled(node, "bounds that are not known")
    starts, ends = known[:2]
    axes = known[2] if len(known) > 2 else range(len(starts))
    steps = known[3] if len(known) > 3 else [1] * len(starts)
    rank = len(to.shape(x))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = int(axis) % rank
        if axis == 0 and (start, step) == (0, 1) and end >= 2**31 - 1:  # the whole batch
            continue
        if axis == 0:
            raise Unruled(node, "of the batch")
        (size,) = to.size(x, axis)
        kept = range(size)[slice(int(start), int(end) if end > -(2**31) else None, int(step))]
        if kept == range(size):
            continue
        places = np.full(size, len(kept))
        places[list(kept)] = range(len(kept))
        pads = np.zeros(2 * rank, np.int64)
        pads[rank + axis] = 1
        g = to.add("Gather", to.add("Pad", g, to.constant(pads)), to.constant(places), axis=axis)
    return {x: g}


RULES: dict[str, Callable] = {
    "Conv": _convolution, "BatchNormalization": _normalisation, "Relu": _relu, "Gemm": _linear,
    "MaxPool": _max_pooling, "AveragePool": _average_pooling, "GlobalAveragePool": _mean, "ReduceMean": _mean, "ReduceSum": _mean,
    "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic,
    "Flatten": _same_numbers, "Reshape": _same_numbers, "Squeeze": _same_numbers, "Unsqueeze": _same_numbers,
    "Identity": _unchanged, "Pad": _padding, "Slice": _slice,
}  # fmt: skip


def add_gradient(graph: onnx.GraphProto, constants: dict[str, np.ndarray], shapes: dict[str, tuple]) -> None:
    """Give a graph from ``images`` to ``logits`` the input ``labels`` (N,) and the outputs ``gradient`` and ``loss``.

    ``loss`` (N,) is the cross-entropy of each image under its label, ``gradient`` the derivative of each by its own pixels.

    Raises:
        Unruled: at a node that has no rule.
    """
    to, nodes = Writer(graph, shapes, constants), list(graph.node)
    active = _depending(nodes, {"images"})
    loss, g = _cross_entropy(to)
    gradients: dict[str, list[str]] = {"logits": [g]}
    for node in reversed(nodes):
        parts = [each for name in node.output for each in gradients.pop(name, [])]
        if not parts or not active.intersection(node.input):
            continue
        if node.op_type not in RULES:
            raise Unruled(node)
        by = RULES[node.op_type](to, node, parts[0] if len(parts) == 1 else to.add("Sum", *parts))
        if lost := active.intersection(node.input) - by.keys():
            raise Unruled(node, f"by {min(lost)}, which depends on the images")
        for name, part in by.items():
            if name in active:
                gradients.setdefault(name, []).append(part)
    if "images" not in gradients:
        raise ValueError("the logits do not depend on the images")
    to.add("Sum", *gradients["images"], output="gradient")
    used = needed(graph.node, ["gradient", loss, "logits"])
    del graph.node[:]
    graph.node.extend(used)


def _cross_entropy(to: Writer) -> tuple[str, str]:
    """Names of the loss and of its gradient by the logits: the softmax, less one at the label."""
    (classes,) = to.size("logits")
    logs = to.add("LogSoftmax", "logits", axis=1)
    hot = to.add("OneHot", "labels", to.constant(np.array(classes)), to.constant(np.array([0, 1], np.float32)), axis=-1)
    own = to.add("ReduceSum", to.add("Mul", logs, hot), to.constant(np.array([1])), keepdims=0)
    return to.add("Neg", own, output="loss"), to.add("Sub", to.add("Exp", logs), hot)


def _depending(nodes: Iterable[onnx.NodeProto], names: set[str]) -> set[str]:
    """Names of all values whose numbers depend on these; the shape of a value does not."""
    found = set(names)
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and found.intersection(node.input):
            found.update(node.output)
    return found


def needed(nodes: Iterable[onnx.NodeProto], names: Iterable[str]) -> list[onnx.NodeProto]:
    """Those nodes, in their order, of which these values are made."""
    wanted, kept = {*names}, []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
