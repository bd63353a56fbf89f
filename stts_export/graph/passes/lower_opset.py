"""Say the same with operators that old engines know."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from stts_export import ops


OLDEST_OPSET = 17
IR_VERSIONS = {17: 8, 21: 10, 23: 11}
"""Opset -> the format of files that came with it."""
LOOPS = ("CumSum", "Loop", "Scan")
REDUCTIONS = ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin")


class LowerOpset(ir.passes.InPlacePass):
    """Rewrite a graph of opset 20 for TensorRT, in opset 17 or as a newer one.

    17 is the newest that TensorRT 8.6 (JetPack 6.0) reads. Every newer TensorRT reads it too, so one stored graph
    serves them all. A graph whose weights are in few bits needs a newer one for them.

    1. `Gelu`, new in 20, becomes its formula, by tanh or by erf.
    2. For opset 17: axes of a reduction, an input since 18, become an attribute.
    3. For opset 17: `Split(num_outputs=n)`, new in 18, becomes the plain equal split.
    4. `Shape(start, end)` becomes a Slice of the whole shape, and Squeeze gets its axes as an input: opset 17 has both,
       but parsers of TensorRT 8.6 and early 10 read past the attributes, and reshape by the wrong rank from there on.

    Plugins of ours stay as they are. Afterwards every other node is one that the opset has, with inputs and attributes
    as it has them, and none is of a kind that those parsers misread (see 4) or turn into a loop over tokens
    (CumSum, up to 10.7), which is slow and cannot be recorded into a CUDA graph.
    """

    def __init__(self, opset: int = OLDEST_OPSET) -> None:
        """Say which opset is wanted: 17, or one from 20 on."""
        super().__init__()
        self.opset = opset

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        is_old = self.opset == OLDEST_OPSET
        for node in list(model.graph):
            if node.op_type == "Gelu":
                expand_gelu(model.graph, node)
            elif is_old and node.op_type in REDUCTIONS:
                axes_as_attribute(node)
            elif is_old and node.op_type == "Split" and "num_outputs" in node.attributes:
                del node.attributes["num_outputs"]
            elif node.op_type == "Shape" and node.attributes:
                slice_shape(model.graph, node)
            elif node.op_type == "Squeeze" and len(node.inputs) == 1:
                name_squeezed_axes(model.graph, node)
        model.graph.opset_imports[""] = self.opset
        model.ir_version = IR_VERSIONS[self.opset]
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """The opset has every node as it stands, and old parsers read it so."""
        for node in model.graph:
            if node.op_type in ops.PLUGIN_NAMES:
                continue
            try:
                schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
            except onnx.defs.SchemaError as error:
                raise ir.passes.PostconditionError(f"opset {self.opset} has no operator {node.op_type}") from error
            unknown = set(node.attributes) - set(schema.attributes)
            if unknown or len(node.inputs) > schema.max_input:
                raise ir.passes.PostconditionError(
                    f"{node.op_type} {node.name} is not as opset {self.opset} has it: "
                    f"{len(node.inputs)} inputs, unknown attributes {sorted(unknown)}"
                )
            if node.op_type in LOOPS:
                loop = f"{node.op_type} {node.name} is a loop over tokens before TensorRT 10.8"
                raise ir.passes.PostconditionError(loop)
            if (node.op_type == "Shape" and node.attributes) or (node.op_type == "Squeeze" and len(node.inputs) < 2):
                raise ir.passes.PostconditionError(f"{node.op_type} {node.name} is misread by old parsers as it stands")


def expand_gelu(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a Gelu by 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), or by 0.5 x (1 + erf(x / sqrt(2)))."""
    approximation = node.attributes.get("approximate")
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None

    def step(operator: str, *inputs: ir.Value) -> ir.Value:
        made = ir.node(operator, inputs)
        made.outputs[0].type, made.outputs[0].shape = x.type, x.shape
        graph.insert_before(node, made)
        return made.outputs[0]

    def number(name: str, value: float) -> ir.Value:
        return constant(graph, f"gelu.{name}", np.array(value, np.float32))

    if approximation is not None and approximation.as_string() == "tanh":
        cube = step("Mul", step("Mul", step("Mul", x, x), x), number("cubic", 0.044715))
        curve = step("Tanh", step("Mul", step("Add", x, cube), number("scale", math.sqrt(2 / math.pi))))
    else:
        curve = step("Erf", step("Mul", x, number("slope", math.sqrt(0.5))))
    gate = step("Mul", step("Add", curve, number("one", 1.0)), number("half", 0.5))
    name = result.name
    replacement = step("Mul", x, gate)
    ir.convenience.replace_all_uses_with(result, replacement, replace_graph_outputs=True)
    replacement.name = name
    graph.remove(node, safe=True)


def axes_as_attribute(node: ir.Node) -> None:
    """Move the axes of a reduction from its second input to an attribute."""
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None or axes.const_value is None:
        raise ir.passes.PreconditionError(f"{node.op_type} {node.name} does not reduce along axes that are constant")
    node.attributes.pop("noop_with_empty_axes", None)  # new in 18, and without meaning where there are axes
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes.const_value.numpy().reshape(-1)])
    node.resize_inputs(1)


def slice_shape(graph: ir.Graph, node: ir.Node) -> None:
    """Replace `Shape(x, start, end)` by a Slice of `Shape(x)`."""
    x, result = node.inputs[0], node.outputs[0]
    assert x is not None
    start, end = node.attributes.get("start"), node.attributes.get("end")
    bounds = (0 if start is None else start.as_int(), np.iinfo(np.int64).max if end is None else end.as_int())
    whole = ir.node("Shape", [x])
    first, last = (integers_constant(graph, bound) for bound in bounds)
    part = ir.node("Slice", [whole.outputs[0], first, last])
    part.outputs[0].type, part.outputs[0].shape = result.type, result.shape
    whole.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    graph.insert_before(node, [whole, part])
    name = result.name
    ir.convenience.replace_all_uses_with(result, part.outputs[0], replace_graph_outputs=True)
    part.outputs[0].name = name
    graph.remove(node, safe=True)


def name_squeezed_axes(graph: ir.Graph, node: ir.Node) -> None:
    """Give a Squeeze the axes that it squeezes, those of size 1, as its second input."""
    x = node.inputs[0]
    assert x is not None
    if x.shape is None or not all(isinstance(size, int) for size in x.shape):
        raise ir.passes.PreconditionError(f"Squeeze {node.name} has no axes, and {x.name!r} is of unknown shape")
    node.resize_inputs(2)
    node.replace_input_with(1, integers_constant(graph, *(axis for axis, size in enumerate(x.shape) if size == 1)))


def integers_constant(graph: ir.Graph, *numbers: int) -> ir.Value:
    """Return the graph's int64 vector of these numbers."""
    return constant(graph, f"integers.{'.'.join(map(str, numbers))}", np.array(numbers, np.int64))


def constant(graph: ir.Graph, name: str, numbers: np.ndarray) -> ir.Value:
    """Return the graph's constant of that name, made when it is first asked for."""
    if name not in graph.initializers:
        tensor, shape = ir.tensor(numbers, name=name), ir.Shape(numbers.shape)
        graph.initializers.add(ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor))
    return graph.initializers[name]
