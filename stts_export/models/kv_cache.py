"""What a block keeps of the tokens it has seen: keys and values, in floats, or rounded to 8 bits.

Rounded, each key and each value of each head has a scale of its own, s = max |x| / 127, and is kept as the whole
numbers round(x / s). Nothing has to be known beforehand of what will be read, pictures or text, and nothing is cut off,
as with scales from a calibration. New tokens are read as they are kept: where a prompt is cut, the answer is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


Cache = tuple[Tensor, ...]
"""Keys and values of one block, each [1, Hkv, tokens, d], keys after RoPE. Rounded: int8 keys, their scales [1, Hkv,
tokens, 1], int8 values, their scales."""

LARGEST = 127
"""Of the whole numbers that are kept; -128 is not used."""
SMALLEST_SCALE = 2.0**-20
"""What a scale is taken for where all numbers of a row are nearer to zero, and zeros among them."""


def appended(cache: Cache | None, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Cache]:
    """Return all keys, all values, and the new tokens' entries, which have the form of the cache.

    Args:
        cache: what is kept of the tokens before; None is nothing, in floats.
        key: of the new tokens, [1, Hkv, S, d], after RoPE.
        value: theirs, likewise.
    """
    if cache is None:
        return key, value, (key, value)
    if len(cache) == 2:
        return torch.cat((cache[0], key), dim=2), torch.cat((cache[1], value), dim=2), (key, value)
    entries = (*rounded(key), *rounded(value))
    keys, key_scales, values, value_scales = (
        torch.cat((old, new), dim=2) for old, new in zip(cache, entries, strict=True)
    )
    return restored(keys, key_scales), restored(values, value_scales), entries


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers, int8 [..., d], and the scale of each row, [..., 1], that stand for `rows` [..., d]."""
    scales = (rows.abs().amax(-1, keepdim=True) / LARGEST).clamp_min(SMALLEST_SCALE)
    return (rows / scales).round().clamp(-LARGEST, LARGEST).to(torch.int8), scales


def restored(numbers: Tensor, scales: Tensor) -> Tensor:
    """Return what whole numbers [..., d] stand for, in the dtype of their `scales` [..., 1]."""
    return numbers.to(scales.dtype) * scales
