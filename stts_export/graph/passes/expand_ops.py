"""Bring the custom operators' bodies into the graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from stts_export import ops


class AddFunctionBodies(ir.passes.InPlacePass):
    """Add the function body of every custom operator the graph uses, so that a runtime without kernels can run it.

    Afterwards each node of the `stts` domain has a function of its name in the model, but those in `kept`.
    """

    def __init__(self, attention: str = "portable", frames: int = 0, kept: Collection[str] = ()) -> None:
        """Say which bodies are wanted, see `ops.function_bodies`; operators in `kept` get none."""
        super().__init__()
        self.attention, self.frames, self.kept = attention, frames, frozenset(kept)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        used = {node.op_identifier() for node in self.without_kernel(model)}
        for function in ops.function_bodies(self.attention, self.frames):
            if function.identifier() in used:
                model.functions[function.identifier()] = function
        return ir.passes.PassResult(model, bool(used))

    def ensures(self, model: ir.Model) -> None:
        """Every custom operator has a body."""
        for node in self.without_kernel(model):
            if node.op_identifier() not in model.functions:
                raise ir.passes.PostconditionError(f"operator {node.domain}::{node.op_type} has no function body")

    def without_kernel(self, model: ir.Model) -> Iterator[ir.Node]:
        """Yield the nodes of the `stts` domain that are to get a body."""
        return (node for node in model.graph if node.domain == ops.DOMAIN and node.op_type not in self.kept)


class ExpandOps(ir.passes.Sequential):
    """Replace every custom operator by its body, but those in `kept`, which the engine has kernels for."""

    def __init__(self, attention: str = "portable", frames: int = 0, kept: Collection[str] = ()) -> None:
        super().__init__(AddFunctionBodies(attention, frames, kept), InlinePass())
