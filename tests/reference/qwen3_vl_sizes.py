"""Sizes of the toy Qwen3-VL. transformers' model of it is in `qwen3_vl`."""

from __future__ import annotations

import torch
from torch import Tensor

from stts_export.checkpoint.config_qwen3_vl import PROMPT
from stts_export.recipe.config import MERGERS, DecoderConfig, ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import FrameSampling, Grid, Tokens
from stts_runtime.clip.smart_resize import SmartResize


VOCABULARY, POSITION_SIDE = 300, 6
GRIDS = (
    Grid(image_size=(24, 40), patch_size=4, pool=2, frames=2, resampling="bicubic"),  # 6 x 10 patches, 3 x 5 groups
    Grid(image_size=(48, 16), patch_size=4, pool=2, frames=2, resampling="bicubic"),
    Grid(image_size=(8, 8), patch_size=4, pool=2, frames=2, resampling="bicubic"),  # a group
)
"""Larger and smaller than the table of positions, along either axis."""
GRID = GRIDS[0]
TOWER = TowerConfig(
    width=32,
    heads=2,
    mlp_width=48,
    blocks=8,
    taps=(7, 3, 4, 6),
    score_after=1,
    position_side=POSITION_SIDE,
    rope_theta=10000.0,
    connector=MERGERS,
)
DECODER = DecoderConfig(
    layers=4,
    width=32,
    heads=4,
    kv_heads=2,
    head_dim=16,
    mlp_width=48,
    vocabulary=VOCABULARY,
    extra_vocabulary=0,
    query_key_norm="head",
    block_norm="pre",
    tied_embedding=False,
    rope_theta=100.0,  # so that far places differ in a sequence this short
    max_positions=4096,
    rope_sections=(4, 2, 2),
    causal=True,
    replaces_embedding=True,
)
TOKENS = Tokens(
    bos=2,
    stop=(3,),
    image_patch=291,
    frame_start=292,
    frame_end=293,
    texts=("<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
)


def model_config(scorer: str = "none", soft_bias: bool = False, grid: Grid = GRID) -> ModelConfig:
    """Return our configuration of the toy model, dense unless a scorer is named."""
    return ModelConfig(
        name="toy-qwen3-vl",
        grid=grid,
        tower=TOWER,
        scorer=ScorerConfig(kind=scorer, soft_bias=soft_bias),
        decoder=DECODER,
        tokens=TOKENS,
        prompt=PROMPT,
        frame_sampling=FrameSampling(method="uniform_both_ends", max_frames=768, max_fps=2.0, min_frames=4),
        resize=SmartResize(min_pixels=4096, max_pixels=25165824, max_frame_tokens=768),
    )


def video_patches(count: int, grid: Grid = GRID, seed: int = 0) -> Tensor:
    """Return float32 [T, N, P], normalised pixels of random temporal patches."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, grid.patches, grid.patch_values, generator=generator) * 2 - 1


def video_token_ids(kept: list[int], seed: int = 0, text: int = 6) -> Tensor:
    """Return int64 [1, S]: some text, then each temporal patch's time, markers and placeholders, then `text` tokens."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(4, 280, (count,), generator=generator).tolist()

    ids = [TOKENS.bos, *words(3)]
    for count in kept:
        ids += [*words(3), TOKENS.frame_start, *[TOKENS.image_patch] * count, TOKENS.frame_end]
    return torch.tensor([ids + words(text)])
