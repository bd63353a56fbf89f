"""All kernels of Triton's language, and where the library finds how each is launched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stts_export.kernels.files import write_changed
from stts_export.ops.kernel_variant import KernelVariant
from stts_export.ops.ragged_attention.variants import variants as ragged_attention
from stts_export.ops.vision_prefix_attention.variants import variants as vision_prefix_attention


LAUNCHES = "triton_launches.inc"
"""The file that `runtimes/tensorrt/src/triton_kernel.cpp` includes."""

WARP = 32


@dataclass(frozen=True)
class Launch:
    """How an entry is launched on a GPU, beside its grid."""

    entry: str
    sm: int  # 87 for 8.7; 0 for the twins of the stand-in
    tile: int  # rows of a program along the grid's first axis
    threads: int  # of a block
    shared_bytes: int  # dynamic; above 48 KiB a kernel must be allowed to have them


def triton_variants() -> tuple[KernelVariant, ...]:
    """Return every kernel that Triton compiles."""
    return (*ragged_attention(), *vision_prefix_attention())


def twin_launches(sm: int) -> list[Launch]:
    """Return launches of twins, which need no shared memory, for a GPU `sm` that is pretended."""
    return [Launch(one.entry, sm, one.tile, one.warps * WARP, 0) for one in triton_variants()]


def write_launches(path: Path, launches: Iterable[Launch]) -> None:
    """Write launches as the library's source includes them."""
    lines = [f"COMPILED({one.entry}, {one.sm}, {one.tile}, {one.threads}, {one.shared_bytes})\n" for one in launches]
    write_changed(path, "".join(lines).encode())
