"""Stored graphs that are made to compute something else, in a bundle that is whole all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from stts_export.bundle.write import write_manifest
from stts_runtime.bundle.open import open_bundle


def changed(path: Path, name: str, change: Callable[[ir.Graph], object]) -> None:
    """Change a stored graph, and let the manifest know it as it is then."""
    bundle = open_bundle(path)
    file = bundle.file(bundle.manifest.graphs[name].file)
    model = ir.load(file)
    change(model.graph)
    ir.save(model, file)
    kept = tuple(entry for entry in bundle.manifest.files if entry.path != file.name)
    write_manifest(path, replace(bundle.manifest, files=kept))


def maker(graph: ir.Graph, name: str) -> ir.Node:
    """Return the node that makes a value."""
    return next(node for node in graph for value in node.outputs if value.name == name)


def scaled(name: str, factor: float) -> Callable[[ir.Graph], None]:
    """Return a change that multiplies a value, which its readers do not notice, by a wrong constant."""

    def change(graph: ir.Graph) -> None:
        node = maker(graph, name)
        (value,) = node.outputs
        wrong = ir.Value(name="wrong", type=value.type, shape=ir.Shape([]))
        wrong.const_value = ir.Tensor(np.array(factor, value.dtype.numpy()), name="wrong")
        graph.initializers.add(wrong)
        product = ir.node("Mul", [value, wrong], name="Wrong_0")
        product.outputs[0].type, product.outputs[0].shape = value.type, value.shape
        ir.convenience.replace_all_uses_with(value, product.outputs[0], replace_graph_outputs=True)
        product.replace_input_with(0, value)
        value.name, product.outputs[0].name = f"{name}.right", name
        graph.insert_after(node, product)

    return change
