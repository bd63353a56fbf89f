"""Multiply once with several weights that read the same."""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
import onnx_ir as ir

from stts_export.graph.passes.lower_opset import constant
from stts_export.graph.passes.store_transposed import is_weight_transpose
from stts_export.quantise.rounding import Rounding


JOINT = "+"
"""Stands between the names of weights in the name of what they are joined to."""


class JoinProducts(ir.passes.InPlacePass):
    """Let one product take the place of several `x W^T` that read the same x, and split what it gives.

    Only where one of them has fewer outputs than inputs, as keys and values of grouped heads have: such a product
    takes little longer to compute than to begin. Of wide ones, as gate and up are, splitting costs a prefill more than
    joining saves a step.

    The weights stand one below the other in one matrix [sum of outs, in], whose name is theirs, joined. Only weights
    that are rounded alike and are read by nothing else are joined. A rounding of such a matrix is that of each of its
    rows, and so the same as before.

    Weights rounded alike are known by the mapping that the pass is given, which tells of the joined ones afterwards.
    """

    def __init__(self, roundings: MutableMapping[str, Rounding]) -> None:
        """Say how weights are rounded, by their names; those that are not there stay in floats."""
        super().__init__()
        self.roundings = roundings

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        found: dict[tuple[ir.Value, Rounding | None], list[ir.Node]] = {}
        for node in model.graph:
            if (weight := joinable_weight(node)) is not None and node.inputs[0] is not None:
                key = node.inputs[0], self.roundings.get(str(weight.name))
                found.setdefault(key, []).append(node)
        groups = [(rounding, products) for (_, rounding), products in found.items() if is_worth_joining(products)]
        for rounding, products in groups:
            name = join(model.graph, products)
            if rounding is not None:
                self.roundings[name] = rounding
        return ir.passes.PassResult(model, bool(groups))


def is_worth_joining(products: list[ir.Node]) -> bool:
    """Return whether there are several products, and a narrow one among them."""
    shapes = [product.inputs[1].shape.numpy() for product in products if product.inputs[1] and product.inputs[1].shape]
    return len(products) > 1 and any(outs < width for width, outs in shapes)


def joined_names(name: str) -> list[str]:
    """Return the weights that a stored one is made of, from the first row on; itself if it is one."""
    return name.split(JOINT)


def joinable_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [out, in] that `node` multiplies with if it is a MatMul, and the only reader of one."""
    turn = maker_of(node, 1) if node.op_type == "MatMul" else None
    if turn is None or not is_weight_transpose(turn) or len(turn.outputs[0].uses()) != 1:
        return None
    weight = turn.inputs[0]
    return weight if weight is not None and len(weight.uses()) == 1 else None


def join(graph: ir.Graph, products: list[ir.Node]) -> str:
    """Put one product and a Split in the place of several, and return the name of its weight."""
    turns = [turn for product in products if (turn := maker_of(product, 1)) is not None]
    weights = [weight for turn in turns if (weight := turn.inputs[0]) is not None]
    shapes = [weight.shape.numpy() for weight in weights if weight.shape is not None]
    outs, (width,) = [rows for rows, _ in shapes], {columns for _, columns in shapes}
    name = JOINT.join(str(weight.name) for weight in weights)
    joined = ir.Value(name=name, shape=ir.Shape([sum(outs), width]), type=weights[0].type)
    graph.initializers.add(joined)
    first = products[0].outputs[0]
    assert first.shape is not None
    turn = ir.node("Transpose", [joined], {"perm": [1, 0]})
    product = ir.node("MatMul", [products[0].inputs[0], turn.outputs[0]])
    sizes = constant(graph, f"stts.parts.{'_'.join(map(str, outs))}", np.array(outs, np.int64))
    split = ir.node("Split", [product.outputs[0], sizes], {"axis": -1}, num_outputs=len(outs))
    for made, shape in ((turn, [width, sum(outs)]), (product, [*first.shape[:-1], sum(outs)])):
        made.outputs[0].type, made.outputs[0].shape = first.type, ir.Shape(shape)
    graph.insert_before(products[0], [turn, product, split])
    for one, new in zip(products, split.outputs, strict=True):
        old = one.outputs[0]
        new.type, new.shape, old_name = old.type, old.shape, old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        new.name = old_name
    graph.remove([*products, *turns], safe=True)
    for weight in weights:
        del graph.initializers[str(weight.name)]
    return name


def maker_of(node: ir.Node, place: int) -> ir.Node | None:
    """Return the node that makes an input of `node`."""
    value = node.inputs[place]
    return None if value is None else value.producer()
