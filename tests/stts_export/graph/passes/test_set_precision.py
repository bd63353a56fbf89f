"""Before and after: what is computed in half precision, what stays in float32, and where a Cast stands between."""

import numpy as np
import onnx_ir as ir
import pytest
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.set_precision import SetPrecision


HALF = ir.DataType.FLOAT16


def types_of(model):
    return {output.name: output.dtype.numpy().name for node in model.graph for output in node.outputs}


def apply(model, precision="float16", exact=(), taps=(), **bindings):
    names = [str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)]
    return SetPrecision({name: bindings.get(name, "float32") for name in names}, precision, exact, taps)(model).model


def chain(start, *operators, weights=()):
    """Nodes one behind the other, named a, b, c ...; a weight goes to a MatMul."""
    nodes, left = [], start
    weights = list(weights)
    for name, operator in zip("abcdefgh", operators, strict=False):
        inputs = [left, weights.pop(0)] if operator in ("MatMul", "Mul") else [left]
        nodes.append(named(ir.node(operator, inputs), name, shape=("S", 4)))
        left = nodes[-1].outputs[0]
    return nodes


def test_products_go_down_and_softmax_stays_up_with_a_cast_on_either_side():
    x, w = value("x", "S", 4), value("w", 4, 4)
    nodes = chain(x, "MatMul", "Softmax", "Neg", weights=[w])
    second = named(ir.node("MatMul", [nodes[1].outputs[0], nodes[0].outputs[0]]), "y", shape=("S", 4))
    model = apply(model_of([x], [*nodes, second], second.outputs, [w]), y="float16")
    types = types_of(model)
    assert (types["a"], types["b"], types["y"]) == ("float16", "float32", "float16")
    assert model.graph.initializers["w"].dtype == HALF
    lines = lines_of(model)
    assert "a.float32 = Cast(a)" in lines
    assert "b = Softmax(a.float32)" in lines
    assert "y = MatMul(b.float16, a)" in lines


def test_what_only_reads_exact_values_stays_exact_until_a_weight_comes():
    x, scale = value("x", "S", 4), value("scale", 4)
    nodes = chain(x, "Sqrt", "Neg", "Mul", weights=[scale])
    model = apply(model_of([x], nodes, nodes[-1].outputs, [scale]), x="float16", c="float16")
    assert types_of(model)["b"] == "float32"
    assert types_of(model)["c"] == "float16"
    assert model.graph.initializers["scale"].dtype == HALF


def test_between_a_tap_and_an_exact_output_all_is_exact_and_before_the_tap_it_is_not():
    x, low, high = value("x", "S", 4), value("low", 4, 4), value("high", 4, 4)
    nodes = chain(x, "MatMul", "MatMul", weights=[low, high])
    model = apply(model_of([x], nodes, nodes[-1].outputs, [low, high]), exact=["b"], taps=["a"])
    assert types_of(model) == {"x.float16": "float16", "a": "float16", "a.float32": "float32", "b": "float32"}
    dtypes = {name: weight.dtype.numpy().name for name, weight in model.graph.initializers.items()}
    assert dtypes == {"low": "float16", "high": "float32"}


def test_an_exact_input_is_not_rounded_where_only_exact_values_meet_it():
    x, gate = value("x", "S", 4), value("gate", "S", 4)
    root = named(ir.node("Sqrt", [x]), "root", shape=("S", 4))
    gated = named(ir.node("Mul", [root.outputs[0], gate]), "y", shape=("S", 4))
    model = apply(model_of([x, gate], [root, gated], gated.outputs), exact=["gate"])
    assert lines_of(model)[-1] == "y = Mul(root, gate)"


