"""Before and after: keys and values stay whole numbers, and logits and weights are scaled in their place."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.fold_cache_scales import FoldCacheScales


HEADS, QUERIES, KEYS, WIDTH = 2, 3, 5, 4
SIZES = {"Q": QUERIES, "T": KEYS}


def attention(perm=(0, 1, 3, 2), dtype=ir.DataType.INT8, scaled_by=1):
    """Logits of queries and keys, and weights times values, both rounded; what it differs in is left alone."""
    query, weights = value("query", 1, HEADS, "Q", WIDTH), value("weights", 1, HEADS, "Q", "T")
    numbers = [value(name, 1, HEADS, "T", WIDTH, dtype=dtype) for name in ("keys", "values")]
    scales = [value(name, 1, HEADS, "T", scaled_by) for name in ("key_scales", "value_scales")]
    floats = [
        named(ir.node("Cast", [one], {"to": 1}), f"{one.name}.floats", shape=(1, HEADS, "T", WIDTH)) for one in numbers
    ]
    restored = [
        named(ir.node("Mul", [cast.outputs[0], scale]), f"{scale.name}.restored", shape=(1, HEADS, "T", WIDTH))
        for cast, scale in zip(floats, scales, strict=True)
    ]
    swapped = named(ir.node("Transpose", [restored[0].outputs[0]], {"perm": list(perm)}), "swapped")
    logits = named(ir.node("MatMul", [query, swapped.outputs[0]]), "logits", shape=(1, HEADS, "Q", "T"))
    mixed = named(ir.node("MatMul", [weights, restored[1].outputs[0]]), "mixed", shape=(1, HEADS, "Q", WIDTH))
    nodes = [*floats, *restored, swapped, logits, mixed]
    return model_of([query, weights, *numbers, *scales], nodes, [logits.outputs[0], mixed.outputs[0]])


def run(model):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    rng, given = np.random.default_rng(0), {}
    for one in session.get_inputs():
        shape = [SIZES.get(size, size) for size in one.shape]
        is_whole = one.type == "tensor(int8)"
        given[one.name] = rng.integers(-127, 128, shape, np.int8) if is_whole else rng.random(shape, np.float32)
    return session.run(None, given)


def test_products_read_whole_numbers_as_they_are():
    expected = run(attention())
    model = RemoveUnusedNodesPass()(FoldCacheScales()(attention()).model).model
    products = [node for node in model.graph if node.op_type == "MatMul"]
    readers = [product.inputs[1].producer() for product in products]
    assert [reader.op_type for reader in readers] == ["Transpose", "Cast"]
    assert readers[0].inputs[0].producer().op_type == "Cast"
    for got, wanted in zip(run(model), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "other", [{"dtype": ir.DataType.INT32}, {"scaled_by": WIDTH}], ids=["other whole numbers", "scaled by channels"]
)
def test_what_is_no_cache_stays_as_it_is(other):
    before = lines_of(attention(**other))
    assert lines_of(FoldCacheScales()(attention(**other)).model) == before


def test_keys_that_are_swapped_otherwise_stay_as_they_are():
    graph = FoldCacheScales()(attention(perm=(1, 0, 3, 2))).model.graph
    logits = next(node for node in graph if node.outputs[0].name == "logits")
    assert logits.inputs[1].producer().inputs[0].producer().op_type == "Mul"
