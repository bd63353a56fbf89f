"""A GPU that is played by the host: `cuda.bindings.runtime` as far as the runtime uses it, and stricter than it.

Work put on a stream is done when somebody waits for it and not before, so that a forgotten wait reads old values.
Device memory is at made-up addresses that are never used twice. A copy or a kernel that leaves an allocation, touches
freed memory or comes from host memory that is not page-locked raises DeviceFaultError.
"""

# ruff: noqa: N801, N802, N815  (CUDA's own names)

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum

import numpy as np


class DeviceFaultError(AssertionError):
    """What would be memory corruption on a real device."""


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class cudaDeviceAttr(IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76
    cudaDevAttrMemoryPoolsSupported = 115


OK = cudaError_t.cudaSuccess
DIRECTIONS = {1: "to device", 2: "to host", 3: "within"}


class Handle:
    """A stream, an event or a graph; `int` gives what TensorRT is handed."""

    numbers = iter(range(1, 1 << 60))

    def __init__(self) -> None:
        self.number = next(self.numbers)
        self.work: list[Callable[[], None]] = []  # a stream's queue, or what a graph has recorded
        self.recorded: list[Callable[[], None]] | None = None  # while a stream is captured
        self.spoiled = False  # whether that capture went wrong
        self.pending = False  # an event that was recorded and has not happened
        self.stream: Handle | None = None  # of such an event

    def __int__(self) -> int:
        return self.number


class FakeCuda:
    """The module of the bindings.

    Attributes:
        copies: every copy as (direction, bytes), in the order they were put on a stream.
        allocations: size of every device allocation so far.
        launches: how many graphs were launched.
        captures: how many graphs were recorded.
        waits: how often somebody waited for a stream.
    """

    cudaError_t, cudaMemcpyKind = cudaError_t, cudaMemcpyKind
    cudaStreamCaptureMode, cudaDeviceAttr = cudaStreamCaptureMode, cudaDeviceAttr
    cudaStreamNonBlocking, cudaEventDisableTiming = 1, 2

    def __init__(self, total: int = 1 << 30, capability: int = 87, pools: bool = True) -> None:
        self.total, self.capability, self.pools = total, capability, pools
        self.copies: list[tuple[str, int]] = []
        self.allocations: list[int] = []
        self.launches = self.captures = self.waits = 0
        self.fault: cudaError_t = OK  # what a wait will answer
        self._next = 1 << 44
        self._device: dict[int, np.ndarray] = {}
        self._used: dict[int, int] = {}  # free in stream order: what is asked for and not yet given back
        self._host: dict[int, ctypes.Array] = {}
        self._handles: dict[int, Handle] = {}
        self._last = OK

    # what tests ask

    def copied(self, direction: str) -> int:
        """Return how many bytes were copied in a direction so far."""
        return sum(size for way, size in self.copies if way == direction)

    def left(self) -> dict[str, int]:
        """Return what was not given back."""
        left = {"device": len(self._device), "host": len(self._host), "handles": len(self._handles)}
        return {kind: count for kind, count in left.items() if count}

    # what a fake TensorRT asks

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Put work on a stream: it is done later, or recorded."""
        handle = self._handles[stream]
        (handle.work if handle.recorded is None else handle.recorded).append(work)

    def is_capturing(self, stream: int) -> bool:
        return self._handles[stream].recorded is not None

    def spoil(self, stream: int) -> None:
        """Do what cannot be recorded."""
        self._handles[stream].spoiled = True

    def device(self, address: int, size: int) -> np.ndarray:
        """Return device memory as uint8 [size].

        Raises:
            DeviceFaultError: it is not all inside one allocation.
        """
        for start, block in self._device.items():
            if start <= address and address + size <= start + len(block):
                return block[address - start : address - start + size]
        raise DeviceFaultError(f"{size} bytes at {address:#x} are in no allocation")

    # the bindings

    def cudaGetDevice(self):
        return (OK, 0)

    def cudaDeviceGetAttribute(self, attribute, device):
        major, minor = divmod(self.capability, 10)
        return (OK, {75: major, 76: minor, 115: int(self.pools)}[int(attribute)])

    def cudaGetErrorName(self, error):
        return (OK, cudaError_t(error).name.encode())

    def cudaGetErrorString(self, error):
        texts = {2: b"out of memory", 700: b"an illegal memory access was encountered"}
        return (OK, texts.get(int(error), b"it did not work"))

    def cudaGetLastError(self):
        last, self._last = self._last, OK
        return (last,)

    def cudaMemGetInfo(self):
        return (OK, self.total - sum(self._used.values()), self.total)

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        return (OK, self._new())

    def cudaStreamDestroy(self, stream):
        return self._end(stream)

    def cudaStreamSynchronize(self, stream):
        if stream.recorded is not None:
            stream.spoiled = True
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self.waits += 1
        self._drain(stream)
        return (self.fault,)

    def cudaEventCreateWithFlags(self, flags):
        return (OK, self._new())

    def cudaEventDestroy(self, event):
        return self._end(event)

    def cudaEventRecord(self, event, stream):
        event.pending, event.stream = True, stream

        def happen():
            event.pending = False

        self.put(int(stream), happen)
        return (OK,)

    def cudaEventSynchronize(self, event):
        while event.pending:
            event.stream.work.pop(0)()
        return (self.fault,)

    def cudaMalloc(self, size):
        self._refuse_in_capture("cudaMalloc")
        return self._allocate(size)

    def cudaMallocAsync(self, size, stream):
        assert self.pools, "the device has no memory pools"
        assert stream.recorded is None, "an allocation is recorded into a graph"
        return self._allocate(size)

    def cudaFree(self, pointer):
        self._refuse_in_capture("cudaFree")
        for handle in list(self._handles.values()):
            self._drain(handle)
        return self._free(pointer)

    def cudaFreeAsync(self, pointer, stream):
        assert stream.recorded is None, "a release is recorded into a graph"
        self._used.pop(pointer)
        self.put(int(stream), lambda: self._device.pop(pointer))
        return (OK,)

    def cudaHostAlloc(self, size, flags):
        memory = (ctypes.c_char * size)()
        self._host[ctypes.addressof(memory)] = memory
        return (OK, ctypes.addressof(memory))

    def cudaFreeHost(self, pointer):
        memory = self._host.pop(pointer)
        ctypes.memset(pointer, 0xEE, len(memory))  # whoever still reads it gets this
        return (OK,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        self.copies.append((DIRECTIONS[kind], size))
        if kind == cudaMemcpyKind.cudaMemcpyDeviceToDevice:

            def copy():
                self.device(target, size)[:] = self.device(source, size)

        elif kind == cudaMemcpyKind.cudaMemcpyHostToDevice:

            def copy():
                self.device(target, size)[:] = self._locked(source, size)

        else:

            def copy():
                ctypes.memmove(target, self.device(source, size).tobytes(), size)

        self.put(int(stream), copy)
        if kind == cudaMemcpyKind.cudaMemcpyDeviceToHost and not self._is_locked(target, size):
            self._drain(stream)  # to ordinary memory, the call returns when all is there
        return (OK,)

    def cudaMemcpy2DAsync(self, target, target_pitch, source, source_pitch, width, rows, kind, stream):
        assert kind == cudaMemcpyKind.cudaMemcpyDeviceToDevice
        if width > min(target_pitch, source_pitch):
            return (cudaError_t.cudaErrorInvalidValue,)
        self.copies.append(("within", width * rows))

        def copy():
            for row in range(rows):
                there = self.device(source + row * source_pitch, width)
                self.device(target + row * target_pitch, width)[:] = there

        self.put(int(stream), copy)
        return (OK,)

    def cudaMemsetAsync(self, pointer, value, size, stream):
        def fill():
            self.device(pointer, size)[:] = value

        self.put(int(stream), fill)
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert stream.recorded is None
        stream.recorded, stream.spoiled = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        work, stream.recorded = stream.recorded, None
        if stream.spoiled:
            return (self._failed(cudaError_t.cudaErrorStreamCaptureInvalidated), None)
        graph = self._new()
        graph.work = work
        self.captures += 1
        return (OK, graph)

    def cudaGraphInstantiate(self, graph, flags):
        launchable = self._new()
        launchable.work = list(graph.work)
        return (OK, launchable)

    def cudaGraphDestroy(self, graph):
        return self._end(graph)

    def cudaGraphExecDestroy(self, graph):
        return self._end(graph)

    def cudaGraphLaunch(self, graph, stream):
        assert int(graph) in self._handles, "a graph that was given back is launched"
        self.launches += 1
        for work in graph.work:
            self.put(int(stream), work)
        return (OK,)

    def _new(self) -> Handle:
        handle = Handle()
        self._handles[handle.number] = handle
        return handle

    def _end(self, handle):
        assert not handle.stream or not handle.pending, "an event that is waited for is given back"
        del self._handles[int(handle)]
        return (OK,)

    def _drain(self, stream: Handle) -> None:
        while stream.work:
            stream.work.pop(0)()

    def _allocate(self, size: int):
        if size > self.total - sum(self._used.values()):
            return (self._failed(cudaError_t.cudaErrorMemoryAllocation), None)
        pointer, self._next = self._next, self._next + -(-size // 256) * 256 + 4096
        # what was there before: a byte pattern that is neither zero nor a number one could take for a result
        self._device[pointer] = np.full(size, 0xCB, np.uint8)
        self._used[pointer] = size
        self.allocations.append(size)
        return (OK, pointer)

    def _free(self, pointer: int):
        del self._device[pointer], self._used[pointer]
        return (OK,)

    def _refuse_in_capture(self, what: str) -> None:
        assert not any(handle.recorded is not None for handle in self._handles.values()), f"{what} during a capture"

    def _failed(self, error: cudaError_t) -> cudaError_t:
        self._last = error
        return error

    def _is_locked(self, address: int, size: int) -> bool:
        return any(start <= address and address + size <= start + len(m) for start, m in self._host.items())

    def _locked(self, address: int, size: int) -> np.ndarray:
        if not self._is_locked(address, size):
            raise DeviceFaultError(f"a copy from host memory that is not page-locked: {size} bytes at {address:#x}")
        return np.frombuffer(ctypes.string_at(address, size), np.uint8)
