"""What is asked of one engine's build, and what comes back: the records that pass between the two processes."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.trt.inspection import Inspection


@dataclass(frozen=True)
class EngineRequest:
    """One engine to build."""

    backend: str  # `tensorrt` or `tensorrt_rtx`
    graph: str  # path of the ONNX file; its weights may lie beside it
    spec: GraphSpec
    precision: str  # of the bundle: `float32`, `float16` or `bfloat16`
    compute_capabilities: tuple[int, ...]  # SMs the engine is for; with `tensorrt` the device's own and no other
    output: str
    workspace: int | None = None  # most bytes of scratch memory a layer may ask for; None leaves it to TensorRT
    library: str | None = None  # path of our plugins' library, for a graph that has some
    inspect: bool = False  # whether to read the detailed log, and to check bindings and profiles of the engine with it


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built."""

    size: int  # of its file, in bytes
    sha256: str  # of its file, in hex
    seconds: float
    processor_seconds: float  # of all its threads: what else the machine does tells on the other, and not on this
    parameter_bytes: int  # of the graph's weights
    peak_memory_bytes: int | None = None  # most memory of the building process; None where the kernel does not tell
    scratch_bytes: int | None = None  # most that a layer wants beside its tensors; None where the log does not say so
    activation_bytes: int | None = None  # what a context wants while it runs, scratch included; None likewise
    inspection: Inspection | None = None  # what the detailed log says, if it was asked for
