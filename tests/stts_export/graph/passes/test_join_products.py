"""Before and after: products that read the same become one, and each part of it is what the product was."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.join_products import JoinProducts, joined_names
from stts_export.quantise.choice import INT4, INT8_ROWS


IN = 8
OUTS = {"q": 8, "k": 4, "v": 4}


def small(outs=OUTS, also_reads=None):
    """Products of one x with weights of these heights; another reader of one weight where asked for."""
    x = value("x", 1, "S", IN)
    weights = [value(name, rows, IN) for name, rows in outs.items()]
    nodes, outputs = [], []
    for weight in weights:
        turn = ir.node("Transpose", [weight], {"perm": [1, 0]})
        nodes.append(named(turn, f"{weight.name}_t", shape=reversed(weight.shape.numpy())))
        product = ir.node("MatMul", [x, turn.outputs[0]])
        nodes.append(named(product, f"{weight.name}_x", shape=(1, "S", outs[weight.name])))
        outputs += product.outputs
    if also_reads:
        (weight,) = (weight for weight in weights if weight.name == also_reads)
        nodes.append(named(ir.node("Neg", [weight]), "read", shape=weight.shape.numpy()))
        outputs += nodes[-1].outputs
    return model_of([x], nodes, outputs, weights)


def test_they_become_one_product_whose_parts_are_theirs():
    model = JoinProducts({})(small()).model
    assert [line.split(" = ")[1] for line in lines_of(model)] == [
        "Transpose(q+k+v)",
        f"MatMul(x, {model.graph[0].outputs[0].name})",
        f"Split({model.graph[1].outputs[0].name}, stts.parts.8_4_4)",
    ]
    assert joined_names("q+k+v") == ["q", "k", "v"]
    random = np.random.default_rng(0)
    parts = [random.standard_normal((rows, IN)).astype(np.float32) for rows in OUTS.values()]
    x = random.standard_normal((1, 3, IN)).astype(np.float32)
    model.graph.initializers["q+k+v"].const_value = ir.tensor(np.concatenate(parts), name="q+k+v")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    for got, weight in zip(session.run(["q_x", "k_x", "v_x"], {"x": x}), parts, strict=True):
        np.testing.assert_allclose(got, x @ weight.T, rtol=1e-5, atol=1e-5)


def test_only_those_that_are_rounded_alike_are_joined_and_the_joint_one_is_as_they_are():
    roundings = {"k": INT4, "v": INT4, "q": INT8_ROWS}
    model = JoinProducts(roundings)(small()).model
    assert set(model.graph.initializers) == {"q", "k+v", "stts.parts.4_4"}
    assert roundings["k+v"] == INT4


@pytest.mark.parametrize(
    ("outs", "also_reads"), [({"gate": 12, "up": 12}, None), ({"k": 4}, None), ({"k": 4, "v": 4}, "k")]
)
def test_wide_ones_single_ones_and_those_that_something_else_reads_stay(outs, also_reads):
    before = small(outs, also_reads)
    lines = lines_of(before)
    result = JoinProducts({})(before)
    assert not result.modified
    assert lines_of(result.model) == lines
