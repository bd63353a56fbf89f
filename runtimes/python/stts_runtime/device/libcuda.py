"""What the CUDA driver library says of the GPU that engines would run on, without a CUDA toolkit and without a context.

It is asked first: it honours CUDA_VISIBLE_DEVICES, and it is what engines use. On a Jetson nothing else knows the SM.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


LIBRARY = "libcuda.so.1"

_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76  # CUdevice_attribute, cuda.h


@dataclass(frozen=True)
class CudaDevice:
    """The first GPU that CUDA shows this process."""

    name: str
    compute_capability: int  # 87 is 8.7
    memory_bytes: int
    integrated: bool  # whether its memory is the CPU's
    bus_id: str  # its place on the PCI bus, `0000:01:00.0`


@dataclass(frozen=True)
class CudaReading:
    """What the library answered."""

    loaded: bool  # whether the library is there at all
    driver_version: int | None = None  # the newest CUDA it serves, 12060 is 12.6
    error: str | None = None  # what it refused with: `CUDA_ERROR_NO_DEVICE (100)`
    device: CudaDevice | None = None  # None after an error


def read_libcuda(load: Callable[[str], Any] = ctypes.CDLL) -> CudaReading:
    """Return what the driver library says; makes no context and holds no GPU memory.

    Args:
        load: opens a shared library by name, OSError if there is none.
    """
    try:
        library = load(LIBRARY)
    except OSError:
        return CudaReading(loaded=False)
    number = ctypes.c_int()
    version = number.value if library.cuDriverGetVersion(ctypes.byref(number)) == 0 else None
    try:
        return CudaReading(True, version, device=_first_device(library))
    except _CudaError as error:
        return CudaReading(True, version, str(error))


class _CudaError(Exception):
    """A call returned something other than CUDA_SUCCESS."""


def _first_device(library: Any) -> CudaDevice:
    def call(function: str, *arguments: object) -> None:
        code = getattr(library, function)(*arguments)
        if code != 0:
            raise _CudaError(_error_text(library, code))

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    call("cuInit", 0)
    device = ctypes.c_int()
    call("cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    bus_id = ctypes.create_string_buffer(64)
    call("cuDeviceGetPCIBusId", bus_id, len(bus_id), device)
    return CudaDevice(
        name=name.value.decode(errors="replace"),
        compute_capability=10 * attribute(_MAJOR) + attribute(_MINOR),
        memory_bytes=memory.value,
        integrated=attribute(_INTEGRATED) != 0,
        bus_id=bus_id.value.decode(errors="replace"),
    )


def _error_text(library: Any, code: int) -> str:
    name = ctypes.c_char_p()
    known = library.cuGetErrorName(code, ctypes.byref(name)) == 0 and name.value is not None
    return f"{(name.value or b'').decode(errors='replace') if known else 'CUDA error'} ({code})"
