"""Values as a bundle's graphs take and give them, from and to the float32 that references are kept in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


_BFLOAT16_NAN = 0x7FC0


def stored_values(values: NDArray, dtype: str) -> NDArray:
    """Return `values` rounded to a `TensorSpec` dtype, C-contiguous, in the numpy dtype that holds it on the host."""
    if dtype == "bfloat16":
        return _bfloat16_bits(np.ascontiguousarray(values, np.float32))
    return np.ascontiguousarray(values, dtype)


def float32_values(stored: NDArray, dtype: str) -> NDArray[np.float32]:
    """Return what an array that holds a `TensorSpec` dtype says, exactly."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)


def _bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # beyond the largest number this carries into infinity
    return np.where(np.isnan(values), _BFLOAT16_NAN, rounded).astype(np.uint16)
