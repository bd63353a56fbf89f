"""Before and after: DequantizeLinear makes floats of what is stored, and a CPU computes with just those."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from reference.small_graph import lines_of, model_of, named, value

from stts_export.bundle.weights import WeightWriter
from stts_export.checkpoint.records import LazyTensor
from stts_export.graph.passes.dequantize_weights import DequantizeWeights
from stts_export.graph.passes.lower_opset import LowerOpset
from stts_export.graph.passes.set_precision import SetPrecision
from stts_export.graph.passes.store_transposed import StoreTransposed
from stts_export.graph.write import write_graph
from stts_export.quantise.choice import INT8_ROWS, choice_of
from stts_export.quantise.rounding import rounded
from stts_export.verify.cpu_emulation import emulated


IN, OUT = 64, 96
WEIGHT = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(0))


def tied():
    """A graph that multiplies with one weight, and looks up rows of another that it multiplies with as well."""
    x, linear, table = value("x", 1, "S", IN), value("linear", OUT, IN), value("table", OUT, IN)
    ids = ir.Value(name="ids", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["S"]))
    turn = named(ir.node("Transpose", [linear], attributes={"perm": [1, 0]}), "turned", shape=(IN, OUT))
    product = named(ir.node("MatMul", [x, turn.outputs[0]]), "product", shape=(1, "S", OUT))
    rows = named(ir.node("Gather", [table, ids]), "rows", shape=("S", IN))
    head = named(ir.node("Gemm", [rows.outputs[0], table], attributes={"transB": 1}), "head", shape=("S", OUT))
    outputs = [*product.outputs, *rows.outputs, *head.outputs]
    return model_of([x, ids], [turn, product, rows, head], outputs, [linear, table])


def lowered(weights):
    choice = choice_of("tensorrt_rtx", weights, "float16")
    roundings = {"linear": choice.linears, "table": replace(INT8_ROWS, scales="float16")}
    bindings = {"x": "float16", "product": "float16", "rows": "float16", "head": "float32"}
    passes = ir.passes.Sequential(
        StoreTransposed(),
        LowerOpset(choice.opset),
        SetPrecision(bindings, "float16", exact=(), taps=()),
        DequantizeWeights(roundings),
    )
    return passes(tied()).model, roundings


def test_weights_become_what_is_stored_of_them_and_readers_stay():
    model, _ = lowered("int4")
    assert [line for line in lines_of(model) if "Cast" not in line] == [
        "table = DequantizeLinear(table.signed, table.scales)",
        "linear.T = DequantizeLinear(linear.T.signed, linear.T.scales)",
        "product = MatMul(x, linear.T)",
        "rows = Gather(table, ids)",
        "head.float16 = Gemm(rows, table)",
    ]
    table, linear, *_ = model.graph
    assert {name: one.value for name, one in table.attributes.items()} == {"axis": 0}
    assert {name: one.value for name, one in linear.attributes.items()} == {"axis": 0, "block_size": 32}
    values = model.graph.initializers
    assert {name: (one.dtype.name, one.shape.numpy()) for name, one in values.items()} == {
        "table.signed": ("INT8", (OUT, IN)),
        "table.scales": ("FLOAT16", (OUT,)),
        "linear.T.signed": ("INT4", (IN, OUT)),
        "linear.T.scales": ("FLOAT16", (IN // 32, OUT)),
    }
    assert model.graph.opset_imports[""] == 21


def test_scales_that_are_float8_are_made_floats_first():
    model, _ = lowered("nvfp4")
    scales, linear = (node for node in model.graph if "linear" in str(node.inputs[0].name))
    assert [value.name for value in scales.inputs] == ["linear.T.scales", "linear.T.unit"]
    assert linear.inputs[1] is scales.outputs[0]
    assert (linear.inputs[0].dtype, scales.inputs[0].dtype) == (ir.DataType.FLOAT4E2M1, ir.DataType.FLOAT8E4M3FN)
    assert scales.outputs[0].dtype == linear.outputs[0].dtype == ir.DataType.FLOAT16
    assert scales.inputs[0].shape.numpy() == (IN // 16, OUT)
    assert model.graph.opset_imports[""] == 23


@pytest.mark.parametrize("weights", ["int8", "int4", "fp8", "nvfp4"])
def test_a_cpu_computes_what_the_stored_numbers_stand_for(tmp_path, weights):
    model, roundings = lowered(weights)
    tensor = LazyTensor((OUT, IN), torch.float32, "test", lambda: WEIGHT)
    with WeightWriter(tmp_path) as writer:
        write_graph(
            model,
            tmp_path / "graph.onnx",
            lambda name, part, dtype: writer.add(name, part, tensor, dtype, roundings[name]),
        )
    sizes = {rounding: rounding.stored_bytes(OUT, IN) for rounding in roundings.values()}
    stored = sum(slot.length for (_, part, _), slot in writer.slots.items() if part != "unit.T")
    assert stored == sum(sizes[rounding] for rounding in roundings.values())
    ir.save(emulated(ir.load(tmp_path / "graph.onnx")), tmp_path / "emulated.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "emulated.onnx", providers=["CPUExecutionProvider"])
    half = torch.float16
    x = torch.randn(1, 5, IN, generator=torch.Generator().manual_seed(1)).to(half)
    names, ids = ("product", "rows", "head"), np.arange(0, 50, 10)
    got = dict(zip(names, session.run(names, {"x": x.numpy(), "ids": ids}), strict=True))
    linear, table = (rounded(WEIGHT, roundings[name]).floats().to(half).float() for name in ("linear", "table"))
    np.testing.assert_allclose(got["product"], (x.float() @ linear.T).to(half), rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(got["rows"], table[ids].to(half))
    np.testing.assert_allclose(got["head"], table[ids] @ table.T, rtol=2e-3, atol=1e-2)


def test_a_weight_that_is_left_in_floats_is_told():
    done = DequantizeWeights({"linear": choice_of("tensorrt", "int8", "float16").linears})
    model = StoreTransposed()(tied()).model
    with pytest.raises(ir.passes.PostconditionError, match=r"weight 'linear.T' is still in floats"):
        done.ensures(model)
