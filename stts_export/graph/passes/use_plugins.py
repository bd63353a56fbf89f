"""Turn the custom operators into TensorRT plugins."""

from __future__ import annotations

import onnx_ir as ir

from stts_export import ops


class UsePlugins(ir.passes.InPlacePass):
    """Rename every operator of the `stts` domain to its plugin, the one place where that is done.

    1. `stts::Name` becomes `stts::SttsName`. TensorRT's parser looks at the name alone, and takes a function body of
       that name before any plugin without a word, so the model may have none.
    2. The node gets what the parser finds the plugin by (`plugin_version`, `plugin_namespace`), and the version of our
       contract, which the plugin compares with its own.

    Needs a plugin for every such operator. Afterwards the domain holds plugins only.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        renamed = False
        for node in model.graph:
            if node.domain != ops.DOMAIN:
                continue
            if node.op_type not in ops.PLUGINS:
                raise ir.passes.PreconditionError(f"operator {ops.DOMAIN}::{node.op_type} has no plugin")
            node.op_type = ops.PLUGINS[node.op_type].name
            node.attributes["contract"] = ir.AttrInt64("contract", ops.CONTRACT)
            node.attributes["plugin_version"] = ir.AttrString("plugin_version", str(ops.VERSION))
            node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", "")
            renamed = True
        return ir.passes.PassResult(model, renamed)

    def ensures(self, model: ir.Model) -> None:
        """No function body stands in a plugin's way."""
        for function in model.functions.values():
            if function.name in ops.PLUGIN_NAMES:
                raise ir.passes.PostconditionError(f"the model has a function body for plugin {function.name}")
