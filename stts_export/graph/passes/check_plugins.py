"""Hold every plugin node to what its plugin takes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from stts_export import ops
from stts_export.ops.plugin import Plugin


class CheckPlugins(ir.passes.InPlacePass):
    """Refuse a graph whose plugin nodes have inputs or attributes that the plugins do not take; nothing is changed.

    TensorRT would parse it, build for minutes, and fail without the name of a node or a type. Runs last: only then
    types are what they stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at `model`."""
        for node in model.graph:
            if plugin := ops.PLUGIN_NAMES.get(node.op_type):
                for complaint in complaints(node, plugin):
                    raise ir.passes.PreconditionError(f"plugin node {node.name!r} ({plugin.name}): {complaint}")
        return ir.passes.PassResult(model, False)


def complaints(node: ir.Node, plugin: Plugin) -> Iterator[str]:
    """Yield what a plugin does not take about a node: input, wanted, got."""
    names = [name for name, _ in plugin.inputs]
    if len(node.inputs) != len(names) or None in node.inputs:
        yield f"wanted inputs {', '.join(names)}, got {len(node.inputs)}"
        return
    got = {name: dtype_of(value) for name, value in zip(names, node.inputs, strict=True)}
    for name, dtypes in plugin.inputs:
        if got[name] not in dtypes:
            yield f"input {name!r}: wanted {' or '.join(dtypes)}, got {got[name]}"
    for name in plugin.alike[1:]:
        if got[name] != got[plugin.alike[0]]:
            yield f"input {name!r}: wanted {got[plugin.alike[0]]}, as {plugin.alike[0]!r} is, got {got[name]}"
    if plugin.head_widths and (width := head_width(node)) not in plugin.head_widths:
        known = ", ".join(map(str, plugin.head_widths))
        yield f"input {names[0]!r}: wanted heads of {known}, which there are kernels for, got {width}"
    wanted = {*plugin.attributes, "contract", "plugin_version", "plugin_namespace"}
    if different := sorted(wanted ^ set(node.attributes)):
        yield f"wanted attributes {', '.join(sorted(wanted))}; {different[0]!r} is too many or missing"


def head_width(node: ir.Node) -> int | None:
    """Return the width of an attention's heads: the last dimension, cut into as many as an attribute says."""
    query, heads = node.inputs[0], node.attributes.get("heads")
    width = query.shape[-1] if query is not None and query.shape is not None else None
    return width // (1 if heads is None else heads.as_int()) if isinstance(width, int) else None


def dtype_of(value: ir.Value | None) -> str:
    """Return numpy's name of a value's dtype, or `bfloat16`."""
    return "unknown" if value is None or value.dtype is None else value.dtype.numpy().name
