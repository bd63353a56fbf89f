"""Vision blocks up to the prune, and the scores that decide it; called for one chunk of frames at a time.

| | name | shape | meaning |
|---|---|---|---|
| in | patches | [T, N, values] float32 | normalised pixels |
| in | previous | [G, C] float32 | the scorer's state after the frame before; zeros before the first |
| in | gate | [T] float32 | 0 where the soft bias must not act (a video's first frame), else 1; only with a soft bias |
| out | hidden | [T, N, D] float32 | output of the block after scoring, still dense |
| out | scores | [T, G] float32 | keep score of each group, larger stays |
| out | last | [G, C] float32 | the scorer's state, for the next chunk |
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from stts_export.errors import ExportError
from stts_export.models import attention
from stts_export.models.bias import soft_bias
from stts_export.models.model import Model
from stts_export.ops.frame_attention.call import frame_attention
from stts_export.parts.part import Part
from stts_export.parts.plugin_scorer import scored_by_plugins
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits
from stts_runtime.bundle.spec import ENGINE, EXACT, Dim, GraphSpec, TensorSpec


class VisionScore(nn.Module):
    """The tower's blocks before the prune and the scorer between the last two."""

    def __init__(self, model: Model, config: ModelConfig, plugins: bool) -> None:
        super().__init__()
        if model.scorer is None:
            raise ExportError(
                f"model {config.name} has no scorer, so there is nothing that could score: build it dense"
            )
        self.vision_tower = model.vision_tower
        self.scorer = model.scorer
        self.grid, self.tower, self.plugins = config.grid, config.tower, plugins

    def forward(
        self, patches: torch.Tensor, previous: torch.Tensor, gate: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return hidden, scores, last; see the table above."""
        tower = self.tower
        attend = self.vision_tower.placed(partial(frame_attention, heads=tower.heads))
        hidden = self.vision_tower.embed(patches)
        for block in self.vision_tower.blocks[: tower.biased_block]:
            hidden = block(hidden, attend)
        score = partial(scored_by_plugins, self.scorer) if self.plugins else self.scorer
        scores, last = score(hidden, previous)
        if gate is not None:
            bias = soft_bias(scores, gate, self.grid)
            biased = partial(attention.frame_attention, heads=tower.heads, key_bias=bias)
            attend = self.vision_tower.placed(biased)
        hidden = self.vision_tower.blocks[tower.biased_block](hidden, attend)
        return hidden, scores, last


def vision_score_part(model: Model, config: ModelConfig, limits: Limits, *, plugins: bool = False) -> Part:
    """Return the scoring part of a pruned bundle."""
    grid, tower = config.grid, config.tower
    chunk = limits.chunk_frames
    module = VisionScore(model, config, plugins)
    state = module.scorer.state_width
    gate = (TensorSpec("gate", "float32", ("T",), EXACT),) if config.scorer.soft_bias else ()
    scored = (f"vision_tower.blocks.{i}" for i in range(tower.biased_block))
    spec = GraphSpec(
        name="vision_score",
        inputs=(
            TensorSpec("patches", "float32", ("T", grid.patches, grid.patch_values)),
            TensorSpec("previous", "float32", (grid.groups, state), EXACT),
            *gate,
        ),
        outputs=(
            TensorSpec("hidden", "float32", ("T", grid.patches, tower.width), ENGINE),
            TensorSpec("scores", "float32", ("T", grid.groups), EXACT),
            TensorSpec("last", "float32", (grid.groups, state), EXACT),
        ),
        dims=(Dim("T", 1, chunk, chunk, "--chunk-frames"),),
        values=(*scored, "scores", "last", f"vision_tower.blocks.{tower.biased_block}", "hidden"),
    )
    return Part(spec, module)
