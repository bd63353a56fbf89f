"""The onnxruntime engine, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stts_runtime.engine import Arrays
from stts_runtime.errors import EngineError, UsageError
from stts_runtime.spec import GraphSpec, TensorSpec


class OnnxruntimeEngine:
    """A graph in an onnxruntime session; inputs and outputs are bound to the caller's arrays without copies."""

    def __init__(self, path: Path, spec: GraphSpec, *, prepack: bool, threads: int | None = None) -> None:
        """Load the graph.

        Args:
            path: the ONNX file; its weights lie beside it as external data.
            spec: the graph's contract.
            prepack: repack weights for faster products, which copies them; without it they stay memory-mapped.
            threads: of one operator; default STTS_THREADS from the environment, else one a physical core.

        Raises:
            EngineError: onnxruntime is missing or refuses the graph.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"onnxruntime cannot be imported ({error}): pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is in our error already; a second text on stderr helps nobody
        options.intra_op_num_threads = threads_from_environment() if threads is None else threads
        options.enable_mem_pattern = False  # it plans memory for one shape, and shapes change with every clip
        if not prepack:
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"onnxruntime refuses {path.name}: {error}") from error
        self._spec = spec

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once, see `Engine.run`."""
        if self._session is None:
            raise EngineError(f"graph {self._spec.name!r} was closed: its session has ended, load the bundle again")
        binding = self._session.io_binding()
        for tensor in self._spec.inputs:
            array = checked(inputs[tensor.name], tensor, self._spec.name)
            binding.bind_input(tensor.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for tensor in self._spec.outputs:
            array = checked(outputs[tensor.name], tensor, self._spec.name)
            if not array.flags.writeable:
                raise EngineError(f"graph {self._spec.name!r}, {tensor.name!r}: the output array is read-only")
            binding.bind_output(tensor.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise EngineError(f"graph {self._spec.name!r} failed: {error}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None


def threads_from_environment() -> int:
    """Return what STTS_THREADS says, 0 (one a physical core) without it.

    Raises:
        UsageError: it is no number of threads.
    """
    text = os.environ.get("STTS_THREADS", "0")
    if not text.isdecimal():
        raise UsageError(f"STTS_THREADS is {text!r}, wanted a number of threads, or 0 for one a physical core")
    return int(text)


def checked(array: np.ndarray, tensor: TensorSpec, graph: str) -> np.ndarray:
    """Return `array` if it can be bound to `tensor`; a wrong one would be read past its end.

    Raises:
        EngineError: dtype, rank, a fixed size or the memory layout is not the spec's.
    """
    fits = len(array.shape) == len(tensor.shape) and all(
        isinstance(want, str) or got == want for got, want in zip(array.shape, tensor.shape, strict=False)
    )
    if not fits or array.dtype != tensor.dtype or not array.flags.c_contiguous:
        raise EngineError(
            f"graph {graph!r}, {tensor.name!r}: wanted {tensor.dtype} {list(tensor.shape)}, C-contiguous; "
            f"got {array.dtype} {list(array.shape)}"
        )
    return array
