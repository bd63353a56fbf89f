"""A kernel of Triton's language, made concrete: types, head width, tile sizes. Data, so that Triton is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


POINTERS = {"float16": "*fp16", "bfloat16": "*bf16"}
"""How Triton spells a pointer to a half-precision type."""

ROOMY_SMS = (80, 87, 90, 100, 110)
"""GPUs with 160 KB of shared memory and more; the others have 100, so that one tile less is copied ahead there."""


@dataclass(frozen=True)
class KernelVariant:
    """One entry of the compiled kernels."""

    operator: str  # its folder, which also names the image that the entry is in
    function: str  # in the folder's kernel.py
    entry: str  # `ragged_attention_float16_72`; CUDA's name of it, the same for every GPU
    signature: Mapping[str, str]  # of each parameter that is no constant, in order, as Triton spells types
    constants: Mapping[str, int]
    grid: tuple[str, str, str]  # of programs, in terms of parameters and constants; // rounds down
    warps: int
    stages: int = 2  # tiles that are copied ahead, and the one at hand
    roomy_stages: int = 3  # on `ROOMY_SMS`
    tile: int = 1  # rows of a program along the grid's first axis: what the host has to know of the constants
    aligned: tuple[str, ...] = field(default=())  # pointers that may be taken for 16-byte aligned

    def stages_on(self, sm: int) -> int:
        """Return how many tiles are in flight on a GPU of compute capability `sm`."""
        return self.roomy_stages if sm in ROOMY_SMS else self.stages


def split_width(width: int) -> tuple[int, int]:
    """Return MAIN and REST of a head: the largest power of two within `width`, and 0 or 8 beside it.

    Raises:
        ValueError: what lies beside it is neither; no kernel takes such a head.
    """
    main = 1 << (width.bit_length() - 1)
    if main < 16 or width - main not in (0, 8):
        raise ValueError(f"a head of {width} is no power of two from 16, nor 8 more than one")
    return main, width - main
