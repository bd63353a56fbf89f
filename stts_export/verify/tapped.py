"""A bundle's graph in onnxruntime with its taps as further outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
from numpy.typing import NDArray

from stts_export.graph.casts import cast_node, cast_output
from stts_export.verify.cpu_emulation import is_half
from stts_runtime.bundle.manifest import EngineSettings, GraphEntry
from stts_runtime.errors import BundleError, EngineError


class TappedGraph:
    """A graph that also says what its inner values are; `missing` names taps that it does not have."""

    def __init__(self, bundle: Path, graph: GraphEntry, settings: EngineSettings) -> None:
        """Open the graph, optimised as in the runtime; its weights stay where they are.

        Raises:
            BundleError: the file is not a graph.
            EngineError: onnxruntime refuses it.
        """
        import onnxruntime

        content, self.missing = with_taps(bundle / graph.file, graph.spec.taps)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = int(os.environ.get("STTS_THREADS", "0"))
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle))
        if not settings.prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"onnxruntime refuses {graph.file} with its taps as outputs: {error}") from error
        self._file = graph.file

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Return every output and tap by name.

        Raises:
            EngineError: onnxruntime refuses an input or fails.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise EngineError(f"{self._file} failed: {error}") from error


@contextmanager
def tapped_graph(bundle: Path, graph: GraphEntry, settings: EngineSettings) -> Iterator[TappedGraph]:
    """Open a graph with its taps, and let go of its memory when the `with` block ends; see `TappedGraph`."""
    opened = TappedGraph(bundle, graph, settings)
    try:
        yield opened
    finally:
        del opened._session


def with_taps(file: Path, taps: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """Return the graph in `file` with the inner values `taps` as further outputs, and the taps it does not have.

    Inputs and outputs in half precision become float32, cast inside, so that numpy has a type for all of them. Weights
    in external data are not read.

    Raises:
        BundleError: the file is not a graph.
    """
    try:
        model = ir.load(file)
    except Exception as error:
        raise BundleError(f"{file}: not an ONNX graph ({error}): copy or build the bundle again") from error
    values = {value.name: value for node in model.graph for value in node.outputs}
    present = {value.name for value in model.graph.outputs}
    for tap in taps:
        if tap in values and tap not in present:
            value = values[tap]
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(value)
    widen_bindings(model.graph)
    return ir.to_proto(model).SerializeToString(), tuple(tap for tap in taps if tap not in values)


def widen_bindings(graph: ir.Graph) -> None:
    """Let inputs and outputs in half precision be float32 under the same names, with a Cast behind or before each."""
    for place, value in enumerate(graph.inputs):
        if is_half(value):
            outer = ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
            node = cast_node(outer, value.dtype)
            ir.convenience.replace_all_uses_with(value, node.outputs[0])
            graph.inputs[place] = outer
            node.outputs[0].name = f"{value.name}.inner"
            graph.insert_before(graph[0], node)
    for place, value in enumerate(graph.outputs):
        if is_half(value):
            cast_output(graph, place, ir.DataType.FLOAT, inner=f"{value.name}.inner")
