"""The operator's body in the form that TensorRT recognises as attention and runs as one kernel.

Queries keep their heads and keys are repeated for them, which is free once it is fused: no logits are stored then.
The body in `function.py`, which costs less without a fused kernel, is not recognised: two layers of micro's decoder at
4096 tokens then need 1296 MB of scratch memory, with this one 94 MB (TensorRT-RTX 1.7.1, float16).
"""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import BOOL, FLOAT, INT64, opset20 as op, script

from stts_export.ops.domain import MASKED, STTS


@script(STTS, default_opset=op)
def VisionPrefixAttention(  # noqa: D103, N802
    query: FLOAT, key: FLOAT, value: FLOAT, positions: INT64, key_positions: INT64, vision_flags: BOOL
) -> FLOAT:
    # Sizes come from inputs that all layers share, so that the mask is found equal in every layer and built once.
    new = op.Shape(positions)
    total = op.Shape(vision_flags)
    heads = op.Shape(query, start=1, end=2)
    kv_heads = op.Shape(key, start=1, end=2)
    width = op.Shape(query, start=3, end=4)
    one = op.Constant(value_ints=[1])
    causal = op.LessOrEqual(op.Unsqueeze(key_positions, [0]), op.Unsqueeze(positions, [1]))
    query_flags = op.Slice(vision_flags, op.Sub(total, new), total)
    both = op.And(op.Unsqueeze(query_flags, [1]), op.Unsqueeze(vision_flags, [0]))
    allowed = op.Unsqueeze(op.Or(causal, both), [0, 1])
    sharing = op.Div(heads, kv_heads)
    repeated = op.Concat(one, kv_heads, sharing, total, width, axis=0)
    by_head = op.Concat(one, heads, total, width, axis=0)
    key_h = op.Reshape(op.Expand(op.Unsqueeze(key, [2]), repeated), by_head)
    value_h = op.Reshape(op.Expand(op.Unsqueeze(value, [2]), repeated), by_head)
    scale = op.Reciprocal(op.Sqrt(op.CastLike(width, query)))
    logits = op.MatMul(op.Mul(query, scale), op.Transpose(key_h, perm=[0, 1, 3, 2]))
    masked = op.CastLike(op.Constant(value_float=MASKED), query)
    bias = op.Where(allowed, op.CastLike(op.Constant(value_float=0.0), query), masked)
    return op.MatMul(op.Softmax(op.Add(logits, bias), axis=-1), value_h)
