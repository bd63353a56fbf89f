"""Attention of new tokens over cached and new ones, causal except that vision tokens all see each other."""

from __future__ import annotations

import torch
from torch import Tensor


def prefix_mask(positions: Tensor, vision_flags: Tensor) -> Tensor:
    """Return which keys each query may see, bool [S, C].

    A key is seen where it is not later than the query, or where both are vision tokens, whichever comes first.

    Args:
        positions: int64 [S], of the queries; key c stands at position c.
        vision_flags: bool [C], whether cached and new tokens are vision tokens; the last S are the queries.
    """
    keys = torch.arange(vision_flags.shape[0], device=positions.device)
    query_flags = vision_flags[vision_flags.shape[0] - positions.shape[0] :]
    causal = keys[None, :] <= positions[:, None]
    return causal | (query_flags[:, None] & vision_flags[None, :])


def prefix_attention(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, vision_flags: Tensor) -> Tensor:
    """Return softmax(query key^T / sqrt(d)) value under `prefix_mask`, [1, H, S, d].

    Query head h reads key and value head h // (H / Hkv). Softmax is taken in float32.

    Args:
        query: [1, H, S, d].
        key: [1, Hkv, C, d]; cached keys first, the S new ones last.
        value: [1, Hkv, C, d].
        positions: int64 [S], see `prefix_mask`.
        vision_flags: bool [C], see `prefix_mask`.
    """
    _, heads, new, width = query.shape
    kv_heads, total = key.shape[1], key.shape[2]
    sharing = heads // kv_heads
    # the query heads that share a key are stacked along the rows of one product, so keys are never repeated
    rows = query.reshape(1, kv_heads, sharing * new, width) * width**-0.5
    logits = (rows @ key.transpose(-1, -2)).float().reshape(1, kv_heads, sharing, new, total)
    logits = logits.masked_fill(~prefix_mask(positions, vision_flags), float("-inf"))
    weights = logits.softmax(-1).to(value.dtype).reshape(1, kv_heads, sharing * new, total)
    return (weights @ value).reshape(1, heads, new, width)
