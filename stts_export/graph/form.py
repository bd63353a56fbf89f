"""What a stored graph has to be like for the engine that will read it; one row a backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stts_runtime.bundle.spec import GraphSpec, TensorSpec


@dataclass(frozen=True)
class Form:
    """The form of a graph.

    Attributes:
        precision: `float32`, `float16` or `bfloat16`, see `SetPrecision`.
        opset: of the standard operators: 17, which every TensorRT from 8.6 on reads, or 20.
        fused_attention: whether attention is written as TensorRT recognises it and runs it in one kernel, rather than
            as costs least without such a kernel.
    """

    precision: str = "float32"
    opset: int = 20
    fused_attention: bool = False


# RTX would read opset 20 too. It gets what TensorRT gets, so that engines built without a GPU prove a Jetson's graphs.
FORMS = {
    "onnxruntime": Form(),
    "tensorrt": Form(opset=17, fused_attention=True),
    "tensorrt_rtx": Form(opset=17, fused_attention=True),
}

HALF = ("hidden", "features", "past_key_", "past_value_", "new_key_", "new_value_")
"""Inputs and outputs, by the beginning of their names, that take the graph's precision: they go from engine to engine.

What the host reads or makes stays in float32: patches, the scorer's state and scores, the gate, logits.
"""

FLOAT32_BINDINGS = ("previous", "gate", "scores", "last")
"""Inputs and outputs on whose way through the graph float32 is kept, see `SetPrecision`."""


def form_for(backend: str, precision: str) -> Form:
    """Return the form of a backend's graphs in a precision."""
    return replace(FORMS[backend], precision=precision)


def spec_in_form(spec: GraphSpec, form: Form) -> GraphSpec:
    """Return the contract of a graph once it has been lowered to `form`."""

    def typed(tensor: TensorSpec) -> TensorSpec:
        half = tensor.dtype == "float32" and tensor.name.startswith(HALF)
        return replace(tensor, dtype=form.precision) if half else tensor

    return replace(spec, inputs=tuple(map(typed, spec.inputs)), outputs=tuple(map(typed, spec.outputs)))
