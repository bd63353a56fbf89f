"""What the parts call: the operator while a graph is traced, the reference mathematics otherwise."""

from __future__ import annotations

import torch

from stts_export.models.pool import group_attention
from stts_export.ops.domain import operator


def group_pool(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, pool: int, columns: int
) -> torch.Tensor:
    """Return what each group's query reads of its patches, [A, G, D]; shapes as in the operator's README."""
    if not torch.onnx.is_in_onnx_export():
        return group_attention(query, key, value, heads, pool, columns)
    return operator("GroupPool", query, key, value, heads=heads, pool=pool, columns=columns)
