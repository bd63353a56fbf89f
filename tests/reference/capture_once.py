"""Graphs of one test run: each is traced by whichever process wants it first, and read by all that want it after.

Tracing takes seconds, and most tests want one of a handful of graphs. What was traced lies in a folder of the run, so
no graph outlives the code that made it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
from torch import nn

from reference.once import once
from stts_export.graph.capture import Capture, capture
from stts_export.parts import Part


ABSENT = "absent"
"""Where a weight without data is said to lie: ONNX has no word for one."""


def capture_once(folder: Path, capture: Capture = capture) -> Capture:
    """Return a capture that asks `capture` for what is not in `folder` yet; a caller may change what it gets."""

    def captured(part: Part) -> ir.Model:
        file = folder / f"{part.spec.name}-{fingerprint(part)}.onnx"
        return read(once(file, lambda path: write(capture(part), path)))

    return captured


def fingerprint(part: Part) -> str:
    """Return a digest of all that a part's graph depends on; the values of weights and the ranges of dims are not."""
    spec, module = part.spec, part.module
    names = (spec.name, spec.inputs, spec.outputs, [dim.name for dim in spec.dims], spec.taps)
    content = [repr(names).encode(), *(name.encode() for name, _ in module.named_parameters())]
    for path, child in module.named_modules():
        content += [path.encode(), repr(type(child)).encode(), *settings(child)]
    return hashlib.sha256(b"\0".join(content)).hexdigest()[:16]


def settings(module: nn.Module) -> Iterator[bytes]:
    """Yield what a module was made with: its attributes, the shapes of its weights, its buffers whole."""
    for name, value in sorted(vars(module).items()):
        if not name.startswith("_"):
            yield name.encode() + pickle.dumps(value)
    for name, weight in module.named_parameters(recurse=False):
        yield f"{name} {weight.dtype} {tuple(weight.shape)}".encode()
    for name, buffer in module.named_buffers(recurse=False):
        yield f"{name} {buffer.dtype} {tuple(buffer.shape)} {buffer.tolist()}".encode()


def write(model: ir.Model, file: Path) -> None:
    """Write a graph whose weights may have no data."""
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            value.const_value = ir.ExternalTensor(ABSENT, 0, 0, value.dtype, shape=value.shape, name=name)
    ir.save(model, file)


def read(file: Path) -> ir.Model:
    """Return a graph that `write` wrote."""
    model = ir.load(file)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            assert value.const_value.location == ABSENT
            value.const_value = None
    return model
