"""Give plugins bodies in standard operators, so that a CPU can run what is made for a GPU."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from stts_export import ops
from stts_export.graph.passes.lower_opset import REDUCTIONS, axes_as_attribute


class AddPluginBodies(ir.passes.InPlacePass):
    """Add the function body of every plugin that the graph uses; for verification in memory, never for a stored graph.

    A body of a plugin's name would be taken in its place by TensorRT (`UsePlugins`). What does not belong to the
    mathematics, the contract's version and what the plugin is found by, goes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        used = {node.op_type for node in model.graph if node.domain == ops.DOMAIN}
        for node in model.graph:
            if node.domain == ops.DOMAIN:
                for name in ("contract", "plugin_version", "plugin_namespace"):
                    node.attributes.pop(name, None)
        for body in ops.plugin_bodies():
            if body.name in used:
                body.opset_imports[""] = model.graph.opset_imports[""]  # see `MoveAxes`
                model.functions[body.identifier()] = body
        return ir.passes.PassResult(model, bool(used))

    def ensures(self, model: ir.Model) -> None:
        """Every plugin has a body."""
        for node in model.graph:
            if node.domain == ops.DOMAIN and node.op_identifier() not in model.functions:
                raise ir.passes.PostconditionError(f"plugin {node.op_type} has no function body")


class ExpandPlugins(ir.passes.Sequential):
    """Replace every plugin by its body, in operators as the graph's own opset has them."""

    def __init__(self) -> None:
        lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        super().__init__(AddPluginBodies(), InlinePass(), lift, MoveAxes())


class MoveAxes(ir.passes.InPlacePass):
    """Give reductions their axes as an attribute, where the opset is older than axes as an input (18).

    Bodies are written in opset 20. Needs axes that are constant.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        moved = False
        for node in model.graph:
            if (model.graph.opset_imports[""] or 0) < 18 and node.op_type in REDUCTIONS and len(node.inputs) > 1:
                axes_as_attribute(node)
                moved = True
        return ir.passes.PassResult(model, moved)
