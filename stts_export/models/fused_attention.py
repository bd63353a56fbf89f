"""The vision tower's attention for training and evaluation: kernels that never store the logits, all frames at once.

The same mathematics as `attention`, from which graphs are traced; nothing here is ever exported. What does not change
from block to block, masks and places, is made once, when the attention of a clip is asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stts_export.models.tower import Attend


_ALIGNMENT = 8  # the flash kernels want head widths of a multiple of this


def frame_attend(heads: int, key_bias: Tensor | None = None) -> Attend:
    """Return attention within each frame, [T, N, D] -> [T, N, D], as `attention.frame_attention` does it.

    A bias along the keys, `key_bias` [T, N], travels as one more coordinate: queries hold 1 there and keys the bias, so
    that the product of both adds it. No mask is stored, and the bias gets its gradient from the key's. It is rounded to
    the dtype of the keys.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (_split(x, heads) for x in (query, key, value))
        scale, width = query.shape[-1] ** -0.5, value.shape[-1]
        if key_bias is not None:
            frames, _, patches, _ = key.shape
            ones = query.new_ones(()).expand(frames, heads, patches, 1)
            padding = query.new_zeros(()).expand(frames, heads, patches, _ALIGNMENT - 1)
            bias = (key_bias / scale).to(key.dtype)[:, None, :, None].expand(-1, heads, -1, -1)
            query = torch.cat((query, ones, padding), dim=-1)
            key = torch.cat((key, bias, padding), dim=-1)
            value = F.pad(value, (0, _ALIGNMENT))
        attended = F.scaled_dot_product_attention(query, key, value, scale=scale)
        return attended[..., :width].transpose(1, 2).flatten(2)

    return attend


def segment_attend(heads: int, segments: Tensor) -> Attend:
    """Return attention within each segment of each bin, [B, N, D] -> [B, N, D], as `attention.segment_attention`.

    Integers `segments` [B, N] say which frame a slot belongs to; -1 marks an empty slot, whose result is 0.
    """
    mask = _mask((segments[:, :, None] == segments[:, None, :])[:, None])  # empty slots see each other: no NaN
    filled = (segments >= 0)[:, :, None]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (_split(x, heads) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return torch.where(filled, attended.transpose(1, 2).flatten(2), 0.0)

    return attend


def ragged_attend(heads: int, cumulative_lengths: Tensor, longest: int) -> Attend:
    """Return attention within each of the frames laid end to end, [M, D] -> [M, D], as `attention.ragged_attention`.

    Frame f lies at [cumulative_lengths[f], cumulative_lengths[f + 1]), int64 [E]; `longest` is the length of the
    longest. Frames without a patch take no part; the others are padded to the longest.
    """
    starts, lengths = cumulative_lengths[:-1], cumulative_lengths.diff()
    starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    position = torch.arange(longest, device=lengths.device)
    valid = position < lengths[:, None]
    padded_from = torch.where(valid, starts[:, None] + position, 0).flatten()
    places = valid.flatten().nonzero().flatten()
    mask = _mask(valid[:, None, None, :])

    def padded(rows: Tensor) -> Tensor:
        return _split(rows.index_select(0, padded_from).unflatten(0, (-1, longest)), heads)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = padded(query), padded(key), padded(value)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return attended.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, places)

    return attend


def takes_ragged(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether `unpadded_attend` takes queries like these: on a GPU, in half precision."""
    return device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)


def unpadded_attend(heads: int, cumulative_lengths: Tensor, longest: int) -> Attend:
    """Return what `ragged_attend` does, by kernels that take frames as they lie; see `takes_ragged`."""
    from torch.nn.attention.varlen import varlen_attn

    lengths = cumulative_lengths.int()

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
        attended = varlen_attn(query, key, value, lengths, lengths, longest, longest)
        assert isinstance(attended, Tensor)  # a pair only where more than the output is asked for
        return attended.flatten(1)

    return attend


def _split(rows: Tensor, heads: int) -> Tensor:
    """Return [B, N, heads * d] by head, [B, heads, N, d]."""
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def _mask(visible: Tensor) -> Tensor:
    """Return truths as numbers to add: torch would make them of truths anew in every block."""
    return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, float("-inf"))
