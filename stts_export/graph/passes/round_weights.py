"""Let products and look-ups read weights that are stored in whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from stts_export.graph.passes.store_transposed import (
    SOURCE,
    TRANSFORM,
    is_transposing_product,
    is_weight_transpose,
)
from stts_export.quantise.layout import NUMBERS, OFFSETS, SCALES, ZEROS
from stts_export.quantise.rounding import ANY, WHOLE, Rounding


CONTRIB = "com.microsoft"
ROW_PRODUCT = "MatMulIntegerToFloat"
PRODUCT = "MatMulNBits"
FLOAT32_PRODUCTS, INT8_PRODUCTS = 1, 4
"""What `accuracy_level` says: at 4 onnxruntime rounds what is multiplied to 8 bits too, block by block, and multiplies
whole numbers; at any other it makes floats of the matrix, with 8 bits at a twentieth of float32's speed."""


class RoundWeights(ir.passes.InPlacePass):
    """Replace what reads a rounded weight by what reads its numbers, for onnxruntime on a CPU.

    1. A product `x W^T`, written as MatMul or Gemm, becomes `MatMulNBits` where the numbers are in blocks. It takes
       offsets that are whole as zero points. Of any other the product with the sums of x over each block is added: a
       zero point that is no whole number would turn the operator's integer products off.
    2. Where they are in whole rows it becomes `MatMulIntegerToFloat`, which is as fast as whole numbers are, and rounds
       x with one scale for all of it. So each row of x is divided by its largest magnitude before, and its product
       multiplied with that: else a token that is far larger than the others, as language models have them, leaves
       nothing of those.
    3. A look-up of rows gathers numbers and scales, and multiplies.

    Needs that nothing else reads such a weight. Afterwards the graph holds none of them.
    """

    def __init__(self, roundings: Mapping[str, Rounding]) -> None:
        """Say how each weight is rounded, by its name."""
        super().__init__()
        self.roundings = roundings

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        shared = Shared()
        names = [name for name in model.graph.initializers if name in self.roundings]
        for name in names:
            weight = Weight(model.graph, name, self.roundings[name])
            for node, place in list(weight.value.uses()):
                if is_weight_transpose(node):
                    for product, place_there in list(node.outputs[0].uses()):
                        if (product.op_type, place_there) != ("MatMul", 1):
                            raise ir.passes.PreconditionError(unexpected(name, product))
                        weight.replace_product(product, shared)
                    model.graph.remove(node, safe=True)
                elif is_transposing_product(node, place):
                    weight.replace_product(node, shared)
                elif (node.domain, node.op_type, place) == ("", "Gather", 0):
                    weight.replace_gather(node)
                else:
                    raise ir.passes.PreconditionError(unexpected(name, node))
            del model.graph.initializers[name]
        if names:
            model.graph.opset_imports[CONTRIB] = 1
        return ir.passes.PassResult(model, bool(names))

    def ensures(self, model: ir.Model) -> None:
        """No weight is left that was to be rounded."""
        for name in model.graph.initializers:
            if name in self.roundings:
                raise ir.passes.PostconditionError(f"weight {name!r} is still in floats")


def unexpected(name: str, node: ir.Node) -> str:
    """Return what is wrong where a rounded weight is read by something else than a product or a look-up."""
    return f"rounded weight {name!r} is read by {node.op_type} {node.name}, wanted products and look-ups of rows"


@dataclass
class Shared:
    """What products that read the same value share."""

    sums: dict[tuple[ir.Value, int], ir.Value] = field(default_factory=dict)  # value, block -> its sums over each block
    # value -> its rows in whole numbers, their scale and zero point, and each row's largest magnitude
    rows: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value, ir.Value]] = field(default_factory=dict)


