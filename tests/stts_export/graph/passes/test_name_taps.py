"""Before and after: marks become names."""

import onnx_ir as ir
import pytest
from reference.small_graph import lines_of, model_of, named, value

from stts_export.graph.passes.name_taps import NameTaps


def tap(source, name, output):
    return named(ir.node("Tap", [source], attributes={"name": name}, domain="stts", version=1), output, shape=(2,))


def test_a_mark_in_the_middle_gives_its_name_to_the_value_and_goes():
    x = value("x", 2)
    first = named(ir.node("Relu", [x]), "hidden", shape=(2,))
    mark = tap(first.outputs[0], "blocks.0", "marked")
    last = named(ir.node("Neg", [mark.outputs[0]]), "y", shape=(2,))
    result = NameTaps()(model_of([x], [first, mark, last], last.outputs))
    assert result.modified
    assert lines_of(result.model) == ["blocks.0 = Relu(x)", "y = Neg(blocks.0)"]


def test_a_mark_on_a_graph_output_leaves_the_output_its_name():
    x = value("x", 2)
    first = named(ir.node("Relu", [x]), "hidden", shape=(2,))
    mark = tap(first.outputs[0], "blocks.0", "y")
    model = NameTaps()(model_of([x], [first, mark], mark.outputs)).model
    assert lines_of(model) == ["blocks.0 = Relu(x)", "y = Identity(blocks.0)"]
    assert [(output.name, output.shape) for output in model.graph.outputs] == [("y", ir.Shape([2]))]


def test_a_value_that_also_goes_on_is_named_for_all_its_readers():
    x = value("x", 2)
    first = named(ir.node("Relu", [x]), "hidden", shape=(2,))
    mark = tap(first.outputs[0], "blocks.0", "y")
    after = named(ir.node("Neg", [mark.outputs[0]]), "z", shape=(2,))
    model = NameTaps()(model_of([x], [first, mark, after], [mark.outputs[0], after.outputs[0]])).model
    assert sorted(lines_of(model)) == ["blocks.0 = Relu(x)", "y = Identity(blocks.0)", "z = Neg(y)"]


def test_without_marks_nothing_changes():
    x = value("x", 2)
    node = named(ir.node("Relu", [x]), "y", shape=(2,))
    assert not NameTaps()(model_of([x], [node], node.outputs)).modified


def test_a_mark_on_a_graph_input_is_refused_since_it_would_rename_the_input():
    x = value("x", 2)
    mark = tap(x, "blocks.0", "y")
    with pytest.raises(ir.passes.PreconditionError, match=r"blocks\.0.*'x'"):
        NameTaps()(model_of([x], [mark], mark.outputs))


def test_two_marks_on_one_value_are_refused():
    x = value("x", 2)
    first = named(ir.node("Relu", [x]), "hidden", shape=(2,))
    marks = [tap(first.outputs[0], f"blocks.{place}", f"y{place}") for place in range(2)]
    with pytest.raises(ir.passes.PreconditionError, match="marked twice"):
        NameTaps()(model_of([x], [first, *marks], [mark.outputs[0] for mark in marks]))
