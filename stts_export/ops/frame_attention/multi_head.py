"""The operator's body for onnxruntime on a CPU: its own attention, which never stores the logits.

They are a frame's largest values by far: 8 frames of 729 patches in 6 heads have 102 MB of them.
"""
# mypy: ignore-errors
# The onnxscript compiler reads this source: types and names here are ONNX's, not Python's.

from onnxscript import FLOAT, opset20 as op, script

from stts_export.ops.domain import ONNXRUNTIME, STTS


@script(STTS, default_opset=op)
def FrameAttention(query: FLOAT, key: FLOAT, value: FLOAT, heads: int) -> FLOAT:  # noqa: D103, N802
    return ONNXRUNTIME.MultiHeadAttention(query, key, value, num_heads=heads)
