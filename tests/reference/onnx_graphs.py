"""Small ONNX graphs with their specs, as parts of a bundle have them: dynamic dims, weights as external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stts_runtime.bundle.spec import Dim, GraphSpec, TensorSpec


DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
WIDTH = 16
WEIGHTS = "weights/toy.bin"


def block_spec(precision: str = "float32") -> GraphSpec:
    """Return the spec of `write_block`'s graph."""
    shape = ("T", 9, WIDTH)
    return GraphSpec(
        "vision_toy",
        inputs=(TensorSpec("hidden", precision, shape),),
        outputs=(TensorSpec("out", precision, shape), TensorSpec("scores", "float32", ("T", 9))),
        dims=(Dim("T", 1, 4, 8),),
    )


def write_block(file: Path, precision: str = "float32", opset: int = 17, extra: str = "") -> GraphSpec:
    """Write a block with self-attention whose softmax and norm are in float32, and return its spec.

    Args:
        file: to write; weights go beside it.
        precision: of the products.
        opset: of the graph.
        extra: an operator of one input to put before the end, to see what becomes of it.
    """
    spec = block_spec(precision)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.1, (WIDTH, WIDTH)) for name in ("query", "key", "value")}
    half = precision != "float32"

    def cast(name: str, to: str, out: str) -> onnx.NodeProto:
        return helper.make_node("Cast", [name], [out], name=f"cast_{out}", to=DTYPES[to])

    nodes = [
        cast("hidden", "float32", "hidden32"),
        helper.make_node("LayerNormalization", ["hidden32", "gain", "bias"], ["normed32"], name="norm", epsilon=1e-6),
        cast("normed32", precision, "normed"),
        *(helper.make_node("MatMul", ["normed", name], [f"{name}s"], name=f"to_{name}") for name in weights),
        helper.make_node("Transpose", ["keys"], ["turned"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["querys", "turned"], ["logits"], name="products"),
        cast("logits", "float32", "logits32"),
        helper.make_node("Softmax", ["logits32"], ["shares32"], name="softmax", axis=-1),
        cast("shares32", precision, "shares"),
        helper.make_node("MatMul", ["shares", "values"], ["mixed"], name="mix"),
        helper.make_node("Add", ["mixed", "hidden"], ["added"], name="residual"),
        helper.make_node(extra or "Identity", ["added"], ["out"], name="last"),
        cast("out", "float32", "out32"),
        helper.make_node("ReduceMean", ["out32"], ["scores"], name="mean", axes=[2], keepdims=0)
        if opset < 18
        else helper.make_node("ReduceMean", ["out32", "axes"], ["scores"], name="mean", keepdims=0),
    ]
    initializers = [_tensor(name, value, precision) for name, value in weights.items()]
    initializers += [_tensor("gain", np.ones(WIDTH), "float32"), _tensor("bias", np.zeros(WIDTH), "float32")]
    if opset >= 18:
        initializers.append(numpy_helper.from_array(np.array([2]), "axes"))
    if not half:
        nodes = [node if node.op_type != "Cast" else _identity(node) for node in nodes]
    _write(file, nodes, spec, initializers, opset)
    return spec


def decoder_spec(precision: str = "float16") -> GraphSpec:
    """Return the spec of `write_decoder`'s graph."""
    return GraphSpec(
        "decoder",
        inputs=(
            TensorSpec("token_ids", "int64", (1, "S")),
            TensorSpec("features", precision, ("K", WIDTH)),
            TensorSpec("feature_rows", "int64", ("S",)),
            TensorSpec("vision_flags", "bool", ("S",)),
            TensorSpec("past_key_0", precision, (1, 1, "P", WIDTH)),
        ),
        outputs=(TensorSpec("logits", "float32", (1, 32)), TensorSpec("new_key_0", precision, (1, 1, "S", WIDTH))),
        dims=(Dim("S", 1, 8, 64), Dim("K", 1, 4, 16), Dim("P", 0, 32, 64)),
        step=(Dim("S", 1, 1, 2), Dim("K", 1, 1, 1), Dim("P", 0, 64, 64)),
    )


def write_decoder(file: Path, precision: str = "float16") -> GraphSpec:
    """Write something that looks like a decoder from outside, and return its spec."""
    spec = decoder_spec(precision)
    rng = np.random.default_rng(0)

    def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [output], name=f"make_{output}", **attributes)

    nodes = [
        node("Gather", "embedding token_ids", "embedded", axis=0),
        node("Gather", "features feature_rows", "picked", axis=0),
        node("Where", "vision_flags one zero", "flags"),
        node("Unsqueeze", "flags last", "column"),
        node("Mul", "column picked", "added"),
        node("Add", "embedded added", "hidden"),
        node("Unsqueeze", "hidden first", "new_key_0"),
        node("Concat", "past_key_0 new_key_0", "keys", axis=2),
        node("Transpose", "keys", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "new_key_0 turned", "products"),
        node("Cast", "products", "products32", to=TensorProto.FLOAT),
        node("Softmax", "products32", "shares32", axis=-1),
        node("Cast", "shares32", "shares", to=DTYPES[precision]),
        node("MatMul", "shares keys", "mixed"),
        node("MatMul", "mixed head", "all_logits"),
        node("ReduceMax", "all_logits", "most", axes=[1, 2], keepdims=0),
        node("Cast", "most", "logits", to=TensorProto.FLOAT),
    ]
    initializers = [
        _tensor("embedding", rng.normal(0, 0.1, (32, WIDTH)), precision),
        _tensor("head", rng.normal(0, 0.1, (WIDTH, 32)), precision),
        _tensor("one", np.ones(()), precision),
        _tensor("zero", np.zeros(()), precision),
        numpy_helper.from_array(np.array([0]), "first"),
        numpy_helper.from_array(np.array([1]), "last"),
    ]
    _write(file, nodes, spec, initializers, 17)
    return spec


def write_nonzero(file: Path) -> GraphSpec:
    """Write a graph whose output's length depends on data, and return its spec."""
    spec = GraphSpec(
        "searching",
        inputs=(TensorSpec("scores", "float32", ("T",)),),
        outputs=(TensorSpec("found", "int64", (1, "F")),),
        dims=(Dim("T", 1, 4, 8), Dim("F", 0, 4, 8)),
    )
    _write(file, [helper.make_node("NonZero", ["scores"], ["found"], name="search")], spec, [], 17)
    return spec


def _identity(node: onnx.NodeProto) -> onnx.NodeProto:
    return helper.make_node("Identity", node.input, node.output, name=node.name)


def _tensor(name: str, value: np.ndarray, dtype: str) -> onnx.TensorProto:
    return helper.make_tensor(name, DTYPES[dtype], value.shape, value.flatten().tolist())


def _write(
    file: Path, nodes: list[onnx.NodeProto], spec: GraphSpec, initializers: list[onnx.TensorProto], opset: int
) -> None:
    def values(tensors: tuple[TensorSpec, ...]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(tensor.name, DTYPES[tensor.dtype], tensor.shape) for tensor in tensors]

    for tensor in initializers:  # external data must be raw
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    graph = helper.make_graph(nodes, spec.name, values(spec.inputs), values(spec.outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    (file.parent / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(
        model,
        file,
        save_as_external_data=True,
        location=f"{Path(WEIGHTS).parent}/{file.stem}.bin",
        size_threshold=64,
    )
