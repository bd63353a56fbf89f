"""Run a custom operator's ONNX function body in onnxruntime, as a function and expanded into the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial

import numpy as np
import onnx_ir as ir
import onnxruntime

from stts_export import ops
from stts_export.graph.passes.expand_ops import AddFunctionBodies, ExpandOps
from stts_export.graph.passes.expand_plugins import AddPluginBodies
from stts_export.graph.passes.use_plugins import UsePlugins
from stts_export.ops.ragged_attention.by_frame import MOST_FRAMES


FORMS = {
    "function": AddFunctionBodies,
    "expanded": ExpandOps,
    "tensorrt": partial(ExpandOps, "tensorrt"),
    "onnxruntime": partial(ExpandOps, "onnxruntime", MOST_FRAMES),
}

PLUGIN_FORMS = {"plugin": lambda: ir.passes.Sequential(UsePlugins(), AddPluginBodies())}
"""Of operators that have a plugin: as graphs with it are verified."""

Kind = tuple[str, int]
"""Dtype and rank."""


def run_op(form: str, name: str, *inputs: np.ndarray, **attributes: int) -> np.ndarray:
    """Return the operator's output; all dimensions are dynamic in the graph that runs.

    Args:
        form: of `FORMS` or `PLUGIN_FORMS`.
        name: the operator's name without its domain.
        inputs: in order.
        attributes: integers.
    """
    return run_op_outputs(form, name, inputs, (kind_of(inputs[0]),), attributes)[0]


def run_op_outputs(
    form: str, name: str, inputs: Sequence[np.ndarray], outputs: Sequence[Kind], attributes: Mapping[str, int]
) -> list[np.ndarray]:
    """Return all outputs of the operator, which are of the kinds `outputs`; as `run_op`."""
    session = op_session(form, name, tuple(map(kind_of, inputs)), tuple(attributes.items()), tuple(outputs))
    return session.run(None, {f"input_{place}": array for place, array in enumerate(inputs)})


def kind_of(array: np.ndarray) -> Kind:
    """Return dtype and rank."""
    return array.dtype.name, array.ndim


@cache
def op_session(
    form: str,
    name: str,
    kinds: tuple[Kind, ...],
    attributes: tuple[tuple[str, int], ...],
    outputs: tuple[Kind, ...],
) -> onnxruntime.InferenceSession:
    """Return a session of the graph of one node; `kinds` are dtype and rank of each input."""
    model = {**FORMS, **PLUGIN_FORMS}[form]()(op_model(name, kinds, dict(attributes), outputs)).model
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def op_model(
    name: str, kinds: Sequence[Kind], attributes: dict[str, int], outputs: Sequence[Kind] | None = None
) -> ir.Model:
    """Return a graph of one node of the `stts` domain, without a body for it; one output like the first input."""
    inputs = [_value("input", place, kind) for place, kind in enumerate(kinds)]
    results = [_value("output", place, kind) for place, kind in enumerate(outputs or kinds[:1])]
    node = ir.node(name, inputs, attributes=attributes, domain=ops.DOMAIN, version=ops.VERSION, outputs=results)
    graph = ir.Graph(inputs, results, nodes=[node], opset_imports={"": 20, ops.DOMAIN: ops.VERSION}, name=name)
    return ir.Model(graph, ir_version=10)


def _value(role: str, place: int, kind: Kind) -> ir.Value:
    dtype, rank = kind
    return ir.Value(
        name=f"{role}_{place}",
        type=ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))),
        shape=ir.Shape([f"{role}{place}_{axis}" for axis in range(rank)]),
    )
