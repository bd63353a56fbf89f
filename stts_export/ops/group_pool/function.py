"""The operator's body in standard ONNX operators: patches by group, and one row of attention for each."""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, opset20 as op, script

from stts_export.ops.domain import STTS


@script(STTS, default_opset=op)
def GroupPool(query: FLOAT, key: FLOAT, value: FLOAT, heads: int, pool: int, columns: int) -> FLOAT:  # noqa: D103, N802
    pool_1d = op.Reshape(op.Constant(value_int=pool), op.Constant(value_ints=[1]))
    heads_1d = op.Reshape(op.Constant(value_int=heads), op.Constant(value_ints=[1]))
    frames = op.Shape(key, start=0, end=1)
    width = op.Shape(key, start=2, end=3)
    row = op.Reshape(op.Constant(value_int=columns), op.Constant(value_ints=[1]))
    across = op.Div(row, pool_1d)
    down = op.Div(op.Shape(key, start=1, end=2), op.Mul(row, pool_1d))
    head_width = op.Div(width, heads_1d)
    groups = op.Mul(down, across)
    tiles = op.Concat(op.Mul(frames, down), pool_1d, across, pool_1d, width, axis=0)
    by_head = op.Concat(op.Mul(frames, groups), op.Mul(pool_1d, pool_1d), heads_1d, head_width, axis=0)
    key_h = op.Reshape(op.Transpose(op.Reshape(key, tiles), perm=[0, 2, 1, 3, 4]), by_head)
    value_h = op.Reshape(op.Transpose(op.Reshape(value, tiles), perm=[0, 2, 1, 3, 4]), by_head)
    one = op.Constant(value_ints=[1])
    query_h = op.Reshape(query, op.Concat(op.Mul(frames, groups), heads_1d, one, head_width, axis=0))
    scale = op.Reciprocal(op.Sqrt(op.CastLike(head_width, query)))
    logits = op.MatMul(op.Mul(query_h, scale), op.Transpose(key_h, perm=[0, 2, 3, 1]))
    mixed = op.MatMul(op.Softmax(logits, axis=-1), op.Transpose(value_h, perm=[0, 2, 1, 3]))
    return op.Reshape(mixed, op.Concat(frames, groups, width, axis=0))
