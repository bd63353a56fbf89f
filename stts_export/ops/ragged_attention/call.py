"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models import attention
from stts_export.ops.domain import operator


def ragged_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    cumulative_lengths: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Return attention [M, D] within each frame's rows; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return attention.ragged_attention(query, key, value, heads, cumulative_lengths, positions)
    return operator("RaggedAttention", query, key, value, cumulative_lengths, positions, heads=heads)
