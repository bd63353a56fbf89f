"""What a stored graph computes and moves in one run, counted node by node.

Products, attention and our plugins are counted, and gathers, which move rows. Everything else, elementwise or a view,
is taken to be done by an engine within the node beside it, and so is what lies between the two products of an
attention, but for a bias or mask that is added there: every block reads it again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import onnx_ir as ir
from onnxscript import optimizer

from stts_export.errors import ExportError
from stts_export.ops import PLUGIN_NAMES


_PRODUCTS = ("MatMul", "Gemm")
_UNCOUNTED = ("Conv", "Einsum", "Attention", "GroupQueryAttention")
_WITHIN_ATTENTION = ("Add", "Cast", "Div", "Mul", "Where")
_VIEWS = ("Cast", "Identity", "Reshape", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class GraphWork:
    """One run of a graph, or a sum of such."""

    flops: int = 0  # two a multiply and add
    weight_bytes: int = 0  # of weights that products read
    activation_bytes: int = 0  # that counted nodes read and write besides

    @property
    def moved_bytes(self) -> int:
        """All of them."""
        return self.weight_bytes + self.activation_bytes

    def __add__(self, other: GraphWork) -> GraphWork:
        return GraphWork(*map(operator.add, astuple(self), astuple(other)))


def graph_work(path: Path, dims: Mapping[str, int], lengths: Sequence[int] = ()) -> GraphWork:
    """Return the work of one run of the vision graph at `path`.

    Args:
        path: the stored graph; its weights are not read.
        dims: the size of each of its named dimensions.
        lengths: patches of each frame that it attends over, which are data where frames lie end to end.

    Raises:
        ExportError: a node that has to be counted has a shape that does not follow from `dims`, or is not known here.
    """
    graph = with_sizes(path, dims).graph
    logits = logits_of(graph)
    work = GraphWork()
    for node in graph:
        if node.op_type in _UNCOUNTED:
            raise ExportError(f"{path.name}: node {node.name} is a {node.op_type}, whose work nobody counts yet")
        if node.op_type in _PRODUCTS:
            work += _product(node, logits)
        elif node.op_type in PLUGIN_NAMES:
            work += _plugin(node, lengths)
        elif node.op_type == "MultiHeadAttention":
            work += _attention(node, lengths)
        elif node.op_type == "Gather" and not _is_weight(node.inputs[0]):
            work += _rows_moved(node)
        elif any(one in logits for one in node.outputs):  # what is added to logits, or chosen by
            read = [one for one in node.inputs if one not in logits and math.prod(_sizes(one)) > 1]
            work += GraphWork(activation_bytes=sum(map(_bytes, read)))
    return work


def with_sizes(path: Path, dims: Mapping[str, int]) -> ir.Model:
    """Return the graph at `path` with numbers for names, as far as they follow from `dims` and the nodes."""
    model = ir.load(path)
    for weight in model.graph.initializers.values():
        if isinstance(weight.const_value, ir.ExternalTensor):
            weight.const_value = None  # folding would read it, and refuses a file that lies in two places
    for value in (*model.graph.inputs, *(one for node in model.graph for one in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape(
                [size if isinstance(size, int) else _size_of(str(size), dims) for size in value.shape]
            )
    optimizer.fold_constants(model, onnx_shape_inference=True)  # so that sizes which nodes work out are known too
    return model


def _size_of(name: str, dims: Mapping[str, int]) -> int | None:
    """Return what a name, or a sum or product of names, is in numbers."""
    size = ir.SymbolicDim(name).evaluate(dict(dims))
    return size if isinstance(size, int) else None


def logits_of(graph: ir.Graph) -> set[ir.Value]:
    """Return what lies between the two products of each attention: before and after its softmax."""
    found: set[ir.Value] = set()
    for softmax in (node for node in graph if node.op_type == "Softmax"):
        within = [*_back_to_product(softmax.inputs[0]), softmax.outputs[0]]
        within += [use.node.outputs[0] for use in softmax.outputs[0].uses() if use.node.op_type == "Cast"]
        found |= set(within) if _maker_of(within[0]) == "MatMul" else set()
    return found


def _back_to_product(value: ir.Value | None) -> list[ir.Value]:
    """Return the values between a product and `value`, both included; the oldest first."""
    if value is None:
        return []
    maker = value.producer()
    if maker is None or maker.op_type not in _WITHIN_ATTENTION:
        return [value]
    # the logits are the largest input: a bias or a scale is spread over them
    return [*_back_to_product(max(maker.inputs, key=_elements)), value]


def _maker_of(value: ir.Value) -> str:
    maker = value.producer()
    return "" if maker is None else maker.op_type


def _product(node: ir.Node, logits: set[ir.Value]) -> GraphWork:
    left, right = node.inputs[:2]
    flops = 2 * _elements(node.outputs[0]) * _sizes(left)[-1]  # the exporter turns no left operand of a Gemm
    weights = [one for one in (left, right) if _is_weight(one)]
    moved = [one for one in (left, right, node.outputs[0]) if one not in logits and one not in weights]
    return GraphWork(flops, sum(map(_bytes, weights)), sum(map(_bytes, moved)))


def _attention(node: ir.Node, lengths: Sequence[int]) -> GraphWork:
    """Return the work of an attention without mask: of stacked frames, or of the one frame that a Split gives it."""
    query = node.inputs[0]
    assert query is not None
    assert query.dtype is not None
    assert query.shape is not None
    width, split = query.shape[-1], query.producer()
    assert isinstance(width, int)
    if split is None or split.op_type != "Split":
        stacked, rows, _ = _sizes(query)
    else:  # its length is data; frames that are not there have none
        place, stacked = split.outputs.index(query), 1
        rows = lengths[place] if place < len(lengths) else 0
    moved = 4 * stacked * rows * width * query.dtype.itemsize
    return GraphWork(4 * stacked * rows**2 * width, 0, math.ceil(moved))


def _plugin(node: ir.Node, lengths: Sequence[int]) -> GraphWork:
    operands = sum(_bytes(one) for one in (*node.inputs, *node.outputs) if one is not None)
    match PLUGIN_NAMES[node.op_type].operator:
        case "PackTokens":  # of all patches it reads those that it writes
            return GraphWork(activation_bytes=2 * _bytes(node.outputs[0]) + _bytes(node.inputs[1]))
        case "RaggedAttention":
            rows, width = _sizes(node.inputs[0])
            if sum(lengths) != rows:
                raise ExportError(f"node {node.name} attends over {rows} patches, and the frames have {sum(lengths)}")
            return GraphWork(4 * width * sum(length**2 for length in lengths), 0, operands)
        case "GroupPool":  # a query for all patches of its group, once with keys and once with values
            return GraphWork(4 * _elements(node.inputs[1]), 0, operands)
        case "GroupScore" | "SelectGroups":  # no products
            return GraphWork(activation_bytes=operands)
    raise ExportError(f"node {node.name} is a {node.op_type}, which is in no vision graph")


def _rows_moved(node: ir.Node) -> GraphWork:
    return GraphWork(activation_bytes=2 * _bytes(node.outputs[0]) + _bytes(node.inputs[1]))


def _is_weight(value: ir.Value | None) -> bool:
    if value is None:
        return False
    maker = value.producer()
    return _is_weight(maker.inputs[0]) if maker is not None and maker.op_type in _VIEWS else value.is_initializer()


def _sizes(value: ir.Value | None) -> list[int]:
    if value is None:
        return [0]
    shape = value.shape
    if shape is None or not shape.is_static():
        raise ExportError(f"the shape of {value.name}, {shape}, does not follow from the sizes that are given")
    return list(shape.numpy())


def _elements(value: ir.Value | None) -> int:
    return math.prod(_sizes(value))


def _bytes(value: ir.Value | None) -> int:
    if value is None:
        return 0
    if value.dtype is None:
        raise ExportError(f"the type of {value.name} is not known")
    return math.ceil(_elements(value) * value.dtype.itemsize)
