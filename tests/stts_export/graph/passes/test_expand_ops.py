"""Before and after: custom operators become standard ones."""

import onnx_ir as ir
import pytest
from reference.run_op import op_model
from reference.small_graph import model_of, named, value

from stts_export.graph.passes.expand_ops import AddFunctionBodies, ExpandOps
from stts_export.ops.ragged_attention.by_frame import MOST_FRAMES


KINDS = (("float32", 3), ("float32", 3), ("float32", 3), ("int32", 2))


def test_bodies_are_added_for_the_operators_a_graph_uses_and_no_others():
    model = AddFunctionBodies()(op_model("SegmentAttention", KINDS, {"heads": 2})).model
    assert [identifier[:2] for identifier in model.functions] == [("stts", "SegmentAttention")]
    assert [node.op_type for node in model.graph] == ["SegmentAttention"]


def test_expanding_leaves_standard_operators_only_and_the_bindings_as_they_were():
    model = ExpandOps()(op_model("SegmentAttention", KINDS, {"heads": 2})).model
    assert {node.domain for node in model.graph} == {""}
    assert [v.name for v in model.graph.inputs] == [f"input_{place}" for place in range(4)]
    assert [v.name for v in model.graph.outputs] == ["output_0"]


@pytest.mark.parametrize(("frames", "nodes"), [(1, 1), (8, 8), (MOST_FRAMES, MOST_FRAMES), (MOST_FRAMES + 1, 0)])
def test_frames_end_to_end_are_a_node_each_as_long_as_they_are_few(frames, nodes):
    kinds = (("float32", 2),) * 3 + (("int64", 1),) * 2
    model = ExpandOps("onnxruntime", frames)(op_model("RaggedAttention", kinds, {"heads": 2})).model
    assert sum(node.op_type == "MultiHeadAttention" for node in model.graph) == nodes


def test_an_operator_that_the_engine_has_a_kernel_for_stays_as_it_is():
    model = ExpandOps(kept=["SegmentAttention"])(op_model("SegmentAttention", KINDS, {"heads": 2})).model
    assert [(node.domain, node.op_type) for node in model.graph] == [("stts", "SegmentAttention")]
    assert not model.functions


def test_a_graph_without_custom_operators_is_left_alone():
    x = value("x", 2)
    node = named(ir.node("Relu", [x]), "y", shape=(2,))
    assert not AddFunctionBodies()(model_of([x], [node], node.outputs)).modified


def test_a_mark_that_was_not_turned_into_a_name_is_refused():
    x = value("x", 2)
    mark = named(ir.node("Tap", [x], attributes={"name": "a"}, domain="stts", version=1), "y", shape=(2,))
    with pytest.raises(ir.passes.PostconditionError, match="stts::Tap has no function body"):
        AddFunctionBodies()(model_of([x], [mark], mark.outputs))
