"""A graph as lines, all of it but what the tracer writes about itself."""

from __future__ import annotations

import hashlib

import onnx_ir as ir

from stts_export.graph.passes.strip_trace import StripTrace


def graph_lines(model: ir.Model) -> list[str]:
    """Return inputs, initialisers, nodes and outputs in order, each with all that a stored graph says of it.

    Two graphs with the same lines are lowered to the same bytes. `model` is changed: see `StripTrace`.
    """
    StripTrace()(model)
    graph = model.graph
    held = [f"input {typed(value)}" for value in graph.inputs]
    held += [f"initializer {typed(value)} {digest(value)}" for value in graph.initializers.values()]
    return [*held, *map(node_line, graph), *(f"output {typed(value)}" for value in graph.outputs)]


def node_line(node: ir.Node) -> str:
    """Return a node's operator, attributes, inputs and outputs."""
    attributes = ", ".join(f"{name}={attribute(one)}" for name, one in sorted(node.attributes.items()))
    inputs = ", ".join("-" if value is None else str(value.name) for value in node.inputs)
    outputs = ", ".join(f"{typed(value)} {digest(value)}" for value in node.outputs)
    operator = f"{node.domain}::{node.op_type}:{node.overload}:{node.version}"
    return f"{node.name} = {operator} [{attributes}] ({inputs}) -> {outputs}"


def attribute(one: ir.Attr) -> str:
    """Return an attribute's value, a tensor's as a digest."""
    if one.type == ir.AttributeType.TENSOR:
        return digest_of(one.as_tensor())
    return f"{one.type.name} {one.value!r}"


def typed(value: ir.Value) -> str:
    """Return a value's name, type and shape."""
    return f"{value.name} {value.type} {value.shape}"


def digest(value: ir.Value) -> str:
    """Return a digest of what is known of a value's content."""
    return "" if value.const_value is None else digest_of(value.const_value)


def digest_of(tensor: ir.TensorProtocol) -> str:
    """Return a tensor's type, shape and a digest of its bytes."""
    return f"{tensor.dtype} {tensor.shape} {hashlib.sha256(tensor.tobytes()).hexdigest()[:16]}"
