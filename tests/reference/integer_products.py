"""Whether this processor multiplies 8-bit integers without loss, as onnxruntime asks it to.

Without VNNI (AVX2 alone, AVX-512 before it) its kernels for unsigned activations and signed weights add two products in
16 bits, which overflow and are cut. The products of rounded towers are then wrong, and `build` says so.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper


@cache
def are_whole() -> bool:
    """Tell whether the largest products come out right."""
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    given = [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, None])]
    weight = helper.make_tensor("w", TensorProto.INT8, [64, 64], np.full((64, 64), 127, np.int8).tobytes(), raw=True)
    found = [helper.make_tensor_value_info("y", TensorProto.INT32, [None, None])]
    graph = helper.make_graph([node], "products", given, found, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": np.full((8, 64), 255, np.uint8)})
    return bool((made == 64 * 255 * 127).all())


needs_whole_products = pytest.mark.skipif(
    not are_whole(),
    reason="this processor has no VNNI: onnxruntime's 8-bit products overflow on it",
)
