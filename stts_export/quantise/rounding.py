"""A matrix in few bits: a number for each weight, a scale for each block of a row, and the floats that they stand for.

    weight [out, in] = scale * number + offset,   scale and offset [out, in / block]

Numbers are whole, or small floats: E4M3 in 8 bits (up to 448), E2M1 in 4 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their
negatives). Symmetric ones have no offset: scale = max |w| / the largest number, for int8 the layout of GGUF's Q8_0.
With offsets of any size a block is spread over all numbers from its least to its greatest value, as in GGUF's Q4_1.
Rounding what lies on such a grid, or on Q8_0's, gives the grid back: every block of one holds its own extremes.
Offsets may be whole numbers of scales: such a zero point is a number itself, so that a block is spread as if it held a
0 too. It is spread over the share of its range, all of it or a bit less, at which the sum of squared errors is least.

A scale is rounded to what it is stored in before the numbers are found, so that these make up for it. Scales that are
E4M3 themselves, as NVFP4 has them, share a power of two, which keeps their products exact in half precision.

Each row is rounded by itself, but for that power of two, so a part of the rows may be rounded at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


ANY, WHOLE = "any", "whole"
FLOAT8 = "float8"
SHARES = (1.0, 0.96, 0.92, 0.88)
"""Of the range of a block that has a zero point: with less of it, most weights are nearer and its extremes further."""
PIECE_ELEMENTS = 1 << 18
"""Rounded at a time: what is made on the way, a dozen arrays as large, stays in a processor's cache and is not asked of
the system anew each time. With pieces of 64 MiB `int4` takes five times as long."""
_SCALE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, FLOAT8: 1}
_LARGEST_E4M3, _LEAST_E4M3 = 448.0, 2.0**-9
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The numbers of 4 bits that are floats, by their code; 8 is added for a minus."""


