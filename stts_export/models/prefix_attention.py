"""Attention of new tokens over cached and new ones, causal except that vision tokens all see each other."""

from __future__ import annotations

from torch import Tensor


def prefix_mask(
    positions: Tensor,
    key_positions: Tensor,
    vision_flags: Tensor,
    rows: Tensor | None = None,
    key_rows: Tensor | None = None,
) -> Tensor:
    """Return which keys each query may see, bool [S, P + S].

    A key is seen where it is not later than the query, or where both are vision tokens, whichever comes first; of
    several sequences in one cache, those of the query's own only.

    Args:
        positions: int64 [S], of the queries.
        key_positions: int64 [P + S], of the keys: slots of the cache, then the queries' own. A slot that is empty
            stands later than any query and is no vision token, so it is never seen.
        vision_flags: bool [P + S], whether the keys are vision tokens; the last S are the queries.
        rows: int64 [S], the sequence of each query; all are of one where not given.
        key_rows: int64 [P + S], of each key; given with `rows`.
    """
    query_flags = vision_flags[vision_flags.shape[0] - positions.shape[0] :]
    causal = key_positions[None, :] <= positions[:, None]
    seen = causal | (query_flags[:, None] & vision_flags[None, :])
    return seen if rows is None or key_rows is None else seen & (key_rows[None, :] == rows[:, None])


def prefix_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Tensor,
    key_positions: Tensor,
    vision_flags: Tensor,
    rows: Tensor | None = None,
    key_rows: Tensor | None = None,
) -> Tensor:
    """Return softmax(query key^T / sqrt(d)) value under `prefix_mask`, [1, H, S, d].

    Query head h reads key and value head h // (H / Hkv) of [1, Hkv, P + S, d]: slots of the cache first, the S new
    ones last; values are finite in empty slots too. Softmax is taken in float32.
    """
    _, heads, new, width = query.shape
    kv_heads, total = key.shape[1], key.shape[2]
    sharing = heads // kv_heads
    # the query heads that share a key are stacked along the rows of one product, so keys are never repeated
    stacked = query.reshape(1, kv_heads, sharing * new, width) * width**-0.5
    logits = (stacked @ key.transpose(-1, -2)).float().reshape(1, kv_heads, sharing, new, total)
    logits = logits.masked_fill(~prefix_mask(positions, key_positions, vision_flags, rows, key_rows), float("-inf"))
    weights = logits.softmax(-1).to(value.dtype).reshape(1, kv_heads, sharing * new, total)
    return (weights @ value).reshape(1, heads, new, width)
