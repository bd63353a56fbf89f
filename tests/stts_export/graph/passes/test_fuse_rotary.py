"""Before and after: a rotation in small nodes becomes onnxruntime's, which turns alike."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.fuse_rotary import FuseRotary
from stts_export.models.rope import RotaryTable, rotate


HEADS, WIDTH = 3, 8
HALF = (1, HEADS, "S", WIDTH // 2)


def small(operators=("Mul", "Sub", "Add"), swapped=False, states=(1, HEADS, "S", WIDTH)):
    """The graph of `rotate` as it is traced; what it differs in makes it another function."""
    product, difference, addition = operators
    x, cosine, sine = value("x", *states), value("cosine", "S", WIDTH // 2), value("sine", "S", WIDTH // 2)
    split = ir.node("Split", [x], {"axis": len(states) - 1, "num_outputs": 2}, num_outputs=2)
    first, second = named(split, "first", "second", shape=HALF).outputs
    first, second = (second, first) if swapped else (first, second)
    pairs = [(first, cosine), (second, sine), (second, cosine), (first, sine)]
    products = [named(ir.node(product, pair), f"p{place}", shape=HALF) for place, pair in enumerate(pairs)]
    a, b, c, d = (node.outputs[0] for node in products)
    turned = [
        named(ir.node(difference, [a, b]), "left", shape=HALF),
        named(ir.node(addition, [c, d]), "right", shape=HALF),
    ]
    last = ir.node("Concat", [node.outputs[0] for node in turned], {"axis": -1})
    named(last, "y", shape=states)
    return model_of([x, cosine, sine], [split, *products, *turned, last], last.outputs)


def run(model, *arrays):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(("x", "cosine", "sine"), arrays, strict=True)))[0]


@pytest.mark.parametrize("count", [1, 5])
def test_a_rotation_becomes_one_node_that_turns_as_the_model_does(count):
    model = RemoveUnusedNodesPass()(FuseRotary()(small()).model).model
    assert lines_of(model) == ["y = RotaryEmbedding(x, stts.first_row, cosine, sine)"]
    x = torch.randn(1, HEADS, count, WIDTH, generator=torch.Generator().manual_seed(0))
    cosine, sine = RotaryTable(WIDTH, 10_000.0)(torch.arange(700, 700 + count))
    got = run(model, x.numpy(), cosine.numpy(), sine.numpy())
    np.testing.assert_allclose(got, rotate(x, cosine, sine).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"operators": ("Div", "Sub", "Add")},
        {"operators": ("Mul", "Add", "Add")},
        {"operators": ("Mul", "Sub", "Sub")},
        {"swapped": True},
        {"states": (HEADS, "S", WIDTH)},
    ],
    ids=str,
)
def test_what_is_another_function_stays(other):
    before = small(**other)
    lines = lines_of(before)
    result = FuseRotary()(before)
    assert not result.modified
    assert lines_of(result.model) == lines
