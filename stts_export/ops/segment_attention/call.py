"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models import attention
from stts_export.ops.domain import operator


def segment_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, segments: torch.Tensor
) -> torch.Tensor:
    """Return attention [B, N, D] within the segments of each bin; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return attention.segment_attention(query, key, value, heads, segments)
    return operator("SegmentAttention", query, key, value, segments, heads=heads)
