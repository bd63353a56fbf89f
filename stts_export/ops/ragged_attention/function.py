"""The operator's body in standard ONNX operators: pad each frame to the longest, attend, take the rows back."""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, INT64, opset20 as op, script

from stts_export.ops.domain import MASKED, STTS


@script(STTS, default_opset=op)
def RaggedAttention(  # noqa: D103, N802
    query: FLOAT, key: FLOAT, value: FLOAT, cumulative_lengths: INT64, positions: INT64, heads: int
) -> FLOAT:
    first = op.Slice(cumulative_lengths, [0], [-1])
    last = op.Slice(cumulative_lengths, [1], [9223372036854775807])
    slots = op.Add(op.Unsqueeze(first, [1]), op.Unsqueeze(positions, [0]))
    valid = op.Less(slots, op.Unsqueeze(last, [1]))
    rows = op.Where(valid, slots, op.Constant(value_int=0))
    heads_1d = op.Reshape(op.Constant(value_int=heads), op.Constant(value_ints=[1]))
    split = op.Concat(op.Constant(value_ints=[0, 0]), heads_1d, op.Constant(value_ints=[-1]), axis=0)
    query_h = op.Transpose(op.Reshape(op.Gather(query, rows), split), perm=[0, 2, 1, 3])
    key_t = op.Transpose(op.Reshape(op.Gather(key, rows), split), perm=[0, 2, 3, 1])
    value_h = op.Transpose(op.Reshape(op.Gather(value, rows), split), perm=[0, 2, 1, 3])
    scale = op.Reciprocal(op.Sqrt(op.CastLike(op.Shape(query_h, start=3, end=4), query)))
    logits = op.MatMul(op.Mul(query_h, scale), key_t)
    masked = op.CastLike(op.Constant(value_float=MASKED), query)
    bias = op.Where(op.Unsqueeze(valid, [1, 2]), op.CastLike(op.Constant(value_float=0.0), query), masked)
    weights = op.Softmax(op.Add(logits, bias), axis=-1)
    mixed = op.Transpose(op.MatMul(weights, value_h), perm=[0, 2, 1, 3])
    width = op.Shape(query, start=1, end=2)
    padded = op.Reshape(mixed, op.Concat(op.Constant(value_ints=[-1]), width, axis=0))
    # Row m belongs to the frame that has as many frame ends at or before m as there are frames ahead of it.
    count = op.Squeeze(op.Shape(query, start=0, end=1), [0])
    row = op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1))
    ended = op.GreaterOrEqual(op.Unsqueeze(row, [1]), op.Unsqueeze(last, [0]))
    frame = op.ReduceSum(op.Cast(ended, to=7), [1], keepdims=0)
    longest = op.Shape(positions, start=0, end=1)
    place = op.Add(op.Mul(frame, longest), op.Sub(row, op.Gather(first, frame)))
    return op.Gather(padded, place)
