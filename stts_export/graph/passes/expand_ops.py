"""Bring the custom operators' bodies into the graph."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from stts_export import ops


class AddFunctionBodies(ir.passes.InPlacePass):
    """Add the function body of every custom operator the graph uses, so that any ONNX runtime can run it.

    Afterwards each node of the `stts` domain has a function of its name in the model.
    """

    def __init__(self, *, fused_attention: bool = False) -> None:
        """Say which bodies are wanted, see `ops.function_bodies`."""
        super().__init__()
        self.fused_attention = fused_attention

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        used = {node.op_identifier() for node in model.graph if node.domain == ops.DOMAIN}
        for function in ops.function_bodies(fused_attention=self.fused_attention):
            if function.identifier() in used:
                model.functions[function.identifier()] = function
        return ir.passes.PassResult(model, bool(used))

    def ensures(self, model: ir.Model) -> None:
        """Every custom operator has a body."""
        for node in model.graph:
            if node.domain == ops.DOMAIN and node.op_identifier() not in model.functions:
                raise ir.passes.PostconditionError(f"operator {node.domain}::{node.op_type} has no function body")


class ExpandOps(ir.passes.Sequential):
    """Replace every custom operator by its body, for engines that have no kernel of their own for any of them."""

    def __init__(self, *, fused_attention: bool = False) -> None:
        super().__init__(AddFunctionBodies(fused_attention=fused_attention), InlinePass())
