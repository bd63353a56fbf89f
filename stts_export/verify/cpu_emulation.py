"""A bundle made for a GPU, in a form that any CPU can run: what is verified where the target is not at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from stts_export.graph.passes.expand_plugins import ExpandPlugins
from stts_export.graph.passes.round_in_float32 import RoundInFloat32
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.open import Bundle


@contextmanager
def cpu_emulation(bundle: Bundle) -> Iterator[Bundle]:
    """Yield the bundle as onnxruntime runs it on the CPU; one that is made for that is yielded as it is.

    The graphs are the stored ones, node for node, but each computes in float32 and rounds what comes out to the
    precision it has there, as a GPU does that sums products in float32. A plugin does so as a whole: in these copies
    alone its body in standard operators takes its place. Weights are shared with the bundle (hard links, or copies
    where the disk has none).

    Raises:
        OSError: no room beside the bundle.
    """
    settings = bundle.manifest.engine
    if (settings.backend, settings.device) == ("onnxruntime", "cpu"):
        yield bundle
        return
    graphs = {entry.file for entry in bundle.manifest.graphs.values()}
    with TemporaryDirectory(prefix=f".{bundle.path.name}.host.", dir=bundle.path.absolute().parent) as folder:
        root = Path(folder)
        for entry in bundle.manifest.files:
            destination = root / entry.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            if entry.path in graphs:
                ir.save(emulated(ir.load(bundle.file(entry.path))), destination)
            else:
                link_or_copy(bundle.file(entry.path), destination)
        engine = EngineSettings("onnxruntime", "cpu", settings.precision, prepack=False, ops=settings.ops)
        yield Bundle(root, replace(bundle.manifest, engine=engine))


def emulated(model: ir.Model) -> ir.Model:
    """Return a graph as a CPU runs it, made of the one given."""
    return ExpandPlugins()(RoundInFloat32()(model).model).model


def link_or_copy(source: Path, destination: Path) -> None:
    """Let `destination` be the same file as `source`, or a copy of it."""
    try:
        os.link(source, destination)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, destination)
