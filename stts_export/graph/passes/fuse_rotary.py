"""Turn queries and keys by their positions in one operator of onnxruntime's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from stts_export.graph.passes.lower_opset import constant
from stts_export.graph.passes.round_weights import replace_node
from stts_export.ops.domain import ONNXRUNTIME


OPERATOR = "RotaryEmbedding"
FIRST_ROW = "stts.first_row"


class FuseRotary(ir.passes.InPlacePass):
    """Replace `models.rope.rotate` as it was traced, eight small nodes, by onnxruntime's `RotaryEmbedding`.

    The node gets the cosines and sines of the new tokens, each [S, d / 2], as its table, of which it reads row after
    row from the first. Anything that differs from the pattern stays as it is. Afterwards no rotation of states
    [1, heads, S, d] with such a table is left in small nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        modified = False
        for node in list(model.graph):
            found = rotation(node)
            if found is None:
                continue
            states, cosine, sine = found
            first_row = constant(model.graph, FIRST_ROW, np.zeros(1, np.int64))  # tokens read one row after another
            inputs = [states, first_row, cosine, sine]
            replace_node(model.graph, node, [ir.node(OPERATOR, inputs, domain=ONNXRUNTIME.domain)])
            modified = True
        if modified:
            model.graph.opset_imports[ONNXRUNTIME.domain] = ONNXRUNTIME.version
        return ir.passes.PassResult(model, modified)


def rotation(node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Return states, cosines and sines where `node` is the last of a rotation.

    That is Concat(first cos - second sin, second cos + first sin) over the last axis, the two halves of which are those
    of the states, four-dimensional, and the tables matrices.
    """
    if node.op_type != "Concat" or len(node.inputs) != 2:
        return None
    turned = [_maker(value, kind) for value, kind in zip(node.inputs, ("Sub", "Add"), strict=True)]
    products = [_maker(value, "Mul") for half in turned if half for value in half.inputs]
    if len(products) != 4 or not all(products):
        return None
    (first, cosine), (second, sine), *rest = [tuple(product.inputs) for product in products if product]
    if rest != [(second, cosine), (first, sine)] or first is None or cosine is None or sine is None:
        return None
    split = first.producer()
    if split is None or split.op_type != "Split" or list(split.outputs) != [first, second]:
        return None
    states, axis = split.inputs[0], split.attributes["axis"].as_int()
    if states is None or states.shape is None or cosine.shape is None:
        return None
    last = len(states.shape) - 1
    if len(states.shape) != 4 or len(cosine.shape) != 2 or axis not in (last, -1):
        return None
    return (states, cosine, sine) if node.attributes["axis"].as_int() in (last, -1) else None


def _maker(value: ir.Value | None, kind: str) -> ir.Node | None:
    """Return the node that makes `value` if it is of a kind and nothing else reads what it makes."""
    node = None if value is None else value.producer()
    is_one = node is not None and node.op_type == kind and len(node.outputs[0].uses()) == 1
    return node if is_one else None
