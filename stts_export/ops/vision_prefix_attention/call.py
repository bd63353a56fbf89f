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
    rows: torch.Tensor | None = None,
    key_rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return attention [1, H, S, d]; shapes as in the operator's README, rows for plugins only."""
    inputs: tuple[torch.Tensor, ...] = (query, key, value, positions, key_positions, vision_flags)
    if rows is not None and key_rows is not None:
        inputs = (*inputs, rows, key_rows)
    if not torch.onnx.is_in_onnx_export():
        return prefix_attention(*inputs)
    return operator("VisionPrefixAttention", *inputs)
