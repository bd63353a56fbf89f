"""A GPU's memory behind the `Memory` Protocol: arrays there, copies between them, and the way from and to numpy.

All of it is put on one stream, which the engines of a session share: what is asked for first is done first, and nothing
waits but a copy to the host. Memory is given back in the same order, so it is safe to drop an array that is in use.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.spec import storage_dtype
from stts_runtime.engine.cuda import Cuda, open_cuda
from stts_runtime.engine.memory import Array
from stts_runtime.errors import EngineError


ALIGNMENT = 256
"""TensorRT takes addresses that are multiples of this many bytes; CUDA hands them out so."""


class Block:
    """A piece of device memory, given back when nobody holds it any more."""

    def __init__(self, memory: DeviceMemory, pointer: int) -> None:
        self.memory, self.pointer = memory, pointer

    def __del__(self) -> None:
        self.memory.forget(self.pointer)


class DeviceArray:
    """An `Array` in device memory; a slice of rows is a view that keeps the memory alive."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, block: Block, offset: int = 0) -> None:
        self.shape, self.dtype = shape, dtype
        self.nbytes = prod(shape) * dtype.itemsize
        self._block, self._offset = block, offset

    @property
    def memory(self) -> DeviceMemory:
        """Where it lies."""
        return self._block.memory

    @property
    def pointer(self) -> int:
        """Its address; never 0, even of an empty array.

        Raises:
            EngineError: the memory went with the engines of its bundle.
        """
        if self._block.memory.closed:
            raise EngineError(
                "an array on the GPU is used after its engines were closed, and its memory is gone: load the bundle "
                "again and look at the video again"
            )
        return self._block.pointer + self._offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> DeviceArray:
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows {rows} do not lie side by side")
        row_bytes = prod(self.shape[1:]) * self.dtype.itemsize
        shape = (max(0, last - first), *self.shape[1:])
        return DeviceArray(shape, self.dtype, self._block, self._offset + first * row_bytes)


class DeviceMemory:
    """The memory, the stream that orders its use, and the page-locked way to it.

    Attributes:
        staging: the way between numpy arrays and the device.
        lock: held by whoever puts something on the stream: there is one way through `staging`, and while a run is
            recorded into a CUDA graph all that comes to the stream would be recorded with it.
        closed: whether everything was given back.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.closed = cuda, False
        self.stream = cuda.new_stream()
        self.staging = Staging(cuda, self.stream)
        self.lock = threading.RLock()
        self._held: set[int] = set()
        self._dropped: deque[int] = deque()

    def empty(self, shape: Sequence[int], dtype: str) -> DeviceArray:
        """See `Memory.empty`."""
        return self.array(tuple(shape), storage_dtype(dtype))

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """Return a new array of a numpy dtype with anything in it.

        Raises:
            EngineError: there is no room for it, or the memory was closed.
        """
        if self.closed:
            raise EngineError("the engines of this bundle were closed, and their memory with them: load it again")
        with self.lock:
            self._free_dropped()
            pointer = self.cuda.allocate(aligned(prod(shape) * dtype.itemsize), self.stream)
            self._held.add(pointer)
        return DeviceArray(shape, dtype, Block(self, pointer))

    def zero(self, target: Array) -> None:
        """See `Memory.zero`."""
        if target.nbytes:
            with self.lock:
                self.cuda.fill_zero(on_device(target).pointer, target.nbytes, self.stream)

    def copy_tokens(self, target: Array, at: int, source: Array, count: int) -> None:
        """See `Memory.copy_tokens`."""
        here, there = on_device(target), on_device(source)
        _, heads, slots, size = here.shape
        token = size * here.dtype.itemsize
        if not 0 <= at <= at + count <= slots or count > there.shape[2]:
            raise ValueError(f"{count} tokens of {there.shape} do not fit into {here.shape} at {at}")
        if count:
            to, pitch = here.pointer + at * token, slots * token
            with self.lock:
                self.cuda.copy_rows(to, pitch, there.pointer, there.shape[2] * token, count * token, heads, self.stream)

    def copy_rows(self, target: Array, rows: NDArray[np.int64], source: Array) -> None:
        """See `Memory.copy_rows`. Rows that lie side by side in both go in one copy."""
        here, there = on_device(target), on_device(source)
        if len(rows) != len(there) or (len(rows) and not 0 <= rows.min() <= rows.max() < len(here)):
            raise ValueError(f"{len(there)} rows cannot be put at {len(rows)} places among {len(here)}")
        row_bytes = prod(here.shape[1:]) * here.dtype.itemsize
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1).tolist()  # no row is negative: the first starts a run
        with self.lock:
            for first, last in pairwise([*starts, len(rows)]):
                place, size = int(rows[first]) * row_bytes, (last - first) * row_bytes
                self.cuda.copy(here.pointer + place, there.pointer + first * row_bytes, size, self.stream)

    def to_host(self, source: Array) -> np.ndarray:
        """See `Memory.to_host`. Waits for all that was asked for before."""
        if isinstance(source, np.ndarray):
            return source
        array = np.empty(source.shape, source.dtype)
        if array.nbytes:
            with self.lock:
                self.cuda.to_host(array.ctypes.data, on_device(source).pointer, array.nbytes, self.stream)
                self.cuda.synchronize(self.stream)
        return array

    def forget(self, pointer: int) -> None:
        """Give the memory at `pointer` back at the next occasion.

        Not now: this comes from the garbage collector, which may run in any thread and while a graph is recorded.
        """
        self._dropped.append(pointer)

    def close(self) -> None:
        """Give everything back once the stream is done; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self.cuda.synchronize(self.stream)
        for pointer in self._held:
            self.cuda.free(pointer, self.stream)
        self._held.clear()
        self.staging.close()
        self.cuda.synchronize(self.stream)
        self.cuda.end_stream(self.stream)

    def _free_dropped(self) -> None:
        while self._dropped:
            pointer = self._dropped.popleft()
            self._held.discard(pointer)
            self.cuda.free(pointer, self.stream)


