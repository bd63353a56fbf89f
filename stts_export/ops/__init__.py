"""Custom operators of the `stts` domain: one folder each, holding everything that must agree about the operator.

An operator has a contract (its README), a reference (the mathematics in `models`), a call that the parts trace, and an
ONNX function body in standard operators, so that any ONNX runtime can run a graph without a plugin. Names differ from
every built-in operator's, because TensorRT's parser ignores domains.
"""

from __future__ import annotations

import onnx_ir as ir

from stts_export.ops.domain import DOMAIN, VERSION
from stts_export.ops.group_pool import function as group_pool
from stts_export.ops.group_score import function as group_score
from stts_export.ops.pack_tokens import function as pack_tokens
from stts_export.ops.ragged_attention import function as ragged_attention
from stts_export.ops.segment_attention import function as segment_attention
from stts_export.ops.select_groups import function as select_groups
from stts_export.ops.vision_prefix_attention import (
    function as vision_prefix_attention,
    fused_attention as fused_prefix_attention,
)


__all__ = ["DOMAIN", "VERSION", "function_bodies"]


def function_bodies(*, fused_attention: bool = False) -> tuple[ir.Function, ...]:
    """Return the ONNX function body of every operator of the domain.

    Args:
        fused_attention: bodies that TensorRT recognises as attention, where an operator has one of its own for that.
    """
    prefix_attention = fused_prefix_attention if fused_attention else vision_prefix_attention
    scripts = (
        segment_attention.SegmentAttention,
        ragged_attention.RaggedAttention,
        prefix_attention.VisionPrefixAttention,
        group_pool.GroupPool,
        group_score.GroupScore,
        select_groups.SelectGroups,
        pack_tokens.PackTokens,
    )
    return tuple(ir.serde.deserialize_function(script.to_function_proto()) for script in scripts)
