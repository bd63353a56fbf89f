"""Store weights in few bits, and make floats of them where an engine fuses that into what reads them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from stts_export.graph.passes.store_transposed import SOURCE, TRANSFORM
from stts_export.quantise.layout import SCALES, SIGNED, TURNED, UNIT
from stts_export.quantise.rounding import FLOAT8, Rounding


NODE = "DequantizeLinear"
DTYPES = {
    "int4": ir.DataType.INT4,
    "int8": ir.DataType.INT8,
    "fp4": ir.DataType.FLOAT4E2M1,
    "fp8": ir.DataType.FLOAT8E4M3FN,
}
"""Name of a rounding -> the type of its numbers."""


class DequantizeWeights(ir.passes.InPlacePass):
    """Put numbers, scales and a DequantizeLinear in the place of each weight that is rounded.

    1. Numbers have the weight's shape, as it is or transposed, and scales lie along its inputs: one for each block of
       them, or one for all of a row.
    2. Scales that are float8 themselves are made floats first, in units of one number.

    What reads the weight reads on, so products and look-ups stay as they are; TensorRT gathers rows before it makes
    floats of them. Needs weights that have their places and their precision (after `StoreTransposed` and
    `SetPrecision`): scales are in the weight's type. Afterwards the graph holds none of the weights, and wants an opset
    that has its types.
    """

    def __init__(self, roundings: Mapping[str, Rounding]) -> None:
        """Say how each weight is rounded, by its name in the model."""
        super().__init__()
        self.roundings = roundings

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        graph, modified = model.graph, False
        first = graph[0]
        for name, value in list(graph.initializers.items()):
            rounding = self.roundings.get(source_of(value))
            if value.const_value is not None or rounding is None:
                continue
            made = dequantized(graph, value, rounding)
            graph.insert_before(first, made)
            ir.convenience.replace_all_uses_with(value, made[-1].outputs[0])
            del graph.initializers[name]
            made[-1].outputs[0].name = name
            modified = True
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """No weight is left that was to be rounded."""
        for name, value in model.graph.initializers.items():
            is_part = value.metadata_props.get(TRANSFORM, "").removesuffix(TURNED) in (SIGNED, SCALES, UNIT)
            if value.const_value is None and source_of(value) in self.roundings and not is_part:
                raise ir.passes.PostconditionError(f"weight {name!r} is still in floats")


def source_of(value: ir.Value) -> str:
    """Return the model's name of a weight."""
    return value.metadata_props.get(SOURCE, str(value.name))


def dequantized(graph: ir.Graph, weight: ir.Value, rounding: Rounding) -> list[ir.Node]:
    """Return the nodes that make a weight of what is stored of it; the last one's output has its type and shape."""
    assert weight.shape is not None
    assert weight.dtype is not None
    shape = weight.shape.numpy()
    turned = weight.metadata_props.get(TRANSFORM) == "transposed"
    inputs = 0 if turned else 1  # the axis of them

    def stored(part: str, shape: tuple[int, ...], dtype: ir.DataType) -> ir.Value:
        value = ir.Value(name=f"{weight.name}.{part}", shape=ir.Shape(shape), type=ir.TensorType(dtype))
        value.metadata_props[SOURCE] = source_of(weight)
        value.metadata_props[TRANSFORM] = f"{part}{TURNED if turned else ''}"
        graph.initializers.add(value)
        return value

    def floats(numbers: ir.Value, scales: ir.Value, **attributes: int) -> ir.Node:
        node = ir.node(NODE, [numbers, scales], attributes=attributes)
        node.outputs[0].type, node.outputs[0].shape = weight.type, numbers.shape
        return node

    numbers = stored(SIGNED, tuple(shape), DTYPES[rounding.name])
    if rounding.block is None:
        return [floats(numbers, stored(SCALES, (shape[1 - inputs],), weight.dtype), axis=1 - inputs)]
    blocks = tuple(size // rounding.block if axis == inputs else size for axis, size in enumerate(shape))
    attributes = {"axis": inputs, "block_size": rounding.block}
    if rounding.scales != FLOAT8:
        return [floats(numbers, stored(SCALES, blocks, weight.dtype), **attributes)]
    scales = floats(stored(SCALES, blocks, DTYPES["fp8"]), stored(UNIT, (), weight.dtype))
    return [scales, floats(numbers, scales.outputs[0], **attributes)]
