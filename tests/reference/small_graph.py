"""Small graphs by hand, and what is in them, for tests of passes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


FLOAT = ir.TensorType(ir.DataType.FLOAT)


def value(name: str, *shape: int | str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """Return a value, float32 unless said otherwise."""
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def named(node: ir.Node, *names: str, shape: Sequence[int | str] | None = None) -> ir.Node:
    """Name the outputs of `node`, say that they are float32 of `shape`, and return it."""
    for output, name in zip(node.outputs, names, strict=True):
        output.name, output.type = name, FLOAT
        output.shape = None if shape is None else ir.Shape(shape)
    return node


def model_of(
    inputs: Sequence[ir.Value], nodes: Sequence[ir.Node], outputs: Sequence[ir.Value], weights: Sequence[ir.Value] = ()
) -> ir.Model:
    """Return a model; `weights` become initializers, without data unless they carry some."""
    graph = ir.Graph(
        inputs, outputs, nodes=nodes, initializers=weights, opset_imports={"": 20, "stts": 1}, name="small"
    )
    return ir.Model(graph, ir_version=10)


def lines_of(model: ir.Model) -> list[str]:
    """Return the nodes as text, `output = Operator(input, ...)`, in order."""

    def names(values: Sequence[ir.Value | None]) -> str:
        return ", ".join("" if value is None else str(value.name) for value in values)

    return [f"{names(node.outputs)} = {node.op_type}({names(node.inputs)})" for node in model.graph]
