"""Pieces of a stored graph, run in onnxruntime and written as graphs of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from stts_export.graph.cut import GIVEN, piece
from stts_export.verify.stored_weights import tensor_array
from stts_runtime.engine.ort import PROVIDERS, session_options
from stts_runtime.errors import EngineError


LARGEST_INLINE = 1 << 30  # bytes of weights in one file; protobuf ends at twice as many
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def run_piece(
    model: ir.Model,
    root: Path,
    nodes: Sequence[ir.Node],
    cuts: Collection[str],
    outputs: Sequence[str],
    values: Mapping[str, NDArray],
) -> dict[str, NDArray]:
    """Return what a piece of `model` says, see `piece`; half-precision floats as float32.

    Args:
        model: the graph; weights in external data lie below `root`.
        root: a bundle's directory.
        nodes: of the piece.
        cuts: names of values that those who read them are given.
        outputs: names of values that are wanted.
        values: what is given, by name.

    Raises:
        EngineError: onnxruntime refuses the piece.
    """
    import onnxruntime

    cut = piece(model, nodes, cuts, outputs)
    options = session_options(prepack=False)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(root))
    try:
        content = ir.to_proto(cut).SerializeToString()
        session: Any = onnxruntime.InferenceSession(content, options, providers=[PROVIDERS["cpu"]])
        given = {value.name: host_array(value, values[named_without(value)]) for value in cut.graph.inputs}
        return dict(zip(outputs, session.run(list(outputs), given), strict=True))
    except Exception as error:
        raise EngineError(f"onnxruntime does not run a piece of graph {model.graph.name!r}: {error}") from error


def host_array(value: ir.Value, array: NDArray) -> NDArray:
    """Return what an input of a piece is given, in its dtype."""
    assert value.dtype is not None
    return np.ascontiguousarray(array, value.dtype.numpy())


def named_without(value: ir.Value) -> str:
    """Return the name that an input of a piece has in the graph."""
    return str(value.name).removesuffix(GIVEN)


def first_overflow(model: ir.Model, root: Path, nodes: Sequence[ir.Node], values: Mapping[str, NDArray]) -> str:
    """Return, in words, which of `nodes` first makes NaN or infinity of finite numbers; "" if none does."""
    for value in dict.fromkeys(value for node in nodes for value in node.inputs if value is not None):
        tensor = value.const_value if value.dtype in FLOATS else None
        if tensor is not None and not np.isfinite(tensor_array(tensor, root).astype(np.float32)).all():
            return f"constant {value.name} is not finite"
    inner = [value for node in nodes for value in node.outputs if value.name and value.dtype in FLOATS]
    said = run_piece(model, root, nodes, (), [str(value.name) for value in inner], values)
    for node in nodes:
        for value in node.outputs:
            array = said.get(str(value.name))
            if array is None or np.isfinite(array).all():
                continue
            exact = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] is not None else None
            maker = exact if exact in nodes else node  # its result was finite, and is not once it is rounded
            largest = max((_largest(said, values, one) for one in node.inputs), default=0.0)
            return f"{(maker or node).op_type} {value.name} overflows, of numbers up to {largest:.3g}"
    return ""


def save_piece(
    model: ir.Model, root: Path, nodes: Sequence[ir.Node], output: str, values: Mapping[str, NDArray], file: Path
) -> list[str]:
    """Write `nodes` as a graph with its weights inside, for the shapes of `values`; return the names of its inputs.

    Args:
        model: the graph; weights in external data lie below `root`.
        root: a bundle's directory.
        nodes: of the piece.
        output: name of the value that they make.
        values: what it is to be given, and the output, by name.
        file: where to.

    Raises:
        OSError: the file cannot be written.
    """
    cut = piece(model, nodes, (), [output])
    for value in (*cut.graph.inputs, *cut.graph.outputs):
        value.shape = ir.Shape(values[str(value.name)].shape)
    size = 0
    for value in cut.graph.initializers.values():
        assert value.const_value is not None
        array = tensor_array(value.const_value, root)
        value.const_value = ir.Tensor(array, value.const_value.dtype, name=value.name)
        size += array.nbytes
    ir.save(cut, file, external_data=f"{file.stem}.bin" if size > LARGEST_INLINE else None)
    return [str(value.name) for value in cut.graph.inputs]


def _largest(said: Mapping[str, NDArray], values: Mapping[str, NDArray], value: ir.Value | None) -> float:
    name = "" if value is None else str(value.name)
    array = said.get(name, values.get(name))
    return 0.0 if array is None or array.dtype.kind != "f" else float(np.abs(array).max(initial=0.0))
