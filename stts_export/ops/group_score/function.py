"""The operator's body in standard ONNX operators: patches by group, scaled to length 1, and their products."""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, opset20 as op, script

from stts_export.ops.domain import STTS


@script(STTS, default_opset=op)
def GroupScore(hidden: FLOAT, previous: FLOAT, pool: int, columns: int):  # noqa: D103, N802
    pool_1d = op.Reshape(op.Constant(value_int=pool), op.Constant(value_ints=[1]))
    frames = op.Shape(hidden, start=0, end=1)
    width = op.Shape(hidden, start=2, end=3)
    row = op.Reshape(op.Constant(value_int=columns), op.Constant(value_ints=[1]))
    across = op.Div(row, pool_1d)
    down = op.Div(op.Shape(hidden, start=1, end=2), op.Mul(row, pool_1d))
    tiles = op.Concat(op.Mul(frames, down), pool_1d, across, pool_1d, width, axis=0)
    by_group = op.Concat(frames, op.Shape(previous), axis=0)
    wide = op.Cast(hidden, to=1)
    groups = op.Reshape(op.Transpose(op.Reshape(wide, tiles), perm=[0, 2, 1, 3, 4]), by_group)
    length = op.ReduceL2(groups, op.Constant(value_ints=[-1]), keepdims=1)
    directions = op.Div(groups, op.Max(length, op.Constant(value_float=1e-12)))
    shown = op.Concat(op.Unsqueeze(previous, [0]), directions, axis=0)
    before = op.Slice(shown, [0], [-1], [0])
    cosine = op.ReduceSum(op.Mul(directions, before), op.Constant(value_ints=[-1]), keepdims=0)
    last = op.Squeeze(op.Slice(shown, [-1], [9223372036854775807], [0]), [0])
    return op.Sub(op.Constant(value_float=1.0), cosine), last
