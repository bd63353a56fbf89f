"""The first GPU through the CUDA driver alone: memory, modules, launches, times. Needs libcuda.so.1 and numpy.

All is put on the default stream, which torch uses too. Memory comes filled with bytes that are no number in any
precision, and between bytes that nothing may write to.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from math import prod
from typing import Any

import numpy as np


LIBRARY = "libcuda.so.1"
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "bool": 1}
GUARD = 256  # bytes on both sides of an array

_MAJOR, _MINOR, _MAX_SHARED = 75, 76, 8  # CUdevice_attribute and CUfunction_attribute, cuda.h
_FREE_SHARED = 48 * 1024
_GUARD_BYTE, _POISON = 0xA5, 0xFF
_CTYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "fp32": ctypes.c_float}
_TIMED_MS, _MOST_CALLS = 4.0, 200
_ROUNDS = 7


class NotCheckableError(Exception):
    """This machine lacks what a check needs; the message says what."""


class CudaError(Exception):
    """A call of the driver failed."""


@dataclass(frozen=True)
class DeviceArray:
    """An array on the GPU."""

    pointer: int
    shape: tuple[int, ...]
    kind: str  # of `BYTES`

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BYTES[self.kind]


class Gpu:
    """The GPU, its context current in this thread for as long as the process lives."""

    def __init__(self) -> None:
        """Take the GPU.

        Raises:
            NotCheckableError: there is no driver, or no GPU for it.
        """
        try:
            self._cuda = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NotCheckableError(f"no NVIDIA driver is here: {error}") from error
        device, context = ctypes.c_int(), ctypes.c_void_p()
        try:
            self.call("cuInit", 0)
            self.call("cuDeviceGet", ctypes.byref(device), 0)
        except CudaError as error:
            raise NotCheckableError(f"no GPU can be seen: {error}") from error
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self._held: list[ctypes.c_uint64] = []
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode(errors="replace")
        self.sm = 10 * self._attribute(_MAJOR, device) + self._attribute(_MINOR, device)

    def call(self, function: str, *arguments: Any) -> None:
        code = getattr(self._cuda, function)(*arguments)
        if code != 0:
            name = ctypes.c_char_p()
            self._cuda.cuGetErrorName(code, ctypes.byref(name))
            raise CudaError(f"{function}: {(name.value or b'unknown error').decode()} ({code})")

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")

    def empty(self, shape: Sequence[int], kind: str) -> DeviceArray:
        """Return a new array of what is no number."""
        size = prod(shape) * BYTES[kind]
        start = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(start), ctypes.c_size_t(size + 2 * GUARD))
        self._held.append(start)
        self._fill(start.value, _GUARD_BYTE, size + 2 * GUARD)
        self._fill(start.value + GUARD, _POISON, size)
        return DeviceArray(start.value + GUARD, tuple(shape), kind)

    def put(self, array: np.ndarray, kind: str) -> DeviceArray:
        """Return a copy of `array` in another precision on the GPU."""
        there, content = self.empty(array.shape, kind), stored(array, kind)
        if content.nbytes:
            self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(there.pointer), content.ctypes.data_as(ctypes.c_void_p),
                      ctypes.c_size_t(content.nbytes))  # fmt: skip
        return there

    def noise(self, shape: Sequence[int], kind: str) -> DeviceArray:
        """Return about normal numbers, which repeat themselves every 16 MiB."""
        there = self.empty(shape, kind)
        block = stored(np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32), kind).tobytes() * 4
        for place in range(0, there.nbytes, len(block)):
            size = ctypes.c_size_t(min(len(block), there.nbytes - place))
            self.call("cuMemcpyHtoD_v2", ctypes.c_uint64(there.pointer + place), block, size)
        return there

    def get(self, array: DeviceArray) -> np.ndarray:
        """Return an array's numbers, see `read`.

        Raises:
            CudaError: something was written beside it, or a launch before this failed.
        """
        self.synchronize()
        whole = np.empty(array.nbytes + 2 * GUARD, np.uint8)
        self.call("cuMemcpyDtoH_v2", whole.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(array.pointer - GUARD),
                  ctypes.c_size_t(whole.nbytes))  # fmt: skip
        if (whole[:GUARD] != _GUARD_BYTE).any() or (whole[whole.nbytes - GUARD :] != _GUARD_BYTE).any():
            raise CudaError(f"something was written beside an output of {list(array.shape)}")
        return read(whole[GUARD : GUARD + array.nbytes], array.kind).reshape(array.shape)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Free what is allocated within."""
        before = len(self._held)
        yield
        self.synchronize()
        while len(self._held) > before:
            self.call("cuMemFree_v2", self._held.pop())

    def module(self, image: bytes) -> ctypes.c_void_p:
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), image)
        return module

    def function(self, module: ctypes.c_void_p, entry: str, shared_bytes: int) -> ctypes.c_void_p:
        """Return a kernel that may have so much dynamic shared memory."""
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, entry.encode())
        if shared_bytes > _FREE_SHARED:
            self.call("cuFuncSetAttribute", function, _MAX_SHARED, shared_bytes)
        return function

    def launcher(
        self,
        function: ctypes.c_void_p,
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[tuple[str, Any]],
    ) -> Callable[[], None]:
        """Return what launches a kernel.

        Args:
            function: from `function`.
            grid: blocks, in three dimensions.
            threads: of a block.
            shared_bytes: dynamic, of a block.
            arguments: type and value of each parameter, in order; the type is `i32`, `i64` or `fp32`, or begins with *.
        """
        values = [ctypes.c_void_p(value) if kind.startswith("*") else _CTYPES[kind](value) for kind, value in arguments]
        places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        fixed = [ctypes.c_uint(number) for number in (*grid, threads, 1, 1, shared_bytes)]

        def launch(_: Any = values) -> None:  # which must stay where they are
            self.call("cuLaunchKernel", function, *fixed, None, places, None)

        return launch

    def medians(self, subjects: Sequence[Callable[[], Any]]) -> list[float]:
        """Return the milliseconds of a call of each subject, the median of rounds in which they take turns."""
        calls = []
        for subject in subjects:
            subject()  # whatever is loaded or compiled at first
            once = self._milliseconds(subject, 1)
            calls.append(max(1, min(_MOST_CALLS, round(_TIMED_MS / max(once, 1e-3)))))
        rounds = [
            [self._milliseconds(subject, count) for subject, count in zip(subjects, calls, strict=True)]
            for _ in range(_ROUNDS)
        ]
        return [statistics.median(one[place] for one in rounds) for place in range(len(subjects))]

    def _milliseconds(self, subject: Callable[[], Any], calls: int) -> float:
        events = [ctypes.c_void_p(), ctypes.c_void_p()]
        for event in events:
            self.call("cuEventCreate", ctypes.byref(event), 0)
        self.call("cuEventRecord", events[0], None)
        for _ in range(calls):
            subject()
        self.call("cuEventRecord", events[1], None)
        self.call("cuEventSynchronize", events[1])
        passed = ctypes.c_float()
        self.call("cuEventElapsedTime", ctypes.byref(passed), *events)
        for event in events:
            self.call("cuEventDestroy_v2", event)
        return passed.value / calls

    def _fill(self, pointer: int, byte: int, size: int) -> None:
        if size:
            self.call("cuMemsetD8_v2", ctypes.c_uint64(pointer), ctypes.c_ubyte(byte), ctypes.c_size_t(size))

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value


def in_turn(calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """Return what makes the calls one after another, one at a time: inputs that differ do not stay in a cache."""
    following = cycle(calls)
    return lambda: next(following)()


def stored(array: np.ndarray, kind: str) -> np.ndarray:
    """Return numbers as a GPU has them: bfloat16 as the upper halves of float32, rounded to even."""
    if kind != "bfloat16":
        return np.ascontiguousarray(array, kind)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def read(content: np.ndarray, kind: str) -> np.ndarray:
    """Return the numbers that bytes hold, half precision as float32 and truths as bytes."""
    if kind == "bfloat16":
        return (content.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    numbers = content.view("uint8" if kind == "bool" else kind)
    return numbers.astype(np.float32) if kind == "float16" else numbers
