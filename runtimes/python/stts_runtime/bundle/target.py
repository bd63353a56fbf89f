"""What a bundle is built for: a device's compute capability, memory and speed, and the software it comes with.

Recipes (`recipes/targets/*.toml`) are read into these records; a bundle's manifest carries the one it was built for.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PeakTflops:
    """Dense matrix throughput, TFLOP/s (TOP/s for int8); None where there is no such arithmetic, or none is known.

    Sparse figures, which vendors print larger, are not used.
    """

    float32: float | None = None
    float16: float | None = None
    bfloat16: float | None = None
    int8: float | None = None
    float8: float | None = None
    float4: float | None = None


@dataclass(frozen=True)
class Target:
    """A device to build for."""

    name: str  # what `--target` takes
    title: str
    backends: tuple[str, ...]  # engines that run there, the default first: `onnxruntime`, `tensorrt`, `tensorrt_rtx`
    precisions: tuple[str, ...]  # what engines may compute in, the default first: `float32`, `float16`, `bfloat16`
    compute_capabilities: tuple[int, ...]  # SM versions (87 is 8.7) an engine is built for; empty without a GPU
    shared_memory: bool  # whether CPU and GPU share one memory, so that a build and everything else compete for it
    # JetPack releases that support it (`stts_runtime.device.jetpack`); empty where software comes by pip
    jetpacks: tuple[str, ...]
    max_frames: int  # default limit on frames a clip
    source: str  # where the figures come from, and what was measured
    memory_gib: float | None = None  # of the GPU; None where it differs from card to card
    bandwidth_gb_per_s: float | None = None  # of that memory, as the vendor prints it; None where cards differ
    peak_tflops: PeakTflops = field(default_factory=PeakTflops)
    max_tokens: int | None = None  # default limit on tokens a conversation; None follows from frames and model
