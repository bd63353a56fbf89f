"""The passes, in order; the one list that decides what a stored graph looks like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript import optimizer

from stts_export import ops
from stts_export.errors import ExportError
from stts_export.graph.capture import OPSET, only_errors
from stts_export.graph.form import Form, spec_in_form
from stts_export.graph.passes.check_plugins import CheckPlugins
from stts_export.graph.passes.dequantize_weights import DequantizeWeights
from stts_export.graph.passes.expand_ops import ExpandOps
from stts_export.graph.passes.fold_cache_scales import FoldCacheScales
from stts_export.graph.passes.fuse_norms import FuseNorms
from stts_export.graph.passes.fuse_rotary import FuseRotary
from stts_export.graph.passes.join_products import JoinProducts
from stts_export.graph.passes.lower_opset import LowerOpset
from stts_export.graph.passes.name_taps import NameTaps
from stts_export.graph.passes.round_weights import RoundWeights
from stts_export.graph.passes.set_precision import SetPrecision
from stts_export.graph.passes.store_transposed import StoreTransposed
from stts_export.graph.passes.strip_trace import StripTrace
from stts_export.graph.passes.use_plugins import UsePlugins
from stts_export.quantise.rounding import Rounding
from stts_runtime.bundle.spec import EXACT, GraphSpec


def lower(model: ir.Model, spec: GraphSpec, form: Form, roundings: Mapping[str, Rounding] | None = None) -> ir.Model:
    """Return a captured graph as an engine should get it: operators that it knows, weights where products read them.

    `spec` is its contract in float32; `spec_in_form` says what becomes of it. `roundings` says which weights are stored
    in few bits.

    Raises:
        ExportError: if a pass finds its contract broken; names the pass.
    """
    rounded = {name: rounding for name, rounding in (roundings or {}).items() if name in model.graph.initializers}
    opset = form.weights_opset if rounded else form.opset
    passes = ir.passes.Sequential(
        NameTaps(),
        ExpandOps(form.attention, frames_at_once(spec), kept=ops.PLUGINS if form.plugins else ()),
        *([UsePlugins()] if form.plugins else []),
        FoldConstants(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        DeduplicateInitializersPass(),
        CommonSubexpressionEliminationPass(),  # the mask is the same in every block: compute it once
        *([FoldCacheScales()] if form.fuses else []),
        # with fewer, larger nodes a prefill has nothing to gain, and a decode step much
        *([JoinProducts(rounded), FuseRotary(), FuseNorms()] if form.fuses and spec.step else []),
        *([RoundWeights(rounded)] if rounded and not form.dequantizes else []),
        StoreTransposed(),
        *([LowerOpset(opset)] if opset != OPSET else []),
        *([set_precision(spec, form)] if form.precision != "float32" else []),
        *([DequantizeWeights(rounded)] if rounded and form.dequantizes else []),
        RemoveUnusedNodesPass(),
        RemoveUnusedFunctionsPass(),
        RemoveUnusedOpsetsPass(),
        StripTrace(),
        *([CheckPlugins()] if form.plugins else []),
    )
    try:
        # It warns once for each weight, which has no data here on purpose.
        with only_errors(DeduplicateInitializersPass.__module__):
            lowered = passes(model).model
    except ir.passes.PassError as error:
        raise ExportError(f"graph {model.graph.name!r} cannot be lowered: {error}: {error.__cause__}") from error
    twice = names_used_twice(lowered.graph)
    assert not twice, f"graph {spec.name!r} has several values of the name {twice[0]!r}"
    return lowered


def names_used_twice(graph: ir.Graph) -> list[str]:
    """Return the names that several values of a graph have; there must be none, and nothing else looks for them."""
    values = [*graph.inputs, *graph.initializers.values(), *(output for node in graph for output in node.outputs)]
    counts = Counter(str(value.name) for value in values if value.name)
    return [name for name, count in counts.items() if count > 1]


def frames_at_once(spec: GraphSpec) -> int:
    """Return how many frames, laid end to end, the graph of `spec` is given at most; 0 if it is given none."""
    return next((dim.maximum - 1 for dim in spec.dims if dim.name == "E"), 0)


def set_precision(spec: GraphSpec, form: Form) -> SetPrecision:
    """Return the pass that gives the graph of `spec` its precision."""
    lowered = spec_in_form(spec, form)
    tensors = (*lowered.inputs, *lowered.outputs)
    bindings = {tensor.name: tensor.dtype for tensor in tensors}
    exact = [tensor.name for tensor in tensors if tensor.role == EXACT]
    return SetPrecision(bindings, form.precision, exact, spec.taps)


class FoldConstants(ir.passes.InPlacePass):
    """Fold constants and shapes known at this point; weights have no data here and stay untouched.

    Folding alone, without the optimizer's rewrite rules: matching those against a decoder takes a minute and changes
    nothing that engines do not change themselves.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        return ir.passes.PassResult(model, optimizer.fold_constants(model, onnx_shape_inference=True).modified)
