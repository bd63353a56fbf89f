"""What is asked of one engine's build, and what comes back: the records that pass between the two processes."""

from __future__ import annotations

from dataclasses import dataclass

from stts_runtime.bundle.spec import GraphSpec
from stts_runtime.trt.inspection import Inspection


@dataclass(frozen=True)
class EngineRequest:
    """One engine to build.

    Attributes:
        backend: `tensorrt` or `tensorrt_rtx`.
        graph: path of the ONNX file; its weights may lie beside it.
        precision: of the bundle: `float32`, `float16` or `bfloat16`.
        compute_capabilities: SMs the engine is for; with `tensorrt` the device's own and no other.
        workspace: most bytes of scratch memory a layer may ask for; None leaves it to TensorRT.
        inspect: whether to read the detailed log, and to check bindings and profiles of the engine with it.
    """

    backend: str
    graph: str
    spec: GraphSpec
    precision: str
    compute_capabilities: tuple[int, ...]
    output: str
    workspace: int | None = None
    inspect: bool = False


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built.

    Attributes:
        size: of its file, in bytes.
        sha256: of its file, in hex.
        parameter_bytes: of the graph's weights.
        peak_memory_bytes: most memory of the building process; None where the kernel does not tell.
        scratch_bytes: most that a layer wants beside its tensors; None where the log does not say so.
        activation_bytes: what a context wants while it runs, scratch included; None likewise.
        inspection: what the detailed log says, if it was asked for.
    """

    size: int
    sha256: str
    seconds: float
    parameter_bytes: int
    peak_memory_bytes: int | None = None
    scratch_bytes: int | None = None
    activation_bytes: int | None = None
    inspection: Inspection | None = None
