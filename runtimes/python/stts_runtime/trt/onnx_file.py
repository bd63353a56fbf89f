"""What a graph file holds, read without the onnx package: nodes, opset, where its weights lie and how large they are.

TensorRT's own parser reads the graph; this is for what must be known before (memory) and said after (the node that was
refused, which 8.6 knows by number only). Just enough of the protobuf wire format for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stts_runtime.errors import EngineError


# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: field numbers, and TensorProto.DataType -> bits an element
_MODEL_GRAPH, _MODEL_OPSETS = 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODES, _GRAPH_INITIALIZERS = 1, 5
_NODE_OUTPUTS, _NODE_NAME, _NODE_OPERATOR = 2, 3, 4
_TENSOR_DIMS, _TENSOR_DTYPE, _TENSOR_EXTERNAL = 1, 2, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4}

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxNode:
    """A node of the graph: its operator, and its name or, where it has none, its first output's."""

    name: str
    operator: str


@dataclass(frozen=True)
class OnnxFile:
    """A graph file."""

    opset: int
    nodes: tuple[OnnxNode, ...]  # in the file's order, which is how TensorRT counts them
    parameter_bytes: int
    external_files: tuple[str, ...]  # files that hold weights, relative to the graph file's directory


def read_onnx_file(path: Path) -> OnnxFile:
    """Return what is in the graph file `path`; weights are not read.

    Raises:
        EngineError: it cannot be read, or is no ONNX file.
    """
    try:
        return _model(memoryview(path.read_bytes()))
    except (OSError, ValueError, LookupError) as error:
        raise EngineError(f"{path}: cannot be read as an ONNX graph: {error}") from error


def _model(view: memoryview) -> OnnxFile:
    opset = 0
    nodes: list[OnnxNode] = []
    tensors: list[tuple[int, str]] = []
    for number, value in _fields(view):
        if number == _MODEL_OPSETS:
            fields = dict(_fields(_message(value)))
            if not _text(fields.get(_OPSET_DOMAIN)):
                opset = _number(fields.get(_OPSET_VERSION))
        elif number == _MODEL_GRAPH:
            parts = list(_fields(_message(value)))
            nodes += [_node(_message(part)) for inner, part in parts if inner == _GRAPH_NODES]
            tensors += [_tensor(_message(part)) for inner, part in parts if inner == _GRAPH_INITIALIZERS]
    if not nodes:
        raise ValueError("it has no nodes")
    files = dict.fromkeys(file for _, file in tensors if file)
    return OnnxFile(opset, tuple(nodes), sum(size for size, _ in tensors), tuple(files))


def _node(view: memoryview) -> OnnxNode:
    name = operator = output = ""
    for number, value in _fields(view):
        if number == _NODE_NAME:
            name = _text(value)
        elif number == _NODE_OPERATOR:
            operator = _text(value)
        elif number == _NODE_OUTPUTS and not output:
            output = _text(value)
    return OnnxNode(name or output, operator)


def _tensor(view: memoryview) -> tuple[int, str]:
    """Return size in bytes and the file that holds the data, empty if it is in the graph file."""
    dims: list[int] = []
    dtype, file = 0, ""
    for number, value in _fields(view):
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == _TENSOR_DTYPE and isinstance(value, int):
            dtype = value
        elif number == _TENSOR_EXTERNAL:
            entry = dict(_fields(_message(value)))
            if _text(entry.get(_ENTRY_KEY)) == "location":
                file = _text(entry.get(_ENTRY_VALUE))
    return math.prod(dims) * _BITS.get(dtype, 8) // 8, file


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message: a number, or a view of its bytes."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(view, at)
            yield tag >> 3, value
            continue
        if kind == _LENGTH:
            length, at = _varint(view, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"no protobuf (wire type {kind})")
        if at + length > len(view):
            raise ValueError("it ends in the middle")
        yield tag >> 3, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Return the number at `at` and where the next field begins."""
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varints(view: memoryview) -> Iterator[int]:
    at = 0
    while at < len(view):
        value, at = _varint(view, at)
        yield value


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _number(value: int | memoryview | None) -> int:
    return value if isinstance(value, int) else 0


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""
