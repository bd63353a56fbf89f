"""Attention cores of the vision tower: what happens between the query, key, value and output projections.

All take unsplit queries, keys and values [..., heads * head_dim] and return the same shape. Softmax is in float32.
They are written so that shapes follow from input shapes alone: no boolean-mask indexing, nothing read from the data.
Graphs are traced from these; `fused_attention` holds what training runs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention core: unsplit query, key, value [..., D] -> [..., D]."""

# Added to logits of padding keys. Finite, so that a row with no valid key stays free of NaN.
_MASKED = -1e30


def scaled_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """Return multi-head attention of `query` [B, Q, D] over `key` and `value` [B, N, D], as [B, Q, D].

    All three have one dtype; D / `heads` is a head's width. The `bias`, float32, is broadcast to [B, H, Q, N] and added
    to the logits.
    """
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    logits = logits.float()
    if bias is not None:
        logits += bias  # in place: logits are the largest tensor here by far
    weights = logits.softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2).flatten(2)


def frame_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, key_bias: Tensor | None = None) -> Tensor:
    """Return attention within each frame, [T, N, D] -> [T, N, D].

    The soft bias `key_bias` [T, N] is added to the logits along the keys for every head.
    """
    bias = None if key_bias is None else key_bias.float()[:, None, None, :]
    return scaled_attention(query, key, value, heads, bias)


def segment_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, segments: Tensor) -> Tensor:
    """Return attention within each segment of each bin, [B, N, D] -> [B, N, D]: block-diagonal, not causal.

    Integers `segments` [B, N] say which frame a slot belongs to; -1 marks an empty slot, whose result is 0.
    """
    # Empty slots see each other, so no row of logits is masked whole and softmax cannot give NaN.
    same = segments[:, :, None] == segments[:, None, :]
    mask = torch.where(same, 0.0, float("-inf"))[:, None]
    attended = scaled_attention(query, key, value, heads, mask)
    return torch.where((segments >= 0)[:, :, None], attended, 0.0)


def ragged_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, cumulative_lengths: Tensor, positions: Tensor
) -> Tensor:
    """Return attention within each of the frames laid end to end, [M, D] -> [M, D].

    The portable form: frames are padded to the longest one, attended, and laid end to end again. Frame f lies at
    [cumulative_lengths[f], cumulative_lengths[f + 1]), int64 [E]. The length of `positions`, int64 0 .. L - 1, says
    how long the longest frame is, so that L is a shape, not data.
    """
    starts, stops = cumulative_lengths[:-1], cumulative_lengths[1:]
    frames, longest = starts.shape[0], positions.shape[0]
    places = starts[:, None] + positions
    valid = places < stops[:, None]
    padded_from = torch.where(valid, places, 0).flatten()
    query_, key_, value_ = (x.index_select(0, padded_from).unflatten(0, (frames, longest)) for x in (query, key, value))
    mask = torch.where(valid, 0.0, _MASKED)[:, None, None, :]
    attended = scaled_attention(query_, key_, value_, heads, mask).flatten(0, 1)

    place = torch.arange(query.shape[0], device=query.device)
    frame = (place[:, None] >= stops).sum(dim=1)
    return attended.index_select(0, frame * longest + place - starts.index_select(0, frame))
