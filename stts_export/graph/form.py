"""What a stored graph has to be like for the engine that will read it; one row a backend."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stts_export.graph.capture import OPSET
from stts_export.quantise.choice import choice_of
from stts_runtime.bundle.manifest import EngineSettings
from stts_runtime.bundle.spec import ENGINE, GraphSpec, TensorSpec


@dataclass(frozen=True)
class Form:
    """The form of a graph."""

    precision: str = "float32"  # `float32`, `float16` or `bfloat16`, see `SetPrecision`
    opset: int = OPSET  # of the standard operators: 17, which every TensorRT from 8.6 on reads, or that of the tracer
    attention: str = "portable"  # how attention is written, one of `ops.ATTENTION`
    plugins: bool = False  # whether our operators stay, as TensorRT plugins, rather than their bodies in their place
    # whether rounded weights are made floats in front of what reads them, which TensorRT fuses, rather than read by
    # onnxruntime's operators for whole numbers
    dequantizes: bool = False
    weights_opset: int = OPSET  # of a graph that holds some
    # whether a graph that decodes has few large nodes, of onnxruntime's own operators, in the place of many small ones
    fuses: bool = False


# RTX would read opset 20 too. It gets what TensorRT gets, so that engines built without a GPU prove a Jetson's graphs.
FORMS = {
    "onnxruntime": Form(attention="onnxruntime", fuses=True),
    "tensorrt": Form(opset=17, attention="tensorrt", dequantizes=True),
    "tensorrt_rtx": Form(opset=17, attention="tensorrt", dequantizes=True),
}


def form_for(engine: EngineSettings) -> Form:
    """Return the form of the graphs that an engine is made of."""
    form = replace(FORMS[engine.backend], precision=engine.precision, plugins=engine.has_plugins)
    if engine.backend == "onnxruntime" and (engine.device, engine.precision) != ("cpu", "float32"):
        form = replace(form, fuses=False)  # what its own operators do in half precision, or on a GPU, was not tried
    if form.attention == "onnxruntime" and engine.device != "cpu":
        form = replace(form, attention="portable")  # nor what its own attention does there
    choice = choice_of(engine.backend, engine.weights, engine.precision)
    return form if choice is None else replace(form, weights_opset=choice.opset)


def spec_in_form(spec: GraphSpec, form: Form) -> GraphSpec:
    """Return the contract of a graph once it has been lowered to `form`."""

    def typed(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, dtype=form.precision) if tensor.role == ENGINE else tensor

    return replace(spec, inputs=tuple(map(typed, spec.inputs)), outputs=tuple(map(typed, spec.outputs)))
