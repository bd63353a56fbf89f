"""Where an engine's big arrays live: hidden states, features, the scorer's state, keys and values.

They go from graph to graph and are never looked at on the way. So an engine on a GPU keeps them there, and whoever
drives the engines asks its memory for them. What is read on the host (scores, logits) is a numpy array with any engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.spec import TensorSpec, storage_dtype


class Array(Protocol):
    """A C-contiguous array in some engine's memory; numpy's are those on the host."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its numpy dtype, see `storage_dtype`."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Array:
        """Return rows of the first axis, as a view."""


class Memory(Protocol):
    """What can be done with arrays where an engine wants them. All of it is ordered with the engine's runs."""

    def empty(self, shape: Sequence[int], dtype: str) -> Array:
        """Return a new array with anything in it; `dtype` as in a `TensorSpec`.

        Raises:
            EngineError: there is no room for it.
        """

    def zero(self, target: Array) -> None:
        """Fill with zeros."""

    def copy_tokens(self, target: Array, at: int, source: Array, count: int) -> None:
        """Set target[:, :, at : at + count] to source[:, :, :count]; both [1, Hkv, tokens, head_dim] of one dtype."""

    def copy_rows(self, target: Array, rows: NDArray[np.int64], source: Array) -> None:
        """Set target[rows] to `source`, along the first axis; both in this memory, `rows` on the host."""

    def to_host(self, source: Array) -> np.ndarray:
        """Return a numpy array of the same values, for whoever wants to look; `source` itself if it is one."""


class HostMemory:
    """Numpy arrays."""

    def empty(self, shape: Sequence[int], dtype: str) -> np.ndarray:
        """See `Memory.empty`."""
        return np.empty(tuple(shape), storage_dtype(dtype))

    def zero(self, target: Array) -> None:
        """See `Memory.zero`."""
        on_host(target)[...] = 0

    def copy_tokens(self, target: Array, at: int, source: Array, count: int) -> None:
        """See `Memory.copy_tokens`."""
        on_host(target)[:, :, at : at + count] = on_host(source)[:, :, :count]

    def copy_rows(self, target: Array, rows: NDArray[np.int64], source: Array) -> None:
        """See `Memory.copy_rows`."""
        on_host(target)[rows] = on_host(source)

    def to_host(self, source: Array) -> np.ndarray:
        """See `Memory.to_host`."""
        return on_host(source)


def new_array(memory: Memory, tensor: TensorSpec, size: int = 0) -> Array:
    """Return a new array for an input or output of a graph, with anything in it.

    Args:
        memory: where it is to live.
        tensor: what it is for.
        size: of its dynamic dimension, where it has one.

    Raises:
        EngineError: there is no room for it.
    """
    return memory.empty([size if isinstance(extent, str) else extent for extent in tensor.shape], tensor.dtype)


def on_host(array: Array) -> np.ndarray:
    """Return `array`, which this memory made, so it is numpy's."""
    return cast(np.ndarray, array)
