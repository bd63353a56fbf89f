"""A piece of a graph as a graph of its own: values it is cut at become inputs and outputs that a host can hold."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from stts_export.graph.casts import cast_node


HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
GIVEN = ".given"
"""Behind the name of a value that a piece both makes and is given."""
INNER = ".in_half_precision"
"""Behind that of one which goes in or out as float32."""


def makers(graph: ir.Graph, name: str, borders: Collection[str]) -> list[ir.Node]:
    """Return the nodes that make the value `name`, in the graph's order, from `borders` and the graph's inputs on.

    Raises:
        KeyError: no node makes it.
    """
    producers = {value.name: node for node in graph for value in node.outputs if value.name}
    pending, found = [producers[name]], set()
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        read = (value.name for value in node.inputs if value is not None)
        pending += [producers[one] for one in read if one in producers and one not in borders]
    return [node for node in graph if node in found]


def piece(model: ir.Model, nodes: Sequence[ir.Node], cuts: Collection[str], outputs: Sequence[str]) -> ir.Model:
    """Return the graph of `nodes` alone.

    What they read and do not make is an input, and so are `cuts`: whoever reads such a value is given it, also where a
    node makes it too, and then the input is called so with `GIVEN` behind. Half-precision floats go in and out as
    float32, since numpy has no bfloat16; other types stay.

    Args:
        model: a graph without functions; stays as it is.
        nodes: some of its nodes, in its order.
        cuts: names of values.
        outputs: names of values that `nodes` make.
    """
    made = {value.name for node in nodes for value in node.outputs}
    given: dict[ir.Value, ir.Value] = {}  # what takes the place of a value for those who read it
    inputs: list[ir.Value] = []
    copies: list[ir.Node] = []
    weights: dict[str, ir.Value] = {}

    def read(value: ir.Value | None) -> ir.Value | None:
        if value is None or value in given:
            return value and given[value]
        if value.is_initializer():
            copy = ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)
            weights[str(value.name)] = given[value] = copy
            return copy
        name = f"{value.name}{GIVEN}" if value.name in made else value.name
        is_half = value.dtype in HALVES
        held = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT) if is_half else value.type)
        inputs.append(held)
        given[value] = held
        if is_half:
            cast = cast_node(held, value.dtype)
            cast.name, cast.outputs[0].name = f"{name}{INNER}", f"{name}{INNER}"
            copies.append(cast)
            given[value] = cast.outputs[0]
        return given[value]

    results: dict[str, ir.Value] = {}
    for node in nodes:
        arguments = [read(value) for value in node.inputs]
        copy = ir.node(
            node.op_type,
            arguments,
            attributes=dict(node.attributes),
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        copies.append(copy)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            if old.name not in cuts:
                given[old] = new
            if old.name in outputs:
                results[str(old.name)] = new
    for name, value in results.items():
        if value.dtype in HALVES:
            cast = cast_node(value, ir.DataType.FLOAT)
            value.name, cast.outputs[0].name, cast.name = f"{name}{INNER}", name, name
            copies.append(cast)
            results[name] = cast.outputs[0]
    graph = ir.Graph(
        inputs,
        [results[name] for name in outputs],
        nodes=copies,
        initializers=list(weights.values()),
        opset_imports=dict(model.graph.opset_imports),
        name=model.graph.name,
    )
    return ir.Model(graph, ir_version=model.ir_version)
