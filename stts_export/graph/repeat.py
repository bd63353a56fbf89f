"""Put the nodes of a traced block in the place of each mark that stands for a block like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from stts_export.errors import ExportError
from stts_export.graph.blocks import ENTER, LEAVE, LIKE, PATH, REPEAT
from stts_export.ops.domain import DOMAIN


@dataclass
class Block:
    """A traced block."""

    path: str
    enter: ir.Node  # the mark in front of it, whose outputs none but its own nodes read
    nodes: list[ir.Node] = field(default_factory=list)
    results: tuple[ir.Value | None, ...] = ()
    is_closed: bool = False  # whether what its nodes make is read by them, or a result


def repeat_blocks(model: ir.Model, weights: Sequence[str]) -> None:
    """Make of a trace with marks what a whole trace gives: the same nodes, in order, but for their values' numbers.

    What the tracer writes about itself is missing from the copies; `StripTrace` drops it anyway.

    Args:
        model: traced inside `marked_blocks`.
        weights: all that the part has, in its order, of which the trace knows only those of traced blocks.

    Raises:
        ExportError: blocks hand on values that they do not return.
    """
    graph = model.graph
    blocks: dict[str, Block] = {}
    entered: Block | None = None
    for node in list(graph):
        kind = node.op_type if node.domain == DOMAIN else ""
        if kind not in (ENTER, LEAVE, REPEAT):
            if entered is not None:
                entered.nodes.append(node)
            continue
        path = node.attributes[PATH].as_string()
        if kind == ENTER:
            assert entered is None
            entered = blocks[path] = Block(path, node)
        elif kind == LEAVE:
            assert entered is not None
            entered.results = tuple(node.inputs)
            entered.is_closed = reads_all(node, entered.nodes)
            replace(graph, node, entered.results)
            entered = None
        else:
            block = blocks[node.attributes[LIKE].as_string()]
            if not block.is_closed:
                raise ExportError(
                    f"graph {graph.name!r}: {block.path} hands on a value that it does not return, so {path} cannot be "
                    "made like it: return the value"
                )
            replace(graph, node, copy_in_front_of(node, block, path, graph))
    for block in blocks.values():
        replace(graph, block.enter, block.enter.inputs)
    sort_initializers(graph, weights)


def reads_all(leave: ir.Node, nodes: Sequence[ir.Node]) -> bool:
    """Tell whether only the mark behind a block, and the block's own nodes, read what these make."""
    readers = {*nodes, leave}
    return all(reader in readers for node in nodes for value in node.outputs for reader in value.consumers())


def replace(graph: ir.Graph, mark: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Remove a mark; whoever read its outputs reads `values`, which take over the names of the graph's outputs."""
    for output, value in zip(mark.outputs, values, strict=True):
        assert value is not None
        is_output, name = output.is_graph_output(), output.name
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        if is_output:
            value.name = name
    graph.remove(mark, safe=True)


def copy_in_front_of(mark: ir.Node, block: Block, path: str, graph: ir.Graph) -> list[ir.Value | None]:
    """Insert the nodes of `block` with the weights of the one at `path`; return what comes out of them."""
    copies: dict[ir.Value | None, ir.Value | None] = dict(zip(block.enter.outputs, mark.inputs, strict=True))

    def copied(value: ir.Value | None) -> ir.Value | None:
        if value in copies:
            return copies[value]
        if value is not None and value.is_initializer() and str(value.name).startswith(f"{block.path}."):
            return weight(graph, path + str(value.name).removeprefix(block.path), value)
        return value

    for node in block.nodes:
        copy = ir.Node(
            node.domain,
            node.op_type,
            [copied(value) for value in node.inputs],
            node.attributes.values(),
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.const_value = old.name, old.const_value
            new.type, new.shape = type_and_shape(old)
            copies[old] = new
        graph.insert_before(mark, copy)
    return [copied(value) for value in block.results]


def weight(graph: ir.Graph, name: str, like: ir.Value) -> ir.Value:
    """Return a weight of the graph, which is given it if it has none of that name yet."""
    if name not in graph.initializers:
        kind, shape = type_and_shape(like)
        graph.initializers[name] = ir.Value(name=name, type=kind, shape=shape)
    return graph.initializers[name]


def type_and_shape(value: ir.Value) -> tuple[ir.TensorType | None, ir.Shape | None]:
    """Return copies of both, since passes change them in place."""
    kind = None if value.dtype is None else ir.TensorType(value.dtype)
    return kind, None if value.shape is None else value.shape.copy()


def sort_initializers(graph: ir.Graph, weights: Sequence[str]) -> None:
    """Put weights in the order in which they are given, and all else behind."""
    place = {name: place for place, name in enumerate(weights)}
    values = sorted(graph.initializers.values(), key=lambda value: place.get(str(value.name), len(place)))
    graph.initializers.clear()
    for value in values:
        graph.initializers.add(value)