@dataclass(frozen=True)
class Rounding:
    """How a matrix is rounded."""

    bits: int  # of a number: 4 or 8
    block: int | None  # neighbouring inputs of a row that share a scale; None: all of a row
    offsets: str | None = None  # `any`, or `whole` numbers of scales, which take as many bits as a number; None: none
    floats: bool = False  # whether numbers are small floats, and not whole
    scales: str = "float32"  # what scales (and offsets) are held in: `float32`, a half precision, or `float8`

    @property
    def zero(self) -> int:
        """What is added to a whole number to store it without a sign."""
        return 1 << (self.bits - 1)

    @property
    def largest(self) -> float:
        """The largest number."""
        if self.floats:
            return _LARGEST_E4M3 if self.bits == 8 else E2M1[-1]
        return self.zero - 1

    @property
    def name(self) -> str:
        """`int4`, `int8`, `fp8` or `fp4`."""
        return f"{'fp' if self.floats else 'int'}{self.bits}"

    def takes(self, columns: int) -> bool:
        """Tell whether rows of so many inputs are whole blocks."""
        return columns % (self.block or 1) == 0

    def stored_bytes(self, rows: int, columns: int) -> int:
        """Return what a matrix takes: numbers, scales and offsets."""
        blocks = columns // (self.block or columns)
        offsets = {ANY: blocks * _SCALE_BYTES[self.scales], WHOLE: -(-blocks * self.bits // 8), None: 0}[self.offsets]
        return rows * (columns * self.bits // 8 + blocks * _SCALE_BYTES[self.scales] + offsets)


@dataclass(frozen=True)
class Rounded:
    """Rows of a rounded matrix.

    Attributes:
        numbers: [out, in], signed: int8, or float8_e4m3fn, which holds every E2M1 too.
        scales: float32 [out, in / block], with all of their parts.
        offsets: the same, or None.
        unit: the power of two that all scales of the matrix are multiples of, where they are float8; else 1.
    """

    numbers: Tensor
    scales: Tensor
    offsets: Tensor | None
    unit: float = 1.0

    def floats(self) -> Tensor:
        """Return what the numbers stand for: float32 [out, in]."""
        blocks = self.numbers.float().unflatten(1, (self.scales.shape[1], -1)) * self.scales[..., None]
        return (blocks if self.offsets is None else blocks + self.offsets[..., None]).flatten(1)


def pieces_of(weight: Tensor) -> tuple[Tensor, ...]:
    """Return `weight` [out, in] a few rows at a time, `PIECE_ELEMENTS` of them or one row."""
    return weight.split(max(1, PIECE_ELEMENTS // weight.shape[1]))


def rounded(weight: Tensor, rounding: Rounding) -> Rounded:
    """Return `weight` [out, in] of any float type in few bits; `in` is a multiple of the block."""
    parts: dict[str, Tensor] = {}
    unit = 1.0
    for first, piece in _pieces(weight, rounding):
        unit = piece.unit
        for part in ("numbers", "scales", "offsets"):
            if (values := getattr(piece, part)) is not None:
                if part not in parts:
                    parts[part] = values.new_empty(len(weight), values.shape[1])
                parts[part][first : first + len(values)] = values
    return Rounded(parts["numbers"], parts["scales"], parts.get("offsets"), unit)


def restored(weight: Tensor, rounding: Rounding) -> Tensor:
    """Return what the numbers of `weight` [out, in] of any float type stand for, float32 [out, in]."""
    floats = torch.empty(weight.shape)
    for first, piece in _pieces(weight, rounding):
        floats[first : first + len(piece.numbers)] = piece.floats()
    return floats


def _pieces(weight: Tensor, rounding: Rounding) -> Iterator[tuple[int, Rounded]]:
    """Yield the first row of each piece of `weight`, and the piece rounded."""
    pieces, first = pieces_of(weight), 0
    most = max(float(piece.abs().amax()) for piece in pieces) if rounding.scales == FLOAT8 else 0.0
    for piece in pieces:
        yield first, _rounded(piece, rounding, most)
        first += len(piece)


def _rounded(weight: Tensor, rounding: Rounding, most: float) -> Rounded:
    """Return some rows of a matrix in few bits; of all of it, `most` is the largest magnitude, for float8 scales."""
    blocks = weight.float().unflatten(1, (-1, rounding.block or weight.shape[1]))
    if rounding.offsets is not None:
        return _with_any_offsets(blocks, rounding) if rounding.offsets == ANY else _with_zero_points(blocks, rounding)
    magnitudes = blocks.abs().amax(-1)
    unit = _unit(most, rounding)
    scales = _held(magnitudes / rounding.largest, rounding.scales, unit)
    numbers = _in_units(blocks, scales).clamp(-rounding.largest, rounding.largest)
    return Rounded(_nearest(numbers, rounding).flatten(1), scales, None, unit)


def _with_any_offsets(blocks: Tensor, rounding: Rounding) -> Rounded:
    """Return blocks [out, in / block, block], each spread over all numbers from its least to its greatest value."""
    least, greatest = blocks.amin(-1), blocks.amax(-1)
    scales = (greatest - least) / (rounding.largest + rounding.zero)
    numbers = _in_units(blocks - least[..., None], scales).round() - rounding.zero
    return Rounded(numbers.to(torch.int8).flatten(1), scales, least + rounding.zero * scales)


def _with_zero_points(blocks: Tensor, rounding: Rounding) -> Rounded:
    """Return blocks [out, in / block, block], each spread over that share of its range that leaves the least error."""
    most = rounding.largest + rounding.zero
    least, greatest = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    errors = torch.full_like(least, torch.inf)
    scales, zeros, numbers = torch.zeros_like(least), torch.zeros_like(least), torch.zeros_like(blocks)
    for share in SHARES:
        tried = (greatest - least) * (share / most)
        zero = _in_units(-share * least[..., None], tried).round()
        found = (_in_units(blocks, tried).round() + zero).clamp(0, most)
        error = ((found - zero) * tried[..., None] - blocks).square().sum(-1)
        better = error < errors
        errors = torch.where(better, error, errors)
        scales, zeros = torch.where(better, tried, scales), torch.where(better, zero.squeeze(-1), zeros)
        numbers = torch.where(better[..., None], found, numbers)
    offsets = (rounding.zero - zeros) * scales
    return Rounded((numbers - rounding.zero).to(torch.int8).flatten(1), scales, offsets)


def _in_units(blocks: Tensor, scales: Tensor) -> Tensor:
    """Return blocks in units of their scales; a block that is all one value has no scale, and is 0."""
    return blocks / torch.where(scales > 0, scales, 1.0)[..., None]


def _unit(most: float, rounding: Rounding) -> float:
    """Return the power of two that lets the largest float8 scale fit."""
    if rounding.scales != FLOAT8 or most == 0:
        return 1.0
    return 2.0 ** math.ceil(math.log2(most / (rounding.largest * _LARGEST_E4M3)))


def _held(scales: Tensor, dtype: str, unit: float) -> Tensor:
    """Return scales as they are stored, in float32: above 0, as TensorRT wants it; where all is 0, 1."""
    if dtype == FLOAT8:
        held = (scales / unit).to(torch.float8_e4m3fn).float().clamp(min=_LEAST_E4M3) * unit
    else:
        kind = getattr(torch, dtype)
        held = scales.to(kind).float().clamp(min=_least(kind))
    return torch.where(scales > 0, held, unit)


def _least(dtype: torch.dtype) -> float:
    """Return the least number above 0 that a float dtype has: float16's is below its least normal one."""
    return 2.0**-24 if dtype == torch.float16 else torch.finfo(dtype).tiny


def _nearest(numbers: Tensor, rounding: Rounding) -> Tensor:
    """Return the numbers that there are next to floats that lie between the largest ones."""
    if not rounding.floats:
        return numbers.round().to(torch.int8)
    if rounding.bits == 4:
        codes = torch.tensor(E2M1)
        between = (codes[1:] + codes[:-1]) / 2
        numbers = codes[torch.bucketize(numbers.abs(), between)].copysign(numbers)
    return numbers.to(torch.float8_e4m3fn)
