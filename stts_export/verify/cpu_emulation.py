"""A bundle in a form in which its graphs can be held to the model on any CPU, whatever they were made for."""

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
from stts_export.graph.passes.look_up_fp4 import LookUpFp4
from stts_export.graph.passes.round_in_float32 import RoundInFloat32
from stts_export.graph.passes.round_weights import FLOAT32_PRODUCTS, PRODUCT, ROW_PRODUCT, replace_node
from stts_runtime.bundle.manifest import FLOAT
from stts_runtime.bundle.open import Bundle


@contextmanager
def cpu_emulation(bundle: Bundle) -> Iterator[Bundle]:
    """Yield the bundle as onnxruntime runs it on the CPU; one that computes in float32 there is yielded as it is.

    The graphs are the stored ones, node for node, but each computes in float32 and rounds what comes out to the
    precision it has there, as a GPU does that sums products in float32. A plugin does so as a whole: in these copies
    alone its body in standard operators takes its place. Products with rounded weights do not round what they are
    multiplied with. Weights are shared with the bundle (hard links, or copies where the disk has none).

    Raises:
        OSError: no room beside the bundle.
    """
    settings = bundle.manifest.engine
    is_native = (settings.backend, settings.device) == ("onnxruntime", "cpu")
    if is_native and not settings.has_rounded_products:
        yield bundle
        return
    form = with_exact_products if is_native else emulated
    graphs = {entry.file for entry in bundle.manifest.graphs.values()}
    with TemporaryDirectory(prefix=f".{bundle.path.name}.host.", dir=bundle.path.absolute().parent) as folder:
        root = Path(folder)
        for entry in bundle.manifest.files:
            destination = root / entry.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            if entry.path in graphs:
                ir.save(form(ir.load(bundle.file(entry.path))), destination)
            else:
                link_or_copy(bundle.file(entry.path), destination)
        engine = replace(
            settings,
            backend="onnxruntime",
            device="cpu",
            prepack=False,
            weights=FLOAT,
            tower_weights=FLOAT,
            keep_float=(),
        )
        yield Bundle(root, replace(bundle.manifest, engine=engine))


def emulated(model: ir.Model) -> ir.Model:
    """Return a graph as a CPU runs it, made of the one given."""
    return LookUpFp4()(ExpandPlugins()(RoundInFloat32()(model).model).model).model


def with_exact_products(model: ir.Model) -> ir.Model:
    """Return a graph whose products with whole numbers read their other side as it is, made of the one given."""
    for node in list(model.graph):
        if node.op_type == PRODUCT:
            node.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", FLOAT32_PRODUCTS)
        elif node.op_type == ROW_PRODUCT:
            rounded, numbers, _, scales = node.inputs[:4]
            assert rounded is not None
            source = rounded.producer()
            assert source is not None
            floats = ir.node("Cast", [numbers], attributes={"to": ir.DataType.FLOAT.value})
            product = ir.node("MatMul", [source.inputs[0], floats.outputs[0]])
            replace_node(model.graph, node, [floats, product, ir.node("Mul", [product.outputs[0], scales])])
    return model


def link_or_copy(source: Path, destination: Path) -> None:
    """Let `destination` be the same file as `source`, or a copy of it."""
    try:
        os.link(source, destination)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, destination)
