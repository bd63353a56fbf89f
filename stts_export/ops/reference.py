"""What an operator's node computes, by the mathematics of the models: for a trace that is run operator by operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from stts_export.ops.frame_attention.call import frame_attention
from stts_export.ops.group_pool.call import group_pool
from stts_export.ops.group_score.call import group_score
from stts_export.ops.pack_tokens.call import pack_tokens
from stts_export.ops.ragged_attention.call import ragged_attention
from stts_export.ops.segment_attention.call import segment_attention
from stts_export.ops.select_groups.call import select_groups
from stts_export.ops.vision_prefix_attention.call import vision_prefix_attention


CALLS: dict[str, Callable[..., Any]] = {
    "FrameAttention": frame_attention,
    "GroupPool": group_pool,
    "GroupScore": group_score,
    "PackTokens": pack_tokens,
    "RaggedAttention": ragged_attention,
    "SegmentAttention": segment_attention,
    "SelectGroups": select_groups,
    "VisionPrefixAttention": vision_prefix_attention,
}
"""Operator -> its call, which is the reference itself where nothing is being traced."""


def reference(name: str, inputs: Sequence[torch.Tensor], attributes: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Return the outputs of operator `name`; inputs in the contract's order, attributes by name."""
    call = CALLS[name]
    order = [parameter for parameter in inspect.signature(call).parameters if parameter not in attributes]
    outputs = call(**dict(zip(order, inputs, strict=False)), **attributes)  # trailing inputs may be left out
    return outputs if isinstance(outputs, tuple) else (outputs,)
