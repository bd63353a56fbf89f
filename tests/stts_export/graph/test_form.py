"""Which form the graphs of a build have."""

import pytest

from stts_export.graph.form import form_for
from stts_runtime.bundle.manifest import EngineSettings


@pytest.mark.parametrize(
    ("backend", "device", "precision", "attention"),
    [
        ("onnxruntime", "cpu", "float32", "onnxruntime"),
        ("onnxruntime", "cuda", "float16", "portable"),
        ("tensorrt", "cuda", "float16", "tensorrt"),
        ("tensorrt_rtx", "cuda", "bfloat16", "tensorrt"),
    ],
)
def test_attention_is_written_for_what_runs_it(backend, device, precision, attention):
    form = form_for(EngineSettings(backend, device, precision, prepack=False))
    assert (form.attention, form.precision) == (attention, precision)
