"""Before and after: opset 20 said in opset 17, with the same numbers."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.lower_opset import LowerOpset


INT64 = ir.DataType.INT64
X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32) * 4


def integers(name, *numbers):
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)


def run(model):
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": X})


def gelu(approximate="tanh"):
    x = value("x", "S", 8)
    node = named(ir.node("Gelu", [x], attributes={"approximate": approximate}), "y", shape=("S", 8))
    return model_of([x], [node], node.outputs)


def reduction(operator):
    x = value("x", "S", 8)
    axes = integers("axes", -1)
    attributes = {"keepdims": 1, "noop_with_empty_axes": 0}
    node = named(ir.node(operator, [x, axes], attributes=attributes), "y", shape=("S", 1))
    return model_of([x], [node], node.outputs, [axes])


def size_of_a_dimension():
    """Return a graph whose output is x, reshaped by its own second dimension."""
    x = value("x", "S", 8)
    shape = ir.node("Shape", [x], attributes={"start": 1, "end": 2})
    shape.outputs[0].name, shape.outputs[0].type, shape.outputs[0].shape = "n", ir.TensorType(INT64), ir.Shape([1])
    size = ir.node("Squeeze", [shape.outputs[0]])
    size.outputs[0].name, size.outputs[0].type, size.outputs[0].shape = "size", ir.TensorType(INT64), ir.Shape([])
    axes, one, rest = integers("axes", 0), integers("one", 1), integers("rest", -1)
    again = ir.node("Unsqueeze", [size.outputs[0], axes])
    again.outputs[0].name, again.outputs[0].type = "again", ir.TensorType(INT64)
    target = ir.node("Concat", [one, again.outputs[0], rest], attributes={"axis": 0})
    target.outputs[0].name, target.outputs[0].type = "target", ir.TensorType(INT64)
    y = named(ir.node("Reshape", [x, target.outputs[0]]), "y", shape=(1, 8, "S"))
    return model_of([x], [shape, size, again, target, y], y.outputs, [axes, one, rest])


def split():
    x = value("x", "S", 8)
    node = ir.node("Split", [x], attributes={"axis": 1, "num_outputs": 2}, num_outputs=2)
    named(node, "y", "z", shape=("S", 4))
    return model_of([x], [node], node.outputs)


@pytest.mark.parametrize(
    "make",
    [
        gelu,
        lambda: gelu("none"),
        split,
        size_of_a_dimension,
        *(lambda op=op: reduction(op) for op in ("ReduceMean", "ReduceL2", "ReduceMax", "ReduceMin")),
    ],
)
def test_old_operators_give_the_same_numbers(make):
    expected = run(make())
    model = LowerOpset()(make()).model
    assert model.opset_imports[""] == 17
    for before, after in zip(expected, run(model), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_gelu_becomes_its_formula_and_keeps_its_name():
    lines = lines_of(LowerOpset()(gelu()).model)
    assert [line.split(" = ")[1].split("(")[0] for line in lines].count("Tanh") == 1
    assert lines[-1].startswith("y = Mul(x, ")


def test_gelu_by_erf_becomes_its_own_formula():
    kinds = {line.split("(")[0].split()[-1] for line in lines_of(LowerOpset()(gelu("none")).model)}
    assert "Erf" in kinds
    assert not kinds & {"Gelu", "Tanh"}


def test_what_opset_17_does_not_have_is_refused_by_name():
    x = value("x", "S", 8)
    node = named(ir.node("Swish", [x]), "y", shape=("S", 8))
    with pytest.raises(ir.passes.PostconditionError, match="opset 17 has no operator Swish"):
        LowerOpset()(model_of([x], [node], node.outputs))


def test_sizes_are_sliced_from_shapes_and_squeezed_by_named_axes():
    model = LowerOpset()(size_of_a_dimension()).model
    shape, part, size = list(model.graph)[:3]
    assert (shape.op_type, dict(shape.attributes)) == ("Shape", {})
    assert [value.const_value.numpy().tolist() for value in part.inputs[1:]] == [[1], [2]]
    assert size.inputs[1].const_value.numpy().tolist() == [0]


def test_a_loop_over_tokens_is_refused():
    x, axis = value("x", "S", 8), integers("axis", 0)
    node = named(ir.node("CumSum", [x, axis]), "y", shape=("S", 8))
    with pytest.raises(ir.passes.PostconditionError, match=r"CumSum .* is a loop over tokens"):
        LowerOpset()(model_of([x], [node], node.outputs, [axis]))


def test_an_input_that_came_later_is_refused():
    x, extra = value("x", "S", 8), integers("extra", 1)
    node = named(ir.node("Softmax", [x, extra]), "y", shape=("S", 8))
    with pytest.raises(ir.passes.PostconditionError, match="is not as opset 17 has it: 2 inputs"):
        LowerOpset()(model_of([x], [node], node.outputs, [extra]))
