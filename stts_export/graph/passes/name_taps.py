"""Turn the marks that capture left behind into names of values."""

from __future__ import annotations

import onnx_ir as ir


class NameTaps(ir.passes.InPlacePass):
    """Remove every `stts::Tap` node and give its input the name of its attribute.

    1. The node's consumers read its input instead, and the input value takes the tap's name.
    2. Where the node's output is a graph output, which has a name already, an Identity stays in between. Folding drops
       it later, and the value then goes by the output's name.

    Needs a Tap to mark what a node computes and no other Tap has named. Afterwards no Tap node is left, and a verifier
    can ask for the value by the submodule's path.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        named: set[ir.Value] = set()
        for node in list(model.graph):
            if (node.domain, node.op_type) != ("stts", "Tap"):
                continue
            source, target = node.inputs[0], node.outputs[0]
            assert source is not None
            tap = node.attributes["name"].as_string()
            if source.producer() is None or source.is_graph_output() or source in named:
                raise ir.passes.PreconditionError(
                    f"tap {tap!r} marks {source.name!r}, whose name is taken: it is a graph's input, output or weight, "
                    "or marked twice"
                )
            source.name = tap
            named.add(source)
            if target.is_graph_output():
                identity = ir.node("Identity", [source])
                identity.outputs[0].type, identity.outputs[0].shape = target.type, target.shape
                model.graph.insert_before(node, identity)
                name = target.name
                ir.convenience.replace_all_uses_with(target, identity.outputs[0], replace_graph_outputs=True)
                identity.outputs[0].name = name
            else:
                ir.convenience.replace_all_uses_with(target, source)
            model.graph.remove(node, safe=True)
        return ir.passes.PassResult(model, bool(named))

    def ensures(self, model: ir.Model) -> None:
        """No mark is left."""
        if any(node.op_type == "Tap" for node in model.graph):
            raise ir.passes.PostconditionError("a Tap node is left in the graph")
