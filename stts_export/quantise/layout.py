"""How what a rounded weight is made of lies in a file, for the operator that reads it.

`MatMulNBits` reads rows of numbers without a sign, `MatMulIntegerToFloat` columns of them with one. `DequantizeLinear`
reads numbers as they are, in the layout of the weight that it makes, as it is or transposed; a part's name ends in `.T`
for the latter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stts_export.quantise.rounding import E2M1, Rounded, Rounding


NUMBERS, OFFSETS, ZEROS = "numbers", "offsets", "zeros"
SIGNED, UNIT = "signed", "unit"
SCALES = "scales"
TURNED = ".T"


def stored_part(found: Rounded, rounding: Rounding, part: str, dtype: torch.dtype | None = None) -> Tensor:
    """Return the bytes of one part of a whole rounded matrix [out, in], as a tensor.

    `numbers`: in blocks, for MatMulNBits, uint8 above the rounding's zero, [out, in], of 4 bits two a byte, the low
    half first; in whole rows, for MatMulIntegerToFloat, int8 [in, out].
    `signed`: for DequantizeLinear, [out, in], or with `.T` [in, out]; of 4 bits two a byte, the low half first, flat.
    `scales`: [out, in / block], or with `.T` [in / block, out]; [out] where a row has one.
    `offsets`: [in / block, out]. `zeros`: where these are whole numbers of scales, the numbers that stand for 0, of 4
    bits two a byte, the low half first, uint8 [out, in / block / 2, rounded up].
    `unit`: of float8 scales, one number.

    Args:
        found: the matrix.
        rounding: how it was rounded.
        part: which of these.
        dtype: of scales and unit; what they hold must be exact in it. None: float8's.
    """
    name, turned = part.removesuffix(TURNED), part.endswith(TURNED)
    if name == NUMBERS and rounding.block is None:
        return found.numbers.T
    if name == NUMBERS:
        numbers = (found.numbers.to(torch.int16) + rounding.zero).to(torch.uint8)
        return _two_a_byte(numbers) if rounding.bits == 4 else numbers
    if name == OFFSETS:
        assert found.offsets is not None
        return found.offsets.T
    if name == ZEROS:
        assert found.offsets is not None
        counts = found.offsets / torch.where(found.scales > 0, found.scales, 1.0)
        zeros = (rounding.zero - counts.round()).to(torch.uint8)
        return _two_a_byte(torch.nn.functional.pad(zeros, (0, zeros.shape[1] % 2)))
    if name == UNIT:
        return torch.tensor(found.unit).to(dtype)
    if name == SCALES:
        scales = (found.scales / found.unit).to(dtype or torch.float8_e4m3fn)
        scales = scales.flatten() if rounding.block is None else scales
        return (scales.T if turned and scales.ndim == 2 else scales).contiguous()
    assert name == SIGNED
    numbers = (found.numbers.T if turned else found.numbers).contiguous()
    return numbers if rounding.bits == 8 else _two_a_byte(_codes(numbers, rounding).flatten())


def _two_a_byte(numbers: Tensor) -> Tensor:
    """Return uint8 numbers below 16 packed along their last dimension."""
    return numbers[..., 0::2] | (numbers[..., 1::2] << 4)


def _codes(numbers: Tensor, rounding: Rounding) -> Tensor:
    """Return the 4 bits of each number, as uint8."""
    if not rounding.floats:
        return numbers.view(torch.uint8) & 15
    floats = numbers.float()
    codes = torch.searchsorted(torch.tensor(E2M1), floats.abs()).to(torch.uint8)
    return torch.where(floats.signbit(), codes | 8, codes)
