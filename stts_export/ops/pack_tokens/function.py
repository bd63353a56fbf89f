"""The operator's body in standard ONNX operators: the places of the groups' patches, and one Gather."""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, INT64, opset20 as op, script

from stts_export.ops.domain import STTS


@script(STTS, default_opset=op)
def PackTokens(hidden: FLOAT, order: INT64, pool: int, columns: int) -> FLOAT:  # noqa: D103, N802
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    pool_ = op.Constant(value_int=pool)
    patches = op.Squeeze(op.Shape(hidden, start=1, end=2), [0])
    row = op.Constant(value_int=columns)
    wide = op.Div(row, pool_)
    of_all = op.Mul(op.Squeeze(op.Shape(hidden, start=0, end=1), [0]), patches)
    groups = op.Div(of_all, op.Mul(pool_, pool_))
    is_group = op.And(op.GreaterOrEqual(order, zero), op.Less(order, groups))
    group = op.Where(is_group, order, zero)
    # Frames lie end to end, so groups lie in rows of the clip as they do in those of a frame.
    down = op.Div(group, wide)
    across = op.Mod(group, wide)
    corner = op.Mul(pool_, op.Add(op.Mul(down, row), across))
    step = op.Range(zero, pool_, one)
    within = op.Reshape(op.Add(op.Unsqueeze(op.Mul(step, row), [1]), step), op.Constant(value_ints=[1, -1]))
    places = op.Add(op.Unsqueeze(corner, [1]), within)
    width = op.Shape(hidden, start=2, end=3)
    flat = op.Reshape(hidden, op.Concat(op.Constant(value_ints=[-1]), width, axis=0))
    rows = op.Gather(flat, places)
    kept = op.Where(op.Unsqueeze(is_group, [1, 2]), rows, op.CastLike(op.Constant(value_float=0.0), hidden))
    return op.Reshape(kept, op.Concat(op.Constant(value_ints=[-1]), width, axis=0))
