#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: MatMulNBits with 8 bits is many times slower than MatMul in float32, unless a hint of
# accuracy is set to its last value; with zero points that are floats the hint is dropped without a word.
#
# Input: x [1, 1024] times a matrix of 4 or 8 bits in blocks of 32, by com.microsoft::MatMulNBits, one thread.
# Expected: weights of a quarter of the bytes are read faster than floats, whatever `accuracy_level` says (its default is
#   0); and level 4, where integers are multiplied, is level 4 with any zero points that the operator takes.
# Seen: 8 bits at levels 0 and 1 take 10 times as long as float32 or more, since the whole matrix is made floats at each
#   call; at level 4 they are faster than float32. 4 bits at level 4 with zero points of type float give bit for bit what
#   level 1 gives: no integer was multiplied, and nothing says so.
# Hence: our graphs say level 4, and what a zero point of their own would say for each block is a second, small product.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.4
"$folder/venv/bin/python" - <<'PYTHON'
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

INPUTS, OUTPUTS, BLOCK = 1024, 4096, 32
x = np.random.default_rng(0).standard_normal((1, INPUTS), np.float32)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1


def session(nodes, weights):
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", INPUTS])]
    found = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", OUTPUTS])]
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "graph", given, found, stored)
    content = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def rounded(bits, level, zeros=False):
    blocks, random = INPUTS // BLOCK, np.random.default_rng(7)
    weights = {
        "numbers": random.integers(0, 256, (OUTPUTS, blocks, BLOCK * bits // 8), np.uint8),
        "scales": np.full((OUTPUTS, blocks), 0.01, np.float32),
    }
    if zeros:
        weights["zeros"] = np.full((OUTPUTS, blocks), 7.5, np.float32)
    attributes = {"K": INPUTS, "N": OUTPUTS, "bits": bits, "block_size": BLOCK, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", ["x", *weights], ["y"], domain="com.microsoft", **attributes)
    return session([node], weights)


def milliseconds(one):
    times = []
    for _ in range(15):
        since = time.perf_counter()
        one.run(None, {"x": x})
        times.append(time.perf_counter() - since)
    return 1e3 * sorted(times)[len(times) // 2]


def same_as_level_1(zeros):
    return bool(np.array_equal(*(rounded(4, level, zeros).run(None, {"x": x})[0] for level in (1, 4))))


w = np.random.default_rng(1).standard_normal((INPUTS, OUTPUTS), np.float32)
base = milliseconds(session([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}))
slow, slow_1, fast = (milliseconds(rounded(8, level)) for level in (0, 1, 4))
print(f"onnxruntime {onnxruntime.__version__}: float32 {base:.2f} ms; 8 bits at level 0 {slow:.2f}, 1 {slow_1:.2f}, 4 {fast:.2f}")
whole, broken = same_as_level_1(zeros=False), same_as_level_1(zeros=True)
print(f"4 bits, level 4 is level 1 to the bit: {whole} without zero points, {broken} with zero points in floats")
assert min(slow, slow_1) > 4 * base, "8 bits are no longer slow"
assert fast < base, "level 4 is not fast"
assert (whole, broken) == (False, True), "zero points in floats no longer turn integers off"
PYTHON
