"""Let products and look-ups read weights that are stored in whole numbers."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from stts_export.graph.passes.store_transposed import (
    SOURCE,
    TRANSFORM,
    is_transposing_product,
    is_weight_transpose,
)
from stts_export.quantise.rounding import NUMBERS, OFFSETS, SCALES, Rounding


CONTRIB = "com.microsoft"
PRODUCT = "MatMulNBits"
FLOAT32_PRODUCTS, INT8_PRODUCTS = 1, 4
"""What `accuracy_level` says: at 4 onnxruntime rounds what is multiplied to 8 bits too, block by block, and multiplies
whole numbers; at any other it makes floats of the matrix, with 8 bits at a twentieth of float32's speed."""


class RoundWeights(ir.passes.InPlacePass):
    """Replace what reads a rounded weight by what reads its numbers, for onnxruntime on a CPU.

    1. A product `x W^T`, written as MatMul or Gemm, becomes `MatMulNBits`. Where the numbers have offsets, the product
       of the offsets with the sums of x over each block is added: a zero point that is no whole number would turn the
       operator's integer products off.
    2. A look-up of rows gathers numbers and scales, and multiplies.

    Needs that nothing else reads such a weight. Afterwards the graph holds none of them.
    """

    def __init__(self, roundings: Mapping[str, Rounding]) -> None:
        """Say how each weight is rounded, by its name."""
        super().__init__()
        self.roundings = roundings

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite `model`."""
        sums: dict[tuple[ir.Value, int], ir.Value] = {}
        names = [name for name in model.graph.initializers if name in self.roundings]
        for name in names:
            weight = Weight(model.graph, name, self.roundings[name])
            for node, place in list(weight.value.uses()):
                if is_weight_transpose(node):
                    for product, place_there in list(node.outputs[0].uses()):
                        if (product.op_type, place_there) != ("MatMul", 1):
                            raise ir.passes.PreconditionError(unexpected(name, product))
                        weight.replace_product(product, sums)
                    model.graph.remove(node, safe=True)
                elif is_transposing_product(node, place):
                    weight.replace_product(node, sums)
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


class Weight:
    """A rounded weight of a graph, and what its readers become."""

    def __init__(self, graph: ir.Graph, name: str, rounding: Rounding) -> None:
        self.graph, self.name, self.rounding = graph, name, rounding
        self.value = graph.initializers[name]
        assert self.value.shape is not None
        self.rows, self.columns = self.value.shape.numpy()
        self.blocks = self.columns // rounding.block

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

    def replace_product(self, product: ir.Node, sums: dict[tuple[ir.Value, int], ir.Value]) -> None:
        """Put products of whole numbers in the place of a MatMul or Gemm; `sums` are those that were made before."""
        given, rounding = product.inputs[0], self.rounding
        assert given is not None
        shape = (self.rows, self.blocks, rounding.block * rounding.bits // 8)
        numbers = self.stored(NUMBERS, shape, ir.DataType.UINT8)
        attributes = {
            "K": self.columns,
            "N": self.rows,
            "bits": rounding.bits,
            "block_size": rounding.block,
            "accuracy_level": INT8_PRODUCTS,
        }
        made = [ir.node(PRODUCT, [given, numbers, self.scales()], attributes=attributes, domain=CONTRIB)]
        if rounding.has_offsets:
            made += self.sums(given, product, sums)
            offsets = self.stored(OFFSETS, (self.blocks, self.rows), ir.DataType.FLOAT)
            made.append(ir.node("MatMul", [sums[given, rounding.block], offsets]))
            made.append(ir.node("Add", [made[0].outputs[0], made[-1].outputs[0]]))
        if len(product.inputs) > 2 and product.inputs[2] is not None:  # a Gemm's bias
            made.append(ir.node("Add", [made[-1].outputs[0], product.inputs[2]]))
        replace(self.graph, product, made)

    def sums(self, given: ir.Value, product: ir.Node, sums: dict[tuple[ir.Value, int], ir.Value]) -> list[ir.Node]:
        """Return the nodes that sum `given` over each block of the inputs; none where products share what they read."""
        if (given, self.rounding.block) in sums:
            return []
        assert given.shape is not None
        lead = [0] * (len(given.shape) - 1)
        blocks = ir.node("Reshape", [given, self.sizes(*lead, self.blocks, self.rounding.block)])
        summed = ir.node("ReduceSum", [blocks.outputs[0], self.sizes(-1)], attributes={"keepdims": 0})
        sums[given, self.rounding.block] = summed.outputs[0]
        return [blocks, summed]

    def replace_gather(self, gather: ir.Node) -> None:
        """Gather numbers and scales of the rows in the place of floats."""
        indices = gather.inputs[1]
        assert indices is not None
        assert indices.shape is not None
        if self.rounding.bits != 8 or self.rounding.has_offsets:
            raise ir.passes.PreconditionError(f"rows of {self.name!r} are looked up: wanted 8 bits without offsets")
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
        replace(self.graph, gather, [numbers, floats, signed, blocks, scales, wide, scaled, joined])

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


def replace(graph: ir.Graph, node: ir.Node, made: list[ir.Node]) -> None:
    """Put nodes in the place of one; the last makes what it made, under its name."""
    old, new = node.outputs[0], made[-1].outputs[0]
    new.type, new.shape, name = old.type, old.shape, old.name
    for value in (output for other in made[:-1] for output in other.outputs):
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name = name
    graph.remove(node, safe=True)
