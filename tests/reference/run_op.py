"""Run a custom operator's ONNX function body in onnxruntime, as a function and expanded into the graph."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import onnx_ir as ir
import onnxruntime

from stts_export import ops
from stts_export.graph.passes.expand_ops import AddFunctionBodies, ExpandOps


FORMS = {
    "function": AddFunctionBodies,
    "expanded": ExpandOps,
    "fused_attention": partial(ExpandOps, fused_attention=True),
}


def run_op(form: str, name: str, *inputs: np.ndarray, **attributes: int) -> np.ndarray:
    """Return the operator's output; all dimensions are dynamic in the graph that runs.

    Args:
        form: of `FORMS`.
        name: the operator's name without its domain.
        inputs: in order.
        attributes: integers.
    """
    kinds = tuple((array.dtype.name, array.ndim) for array in inputs)
    session = op_session(form, name, kinds, tuple(attributes.items()))
    feeds = {f"input_{place}": array for place, array in enumerate(inputs)}
    return session.run(None, feeds)[0]


@cache
def op_session(
    form: str, name: str, kinds: tuple[tuple[str, int], ...], attributes: tuple[tuple[str, int], ...]
) -> onnxruntime.InferenceSession:
    """Return a session of the graph of one node; `kinds` are dtype and rank of each input."""
    model = FORMS[form]()(op_model(name, kinds, dict(attributes))).model
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def op_model(name: str, kinds: tuple[tuple[str, int], ...], attributes: dict[str, int]) -> ir.Model:
    """Return a graph of one node of the `stts` domain, without a body for it."""
    inputs = [
        ir.Value(
            name=f"input_{place}",
            type=ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))),
            shape=ir.Shape([f"d{place}_{axis}" for axis in range(rank)]),
        )
        for place, (dtype, rank) in enumerate(kinds)
    ]
    node = ir.node(name, inputs, attributes=attributes, domain=ops.DOMAIN, version=ops.VERSION)
    output = node.outputs[0]
    output.name, output.type = "output", inputs[0].type
    output.shape = ir.Shape([f"o{axis}" for axis in range(kinds[0][1])])
    graph = ir.Graph(inputs, [output], nodes=[node], opset_imports={"": 20, ops.DOMAIN: ops.VERSION}, name=name)
    return ir.Model(graph, ir_version=10)
