"""A half-precision graph on a CPU: computed in float32, rounded where it rounds."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from reference.small_graph import lines_of, model_of, value

from stts_export.graph.casts import cast_output
from stts_export.graph.passes.round_in_float32 import RoundInFloat32


NUMPY = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}
X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def typed(node, name, dtype):
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(dtype), ir.Shape(["S", 4])
    return node


def half_model(dtype):
    """Return a graph that adds, then multiplies, in half precision; the sum is read twice."""
    x = value("x", "S", 4)
    low = typed(ir.node("Cast", [x], attributes={"to": dtype.value}), "low", dtype)
    total = typed(ir.node("Add", [low.outputs[0], low.outputs[0]]), "total", dtype)
    square = typed(ir.node("Mul", [total.outputs[0], total.outputs[0]]), "y", dtype)
    return model_of([x], [low, total, square], square.outputs)


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16], ids=str)
def test_every_result_is_rounded_to_the_precision_it_had(dtype):
    model = RoundInFloat32()(half_model(dtype)).model
    cast_output(model.graph, 0, ir.DataType.FLOAT, inner="y.inner")  # numpy has no bfloat16
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    low = X.astype(NUMPY[dtype])
    total = (low.astype(np.float32) * 2).astype(NUMPY[dtype])
    expected = (total.astype(np.float32) ** 2).astype(NUMPY[dtype])
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], expected.astype(np.float32))


def test_no_node_but_a_cast_touches_half_precision_and_names_stay():
    model = RoundInFloat32()(half_model(ir.DataType.FLOAT16)).model
    for node in model.graph:
        if node.op_type != "Cast":
            assert all(v.dtype == ir.DataType.FLOAT for v in (*node.inputs, *node.outputs)), node
    assert [output.name for output in model.graph.outputs] == ["y"]
    assert [line for line in lines_of(model) if line.startswith("total = ")] == ["total = Cast(total.exact)"]
