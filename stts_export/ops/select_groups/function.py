"""The operator's body in standard ONNX operators, for a runtime that sorts: onnxruntime, where graphs are verified.

TopK's number comes from the length of `kept`, a dimension; TensorRT, which wants a constant and at most 3840, is given
the plugin.
"""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, INT64, opset20 as op, script

from stts_export.ops.domain import STTS


@script(STTS, default_opset=op)
def SelectGroups(scores: FLOAT, kept: INT64):  # noqa: D103, N802
    zero = op.Constant(value_int=0)
    one = op.Constant(value_int=1)
    nothing = op.Constant(value_int=-1)
    infinity = op.Constant(value_float=float("inf"))
    groups = op.Shape(scores, start=1, end=2)
    rows = op.Size(scores)
    flat = op.Reshape(scores, op.Constant(value_ints=[-1]))
    finite = op.Equal(op.ReduceSum(op.Cast(op.Or(op.IsNaN(flat), op.IsInf(flat)), to=7), keepdims=0), zero)
    index = op.Range(zero, rows, one)
    ranked = op.Where(op.Less(index, groups), infinity, op.Where(finite, flat, op.Constant(value_float=0.0)))
    # The lowest, and of equals the first.
    going = op.Reshape(op.Sub(rows, op.Size(kept)), op.Constant(value_ints=[1]))
    _, gone = op.TopK(ranked, going, largest=0)
    all_kept = op.Expand(one, op.Shape(flat))
    keep = op.ScatterElements(all_kept, gone, op.Expand(zero, op.Shape(gone)), axis=0)
    order, _ = op.TopK(op.Where(op.Cast(keep, to=9), index, rows), op.Shape(kept), largest=0)
    counts = op.ReduceSum(op.Reshape(keep, op.Shape(scores)), op.Constant(value_ints=[1]), keepdims=0)
    sums = op.Concat(op.Constant(value_ints=[0]), op.CumSum(counts, zero), axis=0)
    is_last = op.Equal(op.Range(zero, op.Size(sums), one), op.Size(counts))
    kept_groups = op.And(op.Cast(op.Reshape(keep, op.Shape(scores)), to=9), finite)
    cumulative_groups = op.Where(finite, sums, op.Where(is_last, nothing, zero))
    return kept_groups, op.Where(finite, order, nothing), cumulative_groups
