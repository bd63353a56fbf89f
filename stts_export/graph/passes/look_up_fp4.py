"""Let a CPU, whose onnxruntime knows no floats of 4 bits, make floats of them all the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stts_export.graph.passes.dequantize_weights import DTYPES, NODE
from stts_export.quantise.rounding import E2M1


class LookUpFp4(ir.passes.InPlacePass):
    """Read weights in floats of 4 bits as numbers without a sign, and look up twice their value, which is whole.

    Half of the scale makes up for it, so that DequantizeLinear goes on exactly. Needs scales in float32, and weights in
    external data, which stays where it is.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        graph = model.graph
        nodes = [node for node in graph if node.op_type == NODE and dtype_of(node.inputs[0]) == DTYPES["fp4"]]
        if not nodes:
            return ir.passes.PassResult(model, False)
        doubled = np.array([2 * sign * number for sign in (1, -1) for number in E2M1], np.int8)
        table, half = constant(graph, "fp4.doubled", doubled), constant(graph, "fp4.half", np.array(0.5, np.float32))
        for node in nodes:
            codes, scales = node.inputs[0], node.inputs[1]
            assert codes is not None
            data = codes.const_value
            assert isinstance(data, ir.ExternalTensor)
            codes.type = ir.TensorType(ir.DataType.UINT4)
            codes.const_value = ir.ExternalTensor(
                data.location,
                data.offset,
                data.length,
                ir.DataType.UINT4,
                shape=data.shape,
                name=str(codes.name),
                base_dir=data.base_dir,
            )
            places = ir.node("Cast", [codes], attributes={"to": ir.DataType.INT32.value})
            numbers = ir.node("Gather", [table, places.outputs[0]])
            halved = ir.node("Mul", [scales, half])
            graph.insert_before(node, [places, numbers, halved])
            node.replace_input_with(0, numbers.outputs[0])
            node.replace_input_with(1, halved.outputs[0])
        return ir.passes.PassResult(model, True)


def dtype_of(value: ir.Value | None) -> ir.DataType | None:
    """Return the type of a value, where there is one."""
    return None if value is None else value.dtype


def constant(graph: ir.Graph, name: str, numbers: np.ndarray) -> ir.Value:
    """Return a new constant of the graph."""
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(numbers.shape), const_value=tensor)
    graph.initializers.add(value)
    return value
