#!/usr/bin/env bash
# TensorRT-RTX 1.7.1: attention with grouped queries as extra rows is not fused once a mask is added; repeated keys are.
#
# Input: the same masked attention of 8 query heads over 2 key heads, written twice in opset 17, in float16. `folded`
#   puts the four query heads that share a key head below each other, as rows of one product, and reshapes the logits
#   to heads and back around the mask; it copies no key. `repeated` repeats keys and values for every query head.
# Expected: both are recognised as attention, since only shapes lie between; or `folded`, with fewer bytes to move, takes
#   less memory.
# Seen: `repeated` becomes one kernel, `folded` none: it stores the logits, 32 times the scratch memory at 4096 tokens.
#   Without the mask, and the two Reshapes that it takes, `folded` is one kernel too.
# Hence: graphs for TensorRT have a function body of their own for prefix attention, which repeats keys.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  numpy==2.2.6 onnx==1.23.2 tensorrt-rtx-cu13==1.7.1.116
"$folder/venv/bin/python" -I - <<'PYTHON'
import re

import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx.reference import ReferenceEvaluator

HEADS, KV_HEADS, WIDTH, TOKENS = 8, 2, 64, 4096

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
INPUTS = "float16[1,8,S,64] query, float16[1,2,S,64] key, float16[1,2,S,64] value"
MASKED = f"graph ({INPUTS}, float16[S,S] bias) => (float16[1,8,S,64] mixed)"
FREE = f"graph ({INPUTS}) => (float16[1,8,S,64] mixed)"

FOLDED = """
<int64[4] rows = {1,2,-1,64}, int64[2] heads = {2,4}, int64[3] front = {1,2,-1}, int64[1] first = {0}>
{
  folded = Reshape(query, rows)
  columns = Transpose<perm=[0,1,3,2]>(key)
  logits = MatMul(folded, columns)
  sizes = Shape(bias)
  split = Concat<axis=0>(heads, sizes)
  by_head = Reshape(logits, split)
  hidden = Add(by_head, bias)
  weights = Softmax<axis=-1>(hidden)
  total = Gather(sizes, first)
  merge = Concat<axis=0>(front, total)
  merged = Reshape(weights, merge)
  product = MatMul(merged, value)
  shape = Shape(query)
  mixed = Reshape(product, shape)
}"""

UNMASKED = """
<int64[4] rows = {1,2,-1,64}>
{
  folded = Reshape(query, rows)
  columns = Transpose<perm=[0,1,3,2]>(key)
  logits = MatMul(folded, columns)
  weights = Softmax<axis=-1>(logits)
  product = MatMul(weights, value)
  shape = Shape(query)
  mixed = Reshape(product, shape)
}"""

REPEATED = """
<int64[1] axis = {2}, int64[3] front = {1,2,4}, int64[1] width = {64}, int64[4] heads = {1,8,-1,64}>
{
  sizes = Shape(key)
  length = Gather(sizes, axis)
  repeats = Concat<axis=0>(front, length, width)
  one_key = Unsqueeze(key, axis)
  keys = Expand(one_key, repeats)
  key_by_head = Reshape(keys, heads)
  one_value = Unsqueeze(value, axis)
  values = Expand(one_value, repeats)
  value_by_head = Reshape(values, heads)
  columns = Transpose<perm=[0,1,3,2]>(key_by_head)
  logits = MatMul(query, columns)
  hidden = Add(logits, bias)
  weights = Softmax<axis=-1>(hidden)
  mixed = MatMul(weights, value_by_head)
}"""


class Log(trt.ILogger):
    """Keeps what TensorRT says: without a GPU its log is the only way to look at an engine."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def log(self, severity, message):
        self.lines.append(message)


def built(model, log):
    """Return how many attention kernels an engine for SM 86 has, and its scratch memory in MiB."""
    log.lines.clear()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    shapes = {"query": (1, HEADS, -1, WIDTH), "key": (1, KV_HEADS, -1, WIDTH), "value": (1, KV_HEADS, -1, WIDTH)}
    for name in (value.name for value in model.graph.input):
        shape = shapes.get(name, (-1, -1))
        profile.set_shape(name, *(tuple(s if s > 0 else size for s in shape) for size in (1, TOKENS // 2, TOKENS)))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
    text = "\n".join(log.lines)
    fused = len(re.findall(r"^Name: [^,]*_gem[mv]_mha_v\d", text, re.MULTILINE))
    return fused, int(re.search(r"Max Scratch Memory: (\d+) bytes", text)[1]) // 2**20


def main():
    print("tensorrt_rtx", trt.__version__, "onnx", onnx.__version__)
    rng = np.random.default_rng(0)
    arrays = {
        "query": rng.normal(size=(1, HEADS, 16, WIDTH)) / WIDTH**0.5,
        "key": rng.normal(size=(1, KV_HEADS, 16, WIDTH)),
        "value": rng.normal(size=(1, KV_HEADS, 16, WIDTH)),
        "bias": np.where(np.tri(16, dtype=bool), 0, -30000),
    }
    arrays = {name: array.astype(np.float16) for name, array in arrays.items()}
    forms = {"folded": (MASKED, FOLDED), "repeated": (MASKED, REPEATED), "folded, no mask": (FREE, UNMASKED)}
    found, answers, log = {}, {}, Log()
    for name, (head, body) in forms.items():
        model = onnx.parser.parse_model(HEAD + head + body)
        onnx.checker.check_model(model, full_check=True)
        wanted = {value.name for value in model.graph.input}
        (answers[name],) = ReferenceEvaluator(model).run(None, {k: v for k, v in arrays.items() if k in wanted})
        found[name] = built(model, log)
        print(f"{name}: {found[name][0]} attention kernels, {found[name][1]} MiB of scratch memory")
    assert np.allclose(answers["folded"], answers["repeated"], atol=2e-3), "both must be the same mathematics"
    fused = {name: kernels for name, (kernels, _) in found.items()}
    assert fused == {"folded": 0, "repeated": 1, "folded, no mask": 1}, "it has changed: see the top of this file"
    assert found["folded"][1] > 10 * found["repeated"][1], "it has changed: see the top of this file"


main()
PYTHON
