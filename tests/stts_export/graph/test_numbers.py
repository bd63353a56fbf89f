"""Values are numbered in order, by names that nothing which is added later takes."""

import onnx_ir as ir
import pytest
from reference.small_graph import model_of, named, value

from stts_export.graph.lower import names_used_twice
from stts_export.graph.numbers import numbered_names


@pytest.fixture
def graph():
    """Four sums of x, as the tracer numbers them, of which the last is the output."""
    x, nodes = value("x", 1), []
    for name in ("add_7", "val_12", "add_9", "y"):
        given = nodes[-1].outputs[0] if nodes else x
        nodes.append(named(ir.node("Add", [given, x]), name, shape=(1,)))
    return model_of([x], nodes, nodes[-1].outputs, []).graph


def test_values_are_numbered_in_the_graphs_order_and_outputs_keep_their_names(graph):
    assert list(numbered_names(graph).values()) == ["add", "value", "add_1"]


def test_no_value_that_is_added_later_is_called_like_one_that_is_there(graph):
    for one, name in numbered_names(graph).items():
        one.name = name
    first, x = graph[0], graph.inputs[0]
    for _ in range(20):
        graph.insert_before(first, ir.node("Neg", [x]))
    assert names_used_twice(graph) == []


def test_names_of_several_values_are_found(graph):
    graph[2].outputs[0].name = "add_7"
    graph.initializers.add(value("x", 1))
    assert names_used_twice(graph) == ["x", "add_7"]
