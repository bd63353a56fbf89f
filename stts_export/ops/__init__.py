"""Custom operators of the `stts` domain: one folder each, holding everything that must agree about the operator.

An operator has a contract (its README), a reference (the mathematics in `models`), a call that the parts trace, and an
ONNX function body in standard operators, so that any ONNX runtime can run a graph without a plugin. Names differ from
every built-in operator's, because TensorRT's parser ignores domains. Some have a TensorRT plugin as well.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OnnxFunction

from stts_export.ops.domain import DOMAIN, VERSION
from stts_export.ops.frame_attention import function as frame_attention, multi_head
from stts_export.ops.group_pool import function as group_pool, plugin as group_pool_plugin
from stts_export.ops.group_score import function as group_score, plugin as group_score_plugin
from stts_export.ops.pack_tokens import function as pack_tokens, plugin as pack_tokens_plugin
from stts_export.ops.ragged_attention import (
    by_frame,
    function as ragged_attention,
    plugin as ragged_attention_plugin,
)
from stts_export.ops.segment_attention import function as segment_attention
from stts_export.ops.select_groups import function as select_groups, plugin as select_groups_plugin
from stts_export.ops.vision_prefix_attention import (
    function as vision_prefix_attention,
    fused_attention as fused_prefix_attention,
    plugin as prefix_attention_plugin,
    plugin_function as prefix_attention_of_plugin,
)
from stts_runtime.bundle.plugin_library import CONTRACT


__all__ = ["ATTENTION", "CONTRACT", "DOMAIN", "PLUGINS", "PLUGIN_NAMES", "VERSION", "function_bodies", "plugin_bodies"]

PLUGINS = {
    module.PLUGIN.operator: module.PLUGIN
    for module in (
        group_pool_plugin,
        group_score_plugin,
        select_groups_plugin,
        pack_tokens_plugin,
        ragged_attention_plugin,
        prefix_attention_plugin,
    )
}
"""Operator -> its plugin."""

PLUGIN_NAMES = {plugin.name: plugin for plugin in PLUGINS.values()}
"""The plugins by their own names, as nodes of stored graphs have them."""

ATTENTION = ("portable", "tensorrt", "onnxruntime")
"""How bodies write attention: as costs least in standard operators, as TensorRT recognises it to run it in one kernel,
or with onnxruntime's own operator, for a CPU."""


def function_bodies(attention: str = "portable", frames: int = 0) -> tuple[ir.Function, ...]:
    """Return the ONNX function body of every operator of the domain.

    Args:
        attention: one of `ATTENTION`.
        frames: most frames laid end to end that a graph is given at once, which `onnxruntime`'s bodies must know.
    """
    assert attention in ATTENTION, attention
    if attention == "tensorrt":
        return _bodies(fused_prefix_attention.VisionPrefixAttention)
    bodies = _bodies(vision_prefix_attention.VisionPrefixAttention)
    if attention != "onnxruntime":
        return bodies
    own = [_body(multi_head.FrameAttention)]
    if 0 < frames <= by_frame.MOST_FRAMES:
        own.append(by_frame.ragged_attention(frames))
    named = {body.name: body for body in (*bodies, *own)}
    return tuple(named.values())


def plugin_bodies() -> tuple[ir.Function, ...]:
    """Return what each plugin computes as an ONNX function body of the plugin's name, for a graph that none runs."""
    bodies = [body for body in _bodies(prefix_attention_of_plugin.VisionPrefixAttention) if body.name in PLUGINS]
    for body in bodies:
        body.name = PLUGINS[body.name].name
    return tuple(bodies)


def _bodies(prefix_attention: OnnxFunction) -> tuple[ir.Function, ...]:
    """Return the body of every operator in standard ones; of `VisionPrefixAttention`, which has several, that given."""
    scripts = (
        frame_attention.FrameAttention,
        segment_attention.SegmentAttention,
        ragged_attention.RaggedAttention,
        prefix_attention,
        group_pool.GroupPool,
        group_score.GroupScore,
        select_groups.SelectGroups,
        pack_tokens.PackTokens,
    )
    return tuple(map(_body, scripts))


def _body(script: OnnxFunction) -> ir.Function:
    return ir.serde.deserialize_function(script.to_function_proto())
