"""Store weights the way the matrix product reads them."""

from __future__ import annotations

import onnx_ir as ir


TRANSFORM = "stts.transform"
SOURCE = "stts.source"


class StoreTransposed(ir.passes.InPlacePass):
    """Replace `MatMul(x, Transpose(weight))`, so that no engine transposes, and thereby copies, a weight at load time.

    1. A weight that is only ever read through `Transpose(perm=[1, 0])` is replaced by a weight of the transposed
       shape, marked with metadata: `write_graph` stores it transposed.
    2. A weight that is also read as it is (a tied embedding) stays as it is, and the product becomes
       `Gemm(x, weight, transB=1)`, which takes a matrix as x.

    Afterwards no Transpose of a weight is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        modified = False
        for name, weight in list(model.graph.initializers.items()):
            uses = list(weight.uses())
            transposes = [node for node, _ in uses if is_weight_transpose(node)]
            if weight.const_value is not None or not transposes:
                continue
            if len(transposes) == len(uses):
                replace_weight(model, name, weight, transposes)
            else:
                for transpose in transposes:
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
    source = node.inputs[0] if node.inputs else None
    return (
        node.op_type == "Transpose"
        and source is not None
        and source.is_initializer()
        and source.const_value is None
        and list(node.attributes["perm"].as_ints()) == [1, 0]
    )


def replace_weight(model: ir.Model, name: str, weight: ir.Value, transposes: list[ir.Node]) -> None:
    """Put a transposed weight in place of `weight`."""
    assert weight.shape is not None
    stored = ir.Value(name=f"{name}.T", shape=ir.Shape(reversed(weight.shape)), type=weight.type)
    stored.metadata_props[TRANSFORM] = "transposed"
    stored.metadata_props[SOURCE] = name
    for transpose in transposes:
        ir.convenience.replace_all_uses_with(transpose.outputs[0], stored)
        model.graph.remove(transpose, safe=True)
    del model.graph.initializers[name]
    model.graph.initializers.add(stored)


def replace_product(model: ir.Model, product: ir.Node, weight: ir.Value) -> None:
    """Put `Gemm(x, weight, transB=1)` in place of `MatMul(x, transposed weight)`."""
    left = product.inputs[0]
    assert left is not None
    assert left.shape is not None
    if product.op_type != "MatMul" or len(left.shape) != 2:
        raise ir.passes.PreconditionError(f"node {product.name}: a shared weight is transposed for {product.op_type}")
    gemm = ir.node("Gemm", [left, weight], attributes={"transB": 1}, name=product.name)
    gemm.outputs[0].type, gemm.outputs[0].shape = product.outputs[0].type, product.outputs[0].shape
    model.graph.insert_before(product, gemm)
    name = product.outputs[0].name
    ir.convenience.replace_all_uses_with(product.outputs[0], gemm.outputs[0], replace_graph_outputs=True)
    gemm.outputs[0].name = name
    model.graph.remove(product, safe=True)
