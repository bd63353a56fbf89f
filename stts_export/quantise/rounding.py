"""A matrix in whole numbers, a scale for each block of a row, and the floats that they stand for.

    weight [out, in] = scale * number + offset,   scale and offset [out, in / block]

Symmetric numbers have no offset: scale = max |w| / (2^(bits - 1) - 1), the layout of GGUF's Q8_0. With offsets a block
is spread over all numbers from its least to its greatest value, as in GGUF's Q4_1. Rounding what lies on such a grid
already gives the grid back: every block of one holds its own extremes.

Each row is rounded by itself, so a part of the rows may be rounded at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


NUMBERS, SCALES, OFFSETS = "numbers", "scales", "offsets"
"""What may be stored of a rounded weight."""


@dataclass(frozen=True)
class Rounding:
    """How a matrix is rounded."""

    bits: int  # of a number: 4 or 8
    block: int  # neighbouring inputs of a row that share a scale
    has_offsets: bool = False

    @property
    def zero(self) -> int:
        """What is added to a number to store it without a sign."""
        return 1 << (self.bits - 1)

    @property
    def name(self) -> str:
        """`int4` or `int8`."""
        return f"int{self.bits}"

    @property
    def bytes_per_weight(self) -> float:
        """Bytes that a weight takes with its share of a block's scale and offset, in float32."""
        return self.bits / 8 + (4 + 4 * self.has_offsets) / self.block


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
    blocks = weight.float().unflatten(1, (-1, rounding.block))
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


def stored_parts(found: Rounded, rounding: Rounding) -> dict[str, Tensor]:
    """Return what is stored of rounded rows: `numbers`, `scales` and, where there are any, `offsets`.

    Numbers are uint8, above `zero`; of 4 bits two a byte, the low half first: [out, in * bits / 8].
    """
    numbers = (found.numbers.to(torch.int16) + rounding.zero).to(torch.uint8)
    if rounding.bits == 4:
        numbers = numbers[:, 0::2] | (numbers[:, 1::2] << 4)
    parts = {NUMBERS: numbers, SCALES: found.scales}
    return parts if found.offsets is None else {**parts, OFFSETS: found.offsets}
