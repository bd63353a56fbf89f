"""CUDA's runtime, as far as engines need it: memory, copies, a stream, graphs. Every refusal becomes an EngineError.

This is the one place that knows the Python bindings: `cuda-bindings` (`cuda.bindings.runtime`), which `cuda-python`
installs, for CUDA 12 and 13, and the older layout of cuda-python 12 (`cuda.cudart`). Both answer every call with a
status and the values. Handles are theirs; `int(handle)` is what TensorRT takes.
"""

from __future__ import annotations

import importlib
from typing import Any

from stts_runtime.errors import EngineError
from stts_runtime.sizes import size_text


def install_command(major: int) -> str:
    """Return the command that installs the bindings for a major version of CUDA."""
    return f'pip install "cuda-bindings=={major}.*"'


LAYOUTS = ("cuda.bindings.runtime", "cuda.cudart")  # the older name is only tried where the newer is missing
INSTALL = (
    f"install those of the device's CUDA: {install_command(12)} on JetPack 6, {install_command(13)} on JetPack 7; "
    "elsewhere nvidia-smi names the CUDA version"
)
ADVICE = {
    "cudaErrorInsufficientDriver": f"No NVIDIA driver, or one older than these bindings: update it, or {INSTALL}.",
    "cudaErrorNoDevice": "No GPU can be seen: is the driver loaded, and what does CUDA_VISIBLE_DEVICES say?",
    "cudaErrorSystemDriverMismatch": f"The driver is of another version than its libraries: restart, or {INSTALL}.",
}
"""What to do about an error, by CUDA's name of it."""

_SUCCESS, _OUT_OF_MEMORY = 0, 2  # cudaSuccess, cudaErrorMemoryAllocation: these numbers never change


def open_cuda() -> Cuda:
    """Return CUDA on the current device (`CUDA_VISIBLE_DEVICES` chooses it).

    Raises:
        EngineError: the bindings are missing, or there is no GPU or no driver for them.
    """
    failures = []
    for layout in LAYOUTS:
        try:
            return Cuda(importlib.import_module(layout))
        except ImportError as error:
            failures.append(f"{layout}: {error}")
    raise EngineError(f"CUDA's Python bindings cannot be imported ({'; '.join(failures)}): {INSTALL}")


