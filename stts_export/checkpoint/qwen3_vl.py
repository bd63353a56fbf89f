"""How released Qwen3-VL files, and transformers, name a model's tensors; written without the leading `model.`."""

from __future__ import annotations

import re

from stts_export.checkpoint.rules import TOWER_KEY, TOWER_QUERY, TOWER_VALUE, Layout, Piece, rule


# our name, theirs, and which of its rows
_TOWER_BLOCK = (
    ("attention_norm", "norm1", "all"),
    ("attention.query", "attn.qkv", TOWER_QUERY),
    ("attention.key", "attn.qkv", TOWER_KEY),
    ("attention.value", "attn.qkv", TOWER_VALUE),
    ("attention.output", "attn.proj", "all"),
    ("mlp_norm", "norm2", "all"),
    ("mlp.up", "mlp.linear_fc1", "all"),
    ("mlp.down", "mlp.linear_fc2", "all"),
)
# our name, theirs
_MERGER = (("norm", "norm"), ("up", "linear_fc1"), ("down", "linear_fc2"))
_DECODER_BLOCK = (
    ("attention_norm", "input_layernorm"),
    ("attention.query", "self_attn.q_proj"),
    ("attention.key", "self_attn.k_proj"),
    ("attention.value", "self_attn.v_proj"),
    ("attention.output", "self_attn.o_proj"),
    ("attention.query_norm", "self_attn.q_norm"),
    ("attention.key_norm", "self_attn.k_norm"),
    ("mlp_norm", "post_attention_layernorm"),
    ("mlp.gate", "mlp.gate_proj"),
    ("mlp.up", "mlp.up_proj"),
    ("mlp.down", "mlp.down_proj"),
)

LAYOUT = Layout(
    "qwen3_vl",
    re.compile(r"(model\.)?visual\.(deepstack_merger_list|pos_embed)\."),
    (
        rule("vision_tower.patch_embedding.weight", Piece("visual.patch_embed.proj.weight", is_kernel=True)),
        rule("vision_tower.patch_embedding.bias", "visual.patch_embed.proj.bias"),
        rule("vision_tower.position_embedding", "visual.pos_embed.weight"),
        *(
            rule(f"vision_tower.blocks.{{i}}.{ours}", Piece(f"visual.blocks.{{i}}.{theirs}", rows))
            for ours, theirs, rows in _TOWER_BLOCK
        ),
        *(rule(f"connector.merger.{ours}", f"visual.merger.{theirs}") for ours, theirs in _MERGER),
        *(
            rule(f"connector.deep_mergers.{{i}}.{ours}", f"visual.deepstack_merger_list.{{i}}.{theirs}")
            for ours, theirs in _MERGER
        ),
        rule("decoder.embedding", "language_model.embed_tokens"),
        *(
            rule(f"decoder.blocks.{{i}}.{ours}", f"language_model.layers.{{i}}.{theirs}")
            for ours, theirs in _DECODER_BLOCK
        ),
        rule("decoder.norm", "language_model.norm"),
        rule("decoder.head", "lm_head"),
    ),
)
