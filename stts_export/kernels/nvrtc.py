"""CUDA C++ to cubins by NVRTC, NVIDIA's compiler as a library: out of a wheel, on any Linux machine, without a GPU.

Two of them: what 12.6 makes is taken by the drivers of JetPack 6, which refuse what 13 makes; newer GPUs are known to
13 alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stts_export.errors import ExportError
from stts_export.kernels.wheel import unpacked_wheel


_FIRST_OF_CUDA_13 = 100
_WHEELS = {12: "nvidia-cuda-nvrtc-cu12==12.6.85", 13: "nvidia-cuda-nvrtc==13.0.88"}


def compiler_wheel(sm: int) -> str:
    """Return the wheel of the compiler that serves a compute capability, 87 for 8.7; its name says its version."""
    return _WHEELS[13 if sm >= _FIRST_OF_CUDA_13 else 12]


def fetched_compiler(sm: int, wheels: Path) -> Path:
    """Return the folder, within `wheels`, of the compiler that serves a compute capability.

    Raises:
        ExportError: it cannot be downloaded.
    """
    return unpacked_wheel(compiler_wheel(sm), wheels, "it compiles kernels for GPUs; without it, --ops portable")


def compiled(source: Path, sm: int, includes: Sequence[Path], wheels: Path) -> bytes:
    """Return the cubin of the kernels in `source`.

    Args:
        source: CUDA C++17 that includes no standard header.
        sm: compute capability, 87 for 8.7.
        includes: folders of what it includes.
        wheels: folder where the compiler is kept.

    Raises:
        ExportError: the compiler cannot be had, or does not take the source.
    """
    options = [f"--gpu-architecture=sm_{sm}", "--std=c++17", "--device-as-default-execution-space"]
    options += [f"--include-path={folder}" for folder in includes]
    nvrtc = _loaded(fetched_compiler(sm, wheels))
    program = ctypes.c_void_p()
    # A name without a folder, so that the cubin is the same wherever it is made.
    _call(nvrtc, "CreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        code = nvrtc.nvrtcCompileProgram(program, len(options), given)
        if code != 0:
            said = _text(nvrtc, "ProgramLog", program).decode(errors="replace").strip(" \n\0")
            raise ExportError(f"{source} could not be compiled for SM {sm}: {_error(nvrtc, code)}\n{said[-2000:]}")
        return _text(nvrtc, "CUBIN", program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


@cache
def _loaded(wheel: Path) -> ctypes.CDLL:
    builtins, compiler = (
        next(file for file in sorted(wheel.glob(f"nvidia/**/{name}.so.*")) if ".alt." not in file.name)
        for name in ("libnvrtc-builtins", "libnvrtc")
    )
    # The compiler asks for its built-in functions by the name of their file, which is found once that is loaded.
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(compiler))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _call(nvrtc: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(nvrtc, f"nvrtc{function}")(*arguments)
    if code != 0:
        raise ExportError(f"nvrtc{function} failed: {_error(nvrtc, code)}")


def _text(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _call(nvrtc, f"Get{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(nvrtc, f"Get{what}", program, buffer)
    return buffer.raw


def _error(nvrtc: ctypes.CDLL, code: int) -> str:
    return f"{nvrtc.nvrtcGetErrorString(code).decode()} ({code})"
