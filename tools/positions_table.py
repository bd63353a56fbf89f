"""Where kept tokens of a Qwen3-VL stand: how far each way moves what the model says, from what it says of a whole clip.

    python tools/positions_table.py

A small model with random weights answers about a whole clip, and about one of which groups were pruned (in the tower
and in the decoder): once with the positions that they have in the full grid, once counted on as text is, which is what
Molmo2's are. Printed is how far logits behind the prompt are from the whole clip's, as the share of their spread,
over ten seeds. Random weights have not learned what a place means: this shows what the choice moves, not what it is
worth.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stts_export.checkpoint.load import load_into
from stts_export.checkpoint.seeded import random_checkpoint
from stts_export.models.decoder import feature_rows
from stts_export.models.model import Model
from stts_export.models.vision import run_vision, run_vision_dense
from stts_export.recipe.config import ModelConfig, ScorerConfig
from stts_export.recipe.read import read_model_recipe
from stts_runtime.language.rope_positions import rope_positions


SEEDS, FRAMES, TEXT = 10, 6, 12
WORDS = 200


def small_config() -> ModelConfig:
    """Return Qwen3-VL at a width of 64 and with a grid of 4 x 6 groups."""
    config = read_model_recipe("qwen3-vl-2b").config
    sections = (4, 2, 2)
    decoder = replace(config.decoder, layers=6, width=64, heads=4, kv_heads=2, head_dim=16, mlp_width=128)
    decoder = replace(decoder, vocabulary=WORDS + 3, rope_theta=1000.0, rope_sections=sections)
    tower = replace(config.tower, width=64, heads=4, mlp_width=128, blocks=8, taps=(7, 3, 4, 5), score_after=1)
    markers = {"image_patch": WORDS, "frame_start": WORDS + 1, "frame_end": WORDS + 2}
    return replace(
        config,
        grid=replace(config.grid, image_size=(128, 192)),
        tower=tower,
        decoder=decoder,
        scorer=ScorerConfig("cosine", soft_bias=False),
        tokens=replace(config.tokens, bos=0, stop=(1,), **markers),
    )


def prompt_of(kept: NDArray[np.int64], config: ModelConfig, seed: int) -> Tensor:
    """Return token ids [1, S] of a clip whose frames keep so many groups, and a question."""
    words = iter(np.random.default_rng(seed).integers(2, WORDS, 4 * len(kept) + TEXT).tolist())
    tokens, ids = config.tokens, [config.tokens.bos]
    for count in kept.tolist():
        ids += [next(words) for _ in range(4)]
        ids += [tokens.frame_start, *[tokens.image_patch] * count, tokens.frame_end]
    return torch.tensor([ids + list(words)])


def answer(model: Model, ids: Tensor, features: Tensor, positions: NDArray[np.int64]) -> Tensor:
    """Return the logits behind a prompt."""
    order = torch.arange(ids.shape[1])
    rows, turn = feature_rows(ids, model.config.tokens.image_patch), torch.from_numpy(positions)
    flags, cache = torch.zeros(len(order), dtype=torch.bool), model.decoder.empty_cache()
    return model.decoder(ids, features, rows, order, order, flags, cache, rope_positions=turn)[0][0]


@torch.no_grad()
def distances(model: Model, fraction: float, seed: int) -> tuple[float, float]:
    """Return how far the answer moves with the positions of the full grid, and counted on."""
    config = model.config
    grid, tokens = config.grid, config.tokens
    generator = torch.Generator().manual_seed(seed)
    still, noise = (torch.rand(n, grid.patches, grid.patch_values, generator=generator) * 2 - 1 for n in (1, FRAMES))
    change = torch.linspace(0, 1, grid.patches)[None, :, None]
    patches = still * (1 - change) + noise * change

    everything = np.ones((FRAMES, grid.groups), bool)
    ids = prompt_of(everything.sum(axis=1), config, seed)
    positions, _ = rope_positions(ids[0].numpy(), tokens, everything, grid)
    whole = answer(model, ids, run_vision_dense(model, patches), positions)

    result = run_vision(model, patches, prune_fraction=fraction, packing="ragged", soft_bias=False)
    keep = result.keep.numpy()
    ids = prompt_of(keep.sum(axis=1), config, seed)
    positions, _ = rope_positions(ids[0].numpy(), tokens, keep, grid)
    counted = np.repeat(np.arange(ids.shape[1])[None], 3, axis=0)
    found = [answer(model, ids, result.features, where) for where in (positions, counted)]
    gathered, counted_on = (float((logits - whole).std() / whole.std()) for logits in found)
    return gathered, counted_on


def main() -> None:
    """Print the table."""
    sys.stdout.write("| pruned | positions of the full grid | counted on |\n|---|---|---|\n")
    config = small_config()
    for fraction in (0.3, 0.5, 0.7):
        rows = []
        for seed in range(SEEDS):
            model = Model(config).eval()
            load_into(model, random_checkpoint(config, seed))
            rows.append(distances(model, fraction, seed))
        gathered, counted_on = np.mean(rows, axis=0)
        sys.stdout.write(f"| {fraction:.0%} | {gathered:.2f} | {counted_on:.2f} |\n")


if __name__ == "__main__":
    main()
