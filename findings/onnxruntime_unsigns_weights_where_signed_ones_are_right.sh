#!/usr/bin/env bash
# onnxruntime 1.32.0, x86-64: `session.x64quantprecision`, which keeps products of uint8 by int8 from being cut off, acts on
# processors that never cut them.
#
# Input: a product of uint8 by int8 (MatMulInteger) with the setting at 1, and a graph of two products that read one weight.
# Expected: the setting is for processors with AVX2 and no VNNI, whose kernel adds pairs of products in 16 bits. Where
#   VNNI adds them in 32, weights stay signed and keep the fast kernel. Every level of optimisation is as right.
# Seen: weights become unsigned on every processor, with VNNI too (there the product takes 2.5 times as long). Below
#   `ORT_ENABLE_EXTENDED` the setting does nothing, and says nothing. Two products of one weight cannot be opened at all.
# Hence: the runtime tries a product first, and asks for this only where it is cut off; graphs
#   that are opened without optimisation are written with it; a weight has one product.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.4
cd "$folder"
grep -o -m1 -E 'avx512_vnni|avx_vnni' /proc/cpuinfo | head -1 || echo "a processor without VNNI"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PYTHON'
import onnx
import onnxruntime
from onnx import TensorProto, helper

LEVELS = onnxruntime.GraphOptimizationLevel


def written(products, level):
    """Return the type of the weight of a graph of so many products as onnxruntime arranges it."""
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [None, 4])
    w = helper.make_tensor("w", TensorProto.INT8, [4, 4], bytes([127] * 16), raw=True)
    outputs = [helper.make_tensor_value_info(f"y{i}", TensorProto.INT32, [None, 4]) for i in range(products)]
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], [output.name]) for output in outputs]
    graph = helper.make_graph(nodes, "products", [x], outputs, [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.optimized_model_filepath = "written.onnx"
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {tensor.data_type for tensor in onnx.load("written.onnx").graph.initializer}
    return "uint8" if TensorProto.UINT8 in kinds else "int8"


extended, basic = written(1, LEVELS.ORT_ENABLE_EXTENDED), written(1, LEVELS.ORT_ENABLE_BASIC)
try:
    shared = written(2, LEVELS.ORT_ENABLE_EXTENDED)
except Exception as error:
    shared = "cannot be opened: " + str(error).split("FAIL : ")[-1].strip()
print(f"onnxruntime {onnxruntime.__version__}: weights are {extended} at `extended`, {basic} at `basic`; shared: {shared}")
assert (extended, basic) == ("uint8", "int8"), "the setting is heeded elsewhere"
assert shared.startswith("cannot be opened"), "a weight of two products is fine"
PYTHON
