"""Checkpoint layouts as data: for each of our names, which stored tensors (or which of their rows) make it.

Stored names are written here without the leading `model.` that some writers add, and with the `vision_backbone.`
that vision-only files leave out; `canonical` brings a file's names to this form. `{i}` is a block's index. A rule
without `.weight` or `.bias` stands for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from stts_export.checkpoint import qwen3_vl
from stts_export.checkpoint.relatives import check_no_relative
from stts_export.checkpoint.rules import Layout, Piece, Rule, rule
from stts_export.errors import CheckpointError
from stts_export.recipe.config import ModelConfig


SCORER_MARK = "temporal_token_scorer."
HEAD = "decoder.head.weight"


# our name, the authors', transformers'
_TOWER_BLOCK = (
    ("attention_norm", "attention_norm", "layer_norm1"),
    ("attention.query", "attention.wq", "self_attn.q_proj"),
    ("attention.key", "attention.wk", "self_attn.k_proj"),
    ("attention.value", "attention.wv", "self_attn.v_proj"),
    ("attention.output", "attention.wo", "self_attn.o_proj"),
    ("mlp_norm", "ffn_norm", "layer_norm2"),
    ("mlp.up", "feed_forward.w1", "mlp.fc1"),
    ("mlp.down", "feed_forward.w2", "mlp.fc2"),
)
_CONNECTOR = (
    ("pool.query", "image_pooling_2d.wq", "image_pooling_2d.q_proj"),
    ("pool.key", "image_pooling_2d.wk", "image_pooling_2d.k_proj"),
    ("pool.value", "image_pooling_2d.wv", "image_pooling_2d.v_proj"),
    ("pool.output", "image_pooling_2d.wo", "image_pooling_2d.o_proj"),
    ("projector.gate", "image_projector.w1", "image_projector.gate_proj"),
    ("projector.down", "image_projector.w2", "image_projector.down_proj"),
    ("projector.up", "image_projector.w3", "image_projector.up_proj"),
)
# our name, the authors' and which of its rows, transformers'
_DECODER_BLOCK = (
    ("attention_norm", "attn_norm", "all", "input_layernorm"),
    ("attention.query", "self_attn.att_proj", "query", "self_attn.q_proj"),
    ("attention.key", "self_attn.att_proj", "key", "self_attn.k_proj"),
    ("attention.value", "self_attn.att_proj", "value", "self_attn.v_proj"),
    ("attention.output", "self_attn.attn_out", "all", "self_attn.o_proj"),
    ("attention.query_norm", "self_attn.q_norm", "all", "self_attn.q_norm"),
    ("attention.key_norm", "self_attn.k_norm", "all", "self_attn.k_norm"),
    ("mlp_norm", "ff_norm", "all", "post_attention_layernorm"),
    ("mlp.up", "mlp.ff_proj", "first", "mlp.up_proj"),
    ("mlp.gate", "mlp.ff_proj", "second", "mlp.gate_proj"),
    ("mlp.down", "mlp.ff_out", "all", "mlp.down_proj"),
)
# our name, the authors'; transformers has no scorer
_SCORER = (
    ("pool.query", "patch_token_pooler.wq"),
    ("pool.key", "patch_token_pooler.wk"),
    ("pool.value", "patch_token_pooler.wv"),
    ("pool.output", "patch_token_pooler.wo"),
    ("mlp.first", "mlp.w1"),
    ("mlp.second", "mlp.w2"),
    ("mlp.third", "mlp.w3"),
)
_TOWER = "vision_backbone.image_vit."


def _scorer(prefix: str) -> tuple[Rule, ...]:
    return tuple(rule(f"scorer.{ours}", f"{prefix}{SCORER_MARK}{theirs}") for ours, theirs in _SCORER)


_AUTHORS_VISION = (
    rule("vision_tower.patch_embedding", f"{_TOWER}patch_embedding"),
    rule("vision_tower.position_embedding", f"{_TOWER}positional_embedding"),
    *(
        rule(f"vision_tower.blocks.{{i}}.{ours}", f"{_TOWER}transformer.resblocks.{{i}}.{theirs}")
        for ours, theirs, _ in _TOWER_BLOCK
    ),
    *_scorer(f"{_TOWER}transformer."),
    *(rule(f"connector.{ours}", f"vision_backbone.{theirs}") for ours, theirs, _ in _CONNECTOR),
)


def _authors_text(head: str, flat: bool) -> tuple[Rule, ...]:
    def stored(name: str) -> str:
        return "transformer.blocks.{i}." + (name.rpartition(".")[2] if flat else name)

    return (
        rule("decoder.embedding.weight", "transformer.wte.embedding", "transformer.wte.new_embedding"),
        *(
            rule(f"decoder.blocks.{{i}}.{ours}", Piece(stored(theirs), rows))
            for ours, theirs, rows, _ in _DECODER_BLOCK
        ),
        rule("decoder.norm", "transformer.ln_f"),
        rule("decoder.head", head),
    )


_NATIVE = (
    rule("vision_tower.patch_embedding", "vision_tower.patch_embedding"),
    rule("vision_tower.position_embedding", "vision_tower.positional_embedding"),
    *(rule(f"vision_tower.blocks.{{i}}.{ours}", f"vision_tower.layers.{{i}}.{name}") for ours, _, name in _TOWER_BLOCK),
    *(rule(f"connector.{ours}", f"multi_modal_projector.{theirs}") for ours, _, theirs in _CONNECTOR),
    rule("decoder.embedding", "language_model.embed_tokens"),
    *(
        rule(f"decoder.blocks.{{i}}.{ours}", f"language_model.layers.{{i}}.{theirs}")
        for ours, *_, theirs in _DECODER_BLOCK
    ),
    rule("decoder.norm", "language_model.norm"),
    rule("decoder.head", "lm_head"),
)
_NESTED_TEXT = _authors_text("lm_head", flat=False)
_FLAT_TEXT = _authors_text("transformer.ff_out", flat=True)

LAYOUTS = (
    # before transformers' Molmo2, whose decoder has the same names; a scorer, which released files lack, is ours
    replace(qwen3_vl.LAYOUT, rules=(*qwen3_vl.LAYOUT.rules, *_scorer("visual."))),
    Layout("native", re.compile(r"(model\.)?(language_model|vision_tower|multi_modal_projector)\."), _NATIVE),
    # the trainer's blocks are flat; files converted half-way carry the nested names without the prefix
    Layout("trainer", re.compile(r"(model\.)?transformer\.blocks\.\d+\.att_proj\."), _AUTHORS_VISION + _FLAT_TEXT),
    Layout("remote_code", re.compile(r"model\.(transformer|vision_backbone)\."), _AUTHORS_VISION + _NESTED_TEXT),
    Layout("trainer", re.compile(r"(transformer|vision_backbone|image_vit)\."), _AUTHORS_VISION + _NESTED_TEXT),
)


def detect_layout(names: Iterable[str], where: str) -> Layout:
    """Return the layout that stored `names` follow.

    Raises:
        CheckpointError: they are a model's that only looks like one of ours, or no layout's mark is among them; the
            message shows the first names.
    """
    names = list(names)
    check_no_relative(names, where)
    for layout in LAYOUTS:
        if any(layout.mark.match(name) for name in names):
            return layout
    known = dict.fromkeys(layout.name for layout in LAYOUTS)
    raise CheckpointError(
        f"{where}: unknown checkpoint layout. Wanted Molmo2 or Qwen3-VL names in one of the layouts "
        f"{', '.join(known)}; got names such as {', '.join(names[:5]) or 'none'}. Convert the checkpoint to "
        "transformers' layout (save_pretrained) and point --checkpoint at the result."
    )


def layout_named(name: str) -> Layout:
    """Return the layout called `name`; of two with that name the first, which is the one to write."""
    return next(layout for layout in LAYOUTS if layout.name == name)


def layout_to_write(ours: Iterable[str]) -> Layout:
    """Return the layout that a model with these tensors of ours is written in: the trainer's, if it has all of them."""
    names = list(ours)
    written = (layout_named("trainer"), *LAYOUTS)
    return next(layout for layout in written if all(pieces_of(name, layout) for name in names))


