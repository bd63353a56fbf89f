"""Put a Cast where a value is wanted in another type."""

from __future__ import annotations

import onnx_ir as ir


def cast_node(value: ir.Value, dtype: ir.DataType | None) -> ir.Node:
    """Return a Cast of `value`, not yet in a graph."""
    assert dtype is not None
    node = ir.node("Cast", [value], attributes={"to": dtype.value})
    node.outputs[0].shape, node.outputs[0].type = value.shape, ir.TensorType(dtype)
    return node


def cast_value(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return `value` cast to `dtype`, right behind where it is made; at the graph's beginning if no node makes it."""
    node, producer = cast_node(value, dtype), value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return node.outputs[0]


def cast_output(graph: ir.Graph, place: int, dtype: ir.DataType, inner: str) -> None:
    """Let output number `place` be of `dtype` under its name; the value that it was goes by the name `inner`."""
    value = graph.outputs[place]
    node = cast_node(value, dtype)
    graph.append(node)
    graph.outputs[place] = node.outputs[0]
    value.name, node.outputs[0].name = inner, value.name
