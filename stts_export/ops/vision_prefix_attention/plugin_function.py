"""What the operator's plugin computes, as a body in standard ONNX operators: what graphs with it are verified by.

It is the body of `function.py` with one condition more: a key is only seen by queries of its row.
"""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import BOOL, FLOAT, INT64, opset20 as op, script

from stts_export.ops.domain import MASKED, STTS


@script(STTS, default_opset=op)
def VisionPrefixAttention(  # noqa: D103, N802
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    positions: INT64,
    key_positions: INT64,
    vision_flags: BOOL,
    rows: INT64,
    key_rows: INT64,
) -> FLOAT:
    new = op.Shape(positions)
    total = op.Shape(vision_flags)
    kv_heads = op.Shape(key, start=1, end=2)
    width = op.Shape(query, start=3, end=4)
    one = op.Constant(value_ints=[1])
    rest = op.Constant(value_ints=[-1])
    causal = op.LessOrEqual(op.Unsqueeze(key_positions, [0]), op.Unsqueeze(positions, [1]))
    query_flags = op.Slice(vision_flags, op.Sub(total, new), total)
    both = op.And(op.Unsqueeze(query_flags, [1]), op.Unsqueeze(vision_flags, [0]))
    same_row = op.Equal(op.Unsqueeze(key_rows, [0]), op.Unsqueeze(rows, [1]))
    allowed = op.And(same_row, op.Or(causal, both))
    folded = op.Reshape(query, op.Concat(one, kv_heads, rest, width, axis=0))
    scale = op.Reciprocal(op.Sqrt(op.CastLike(width, query)))
    logits = op.MatMul(op.Mul(folded, scale), op.Transpose(key, perm=[0, 1, 3, 2]))
    by_head = op.Reshape(logits, op.Concat(kv_heads, rest, new, total, axis=0))
    masked = op.CastLike(op.Constant(value_float=MASKED), query)
    bias = op.Where(allowed, op.CastLike(op.Constant(value_float=0.0), query), masked)
    weights = op.Softmax(op.Add(by_head, bias), axis=-1)
    mixed = op.MatMul(op.Reshape(weights, op.Concat(one, kv_heads, rest, total, axis=0)), value)
    return op.Reshape(mixed, op.Shape(query))
