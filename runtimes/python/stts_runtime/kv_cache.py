"""Keys and values of the tokens a decoder has seen, held between its runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stts_runtime.errors import EngineError


class KvCache:
    """The cache of a decoder graph that takes the past and returns past and present together.

    Arrays are in binding order: key and value of layer 0, then of layer 1, and so on, each [1, Hkv, P, head_dim].
    """

    def __init__(self, layers: int, kv_heads: int, head_dim: int, dtype: str = "float32") -> None:
        empty = np.zeros((1, kv_heads, 0, head_dim), dtype)
        self._arrays: list[np.ndarray] = [empty] * (2 * layers)

    @property
    def length(self) -> int:
        """P: tokens held."""
        return int(self._arrays[0].shape[2])

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, in bytes."""
        return sum(array.nbytes for array in self._arrays)

    def past(self) -> list[np.ndarray]:
        """The arrays to feed, P = 0 at the start; not to be written to."""
        return list(self._arrays)

    def replace(self, present: Sequence[np.ndarray]) -> None:
        """Hold what the decoder returned, without a copy.

        Raises:
            EngineError: number, shape or dtype differ from what the cache was made for.
        """
        held = self._arrays[0]
        length = present[0].shape[2] if len(present) and present[0].ndim == 4 else 0
        wanted = (*held.shape[:2], length, held.shape[3])
        right = len(present) == len(self._arrays) and all(a.shape == wanted and a.dtype == held.dtype for a in present)
        if not right:
            got = sorted({f"{a.dtype} {list(a.shape)}" for a in present})
            raise EngineError(
                f"the decoder returned a cache of {len(present)} arrays ({'; '.join(got)}); wanted"
                f" {len(self._arrays)} of {held.dtype} [1, {held.shape[1]}, C, {held.shape[3]}], all of one length."
            )
        self._arrays = list(present)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens; the memory of the rest is given back.

        Raises:
            ValueError: more tokens than are held, or a negative number.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot keep {length} tokens of a cache that holds {self.length}")
        if length < self.length:
            self._arrays = [array[:, :, :length].copy() for array in self._arrays]
