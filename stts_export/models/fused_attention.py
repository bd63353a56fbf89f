"""The vision tower's attention on a GPU in half precision: kernels that never store the logits.

The same mathematics as `attention`, for training and evaluation; what is exported is traced on a processor and never
comes here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


_ALIGNMENT = 8  # the flash kernels want head widths of a multiple of this


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether the fused kernels take queries like these: on a GPU, in half precision."""
    return device.type == "cuda" and dtype in (torch.float16, torch.bfloat16)


def fused_frame_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, key_bias: Tensor | None = None
) -> Tensor:
    """Return attention within each frame, [T, N, D] -> [T, N, D], as `attention.frame_attention` does.

    A bias along the keys travels as one more coordinate: queries hold 1 there and keys the bias, so that the product
    of both adds it. No mask is stored, and the bias gets its gradient from the key's. It is rounded to half precision.
    """
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5
    width = value.shape[-1]
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


def fused_ragged_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, cumulative_lengths: Tensor, longest: int
) -> Tensor:
    """Return attention within each of the frames laid end to end, [M, D] -> [M, D], as `attention.ragged_attention`.

    Here `cumulative_lengths` are int32 [E], and the longest frame has `longest` rows.
    """
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
    lengths = cumulative_lengths
    attended = varlen_attn(query, key, value, lengths, lengths, longest, longest)
    assert isinstance(attended, Tensor)  # a pair only where more than the output is asked for
    return attended.flatten(1)
