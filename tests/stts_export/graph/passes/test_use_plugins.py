"""Custom operators become plugins, and what a plugin would not take is told before TensorRT sees it."""

import onnx_ir as ir
import pytest
from reference.run_op import op_model

from stts_export import ops
from stts_export.graph.passes.check_plugins import CheckPlugins
from stts_export.graph.passes.expand_ops import AddFunctionBodies
from stts_export.graph.passes.expand_plugins import AddPluginBodies
from stts_export.graph.passes.use_plugins import UsePlugins


ROWS = (("float16", 2),) * 3 + (("int64", 1),) * 2
PREFIX = (("float16", 4),) * 3 + (("int64", 1), ("int64", 1), ("bool", 1), ("int64", 1), ("int64", 1))


def plugin_model(name="RaggedAttention", kinds=ROWS, width=32, **attributes):
    model = UsePlugins()(op_model(name, kinds, attributes or {"heads": 2})).model
    query = node_of(model).inputs[0]
    query.shape = ir.Shape([*query.shape[:-1], width])
    return model


def node_of(model):
    (node,) = model.graph
    return node


def test_an_operator_gets_its_plugins_name_and_what_the_parser_finds_it_by():
    node = node_of(plugin_model())
    assert (node.domain, node.op_type) == ("stts", "SttsRaggedAttention")
    assert {name: value.value for name, value in node.attributes.items()} == {
        "heads": 2,
        "contract": ops.CONTRACT,
        "plugin_version": "1",
        "plugin_namespace": "",
    }


def test_standard_operators_stay_what_they_are():
    model = op_model("RaggedAttention", ROWS, {"heads": 2})
    first = node_of(model)
    model.graph.insert_before(first, cast := ir.node("Cast", [first.inputs[3]], attributes={"to": 7}))
    UsePlugins()(model)
    assert (cast.domain, cast.op_type) == ("", "Cast")


def test_an_operator_without_a_plugin_is_refused():
    with pytest.raises(ir.passes.PreconditionError, match="stts::SegmentAttention has no plugin"):
        plugin_model("SegmentAttention", (("float32", 3),) * 3 + (("int32", 2),), heads=2)


def test_a_body_that_would_beat_a_plugin_is_refused():
    model = op_model("RaggedAttention", ROWS, {"heads": 2})
    for body in ops.plugin_bodies():
        model.functions[body.identifier()] = body
    with pytest.raises(ir.passes.PostconditionError, match="function body for plugin Stts"):
        UsePlugins()(model)


def test_a_body_of_the_operators_own_name_does_not_stand_in_the_way():
    model = AddFunctionBodies()(op_model("RaggedAttention", ROWS, {"heads": 2})).model
    assert node_of(UsePlugins()(model).model).op_type == "SttsRaggedAttention"


def test_what_a_plugin_takes_is_let_through_and_left_alone():
    prefix = plugin_model("VisionPrefixAttention", PREFIX, width=64, none=0)
    del node_of(prefix).attributes["none"]
    for model in (plugin_model(), prefix):
        assert not CheckPlugins()(model).modified


@pytest.mark.parametrize(
    ("place", "dtype", "complaint"),
    [
        (0, "FLOAT", "input 'query': wanted float16 or bfloat16, got float32"),
        (2, "BFLOAT16", "input 'value': wanted float16, as 'query' is, got bfloat16"),
        (3, "INT32", "input 'cumulative_lengths': wanted int64, got int32"),
    ],
)
def test_a_wrong_dtype_is_told_with_node_and_input(place, dtype, complaint):
    model = plugin_model()
    node = node_of(model)
    node.name = "SttsRaggedAttention_7"
    node.inputs[place].type = ir.TensorType(ir.DataType[dtype])
    with pytest.raises(
        ir.passes.PreconditionError, match=rf"'SttsRaggedAttention_7' \(SttsRaggedAttention\): {complaint}"
    ):
        CheckPlugins()(model)


@pytest.mark.parametrize(("width", "heads"), [(96, 2), (64, 8), ("D", 2)])
def test_heads_without_a_kernel_are_told(width, heads):
    got = "None" if width == "D" else str(width // heads)
    with pytest.raises(ir.passes.PreconditionError, match=rf"'query': wanted heads of 16, 64, 72, 128.*got {got}"):
        CheckPlugins()(plugin_model(width=width, heads=heads))


def test_inputs_and_attributes_too_few_or_too_many_are_told():
    with pytest.raises(ir.passes.PreconditionError, match=r"wanted inputs query, key.*key_rows, got 6"):
        CheckPlugins()(plugin_model("VisionPrefixAttention", PREFIX[:6], none=0))
    with pytest.raises(
        ir.passes.PreconditionError, match=r"wanted attributes contract.*'depth' is too many or missing"
    ):
        CheckPlugins()(plugin_model(heads=2, depth=8))
    model = plugin_model()
    del node_of(model).attributes["contract"]
    with pytest.raises(ir.passes.PreconditionError, match="'contract' is too many or missing"):
        CheckPlugins()(model)


def test_a_plugin_gets_a_body_for_verification_and_one_without_is_refused():
    model = AddPluginBodies()(plugin_model()).model
    assert [function.name for function in model.functions.values()] == ["SttsRaggedAttention"]
    assert list(node_of(model).attributes) == ["heads"]
    model = plugin_model()
    node_of(model).op_type = "SttsUnheardOf"
    with pytest.raises(ir.passes.PostconditionError, match="plugin SttsUnheardOf has no function body"):
        AddPluginBodies()(model)