class Cuda:
    """The calls. Pointers are integers, sizes are bytes; what takes a stream is ordered with what else is on it."""

    def __init__(self, api: Any) -> None:
        """Look at the current device.

        Args:
            api: the module of the bindings.

        Raises:
            EngineError: there is no GPU, or no driver for the bindings.
        """
        self._api = api
        self._device = self._call("cudaGetDevice")
        # Memory from a pool is had and given back in stream order, so nothing waits. Some embedded GPUs have none.
        self._pools = self._attribute("cudaDevAttrMemoryPoolsSupported") == 1

    @property
    def compute_capability(self) -> int:
        """The GPU's SM version, 87 for 8.7."""
        major, minor = (self._attribute(f"cudaDevAttrComputeCapability{part}") for part in ("Major", "Minor"))
        return 10 * major + minor

    def new_stream(self) -> Any:
        """Return a stream that does not wait for the default stream."""
        return self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking)

    def end_stream(self, stream: Any) -> None:
        """Give a stream back."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was put on the stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def new_event(self) -> Any:
        """Return an event, which has happened until it is recorded."""
        return self._call("cudaEventCreateWithFlags", self._api.cudaEventDisableTiming)

    def end_event(self, event: Any) -> None:
        """Give an event back."""
        self._call("cudaEventDestroy", event)

    def record(self, event: Any, stream: Any) -> None:
        """Let the event happen when the stream gets here."""
        self._call("cudaEventRecord", event, stream)

    def wait_for(self, event: Any) -> None:
        """Wait, on the host, until the event has happened."""
        self._call("cudaEventSynchronize", event)

    def allocate(self, size: int, stream: Any) -> int:
        """Return the address of new device memory, a multiple of 256.

        Raises:
            EngineError: there is no room; says what was asked for and what is free.
        """
        call = ("cudaMallocAsync", size, stream) if self._pools else ("cudaMalloc", size)
        status, *values = getattr(self._api, call[0])(*call[1:])
        if int(status) == _OUT_OF_MEMORY:
            self._api.cudaGetLastError()  # it would be reported once more, by whoever asks next
            free, total = self._call("cudaMemGetInfo")
            raise EngineError(
                f"the GPU has no room for {size_text(size)} more: {size_text(free)} of {size_text(total)} are free "
                f"({self._name(status)}). Close what else uses it, use fewer frames or prune more, or build the bundle "
                "again with smaller --max-frames, --max-tokens or --chunk-frames"
            )
        self._check(call[0], status)
        return int(values[0])

    def free(self, pointer: int, stream: Any) -> None:
        """Give device memory back once the stream is done with it."""
        if self._pools:
            self._call("cudaFreeAsync", pointer, stream)
        else:
            self._call("cudaFree", pointer)  # waits for the device by itself

    def allocate_host(self, size: int) -> int:
        """Return the address of new page-locked host memory, which copies reach without a detour."""
        return int(self._call("cudaHostAlloc", size, 0))

    def free_host(self, pointer: int) -> None:
        """Give page-locked host memory back; nothing may be under way to or from it."""
        self._call("cudaFreeHost", pointer)

    def to_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy from page-locked host memory to the device."""
        self._call("cudaMemcpyAsync", target, source, size, self._api.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def to_host(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy from the device to the host."""
        self._call("cudaMemcpyAsync", target, source, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy within the device."""
        self._call("cudaMemcpyAsync", target, source, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int, stream: Any
    ) -> None:
        """Copy `rows` rows of `width` bytes within the device; rows start `..._pitch` bytes apart."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpy2DAsync", target, target_pitch, source, source_pitch, width, rows, kind, stream)

    def fill_zero(self, pointer: int, size: int, stream: Any) -> None:
        """Set device memory to zero bytes."""
        self._call("cudaMemsetAsync", pointer, 0, size, stream)

    def begin_capture(self, stream: Any) -> None:
        """Record what this thread puts on the stream from here on, in place of doing it."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may open engines
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded, ready to be launched; `end_graph` gives it back."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: Any) -> None:
        """Stop recording after a failure, so that the stream can be used again."""
        status, *values = self._api.cudaStreamEndCapture(stream)  # fails, or not, with what went wrong before
        if int(status) == _SUCCESS and values and int(values[0]):
            self._call("cudaGraphDestroy", values[0])
        self._api.cudaGetLastError()

    def launch(self, graph: Any, stream: Any) -> None:
        """Do once more what was recorded."""
        self._call("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: Any) -> None:
        """Give a recorded graph back."""
        self._call("cudaGraphExecDestroy", graph)

    def _attribute(self, name: str) -> int:
        return int(self._call("cudaDeviceGetAttribute", getattr(self._api.cudaDeviceAttr, name), self._device))

    def _call(self, function: str, *arguments: Any) -> Any:
        """Return what a call returns beside its status: nothing, a value, or a tuple of values."""
        status, *values = getattr(self._api, function)(*arguments)
        self._check(function, status)
        return values[0] if len(values) == 1 else tuple(values)

    def _check(self, function: str, status: Any) -> None:
        """Raise EngineError, with CUDA's own name and text of it, unless a call succeeded."""
        if int(status) != _SUCCESS:
            name, text = self._name(status), self._text("cudaGetErrorString", status)
            self._api.cudaGetLastError()  # it would be reported once more, by whoever asks next
            raise EngineError(f"{function} failed: {name} ({text}). {ADVICE.get(name, '')}".rstrip())

    def _name(self, status: Any) -> str:
        return self._text("cudaGetErrorName", status)

    def _text(self, function: str, status: Any) -> str:
        _, text = getattr(self._api, function)(status)
        return text.decode() if isinstance(text, bytes) else str(text)
