#!/usr/bin/env bash
# onnxruntime 1.32.0, x86-64 CPU: DequantizeLinear with a scale for each row takes three times as long as the Cast and the
# Mul that say the same, and seven times as long as with one scale for all.
#
# Input: int8 [1, 8, 4096, 128] with a scale for each row of 128, as keys of a cache in 8 bits are kept: once by
#   DequantizeLinear (opset 21, axis 3, block_size 128), once by Cast and Mul with scales [1, 8, 4096, 1]; and, beside it,
#   DequantizeLinear with one scale for all.
# Expected: one operator that reads the numbers once is no slower than two of which the second reads floats again, and
#   scales by rows cost what one scale costs.
# Seen: the same floats, in 2.9 times the time of Cast and Mul; with one scale for all, in 0.4 times.
# Hence: keys and values in 8 bits are restored by Cast on a CPU, and their scales multiply logits and weights.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.4
cd "$folder"
ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PYTHON'
import time
from statistics import median

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

SHAPE = (1, 8, 4096, 128)


def opened(nodes, scales):
    """Return a session that makes `y` of `x` int8 and `s` float32."""
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.INT8, SHAPE),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, scales),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph([helper.make_node(*node, **more) for *node, more in nodes], "restored", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


rows = (*SHAPE[:3], 1)
sessions = {
    "blocks": opened([("DequantizeLinear", ["x", "s"], ["y"], {"axis": 3, "block_size": SHAPE[3]})], rows),
    "cast": opened([("Cast", ["x"], ["f"], {"to": TensorProto.FLOAT}), ("Mul", ["f", "s"], ["y"], {})], rows),
    "one scale": opened([("DequantizeLinear", ["x", "s"], ["y"], {})], ()),
}
draw = np.random.default_rng(0)
x, s = draw.integers(-127, 128, SHAPE, np.int8), draw.random(rows, np.float32)
times, made = {name: [] for name in sessions}, {}
for _ in range(9):  # the first warms up
    for name, session in sessions.items():
        feeds = {"x": x, "s": np.array(0.1, np.float32) if name == "one scale" else s}
        start = time.process_time()
        (made[name],) = session.run(None, feeds)
        times[name].append(time.process_time() - start)
assert np.array_equal(made["blocks"], made["cast"])
unit = median(times["cast"][1:])
shown = ", ".join(f"{name} {median(taken[1:]) / unit:.1f}" for name, taken in times.items())
print(f"onnxruntime {onnxruntime.__version__}: times of Cast and Mul: {shown}")
assert median(times["blocks"][1:]) > 1.8 * unit, "blocks are restored as fast as by Cast and Mul"
assert median(times["blocks"][1:]) > 3 * median(times["one scale"][1:]), "blocks cost what one scale costs"
PYTHON
