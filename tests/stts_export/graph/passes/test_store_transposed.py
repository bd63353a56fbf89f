"""Before and after: no weight is transposed when the graph runs."""

import numpy as np
import onnx_ir as ir
import pytest
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.store_transposed import SOURCE, TRANSFORM, StoreTransposed


def transposed(weight, name="w_t", **attributes):
    return named(ir.node("Transpose", [weight], attributes=attributes or {"perm": [1, 0]}), name, shape=(3, 5))


def product(left, right, name="y", shape=("S", 5)):
    return named(ir.node("MatMul", [left, right]), name, shape=shape)


def test_a_weight_read_only_transposed_is_stored_transposed():
    x, w = value("x", 1, "S", 3), value("w", 5, 3)
    turn = transposed(w)
    y = product(x, turn.outputs[0], shape=(1, "S", 5))
    result = StoreTransposed()(model_of([x], [turn, y], y.outputs, [w]))
    assert result.modified
    assert lines_of(result.model) == ["y = MatMul(x, w.T)"]
    stored = result.model.graph.initializers["w.T"]
    assert (stored.shape, stored.dtype, stored.const_value) == (ir.Shape([3, 5]), ir.DataType.FLOAT, None)
    assert stored.metadata_props == {TRANSFORM: "transposed", SOURCE: "w"}
    assert "w" not in result.model.graph.initializers


def test_a_weight_transposed_twice_is_stored_once():
    x, w = value("x", "S", 3), value("w", 5, 3)
    turns = [transposed(w, f"t{place}") for place in range(2)]
    products = [product(x, turn.outputs[0], f"y{place}") for place, turn in enumerate(turns)]
    outputs = [node.outputs[0] for node in products]
    model = StoreTransposed()(model_of([x], [*turns, *products], outputs, [w])).model
    assert lines_of(model) == ["y0 = MatMul(x, w.T)", "y1 = MatMul(x, w.T)"]
    assert list(model.graph.initializers) == ["w.T"]


def test_a_transpose_without_permutation_is_found_too():
    x, w = value("x", "S", 3), value("w", 5, 3)
    turn = named(ir.node("Transpose", [w]), "w_t", shape=(3, 5))
    y = product(x, turn.outputs[0])
    assert lines_of(StoreTransposed()(model_of([x], [turn, y], y.outputs, [w])).model) == ["y = MatMul(x, w.T)"]


def test_a_gemm_that_transposes_its_weight_gets_the_same_stored_form_and_keeps_its_bias():
    x, w, bias = value("x", "M", 3), value("w", 5, 3), value("b", 5)
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    y = named(ir.node("Gemm", [x, w, bias], attributes=attributes), "y", shape=("M", 5))
    model = StoreTransposed()(model_of([x], [y], y.outputs, [w, bias])).model
    assert lines_of(model) == ["y = Gemm(x, w.T, b)"]
    assert next(iter(model.graph)).attributes["transB"].as_int() == 0
    assert model.graph.initializers["w.T"].metadata_props == {TRANSFORM: "transposed", SOURCE: "w"}


def test_a_weight_read_by_both_kinds_of_product_is_stored_once():
    x, w = value("x", "M", 3), value("w", 5, 3)
    turn = transposed(w)
    first = product(x, turn.outputs[0], "y0")
    second = named(ir.node("Gemm", [x, w], attributes={"transB": 1}), "y1", shape=("M", 5))
    outputs = [first.outputs[0], second.outputs[0]]
    model = StoreTransposed()(model_of([x], [turn, first, second], outputs, [w])).model
    assert lines_of(model) == ["y0 = MatMul(x, w.T)", "y1 = Gemm(x, w.T)"]


def test_a_tied_weight_keeps_the_gemm_that_transposes_it():
    ids, x = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["S"])), value("x", 1, 3)
    w = value("w", 5, 3)
    look_up = named(ir.node("Gather", [w, ids]), "rows", shape=("S", 3))
    y = named(ir.node("Gemm", [x, w], attributes={"transB": 1}), "y", shape=(1, 5))
    result = StoreTransposed()(model_of([ids, x], [look_up, y], [look_up.outputs[0], y.outputs[0]], [w]))
    assert not result.modified
    assert lines_of(result.model) == ["rows = Gather(w, ids)", "y = Gemm(x, w)"]


def tied(left, right_of=lambda x, turned: (x, turned)):
    """An embedding that is looked up in, and multiplied with: `left` is what it is multiplied with."""
    ids, w = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["S"])), value("w", 5, 3)
    look_up = named(ir.node("Gather", [w, ids]), "rows", shape=("S", 3))
    turn = transposed(w)
    y = product(*right_of(left, turn.outputs[0]))
    return model_of([ids, left], [look_up, turn, y], [look_up.outputs[0], y.outputs[0]], [w])


def test_a_tied_embedding_stays_as_it_is_and_its_product_reads_it_so():
    model = StoreTransposed()(tied(value("x", 1, 3))).model
    assert lines_of(model) == ["rows = Gather(w, ids)", "y = Gemm(x, w)"]
    gemm = list(model.graph)[1]
    assert gemm.attributes["transB"].as_int() == 1
    assert [output.name for output in model.graph.outputs] == ["rows", "y"]
    assert model.graph.initializers["w"].metadata_props == {}


@pytest.mark.parametrize("shape", [(1, "S", 3), (3,)], ids=str)
def test_a_tied_weight_whose_product_has_no_matrix_on_its_left_is_refused(shape):
    with pytest.raises(ir.passes.PreconditionError, match=r"'w'.*MatMul.*matrix"):
        StoreTransposed()(tied(value("x", *shape)))


def test_a_tied_weight_on_the_left_of_its_product_is_refused():
    with pytest.raises(ir.passes.PreconditionError, match="'w'"):
        StoreTransposed()(tied(value("x", 5, 3), lambda x, turned: (turned, x)))


def test_a_tied_weight_whose_transposition_is_an_output_is_refused():
    model = tied(value("x", 1, 3))
    turn = next(node for node in model.graph if node.op_type == "Transpose")
    model.graph.outputs.append(turn.outputs[0])
    with pytest.raises(ir.passes.PreconditionError, match="outputs"):
        StoreTransposed()(model)


def test_constants_and_values_that_are_no_weights_are_left_alone():
    x, constant = value("x", 3, 5), value("c", 5, 3)
    constant.const_value = ir.tensor(np.zeros((5, 3), np.float32), name="c")
    turns = [transposed(constant, "c_t"), transposed(x, "x_t")]
    result = StoreTransposed()(model_of([x], turns, [turn.outputs[0] for turn in turns], [constant]))
    assert not result.modified
    assert lines_of(result.model) == ["c_t = Transpose(c)", "x_t = Transpose(x)"]
