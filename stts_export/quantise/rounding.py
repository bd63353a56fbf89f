"""A matrix in whole numbers, a scale for each block of a row, and the floats that they stand for.

    weight [out, in] = scale * number + offset,   scale and offset [out, in / block]

Symmetric numbers have no offset: scale = max |w| / (2^(bits - 1) - 1), the layout of GGUF's Q8_0. With offsets a block
is spread over all numbers from its least to its greatest value, as in GGUF's Q4_1. Rounding what lies on such a grid
already gives the grid back: every block of one holds its own extremes.

Where a block is a whole row, numbers and scales are laid out for a product that reads [in, out], and what is multiplied
with them is rounded to 8 bits by rows as well.

Each row is rounded by itself, so a part of the rows may be rounded at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


NUMBERS, SCALES, OFFSETS = "numbers", "scales", "offsets"
"""What may be stored of a rounded weight."""


@dataclass(frozen=True)
class Rounding:
    """How a matrix is rounded."""

    bits: int  # of a number: 4 or 8
    block: int | None  # neighbouring inputs of a row that share a scale; None for all of it
    has_offsets: bool = False

    @property
    def zero(self) -> int:
        """What is added to a number to store it without a sign."""
        return 1 << (self.bits - 1)

    @property
    def name(self) -> str:
        """`int4` or `int8`."""
        return f"int{self.bits}"

    def stored_bytes(self, rows: int, columns: int) -> int:
        """Return the bytes that a matrix takes with its scales and offsets, in float32."""
        blocks = rows * (columns // (self.block or columns))
        return rows * columns * self.bits // 8 + 4 * blocks * (1 + self.has_offsets)


@dataclass(frozen=True)
class Rounded:
    """Rows of a rounded matrix.

    Attributes:
        numbers: int8 [out, in], signed.
        scales: float32 [out, in / block].
        offsets: the same, or None.
    """

    numbers: Tensor
    scales: Tensor
    offsets: Tensor | None

    def floats(self) -> Tensor:
        """Return what the numbers stand for: float32 [out, in]."""
        blocks = self.numbers.float().unflatten(1, (self.scales.shape[1], -1)) * self.scales[..., None]
        return (blocks if self.offsets is None else blocks + self.offsets[..., None]).flatten(1)


def rounded(weight: Tensor, rounding: Rounding) -> Rounded:
    """Return `weight` [out, in] of any float type in whole numbers; `in` is a multiple of the block."""
    blocks = weight.float().unflatten(1, (-1, rounding.block or weight.shape[1]))
    most = rounding.zero - 1
    if rounding.has_offsets:
        least, greatest = blocks.amin(-1), blocks.amax(-1)
        scales = (greatest - least) / (most + rounding.zero)
        numbers = _whole(blocks - least[..., None], scales) - rounding.zero
        return Rounded(numbers.to(torch.int8).flatten(1), scales, least + rounding.zero * scales)
    scales = blocks.abs().amax(-1) / most
    return Rounded(_whole(blocks, scales).to(torch.int8).flatten(1), scales, None)


def _whole(blocks: Tensor, scales: Tensor) -> Tensor:
    """Return blocks in units of their scales; a block that is all one value has no scale, and is 0."""
    return (blocks / torch.where(scales > 0, scales, 1.0)[..., None]).round()


def stored_parts(pieces: Sequence[Rounded], rounding: Rounding) -> dict[str, Tensor]:
    """Return what is stored of a matrix, given as pieces of its rows: numbers, scales and, if there are any, offsets.

    Numbers in blocks are uint8, above `zero`; of 4 bits two a byte, the low half first: [out, in * bits / 8]. Scales
    are then [out, in / block], offsets [in / block, out]. Numbers in whole rows are int8 [in, out], scales [out].
    """
    numbers = torch.cat([piece.numbers for piece in pieces])
    scales = torch.cat([piece.scales for piece in pieces])
    if rounding.block is None:
        return {NUMBERS: numbers.T, SCALES: scales[:, 0]}
    numbers = (numbers.to(torch.int16) + rounding.zero).to(torch.uint8)
    if rounding.bits == 4:
        numbers = numbers[:, 0::2] | (numbers[:, 1::2] << 4)
    parts = {NUMBERS: numbers, SCALES: scales}
    offsets = [piece.offsets for piece in pieces if piece.offsets is not None]
    return {**parts, OFFSETS: torch.cat(offsets).T} if offsets else parts
