#!/usr/bin/env bash
# TensorRT-RTX 1.7.1: an operator of one's own whose name a standard operator has is taken for the standard one.
#
# Input: a model whose one node, mine::Add, has a function body that multiplies. ONNX tells operators apart by domain
#   and name, and onnx.checker accepts the model.
# Expected: a network that multiplies, as for the same model with the name Combine, or an error.
# Seen: the parser reports success, and the network adds. The body is not looked at, and nothing is said.
# Hence: no operator of the `stts` domain has the name of a standard one, and graphs are stored with bodies inlined.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  numpy==2.2.6 onnx==1.23.2 tensorrt-rtx-cu13==1.7.1.116
"$folder/venv/bin/python" -I - <<'PYTHON'
import numpy as np
import onnx
import tensorrt_rtx as trt
from onnx.reference import ReferenceEvaluator

MODEL = """
<ir_version: 9, opset_import: ["": 20, "mine": 1]>
graph (float[4] x, float[4] y) => (float[4] z) {{ z = mine.{name}(x, y) }}
<opset_import: ["": 20], domain: "mine">
{name} (a, b) => (c) {{ c = Mul(a, b) }}
"""


def operation(model):
    """Return what the only layer of TensorRT-RTX's network computes."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
    (layer,) = (network.get_layer(index) for index in range(network.num_layers))
    layer.__class__ = trt.IElementWiseLayer  # the bindings give layers as their base class
    return layer.op


def main():
    print("tensorrt_rtx", trt.__version__, "onnx", onnx.__version__)
    got = {}
    for name in ("Combine", "Add"):
        model = onnx.parser.parse_model(MODEL.format(name=name))
        onnx.checker.check_model(model, full_check=True)
        product = ReferenceEvaluator(model).run(None, {"x": np.full(4, 2, np.float32), "y": np.full(4, 3, np.float32)})
        got[name] = operation(model)
        print(f"mine::{name}(2, 3): onnx's reference {product[0][0]:.0f}, the layer of TensorRT-RTX {got[name]}")
    multiplies, adds = trt.ElementWiseOperation.PROD, trt.ElementWiseOperation.SUM
    assert got == {"Combine": multiplies, "Add": adds}, "it has changed: see the top of this file"


main()
PYTHON
