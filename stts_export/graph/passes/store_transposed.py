"""Store weights the way the matrix product reads them."""

from __future__ import annotations

import onnx_ir as ir


TRANSFORM = "stts.transform"
SOURCE = "stts.source"


class StoreTransposed(ir.passes.InPlacePass):
    """Replace `MatMul(x, Transpose(weight))`, so that no engine transposes, and thereby copies, a weight at load time.

    1. A weight that is only ever read through `Transpose(perm=[1, 0])` or as `Gemm(x, weight, transB=1)` is replaced by
       a weight of the transposed shape, marked with metadata: `write_graph` stores it transposed. The tracer writes
       one layer either way, as its input has two dimensions or three, and graphs must agree to share its weight.
    2. A weight that is also read as it is (a tied embedding) stays as it is, and the product becomes
       `Gemm(x, weight, transB=1)`, which takes a matrix as x.

    Needs such a product to be the only reader of a shared weight's transposition. Afterwards no Transpose of a weight
    is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        modified = False
        for name, weight in list(model.graph.initializers.items()):
            uses = list(weight.uses())
            transposes = [node for node, _ in uses if is_weight_transpose(node)]
            products = [node for node, place in uses if is_transposing_product(node, place)]
            if weight.const_value is not None or not transposes + products:
                continue
            if len(transposes + products) == len(uses):
                replace_weight(model, name, weight, transposes, products)
                modified = True
                continue
            for transpose in transposes:
                check_products(name, transpose)
                for product, _ in list(transpose.outputs[0].uses()):
                    replace_product(model, product, weight)
                model.graph.remove(transpose, safe=True)
                modified = True
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """No weight is transposed at run time."""
        for node in model.graph:
            if is_weight_transpose(node):
                raise ir.passes.PostconditionError(f"node {node.name} still transposes weight {node.inputs[0]}")


def is_weight_transpose(node: ir.Node) -> bool:
    """Tell whether `node` transposes a matrix that is a weight without data."""
    if (node.domain, node.op_type) != ("", "Transpose"):
        return False
    source, permutation = node.inputs[0], node.attributes.get("perm")
    if source is None or not source.is_initializer() or source.const_value is not None:
        return False
    assert source.shape is not None
    # without the attribute all axes are reversed
    return len(source.shape) == 2 and (permutation is None or list(permutation.as_ints()) == [1, 0])


def is_transposing_product(node: ir.Node, place: int) -> bool:
    """Tell whether `node` is a Gemm that reads its input number `place`, the right side, transposed."""
    transposed = node.attributes.get("transB")
    return (node.domain, node.op_type, place) == ("", "Gemm", 1) and transposed is not None and transposed.as_int() == 1


def replace_weight(
    model: ir.Model, name: str, weight: ir.Value, transposes: list[ir.Node], products: list[ir.Node]
) -> None:
    """Put a transposed weight in place of `weight`, which `transposes` and Gemm `products` read."""
    assert weight.shape is not None
    stored = ir.Value(name=f"{name}.T", shape=ir.Shape(reversed(weight.shape)), type=weight.type)
    stored.metadata_props[TRANSFORM] = "transposed"
    stored.metadata_props[SOURCE] = name
    for transpose in transposes:
        ir.convenience.replace_all_uses_with(transpose.outputs[0], stored)
        model.graph.remove(transpose, safe=True)
    for product in products:
        product.replace_input_with(1, stored)
        product.attributes["transB"] = ir.AttrInt64("transB", 0)
    del model.graph.initializers[name]
    model.graph.initializers.add(stored)


def check_products(name: str, transpose: ir.Node) -> None:
    """Raise PreconditionError unless only products `MatMul(matrix, transposed weight)` read `transpose`."""
    transposed = transpose.outputs[0]
    readers = [] if not transposed.is_graph_output() else ["the graph's outputs"]
    for node, place in transposed.uses():
        left = node.inputs[0]
        of_a_matrix = left is not None and left.shape is not None and len(left.shape) == 2
        if node.op_type != "MatMul" or place != 1 or not of_a_matrix:
            readers.append(f"{node.op_type} {node.name}")
    if readers:
        raise ir.passes.PreconditionError(
            f"weight {name!r} is read as it is and transposed, and its transposition by {', '.join(readers)}; wanted "
            "products with a matrix on their left only"
        )


def replace_product(model: ir.Model, product: ir.Node, weight: ir.Value) -> None:
    """Put `Gemm(x, weight, transB=1)` in place of `MatMul(x, transposed weight)`."""
    gemm = ir.node("Gemm", [product.inputs[0], weight], attributes={"transB": 1}, name=product.name)
    gemm.outputs[0].type, gemm.outputs[0].shape = product.outputs[0].type, product.outputs[0].shape
    model.graph.insert_before(product, gemm)
    name = product.outputs[0].name
    ir.convenience.replace_all_uses_with(product.outputs[0], gemm.outputs[0], replace_graph_outputs=True)
    gemm.outputs[0].name = name
    model.graph.remove(product, safe=True)