def canonical(name: str) -> str:
    """Return a stored name in the form the rules use: no leading `model.`, vision under `vision_backbone.`."""
    name = name.removeprefix("model.")
    bare_vision = name.startswith(("image_vit.", "image_pooling_2d.", "image_projector."))
    return f"vision_backbone.{name}" if bare_vision else name


def pieces_of(ours: str, layout: Layout) -> tuple[Piece, ...]:
    """Return the stored pieces of our tensor `ours`, indices filled in; empty where the layout has no such tensor."""
    index = re.search(r"\.(\d+)\.", ours)
    template = ours.replace(f".{index[1]}.", ".{i}.", 1) if index else ours
    block = index[1] if index else ""
    for suffix in ("", ".weight", ".bias"):
        for found in layout.rules:
            if found.ours + suffix == template:
                return tuple(replace(p, name=p.name.replace("{i}", block) + suffix) for p in found.pieces)
    return ()


def vision_names(ours: Iterable[str]) -> dict[str, str]:
    """Return our name -> the trainer's name without `vision_backbone.`, for tower, scorer and connector tensors."""
    layout = LAYOUTS[-1]
    return {name: pieces_of(name, layout)[0].name.removeprefix("vision_backbone.") for name in ours}


def is_scorer(name: str) -> bool:
    """Whether a stored name belongs to a trained scorer."""
    return SCORER_MARK in name


def is_untapped_block(name: str, config: ModelConfig) -> bool:
    """Whether a stored name belongs to a tower block behind the ones the connector reads."""
    found = re.match(r"(?:vision_backbone\.image_vit\.transformer\.resblocks|vision_tower\.layers)\.(\d+)\.", name)
    return found is not None and int(found[1]) >= config.tower.blocks
