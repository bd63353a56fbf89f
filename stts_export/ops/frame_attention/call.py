"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models import attention
from stts_export.ops.domain import operator


def frame_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int) -> torch.Tensor:
    """Return attention [T, N, D] within each frame; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return attention.frame_attention(query, key, value, heads)
    return operator("FrameAttention", query, key, value, heads=heads)
