"""The dense work of a model of Qwen3-VL's kind in transformers, with the same weights: tower, mergers and decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from numpy.typing import NDArray
from torch import Tensor

from stts_export.bench.torch_subject import Look
from stts_export.checkpoint.layouts import is_scorer, layout_named
from stts_export.checkpoint.records import Checkpoint
from stts_export.checkpoint.write import stored_tensors
from stts_export.recipe.config import DecoderConfig, ModelConfig
from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError
from stts_runtime.language.rope_positions import rope_positions


def qwen3_vl_modules(config: ModelConfig, checkpoint: Checkpoint) -> tuple[Any, Look]:
    """Return transformers' whole model, and its look at a clip.

    Raises:
        UsageError: transformers has no such decoder.
    """
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

    with init_empty_weights(include_buffers=False):
        model = Qwen3VLForConditionalGeneration(qwen3_vl_config(config)).eval()
    stored = stored_tensors(checkpoint.tensors, config, layout_named("qwen3_vl"))
    theirs = ("visual.", "language_model.")
    inner = {name: one for name, one in stored.items() if name.startswith(theirs) and not is_scorer(name)}
    model.model.load_state_dict(inner, assign=True)
    head = inner["language_model.embed_tokens.weight"] if config.decoder.tied_embedding else stored["lm_head.weight"]
    model.lm_head.weight = torch.nn.Parameter(head, requires_grad=False)

    def look(patches: Tensor) -> tuple[Tensor, NDArray[np.bool_]]:
        count, grid = len(patches), config.grid
        size = torch.tensor([[count, grid.rows, grid.columns]])
        found = model.model.visual(in_merge_order(patches, grid), grid_thw=size, return_dict=True)
        sets = (found.pooler_output, *found.deepstack_features)
        return torch.cat(sets, dim=1), np.ones((count, grid.groups), bool)

    return model, look


def in_merge_order(patches: Tensor, grid: Grid) -> Tensor:
    """Return our patches [T, N, values] as transformers takes them, [T * N, values].

    Groups lie one after the other, patches in raster order within; in a patch channels come first.
    """
    values = patches.unflatten(2, (grid.frames, grid.patch_size, grid.patch_size, 3)).permute(0, 1, 5, 2, 3, 4)
    cells = values.flatten(2).unflatten(1, (grid.group_rows, grid.pool, grid.group_columns, grid.pool))
    return cells.transpose(2, 3).reshape(-1, grid.patch_values)


class Qwen3VLReader:
    """The language model of transformers' Qwen3-VL, and its cache."""

    def __init__(self, model: Any, config: ModelConfig) -> None:
        from transformers import DynamicCache

        self._model, self._config = model, config
        self._cache = DynamicCache(config=model.config.text_config)
        self._following = 0  # position of the next token, on all axes

    def read(
        self,
        token_ids: NDArray[np.int64],
        vision_flags: NDArray[np.bool_],
        features: NDArray[np.float32] | None = None,
        keep: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Return the next token's logits, see `Reader`."""
        config, language = self._config, self._model.model.language_model
        tokens = torch.from_numpy(token_ids)[None]
        embedded, deep = language.embed_tokens(tokens), {}
        if features is None or keep is None:
            positions = np.repeat(self._following + np.arange(len(token_ids))[None], 3, axis=0)
            self._following += len(token_ids)
        else:
            positions, self._following = rope_positions(token_ids, config.tokens, keep, config.grid, self._following)
            is_patch = tokens == config.tokens.image_patch
            first, *others = torch.from_numpy(features).split(config.decoder.width, dim=1)
            embedded[is_patch] = first
            deep = {"visual_pos_masks": is_patch, "deepstack_visual_embeds": others}
        # behind the last token nothing stands yet, so no mask is needed but the causal one that is made by default
        out = language(
            inputs_embeds=embedded,
            position_ids=torch.from_numpy(positions)[:, None],
            past_key_values=self._cache,
            use_cache=True,
            **deep,
        )
        return self._model.lm_head(out.last_hidden_state[0, -1]).numpy()


def qwen3_vl_config(config: ModelConfig) -> Any:
    """Return a Qwen3VLConfig.

    Raises:
        UsageError: transformers has no such decoder.
    """
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig

    tower, grid, decoder, tokens = config.tower, config.grid, config.decoder, config.tokens
    if tower.position_side is None or tower.rope_theta is None:
        raise UsageError("transformers has no tower with mergers to compare with whose positions are of one grid alone")
    vision = {
        "depth": tower.blocks,
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_heads": tower.heads,
        "patch_size": grid.patch_size,
        "spatial_merge_size": grid.pool,
        "temporal_patch_size": grid.frames,
        "out_hidden_size": decoder.width,
        "num_position_embeddings": tower.position_side**2,
        "deepstack_visual_indexes": list(tower.taps[1:]),
    }
    return Qwen3VLConfig(
        vision_config=vision,
        text_config=text_config(decoder),
        video_token_id=tokens.image_patch,
        vision_start_token_id=tokens.frame_start,
        vision_end_token_id=tokens.frame_end,
        tie_word_embeddings=decoder.tied_embedding,
    )


def text_config(decoder: DecoderConfig) -> dict[str, Any]:
    """Return the decoder's sizes under transformers' names.

    Raises:
        UsageError: transformers has no such decoder.
    """
    kind = (decoder.query_key_norm, decoder.block_norm, decoder.causal, decoder.replaces_embedding)
    if kind != ("head", "pre", True, True) or decoder.rope_sections is None:
        raise UsageError("transformers has no such decoder to compare with: its Qwen3-VL is causal, and turns by three")
    return {
        "vocab_size": decoder.vocabulary,
        "hidden_size": decoder.width,
        "intermediate_size": decoder.mlp_width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "head_dim": decoder.head_dim,
        "max_position_embeddings": decoder.max_positions,
        "rms_norm_eps": decoder.epsilon,
        "tie_word_embeddings": decoder.tied_embedding,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": decoder.rope_theta,
            "mrope_section": list(decoder.rope_sections),
            "mrope_interleaved": True,
        },
    }
