"""Give plugins bodies in standard operators, so that a CPU can run what is made for a GPU."""

from __future__ import annotations

import onnx_ir as ir

from stts_export import ops


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
                model.functions[body.identifier()] = body
        return ir.passes.PassResult(model, bool(used))

    def ensures(self, model: ir.Model) -> None:
        """Every plugin has a body."""
        for node in model.graph:
            if node.domain == ops.DOMAIN and node.op_identifier() not in model.functions:
                raise ir.passes.PostconditionError(f"plugin {node.op_type} has no function body")
