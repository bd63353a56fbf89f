"""The whole vision side without pruning; called for one chunk of frames at a time.

| | name | shape | meaning |
|---|---|---|---|
| in | patches | [T, N, values] float32 | normalised pixels |
| out | features | [K, sets * d_model] float32 | one row a group, frame after frame: K = T x G |
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from stts_export.models.model import Model
from stts_export.ops.frame_attention.call import frame_attention
from stts_export.parts.part import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits
from stts_runtime.bundle.spec import ENGINE, Dim, GraphSpec, TensorSpec
from stts_runtime.vision.plan import group_patches


class VisionDense(nn.Module):
    """Every block of the tower, then the connector over every group."""

    def __init__(self, model: Model, config: ModelConfig) -> None:
        super().__init__()
        self.vision_tower = model.vision_tower
        self.connector = model.connector
        self.grid, self.tower = config.grid, config.tower

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return features [T * G, sets * d_model]; see the table above."""
        grid = self.grid
        taps = self.tapped(patches)
        frames = torch.arange(patches.shape[0], device=patches.device)
        groups = torch.tensor(group_patches(grid).tolist(), device=patches.device)
        readout = (frames[:, None, None] * grid.patches + groups).flatten(0, 1)
        return self.connector(torch.cat(taps, dim=-1), readout)

    def tapped(self, patches: torch.Tensor) -> list[torch.Tensor]:
        """Return the tapped outputs, each [T * N, D], of `patches` [T, N, values]."""
        attend = self.vision_tower.placed(partial(frame_attention, heads=self.tower.heads))
        hidden = self.vision_tower.embed(patches)
        taps: dict[int, torch.Tensor] = {}
        for index, block in enumerate(self.vision_tower.blocks):
            hidden = block(hidden, attend)
            if index in self.tower.taps:
                taps[index] = hidden.flatten(0, 1)
        return [taps[index] for index in self.tower.taps]


def vision_dense_part(model: Model, config: ModelConfig, limits: Limits) -> Part:
    """Return the vision part of a dense bundle."""
    grid, tower, chunk = config.grid, config.tower, limits.chunk_frames
    spec = GraphSpec(
        name="vision_dense",
        inputs=(TensorSpec("patches", "float32", ("T", grid.patches, grid.patch_values)),),
        outputs=(TensorSpec("features", "float32", ("K", config.feature_width), ENGINE),),
        dims=(
            Dim("T", 1, chunk, chunk, "--chunk-frames"),
            Dim("K", grid.groups, chunk * grid.groups, chunk * grid.groups, "--chunk-frames"),
        ),
        values=(*(f"vision_tower.blocks.{i}" for i in range(tower.blocks)), "features"),
    )
    return Part(spec, VisionDense(model, config))
