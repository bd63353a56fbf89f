"""Which form the graphs of a build have."""

import pytest

from stts_export.graph.form import form_for
from stts_runtime.bundle.manifest import EngineSettings


@pytest.mark.parametrize(
    ("backend", "device", "precision", "attention", "fuses"),
    [
        ("onnxruntime", "cpu", "float32", "onnxruntime", True),
        ("onnxruntime", "cpu", "float16", "onnxruntime", False),
        ("onnxruntime", "cuda", "float16", "portable", False),
        ("onnxruntime", "cuda", "float32", "portable", False),
        ("tensorrt", "cuda", "float16", "tensorrt", False),
        ("tensorrt_rtx", "cuda", "bfloat16", "tensorrt", False),
    ],
)
def test_a_graph_is_written_for_what_runs_it(backend, device, precision, attention, fuses):
    form = form_for(EngineSettings(backend, device, precision, prepack=False))
    assert (form.attention, form.precision, form.fuses) == (attention, precision, fuses)


@pytest.mark.parametrize(
    ("backend", "weights", "dequantizes", "opset"),
    [
        ("onnxruntime", "float", False, 20),  # its tower's alone may be rounded
        ("onnxruntime", "int4", False, 20),
        ("tensorrt", "int8", True, 21),
        ("tensorrt_rtx", "nvfp4", True, 23),
    ],
)
def test_rounded_weights_are_read_as_the_backend_has_it(backend, weights, dequantizes, opset):
    form = form_for(EngineSettings(backend, "cpu", "float16", prepack=False, weights=weights))
    assert (form.dequantizes, form.weights_opset) == (dequantizes, opset)
