"""A bundle's graph in onnxruntime, which also writes its taps where it is asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from stts_runtime.bundle.open import Bundle
from stts_runtime.bundle.spec import TensorSpec
from stts_runtime.engine import Arrays, HostMemory, SharedMemory
from stts_runtime.engine.ort import PROVIDERS, run_session, session_options
from stts_runtime.errors import BundleError, EngineError


class TappedEngine:
    """A graph on the CPU, optimised as in the runtime; `taps` are those that it has, with their dtypes."""

    def __init__(self, bundle: Bundle, part: str) -> None:
        """Open a graph; its weights stay where they are.

        Raises:
            BundleError: the file is not a graph.
            EngineError: onnxruntime refuses it.
            UsageError: STTS_THREADS is no number of threads.
        """
        import onnxruntime

        graph = bundle.manifest.graphs[part]
        content, self.taps = with_taps(bundle.file(graph.file), graph.spec.taps)
        options = session_options(bundle.manifest.engine.prepack)
        options.enable_cpu_mem_arena = False  # each run has other shapes: what one took is of no use to the next
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(bundle.path))
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=[PROVIDERS["cpu"]])
        except Exception as error:
            raise EngineError(f"onnxruntime refuses {graph.file} with its taps as outputs: {error}") from error
        self._spec = graph.spec
        self.memory = HostMemory()

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once, see `Engine.run`; `outputs` may hold arrays for taps, of the shapes they have."""
        asked = tuple(TensorSpec(tap, self.taps[tap], outputs[tap].shape) for tap in self.taps if tap in outputs)
        run_session(self._session, replace(self._spec, outputs=(*self._spec.outputs, *asked)), inputs, outputs)

    def close(self) -> None:
        """Release the session."""
        self._session = None


def open_tapped_engine(bundle: Bundle, part: str, shared: SharedMemory) -> TappedEngine:
    """Return the tapped engine of a part: an `Opener`."""
    return TappedEngine(bundle, part)


def with_taps(file: Path, taps: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """Return the graph in `file` with the inner values `taps` as further outputs, and the dtypes of those it has.

    Weights in external data are not read.

    Raises:
        BundleError: the file is not a graph.
    """
    try:
        model = ir.load(file)
    except Exception as error:
        raise BundleError(f"{file}: not an ONNX graph ({error}): copy or build the bundle again") from error
    dtypes = {}
    for value in (value for node in model.graph for value in node.outputs if value.name in taps):
        dtype = value.dtype or ir.DataType.FLOAT
        value.type = ir.TensorType(dtype)
        model.graph.outputs.append(value)
        dtypes[str(value.name)] = dtype.numpy().name
    return ir.to_proto(model).SerializeToString(), dtypes
