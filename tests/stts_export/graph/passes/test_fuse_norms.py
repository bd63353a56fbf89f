"""Before and after: a sum and its norm become one node, and the sum keeps its name."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.fuse_norms import FuseNorms
from stts_export.models.norm import RMSNorm


WIDTH, EPSILON = 16, 1e-5
SHAPE = (1, "S", WIDTH)
WEIGHT = np.linspace(0.5, 2, WIDTH, dtype=np.float32)


def constant(name, number, dtype=np.float32):
    tensor = ir.tensor(np.array(number, dtype), name=name)
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)


def small(joins="Add", power=2.0, axis=-1, other=SHAPE):
    """The graph of `RMSNorm` of a sum as it is traced; what it differs in makes it another function."""
    a, b, weight = value("a", *SHAPE), value("b", *other), value("weight", WIDTH)
    weight.const_value = ir.tensor(WEIGHT, name="weight")
    constants = [constant("two", power), constant("axis", [axis], np.int64), constant("epsilon", EPSILON)]
    nodes = [named(ir.node(joins, [a, b]), "blocks.0", shape=SHAPE)]

    def add(kind, name, *inputs, shape=SHAPE, **attributes):
        nodes.append(named(ir.node(kind, inputs, attributes), name, shape=shape))
        return nodes[-1].outputs[0]

    total = nodes[0].outputs[0]
    row = (1, "S", 1)
    mean = add("ReduceMean", "mean", add("Pow", "square", total, constants[0]), constants[1], shape=row, keepdims=1)
    root = add("Sqrt", "root", add("Add", "shifted", mean, constants[2], shape=row), shape=row)
    add("Mul", "normed", weight, add("Div", "divided", total, root))
    add("Neg", "y", total)
    outputs = [nodes[-2].outputs[0], nodes[-1].outputs[0], total]
    return model_of([a, b], nodes, outputs, [weight, *constants])


def test_a_sum_and_its_norm_become_one_node_and_the_stream_goes_on_from_the_sum():
    model = RemoveUnusedNodesPass()(FuseNorms()(small()).model).model
    assert lines_of(model) == [
        "normed, , , blocks.0 = SkipSimplifiedLayerNormalization(a, b, weight)",
        "y = Neg(blocks.0)",
    ]
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    a, b = np.random.default_rng(0).standard_normal((2, 1, 5, WIDTH)).astype(np.float32)
    normed, negative, total = session.run(None, {"a": a, "b": b})
    norm = RMSNorm(WIDTH, EPSILON).eval()
    norm.weight.data = torch.from_numpy(WEIGHT)
    with torch.inference_mode():
        expected = norm(torch.from_numpy(a + b)).numpy()
    np.testing.assert_allclose(normed, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(negative, -total)


@pytest.mark.parametrize(
    "other", [{"joins": "Mul"}, {"power": 3.0}, {"axis": 1}, {"other": (WIDTH,)}, {"other": (1, 1, WIDTH)}], ids=str
)
def test_what_is_another_function_stays(other):
    before = small(**other)
    lines = lines_of(before)
    result = FuseNorms()(before)
    assert not result.modified
    assert lines_of(result.model) == lines
