"""Add a branch to the stream and norm the sum in one operator of onnxruntime's."""

from __future__ import annotations

import onnx_ir as ir

from stts_export.ops.domain import ONNXRUNTIME


OPERATOR = "SkipSimplifiedLayerNormalization"


class FuseNorms(ir.passes.InPlacePass):
    """Replace a sum of two values of one shape, and its `RMSNorm` as it was traced, by onnxruntime's operator for both.

    `w (x / sqrt(mean(x^2) + e))` with x = a + b becomes SkipSimplifiedLayerNormalization(a, b, w), whose fourth output
    is x, under the name that x had: it may be a tap, and the stream goes on from it. A norm of anything else than a sum
    stays as it is: onnxruntime has a kernel for it, and finds it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        modified = False
        for node in list(model.graph):
            found = norm_of_sum(node)
            if found is None:
                continue
            addition, weight, epsilon = found
            total, normed = addition.outputs[0], node.outputs[0]
            inputs = [*addition.inputs, weight]
            fused = ir.node(OPERATOR, inputs, {"epsilon": epsilon}, num_outputs=4, domain=ONNXRUNTIME.domain)
            for unused in fused.outputs[1:3]:
                unused.name = ""
            model.graph.insert_before(addition, fused)
            for old, new in ((total, fused.outputs[3]), (normed, fused.outputs[0])):
                new.type, new.shape, name = old.type, old.shape, old.name
                ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
                new.name = name
            model.graph.remove([node, addition], safe=True)
            modified = True
        if modified:
            model.graph.opset_imports[ONNXRUNTIME.domain] = ONNXRUNTIME.version
        return ir.passes.PassResult(model, modified)


def norm_of_sum(node: ir.Node) -> tuple[ir.Node, ir.Value, float] | None:
    """Return the addition, the norm's weight and its epsilon where `node` is the last of such a norm."""
    if node.op_type != "Mul" or (division := _maker(node.inputs[1], "Div")) is None:
        return None
    weight, states = node.inputs[0], division.inputs[0]
    root = _maker(division.inputs[1], "Sqrt")
    shifted = root and _maker(root.inputs[0], "Add")
    mean = shifted and _maker(shifted.inputs[0], "ReduceMean")
    square = mean and _maker(mean.inputs[0], "Pow")
    addition = None if states is None else states.producer()
    if not square or not mean or not shifted or addition is None or weight is None or not weight.is_initializer():
        return None
    epsilon, power, axes = (_number(given) for given in (shifted.inputs[1], square.inputs[1], mean.inputs[1]))
    if square.inputs[0] is not states or epsilon is None or (power, axes) != (2, -1):
        return None
    shapes = [value.shape for value in addition.inputs if value is not None]
    is_sum = addition.op_type == "Add" and None not in shapes and shapes[0] == shapes[1]
    return (addition, weight, epsilon) if is_sum and len(shapes[0] or ()) in (2, 3) else None


def _maker(value: ir.Value | None, kind: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == kind else None


def _number(value: ir.Value | None) -> float | None:
    """Return the one number of a constant."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return tensor.numpy().item() if tensor is not None and tensor.size == 1 else None
