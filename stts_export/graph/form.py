"""What a stored graph has to be like for the engine that will read it; one row a backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.spec import ENGINE, GraphSpec, TensorSpec


@dataclass(frozen=True)
class Form:
    """The form of a graph."""

    precision: str = "float32"  # `float32`, `float16` or `bfloat16`, see `SetPrecision`
    opset: int = 20  # of the standard operators: 17, which every TensorRT from 8.6 on reads, or 20
    # whether attention is written as TensorRT recognises it and runs it in one kernel, rather than as costs least
    # without such a kernel
    fused_attention: bool = False
    plugins: bool = False  # whether our operators stay, as TensorRT plugins, rather than their bodies in their place


# RTX would read opset 20 too. It gets what TensorRT gets, so that engines built without a GPU prove a Jetson's graphs.
FORMS = {
    "onnxruntime": Form(),
    "tensorrt": Form(opset=17, fused_attention=True),
    "tensorrt_rtx": Form(opset=17, fused_attention=True),
}


def form_for(engine: EngineSettings) -> Form:
    """Return the form of the graphs that an engine is made of."""
    return replace(FORMS[engine.backend], precision=engine.precision, plugins=engine.has_plugins)


def spec_in_form(spec: GraphSpec, form: Form) -> GraphSpec:
    """Return the contract of a graph once it has been lowered to `form`."""

    def typed(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, dtype=form.precision) if tensor.role == ENGINE else tensor

    return replace(spec, inputs=tuple(map(typed, spec.inputs)), outputs=tuple(map(typed, spec.outputs)))
