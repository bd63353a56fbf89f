"""A toy Qwen3-VL of `qwen3_vl_sizes`, built by transformers, and its inputs made of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

from reference.molmo2 import randomise
from reference.qwen3_vl_sizes import DECODER, POSITION_SIDE, TOKENS, TOWER
from stts_runtime.bundle.manifest import Grid, Tokens


def released_config(tied: bool = False, tokens: Tokens = TOKENS, vocabulary: int = DECODER.vocabulary) -> Qwen3VLConfig:
    vision = {
        "depth": TOWER.blocks,
        "hidden_size": TOWER.width,
        "intermediate_size": TOWER.mlp_width,
        "num_heads": TOWER.heads,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": DECODER.width,
        "num_position_embeddings": POSITION_SIDE**2,
        "deepstack_visual_indexes": list(TOWER.taps[1:]),
    }
    assert DECODER.rope_sections is not None
    text = {
        "vocab_size": vocabulary,
        "hidden_size": DECODER.width,
        "intermediate_size": DECODER.mlp_width,
        "num_hidden_layers": DECODER.layers,
        "num_attention_heads": DECODER.heads,
        "num_key_value_heads": DECODER.kv_heads,
        "head_dim": DECODER.head_dim,
        "max_position_embeddings": DECODER.max_positions,
        "rms_norm_eps": DECODER.epsilon,
        "tie_word_embeddings": tied,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": DECODER.rope_theta,
            "mrope_section": list(DECODER.rope_sections),
            "mrope_interleaved": True,
        },
    }
    return Qwen3VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokens.image_patch - 1,
        video_token_id=tokens.image_patch,
        vision_start_token_id=tokens.frame_start,
        vision_end_token_id=tokens.frame_end,
        tie_word_embeddings=tied,
    )


def their_order(grid: Grid) -> Tensor:
    """Return which of our patches, in raster order, each of transformers' is, int64 [N]: merge units one by one."""
    rows, columns, pool = grid.group_rows, grid.group_columns, grid.pool
    return torch.arange(grid.patches).reshape(rows, pool, columns, pool).transpose(1, 2).flatten()


def their_pixels(patches: Tensor, grid: Grid) -> Tensor:
    """Return our patches [T, N, P] as transformers has them, [T * N, P]: channels before frames, rows and columns."""
    values = patches.unflatten(2, (grid.frames, grid.patch_size, grid.patch_size, 3)).permute(0, 1, 5, 2, 3, 4)
    return values.flatten(2).index_select(1, their_order(grid)).flatten(0, 1)


@dataclass(frozen=True)
class Qwen3VLReference:
    """A transformers model; `patches` are ours, [T, N, P] in raster order."""

    model: Qwen3VLForConditionalGeneration
    tokens: Tokens = TOKENS

    def inputs(self, token_ids: Tensor, patches: Tensor, grid: Grid) -> dict[str, Tensor]:
        return {
            "input_ids": token_ids,
            "attention_mask": torch.ones_like(token_ids),
            "pixel_values_videos": their_pixels(patches, grid),
            "video_grid_thw": torch.tensor([[len(patches), grid.rows, grid.columns]]),
            "mm_token_type_ids": 2 * (token_ids == self.tokens.image_patch).long(),
        }

    @torch.no_grad()
    def features(self, patches: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """Features of embeddings, then those of DeepStack, [T * G, d_model] each."""
        found = self.model.model.get_video_features(
            their_pixels(patches, grid), torch.tensor([[len(patches), grid.rows, grid.columns]]), return_dict=True
        )
        return tuple(torch.cat(list(one)) for one in (found.pooler_output, *found.deepstack_features))

    @torch.no_grad()
    def logits(self, token_ids: Tensor, patches: Tensor, grid: Grid) -> Tensor:
        return self.model(**self.inputs(token_ids, patches, grid)).logits[0]

    @torch.no_grad()
    def positions(self, token_ids: Tensor, patches: Tensor, grid: Grid) -> tuple[Tensor, int]:
        """Positions of all axes [3, S], and what is added to a place behind them."""
        given = self.inputs(token_ids, patches, grid)
        found, delta = self.model.model.get_rope_index(
            given["input_ids"], given["mm_token_type_ids"], video_grid_thw=given["video_grid_thw"]
        )
        return found[:, 0], int(delta)

    @torch.no_grad()
    def greedy(self, token_ids: Tensor, patches: Tensor, grid: Grid, count: int) -> list[int]:
        given = self.inputs(token_ids, patches, grid)
        out = self.model.generate(**given, do_sample=False, max_new_tokens=count, min_new_tokens=count)
        return out[0, token_ids.shape[1] :].tolist()

    def save(self, path: Path) -> None:
        self.model.save_pretrained(path, max_shard_size="100KB")


def reference_model(
    seed: int = 0, tied: bool = False, tokens: Tokens = TOKENS, vocabulary: int = DECODER.vocabulary
) -> Qwen3VLReference:
    """Return the toy model, float32, with random weights that depend on `seed` only."""
    model = Qwen3VLForConditionalGeneration(released_config(tied, tokens, vocabulary)).eval()
    model.generation_config.eos_token_id = None
    randomise(model, seed)
    torch.nn.init.normal_(model.model.visual.pos_embed.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return Qwen3VLReference(model, tokens)
