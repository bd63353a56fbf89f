"""Bicubic resizing with antialiasing, byte for byte as torch resizes bytes on a CPU; Qwen3-VL's processor has it so.

Columns first, then rows, each from whole bytes to whole bytes: sums of bytes and weights in whole numbers, so that no
order of summation shows. The kernel is Keys's cubic with a = -0.5 (IEEE ASSP 29 (6), 1981), as wide as a pixel of the
result is in the source where that is larger.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


_REACH = 2.0  # of the kernel, in pixels
_SHARPNESS = -0.5
_WEIGHT_BITS, _MOST_BITS = 15, 22  # weights are whole numbers below 2^15, in units of at least 2^-22


def resize_bicubic(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return `frame` uint8 [H, W, 3] in another size, uint8 [height, width, 3]."""
    return _resized_rows(_resized_rows(frame.swapaxes(0, 1), width).swapaxes(0, 1), height)


def _resized_rows(picture: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return `picture` uint8 [n, m, 3] with `count` rows."""
    if len(picture) == count:
        return picture
    places, weights, bits = _taps(len(picture), count)
    total = np.full((count, *picture.shape[1:]), 1 << (bits - 1), np.int32)
    for place, weight in zip(places, weights, strict=True):
        total += picture[place] * weight[:, None, None]
    return np.clip(total >> bits, 0, 255).astype(np.uint8)


@lru_cache(maxsize=16)
def _taps(source: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Return what each of `size` outputs is made of: places among `source` pixels [k, size], and what each counts.

    Weights [k, size] are whole numbers, of which 2 to the power of the third value is 1.
    """
    scale = source / size
    stretch = max(scale, 1.0)
    centre = scale * (np.arange(size) + 0.5)
    first = np.maximum((centre - _REACH * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + _REACH * stretch + 0.5).astype(np.int64), source)
    places = first + np.arange((last - first).max())[:, None]
    weights = np.where(places < last, _cubic((places - centre + 0.5) / stretch), 0.0)
    weights /= weights.sum(axis=0)
    bits = next(
        b
        for b in range(_MOST_BITS + 1)
        if b == _MOST_BITS or int(0.5 + weights.max() * 2.0 ** (b + 1)) >= 1 << _WEIGHT_BITS
    )
    whole = np.trunc(weights * 2.0**bits + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    return np.minimum(places, source - 1), whole, bits


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x, a = np.abs(x), _SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < _REACH, far, 0.0))