class Staging:
    """Page-locked host memory that copies go through, used again and again: first `begin`, then `take` piece by piece.

    A copy from it is still under way when the call that asked for it returns; `begin` waits for the last round's.
    """

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream
        self._copied = cuda.new_event()
        self._pointer = self._size = self._used = 0

    def begin(self, size: int) -> None:
        """Make room for a round of `size` bytes, the pieces' aligned sizes together."""
        self._cuda.wait_for(self._copied)
        self._used = 0
        if size > self._size:
            self._free()
            self._pointer, self._size = self._cuda.allocate_host(size), size

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array in this round's memory, valid until the next `begin`."""
        size = prod(shape) * dtype.itemsize
        assert self._used + size <= self._size, "more is taken than was begun with"
        memory = (ctypes.c_char * size).from_address(self._pointer + self._used)
        self._used += aligned(size)
        return np.frombuffer(memoryview(memory), dtype).reshape(shape)

    def end(self) -> None:
        """Mark that all copies of this round are on the stream."""
        self._cuda.record(self._copied, self._stream)

    def close(self) -> None:
        """Give the memory back; nothing may be under way."""
        self._free()
        self._cuda.end_event(self._copied)

    def _free(self) -> None:
        if self._size:
            self._cuda.free_host(self._pointer)
            self._pointer = self._size = 0


def aligned(size: int) -> int:
    """Return `size` rounded up to a multiple of ALIGNMENT that is not 0."""
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


def on_device(array: Array) -> DeviceArray:
    """Return `array`, which a device memory made, so it is one of ours."""
    return cast(DeviceArray, array)


class SharedMemory:
    """The memory that the engines of one session pass arrays in: made for the first, closed with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory: DeviceMemory | None = None
        self._engines = 0

    def join(self) -> DeviceMemory:
        """Return the memory for one engine more, which is to `leave` it.

        Raises:
            EngineError: see `open_cuda`.
        """
        with self._lock:
            self._memory = self._memory or DeviceMemory(open_cuda())
            self._engines += 1
            return self._memory

    def leave(self) -> None:
        """Say that one engine needs the memory no more; the last one closes it."""
        with self._lock:
            self._engines -= 1
            if self._engines:
                return
            memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