def test_a_value_read_in_both_precisions_is_cast_once():
    x, w = value("x", "S", 4), value("w", 4, 4)
    product = named(ir.node("MatMul", [x, w]), "p", shape=("S", 4))
    twice = [named(ir.node("Softmax", product.outputs), name, shape=("S", 4)) for name in ("y", "z")]
    model = apply(model_of([x], [product, *twice], [node.outputs[0] for node in twice], [w]))
    assert [line for line in lines_of(model) if "Cast(p)" in line] == ["p.float32 = Cast(p)"]


def test_constants_are_rounded_for_those_who_read_them_rounded():
    x, w = value("x", "S", 4), value("w", 4, 4)
    tensor = ir.tensor(np.array(0.1, np.float32), name="tenth")
    tenth = ir.Value(name="tenth", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    nodes = chain(x, "MatMul", "Mul", "Softmax", "Mul", weights=[w, tenth, tenth])
    model = apply(model_of([x], nodes, nodes[-1].outputs, [w, tenth]), "bfloat16")
    lines = lines_of(model)
    assert "b = Mul(a, tenth.bfloat16)" in lines
    assert "d = Mul(c, tenth)" in lines
    assert model.graph.initializers["tenth.bfloat16"].dtype == ir.DataType.BFLOAT16


def test_a_weight_read_in_both_precisions_is_stored_in_both_and_both_know_their_source():
    x, w = value("x", "S", 4), value("w", 4, 4)
    nodes = chain(x, "MatMul", "MatMul", weights=[w, w])
    model = apply(model_of([x], nodes, nodes[-1].outputs, [w]), exact=["b"], taps=["a"])
    weights = model.graph.initializers
    assert {name: weight.dtype.numpy().name for name, weight in weights.items()} == {
        "w": "float16",
        "w.float32": "float32",
    }
    assert weights["w.float32"].metadata_props["stts.source"] == "w"


def test_positions_are_never_rounded_before_their_angles_are_known():
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["S"]))
    tensor = ir.tensor(np.array(0.1, np.float32), name="frequency")
    frequency = ir.Value(name="frequency", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    position = named(ir.node("Cast", [x], attributes={"to": ir.DataType.FLOAT.value}), "position", shape=("S",))
    angle = named(ir.node("Mul", [position.outputs[0], frequency]), "angle", shape=("S",))
    cosine = named(ir.node("Cos", angle.outputs), "y", shape=("S",))
    model = apply(model_of([x], [position, angle, cosine], cosine.outputs, [frequency]), y="float16")
    assert types_of(model) == {"position": "float32", "angle": "float32", "y.float32": "float32", "y": "float16"}
    assert next(iter(model.graph)).attributes["to"].as_int() == ir.DataType.FLOAT.value


def test_inputs_and_outputs_get_the_types_of_their_bindings():
    x, w = value("x", "S", 4), value("w", 4, 4)
    nodes = chain(x, "MatMul", weights=[w])
    model = apply(model_of([x], nodes, nodes[-1].outputs, [w]), x="float16", a="float32")
    assert [value.dtype.numpy().name for value in (*model.graph.inputs, *model.graph.outputs)] == ["float16", "float32"]
    assert model.graph.outputs[0].name == "a"


def test_a_constant_that_does_not_fit_is_refused_by_name():
    x, w = value("x", "S", 4), value("w", 4, 4)
    tensor = ir.tensor(np.array(-1e30, np.float32), name="mask")
    mask = ir.Value(name="mask", type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    nodes = chain(x, "MatMul", "Mul", weights=[w, mask])
    with pytest.raises(ir.passes.PreconditionError, match="constant 'mask' does not fit float16"):
        apply(model_of([x], nodes, nodes[-1].outputs, [w, mask]))


def test_a_graph_that_is_no_longer_float32_is_refused():
    x = ir.Value(name="x", type=ir.TensorType(HALF), shape=ir.Shape(["S", 4]))
    nodes = chain(x, "Neg")
    with pytest.raises(ir.passes.PreconditionError, match="'x' is FLOAT16, wanted float32"):
        apply(model_of([x], nodes, nodes[-1].outputs))
