"""Runs kernels in Triton's interpreter, in memory whose borders kill whoever steps over them.

python -m reference.triton_child CALLS RESULTS: CALLS is a pickled list of `Call`s, RESULTS becomes that of their
outputs. Inputs may not be written. A process of its own, since the interpreter is chosen before Triton is imported, and
reads and writes wherever a pointer points.

Two flaws of Triton 3.9's interpreter are mended here: products of bfloat16 multiply its bits, and float32 is cut off to
bfloat16 where a GPU rounds it to the nearest, even one.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import mmap
import os
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np


PAGE = mmap.PAGESIZE
NOBODY = 0  # PROT_NONE
CANARY = 0xA5
UNWRITTEN = 0xFF  # no number, in any type of floats
NUMPY = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": np.uint16,
    "i64": np.int64,
    "i32": np.int32,
    "u8": np.uint8,
}


@dataclass
class Call:
    """A launch. Arguments are in the order of the kernel's signature, which spells types as Triton does."""

    module: str
    function: str
    signature: dict[str, str]
    constants: dict[str, int]
    grid: tuple[int, int, int]
    inputs: dict[str, object]  # arrays behind pointers, and numbers
    outputs: dict[str, tuple[int, ...]]  # shapes of what is written
    at_end: bool  # arrays end at the forbidden page behind them; else they begin at the one before


class Guarded:
    """Memory for an array between two pages that nobody may touch."""

    def __init__(self, shape, dtype, at_end):
        self.size = math.prod(shape) * np.dtype(dtype).itemsize
        pages = max(1, -(-self.size // PAGE))
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.inner = self.address + PAGE, pages * PAGE
        self.first = PAGE + (pages * PAGE - self.size if at_end else 0)
        self.bytes = np.frombuffer(self.map, np.uint8)
        self.bytes[PAGE : PAGE + pages * PAGE] = CANARY
        self.array = self.bytes[self.first : self.first + self.size].view(dtype).reshape(shape)
        protect(self.address, PAGE, NOBODY)
        protect(self.address + PAGE + pages * PAGE, PAGE, NOBODY)

    @property
    def pointer(self):
        return self.address + self.first

    def forbid_writing(self):
        protect(*self.inner, mmap.PROT_READ)

    def is_untouched_around(self):
        inner = self.bytes[PAGE : PAGE + self.inner[1]]
        before, behind = self.first - PAGE, self.first - PAGE + self.size
        return (inner[:before] == CANARY).all() and (inner[behind:] == CANARY).all()


def protect(address, size, rights):
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), rights) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def mend_bfloat16():
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    cast = InterpreterBuilder.cast_impl

    def as_float32(handle):
        if handle.dtype.scalar == tl.bfloat16:
            return (handle.data.astype(np.uint32) << 16).view(np.float32)
        return handle.data.astype(np.float32)

    def cast_rounding(self, src, dst_type):
        if (src.dtype.scalar, dst_type.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, src, dst_type)
        bits = np.ascontiguousarray(src.data).view(np.uint32)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        data = np.where(np.isnan(src.data), 0x7FC0, rounded).astype(np.uint16)
        return TensorHandle(data, dst_type.scalar)

    def product(self, a, b, d, input_precision, max_num_imprecise_acc):
        return TensorHandle(np.matmul(as_float32(a), as_float32(b)) + d.data, d.dtype.scalar)

    InterpreterBuilder.cast_impl = cast_rounding
    InterpreterBuilder.create_dot = product


def run(call):
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    kernel = getattr(importlib.import_module(call.module), call.function)
    memory, arguments = {}, []
    for name, kind in call.signature.items():
        dtype = NUMPY[kind.lstrip("*")]
        scalar = tl.str_to_ty(kind.lstrip("*"), None)
        if not kind.startswith("*"):
            arguments.append(tl.tensor(TensorHandle(np.array([call.inputs[name]], dtype), scalar), scalar))
            continue
        if name in call.outputs:
            memory[name] = Guarded(call.outputs[name], dtype, call.at_end)
            memory[name].array.view(np.uint8)[...] = UNWRITTEN
        else:
            given = np.asarray(call.inputs[name])
            memory[name] = Guarded(given.shape, dtype, call.at_end)
            memory[name].array[...] = given.view(dtype)
            memory[name].forbid_writing()
        pointer = tl.pointer_type(scalar)
        arguments.append(tl.tensor(TensorHandle(np.array([memory[name].pointer], np.uint64), pointer), pointer))
    kernel[call.grid](*arguments, **call.constants)
    touched = [name for name in call.outputs if not memory[name].is_untouched_around()]
    if touched:
        raise AssertionError(f"{call.function} wrote outside of {', '.join(touched)}")
    return {name: memory[name].array.copy() for name in call.outputs}


def main():
    calls, results = map(Path, sys.argv[1:])
    warnings.simplefilter("error")  # no invalid number arises, even where it would be thrown away
    os.environ["TRITON_INTERPRET"] = "1"
    mend_bfloat16()
    results.write_bytes(pickle.dumps([run(call) for call in pickle.loads(calls.read_bytes())]))


if __name__ == "__main__":
    main()
