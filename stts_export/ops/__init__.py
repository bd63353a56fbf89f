"""Custom operators of the `stts` domain: one folder each, holding everything that must agree about the operator.

An operator has a contract (its README), a reference (the mathematics in `models`), a call that the parts trace, and an
ONNX function body in standard operators, so that any ONNX runtime can run a graph without a plugin. Names differ from
every built-in operator's, because TensorRT's parser ignores domains. Some have a TensorRT plugin as well.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OnnxFunction

from stts_export.ops.domain import DOMAIN, VERSION
from stts_export.ops.group_pool import function as group_pool, plugin as group_pool_plugin
from stts_export.ops.group_score import function as group_score, plugin as group_score_plugin
from stts_export.ops.pack_tokens import function as pack_tokens, plugin as pack_tokens_plugin
from stts_export.ops.ragged_attention import function as ragged_attention, plugin as ragged_attention_plugin
from stts_export.ops.segment_attention import function as segment_attention
from stts_export.ops.select_groups import function as select_groups, plugin as select_groups_plugin
from stts_export.ops.vision_prefix_attention import (
    function as vision_prefix_attention,
    fused_attention as fused_prefix_attention,
    plugin as prefix_attention_plugin,
    plugin_function as prefix_attention_of_plugin,
)
from stts_runtime.bundle.plugin_library import CONTRACT


__all__ = ["CONTRACT", "DOMAIN", "PLUGINS", "PLUGIN_NAMES", "VERSION", "function_bodies", "plugin_bodies"]

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


def function_bodies(*, fused_attention: bool = False) -> tuple[ir.Function, ...]:
    """Return the ONNX function body of every operator of the domain.

    Args:
        fused_attention: bodies that TensorRT recognises as attention, where an operator has one of its own for that.
    """
    prefix_attention = fused_prefix_attention if fused_attention else vision_prefix_attention
    return _bodies(prefix_attention.VisionPrefixAttention)


def plugin_bodies() -> tuple[ir.Function, ...]:
    """Return what each plugin computes as an ONNX function body of the plugin's name, for a graph that none runs."""
    bodies = [body for body in _bodies(prefix_attention_of_plugin.VisionPrefixAttention) if body.name in PLUGINS]
    for body in bodies:
        body.name = PLUGINS[body.name].name
    return tuple(bodies)


def _bodies(prefix_attention: OnnxFunction) -> tuple[ir.Function, ...]:
    """Return the body of every operator; of `VisionPrefixAttention`, which has several, the one given."""
    scripts = (
        segment_attention.SegmentAttention,
        ragged_attention.RaggedAttention,
        prefix_attention,
        group_pool.GroupPool,
        group_score.GroupScore,
        select_groups.SelectGroups,
        pack_tokens.PackTokens,
    )
    return tuple(ir.serde.deserialize_function(script.to_function_proto()) for script in scripts)
