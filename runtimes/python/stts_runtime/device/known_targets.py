"""The targets whose bundles a device can run.

A light install has no recipes, so what `doctor` must know of `recipes/targets/*.toml` stands here, and a test holds the
two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stts_runtime.sizes import GIB


@dataclass(frozen=True)
class KnownTarget:
    """What tells a target's devices apart."""

    name: str  # what `stts-export build --target` takes
    backend: str  # engine of its bundles, unless another is asked for
    compute_capabilities: tuple[int, ...]  # SM versions it is built for; empty for `cpu`
    memory_gib: float | None  # as the product is named; None where it differs from card to card


KNOWN_TARGETS = (
    KnownTarget("jetson-orin", "tensorrt", (87,), 64),
    KnownTarget("jetson-orin-32", "tensorrt", (87,), 32),
    KnownTarget("jetson-orin-nx", "tensorrt", (87,), 16),
    KnownTarget("jetson-orin-nx-super", "tensorrt", (87,), 16),
    KnownTarget("jetson-orin-nano", "tensorrt", (87,), 8),
    KnownTarget("jetson-orin-nano-super", "tensorrt", (87,), 8),
    KnownTarget("jetson-thor", "tensorrt", (110,), 128),
    KnownTarget("l4", "tensorrt", (89,), 24),
    KnownTarget("a100", "tensorrt", (80,), 80),
    KnownTarget("h100", "tensorrt", (90,), 80),
    KnownTarget("b200", "tensorrt", (100,), 180),
    KnownTarget("rtx", "tensorrt_rtx", (86, 89, 120), None),
    KnownTarget("cpu", "onnxruntime", (), None),
)

_SEEN_SHARE = 0.85
"""Of the memory in a product's name, a system sees less: an 8 GB Orin Nano 7.4 GiB, an 80 GB H100 79.6 GiB."""


def targets_for(compute_capability: int | None, memory_bytes: int | None) -> tuple[KnownTarget, ...]:
    """Return the targets whose bundles fit a GPU, the largest first, and then `cpu`, which fits anything.

    Args:
        compute_capability: 87 is 8.7; None without a GPU.
        memory_bytes: of the GPU; None if that cannot be told, and then any may fit. So they may where none does: a
            product comes with several sizes of memory, and targets describe one.
    """
    built = tuple(target for target in KNOWN_TARGETS if compute_capability in target.compute_capabilities)
    memory = math.inf if memory_bytes is None else memory_bytes
    fitting = tuple(target for target in built if memory >= _SEEN_SHARE * (target.memory_gib or 0) * GIB)
    return (*(fitting or built), KNOWN_TARGETS[-1])