class Weight:
    """A rounded weight of a graph, and what its readers become."""

    def __init__(self, graph: ir.Graph, name: str, rounding: Rounding) -> None:
        self.graph, self.name, self.rounding = graph, name, rounding
        self.value = graph.initializers[name]
        assert self.value.shape is not None
        self.rows, self.columns = self.value.shape.numpy()
        self.blocks = self.columns // (rounding.block or self.columns)

    def stored(self, what: str, shape: tuple[int, ...], dtype: ir.DataType, name: str = "") -> ir.Value:
        """Return `what` is stored of the weight (`numbers`, `scales` or `offsets`), seen in a shape."""
        name = f"{self.name}.{name or what}"
        if name not in self.graph.initializers:
            value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
            value.metadata_props[SOURCE] = self.name
            value.metadata_props[TRANSFORM] = what
            self.graph.initializers.add(value)
        return self.graph.initializers[name]

    def scales(self) -> ir.Value:
        """Return the scales, [out, in / block]."""
        return self.stored(SCALES, (self.rows, self.blocks), ir.DataType.FLOAT)

    def replace_product(self, product: ir.Node, shared: Shared) -> None:
        """Put products of whole numbers in the place of a MatMul or Gemm."""
        given = product.inputs[0]
        assert given is not None
        made = self.row_product(given, shared) if self.rounding.block is None else self.block_product(given, shared)
        if len(product.inputs) > 2 and product.inputs[2] is not None:  # a Gemm's bias
            made.append(ir.node("Add", [made[-1].outputs[0], product.inputs[2]]))
        replace_node(self.graph, product, made)

    def row_product(self, given: ir.Value, shared: Shared) -> list[ir.Node]:
        """Return the product of `given` with numbers in whole rows."""
        made: list[ir.Node] = []
        if given not in shared.rows:
            least = self.constant(ir.tensor([1e-30], dtype=ir.DataType.FLOAT, name="stts.least"))
            size = ir.node("Abs", [given])
            most = ir.node("ReduceMax", [size.outputs[0], self.sizes(-1)], attributes={"keepdims": 1})
            above = ir.node("Max", [most.outputs[0], least])  # a row of zeros
            scaled = ir.node("Div", [given, above.outputs[0]])
            rounded = ir.node("DynamicQuantizeLinear", [scaled.outputs[0]], num_outputs=3)
            numbers, scale, zero = rounded.outputs
            numbers.type = zero.type = ir.TensorType(ir.DataType.UINT8)
            shared.rows[given] = numbers, scale, zero, above.outputs[0]
            made = [size, most, above, scaled, rounded]
        numbers, scale, zero, size_of_row = shared.rows[given]
        weight = self.stored(NUMBERS, (self.columns, self.rows), ir.DataType.INT8)
        scales = self.stored(SCALES, (self.rows,), ir.DataType.FLOAT)
        made.append(ir.node(ROW_PRODUCT, [numbers, weight, scale, scales, zero], domain=CONTRIB))
        made.append(ir.node("Mul", [made[-1].outputs[0], size_of_row]))
        return made

    def block_product(self, given: ir.Value, shared: Shared) -> list[ir.Node]:
        """Return the product of `given` with numbers in blocks."""
        block, bits = self.rounding.block, self.rounding.bits
        assert block is not None
        numbers = self.stored(NUMBERS, (self.rows, self.blocks, block * bits // 8), ir.DataType.UINT8)
        attributes = {
            "K": self.columns,
            "N": self.rows,
            "bits": bits,
            "block_size": block,
            "accuracy_level": INT8_PRODUCTS,
        }
        stored = [numbers, self.scales()]
        if self.rounding.offsets == WHOLE:
            stored.append(self.stored(ZEROS, (self.rows, -(-self.blocks * bits // 8)), ir.DataType.UINT8))
        made = [ir.node(PRODUCT, [given, *stored], attributes=attributes, domain=CONTRIB)]
        if self.rounding.offsets == ANY:
            if (given, block) not in shared.sums:
                made += self.sums(given, block)
                shared.sums[given, block] = made[-1].outputs[0]
            offsets = self.stored(OFFSETS, (self.blocks, self.rows), ir.DataType.FLOAT)
            made.append(ir.node("MatMul", [shared.sums[given, block], offsets]))
            made.append(ir.node("Add", [made[0].outputs[0], made[-1].outputs[0]]))
        return made

    def sums(self, given: ir.Value, block: int) -> list[ir.Node]:
        """Return the nodes that sum `given` over each block of the inputs."""
        assert given.shape is not None
        lead = [0] * (len(given.shape) - 1)
        blocks = ir.node("Reshape", [given, self.sizes(*lead, self.blocks, block)])
        return [blocks, ir.node("ReduceSum", [blocks.outputs[0], self.sizes(-1)], attributes={"keepdims": 0})]

    def replace_gather(self, gather: ir.Node) -> None:
        """Gather numbers and scales of the rows in the place of floats."""
        indices = gather.inputs[1]
        assert indices is not None
        assert indices.shape is not None
        if self.rounding.block is None or self.rounding.bits != 8 or self.rounding.offsets:
            raise ir.passes.PreconditionError(
                f"rows of {self.name!r} are looked up: wanted blocks of 8 bits, no offsets"
            )
        lead = [0] * len(indices.shape)
        rows = self.stored(NUMBERS, (self.rows, self.columns), ir.DataType.UINT8, "rows")
        zero = self.constant(
            ir.tensor([float(self.rounding.zero)], dtype=ir.DataType.FLOAT, name="stts.zero_of_8_bits")
        )
        numbers = ir.node("Gather", [rows, indices])
        numbers.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
        floats = ir.node("Cast", [numbers.outputs[0]], attributes={"to": ir.DataType.FLOAT.value})
        signed = ir.node("Sub", [floats.outputs[0], zero])
        blocks = ir.node("Reshape", [signed.outputs[0], self.sizes(*lead, self.blocks, self.rounding.block)])
        scales = ir.node("Gather", [self.scales(), indices])
        wide = ir.node("Unsqueeze", [scales.outputs[0], self.sizes(-1)])
        scaled = ir.node("Mul", [blocks.outputs[0], wide.outputs[0]])
        joined = ir.node("Reshape", [scaled.outputs[0], self.sizes(*lead, self.columns)])
        replace_node(self.graph, gather, [numbers, floats, signed, blocks, scales, wide, scaled, joined])

    def sizes(self, *sizes: int) -> ir.Value:
        """Return sizes, or axes, as a constant of the graph."""
        return self.constant(ir.tensor(sizes, dtype=ir.DataType.INT64, name=f"stts.{'_'.join(map(str, sizes))}"))

    def constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return a small constant of the graph, one of a name."""
        name = str(tensor.name)
        if name not in self.graph.initializers:
            shape = ir.Shape([int(size) for size in tensor.numpy().shape])
            value = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            self.graph.initializers.add(value)
        return self.graph.initializers[name]


def replace_node(graph: ir.Graph, node: ir.Node, made: list[ir.Node]) -> None:
    """Put nodes in the place of one; the last makes what it made, under its name."""
    old, new = node.outputs[0], made[-1].outputs[0]
    new.type, new.shape, name = old.type, old.shape, old.name
    for value in (output for other in made[:-1] for output in other.outputs):
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name = name
    graph.remove(node, safe=True)
