"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models.prefix_attention import prefix_attention
from stts_export.ops.domain import operator


def vision_prefix_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    positions: torch.Tensor,
    key_positions: torch.Tensor,
    vision_flags: torch.Tensor,
) -> torch.Tensor:
    """Return attention [1, H, S, d]; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return prefix_attention(query, key, value, positions, key_positions, vision_flags)
    return operator("VisionPrefixAttention", query, key, value, positions, key_positions, vision_flags)
