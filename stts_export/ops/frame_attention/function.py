"""The operator's body in standard ONNX operators."""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, opset20 as op, script

from stts_export.ops.domain import STTS


@script(STTS, default_opset=op)
def FrameAttention(query: FLOAT, key: FLOAT, value: FLOAT, heads: int) -> FLOAT:  # noqa: D103, N802
    heads_1d = op.Reshape(op.Constant(value_int=heads), op.Constant(value_ints=[1]))
    split = op.Concat(op.Constant(value_ints=[0, 0]), heads_1d, op.Constant(value_ints=[-1]), axis=0)
    query_h = op.Transpose(op.Reshape(query, split), perm=[0, 2, 1, 3])
    key_t = op.Transpose(op.Reshape(key, split), perm=[0, 2, 3, 1])
    value_h = op.Transpose(op.Reshape(value, split), perm=[0, 2, 1, 3])
    scale = op.Reciprocal(op.Sqrt(op.CastLike(op.Shape(query_h, start=3, end=4), query)))
    weights = op.Softmax(op.MatMul(op.Mul(query_h, scale), key_t), axis=-1)
    mixed = op.Transpose(op.MatMul(weights, value_h), perm=[0, 2, 1, 3])
    return op.Reshape(mixed, op.Constant(value_ints=[0, 0, -1]))
