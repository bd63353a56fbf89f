"""Before and after: products and look-ups read whole numbers, and compute what those stand for."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.round_weights import RoundWeights
from stts_export.graph.passes.store_transposed import SOURCE, TRANSFORM
from stts_export.quantise.choice import INT4, INT8, INT8_ROWS, Q4_1
from stts_export.quantise.layout import NUMBERS, SCALES, stored_part
from stts_export.quantise.rounding import ANY, Rounding, rounded
from stts_export.verify.cpu_emulation import with_exact_products
from stts_runtime.engine.ort import session_options


IN, OUT = 64, 96
WEIGHT = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0))
BIAS = np.linspace(-1, 1, OUT, dtype=np.float32)


def transposed(weight):
    turn = ir.node("Transpose", [weight], attributes={"perm": [1, 0]})
    return named(turn, f"{weight.name}_t", shape=(IN, OUT))


def products():
    """A graph of two products: by MatMul with a stack of rows, and by Gemm with a bias.

    Each has a weight of its own, though of the same numbers: two products by rows of one weight cannot be opened on a
    processor without VNNI, see `findings/onnxruntime_unsigns_weights_where_signed_ones_are_right.sh`.
    """
    x, rows, bias = value("x", 1, "S", IN), value("rows", "M", IN), value("bias", OUT)
    v, w = value("v", OUT, IN), value("w", OUT, IN)
    bias.const_value = ir.tensor(BIAS, name="bias")
    turn = transposed(v)
    first = named(ir.node("MatMul", [x, turn.outputs[0]]), "first", shape=(1, "S", OUT))
    second = named(ir.node("Gemm", [rows, w, bias], attributes={"transB": 1}), "second", shape=("M", OUT))
    outputs = [*first.outputs, *second.outputs]
    return model_of([x, rows], [turn, first, second], outputs, [v, w, bias])


def run(model, feeds, rounding):
    found = rounded(WEIGHT, rounding)
    for weight in model.graph.initializers.values():
        if weight.const_value is None:
            part = stored_part(found, rounding, weight.metadata_props[TRANSFORM], torch.float32)
            assert weight.metadata_props[SOURCE] in ("v", "w")
            weight.const_value = ir.tensor(part.contiguous().numpy().reshape(weight.shape.numpy()), name=weight.name)
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, session_options(prepack=True), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize(
    ("rounding", "exact"),
    [
        *((rounding, exact) for rounding in (INT8, INT4, Q4_1, INT8_ROWS) for exact in (True, False)),
    ],
)
def test_products_are_those_with_what_the_numbers_stand_for(rounding, exact):
    model = RoundWeights(dict.fromkeys("vw", rounding))(products()).model
    if exact:
        model = with_exact_products(model)
    random = np.random.default_rng(1)
    x, rows = random.standard_normal((1, 7, IN), np.float32), random.standard_normal((3, IN), np.float32)
    first, second = run(model, {"x": x, "rows": rows}, rounding)
    floats = rounded(WEIGHT, rounding).floats().numpy().T.astype(np.float64)
    allowed = 2e-5 if exact else 0.4
    np.testing.assert_allclose(first, x @ floats, rtol=0, atol=allowed)
    np.testing.assert_allclose(second, rows @ floats + BIAS, rtol=0, atol=allowed)


def test_products_that_read_the_same_share_its_sums_and_a_weights_numbers_stand_once():
    x, weights = value("x", 1, "S", IN), [value(name, OUT, IN) for name in "uvw"]
    turns = [transposed(weight) for weight in weights]
    made = [
        named(ir.node("MatMul", [x, turn.outputs[0]]), f"y{place}", shape=(1, "S", OUT))
        for place, turn in enumerate(turns)
    ]
    model = model_of([x], [*turns, *made], [node.outputs[0] for node in made], weights)
    lines = lines_of(RoundWeights(dict.fromkeys("uvw", Q4_1))(model).model)
    assert [line.split(" = ")[1].split("(")[0] for line in lines].count("ReduceSum") == 1
    assert [line.split(" = ")[0] for line in lines if "Add(" in line] == ["y0", "y1", "y2"]


def test_rows_are_looked_up_as_what_their_numbers_stand_for():
    w, ids = value("w", OUT, IN), ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1, "S"]))
    gather = named(ir.node("Gather", [w, ids]), "y", shape=(1, "S", IN))
    model = RoundWeights({"w": INT8})(model_of([ids], [gather], gather.outputs, [w])).model
    numbers = np.array([[5, 0, OUT - 1]])
    (found,) = run(model, {"ids": numbers}, INT8)
    np.testing.assert_array_equal(found, rounded(WEIGHT, INT8).floats().numpy()[numbers])
    stored = [one.metadata_props for one in model.graph.initializers.values()]
    assert {props[TRANSFORM] for props in stored if props} == {NUMBERS, SCALES}


@pytest.mark.parametrize("rounding", [INT4, Q4_1, INT8_ROWS, Rounding(8, 32, offsets=ANY)])
def test_rows_are_looked_up_in_blocks_of_8_bits_without_offsets_only(rounding):
    w, ids = value("w", OUT, IN), ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["S"]))
    gather = named(ir.node("Gather", [w, ids]), "y", shape=("S", IN))
    with pytest.raises(
        ir.passes.PreconditionError, match="rows of 'w' are looked up: wanted blocks of 8 bits, no offsets"
    ):
        RoundWeights({"w": rounding})(model_of([ids], [gather], gather.outputs, [w]))


@pytest.mark.parametrize("through", ["as it is", "transposed"])
def test_a_weight_that_something_else_reads_is_told(through):
    x, w = value("x", IN, OUT), value("w", OUT, IN)
    nodes = [transposed(w)] if through == "transposed" else []
    nodes.append(named(ir.node("Add", [nodes[0].outputs[0] if nodes else w, x], name="sum"), "y", shape=(IN, OUT)))
    with pytest.raises(ir.passes.PreconditionError, match="'w' is read by Add sum, wanted products and look-ups"):
        RoundWeights({"w": INT8})(model_of([x], nodes, nodes[-1].outputs, [w]))
