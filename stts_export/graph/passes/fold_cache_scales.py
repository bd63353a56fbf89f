"""Scale logits and weights of attention, rather than the keys and values that they are made of."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from stts_export.graph.passes.round_weights import replace_node


SWAPPED = [0, 1, 3, 2]


class FoldCacheScales(ir.passes.InPlacePass):
    """Take the scales of a cache in 8 bits, see `models.kv_cache`, out of its keys and values.

    q (k s)^T = (q k^T) s^T, and w (v s) = (w s^T) v: a number for each key is multiplied with a number for each pair
    instead of with d numbers. That is less where few tokens are read, and a decode step reads one. TensorRT restores
    keys and values as it copies them, and gets no such graph.

    Afterwards no product of two matrices reads whole numbers that were scaled by rows.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        found = list(scaled_products(model.graph))
        for product, numbers, scales, is_transposed in found:
            first = product.inputs[0]
            by_column = ir.node("Transpose", [scales], attributes={"perm": SWAPPED})
            column = by_column.outputs[0]
            if is_transposed:
                swapped = ir.node("Transpose", [numbers], attributes={"perm": SWAPPED})
                logits = ir.node("MatMul", [first, swapped.outputs[0]])
                nodes = [by_column, swapped, logits, ir.node("Mul", [logits.outputs[0], column])]
            else:
                weights = ir.node("Mul", [first, column])
                nodes = [by_column, weights, ir.node("MatMul", [weights.outputs[0], numbers])]
            replace_node(model.graph, product, nodes)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """None is left."""
        for product, *_ in scaled_products(model.graph):
            raise ir.passes.PostconditionError(f"{product.op_type} {product.name} reads rows that were scaled")


def scaled_products(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value, ir.Value, bool]]:
    """Yield products of matrices, the whole numbers as floats that each reads, their scales, and whether transposed."""
    for node in list(graph):
        if node.op_type != "MatMul":
            continue
        maker = None if node.inputs[1] is None else node.inputs[1].producer()
        is_transposed = maker is not None and maker.op_type == "Transpose"
        if is_transposed:
            assert maker is not None
            if list(maker.attributes["perm"].as_ints()) != SWAPPED or maker.inputs[0] is None:
                continue
            maker = maker.inputs[0].producer()
        if maker is None or maker.op_type != "Mul":
            continue
        numbers, scales = maker.inputs
        if numbers is not None and scales is not None and restores_cache(numbers, scales):
            yield node, numbers, scales, is_transposed


def restores_cache(numbers: ir.Value, scales: ir.Value) -> bool:
    """Tell whether a product of these two makes floats of whole numbers in four dimensions, scaled by rows."""
    cast = numbers.producer()
    if cast is None or cast.op_type != "Cast" or cast.inputs[0] is None or scales.shape is None:
        return False
    return cast.inputs[0].dtype == ir.DataType.INT8 and len(scales.shape) == 4 and scales.shape[3] == 1
