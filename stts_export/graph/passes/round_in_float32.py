"""Let a half-precision graph compute in float32 and round where it rounded, so that a CPU can run it as a GPU would."""

from __future__ import annotations

import onnx_ir as ir

from stts_export.graph.casts import cast_node, cast_value


class RoundInFloat32(ir.passes.InPlacePass):
    """Rewrite a graph so that every node computes in float32 and its results are rounded as they were.

    A half-precision value is cast up before each node that reads it, once for each value, and every half-precision
    result is cast down behind the node that makes it. Casts, which round already, and whatever holds no half-precision
    float stay as they are; so do the types of inputs, outputs and weights.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        graph = model.graph
        upcast: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            if node.op_type == "Cast":
                continue
            for place, value in enumerate(node.inputs):
                if value is not None and is_half(value):
                    node.replace_input_with(place, upcast_value(graph, value, upcast))
            for value in node.outputs:
                if is_half(value):
                    round_value(graph, node, value)
        return ir.passes.PassResult(model, True)


def upcast_value(graph: ir.Graph, value: ir.Value, upcast: dict[ir.Value, ir.Value]) -> ir.Value:
    """Return `value` in float32; `upcast` holds those made before."""
    if value not in upcast:
        upcast[value] = cast_value(graph, value, ir.DataType.FLOAT)
    return upcast[value]


def round_value(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let `node` return float32 where it returned `value`, and `value` be that, rounded."""
    rounding = cast_node(value, value.dtype)
    rounded, name = rounding.outputs[0], value.name
    graph.insert_after(node, rounding)
    for user, place in list(value.uses()):
        if user is not rounding:
            user.replace_input_with(place, rounded)
    for place, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[place] = rounded
    value.name, value.type = f"{name}.exact", ir.TensorType(ir.DataType.FLOAT)
    rounded.name = name


def is_half(value: ir.Value) -> bool:
    """Tell whether a value holds half-precision floats."""
    return value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
