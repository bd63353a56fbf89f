"""The vision tower's attention for training and evaluation: kernels that never store the logits, all frames at once.

The same mathematics as `attention`, from which graphs are traced; nothing here is ever exported. What does not change
from block to block, masks and places, is made once, when the attention of a clip is asked for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stts_export.models.attention import Attend


_ALIGNMENT = 8  # the flash kernels of a GPU want head widths of a multiple of this
_CLASSES = 4  # of lengths that run together


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
            filling = _ALIGNMENT - 1 if query.is_cuda else 0
            padding = query.new_zeros(()).expand(frames, heads, patches, filling)
            bias = (key_bias / scale).to(key.dtype)[:, None, :, None].expand(-1, heads, -1, -1)
            query = torch.cat((query, ones, padding), dim=-1)
            key = torch.cat((key, bias, padding), dim=-1)
            value = F.pad(value, (0, 1 + filling))
        attended = F.scaled_dot_product_attention(query, key, value, scale=scale)
        return attended[..., :width].transpose(1, 2).flatten(2)

    return attend


def segment_attend(heads: int, segments: Tensor) -> Attend:
    """Return attention within each segment of each bin, [B, N, D] -> [B, N, D], as `attention.segment_attention`.

    Integers `segments` [B, N] say which frame a slot belongs to; -1 marks an empty slot, whose result is 0.
    """
    mask = additive_mask((segments[:, :, None] == segments[:, None, :])[:, None])  # empty slots see each other: no NaN
    filled = (segments >= 0)[:, :, None]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (_split(x, heads) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return torch.where(filled, attended.transpose(1, 2).flatten(2), 0.0)

    return attend


def ragged_attend(heads: int, cumulative_lengths: Tensor, longest: int) -> Attend:
    """Return attention within each of the frames laid end to end, [M, D] -> [M, D], as `attention.ragged_attention`.

    Frame f lies at [cumulative_lengths[f], cumulative_lengths[f + 1]), int64 [E]; `longest` is the length of the
    longest. Frames of about one length run together, padded to the longest of them: a first frame is whole, and the
    others may keep little.
    """
    starts, lengths = cumulative_lengths[:-1], cumulative_lengths.diff()
    quarter = (lengths * _CLASSES).add(longest - 1).div(longest, rounding_mode="floor")  # 0 where nothing is kept
    batches, places = [], []
    for number in quarter[lengths > 0].unique().tolist():
        chosen = quarter == number
        position = torch.arange(int(lengths[chosen].max()), device=lengths.device)
        valid = position < lengths[chosen, None]
        rows = torch.where(valid, starts[chosen, None] + position, 0)
        batches.append((rows, None if valid.all() else additive_mask(valid[:, None, None, :])))
        places.append(torch.where(valid, rows, -1).flatten())
    # where each row of the frames end to end lies among those of all batches, padding left out
    laid = torch.cat(places)
    back = laid.argsort()[(laid < 0).sum() :]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = []
        for rows, mask in batches:
            own = (x.index_select(0, rows.flatten()).unflatten(0, rows.shape) for x in (query, key, value))
            asked, keys, values = (_split(x, heads) for x in own)
            bias = None if mask is None else mask.to(query.dtype)
            result = F.scaled_dot_product_attention(asked, keys, values, attn_mask=bias)
            attended.append(result.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(attended).index_select(0, back)

    return attend


def few_keys_attend(heads: int) -> Attend:
    """Return attention of one query over the few keys of each group, [K, 1, D] over [K, n, D] -> [K, 1, D].

    The mathematics of `attention.scaled_attention` without its thousands of tiny matrix products.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
        logits = (query * query.shape[-1] ** -0.5 * key).float().sum(dim=-1, keepdim=True)
        return (logits.softmax(dim=1).to(value.dtype) * value).sum(dim=1, keepdim=True).flatten(2)

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


def additive_mask(visible: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return truths as numbers to add, 0 or -inf: torch would make them of truths anew in every block."""
    return torch.zeros((), dtype=dtype, device=visible.device).masked_fill(~visible, float("-inf"))
