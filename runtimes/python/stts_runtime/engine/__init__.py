"""Inference engines behind one Protocol; each is imported when it is chosen, and only then."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from stts_runtime.bundle.backend import backend_named
from stts_runtime.bundle.open import Bundle, check_unchanged
from stts_runtime.engine.device_memory import SharedMemory
from stts_runtime.engine.memory import Array, HostMemory, Memory


__all__ = ["Array", "Arrays", "Engine", "HostMemory", "Memory", "Opener", "SharedMemory", "open_engine"]

# onnxruntime 1.32 begins a session of telemetry as it is imported (`findings/onnxruntime_keeps_a_diary_for_its_maker`):
# not from a program of ours, unless whoever runs it says so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Arrays = Mapping[str, Array]


class Engine(Protocol):
    """One graph, ready to run."""

    @property
    def memory(self) -> Memory:
        """Where the engine wants its big arrays."""

    def run(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the graph once.

        Arrays are numpy's, or of the memory of any engine that shares it, mixed as the caller likes. Numpy outputs hold
        their values when this returns.

        Args:
            inputs: every input of the graph's spec by name; dtype (see `storage_dtype`) and shape as in the spec,
                C-contiguous. Others are ignored.
            outputs: an array for every output, which is written in place; may not overlap any input.

        Raises:
            EngineError: the engine refused an input or failed.
        """

    def close(self) -> None:
        """Release the engine's memory; a second call does nothing."""


Opener = Callable[[Bundle, str, SharedMemory], Engine]
"""Called with a bundle, a part's name and the memory that engines share; see `open_engine`."""


def open_engine(bundle: Bundle, part: str, shared: SharedMemory | None = None) -> Engine:
    """Return the engine that the bundle names, with the graph of `part` loaded.

    Args:
        bundle: the bundle.
        part: which of its graphs.
        shared: the GPU memory of engines that pass arrays to each other; without it the engine has its own.

    Raises:
        BundleError: another bundle came in the place of this one since it was opened.
        EngineError: the backend is not one of ours, is not installed, or refuses the graph.
    """
    check_unchanged(bundle)
    if backend_named(bundle.manifest.engine.backend).needs_engines:
        from stts_runtime.engine.trt import open_trt_engine

        engine: Engine = open_trt_engine(bundle, part, shared or SharedMemory())
    else:
        from stts_runtime.engine.ort import open_onnxruntime_engine

        engine = open_onnxruntime_engine(bundle, part)
    try:
        check_unchanged(bundle)  # again: it may have been replaced while graph and weights were read
    except BaseException:
        engine.close()
        raise
    return engine
