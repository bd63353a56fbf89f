"""Which groups of the clip stay, decided where the scores are; called once a clip, in bundles with plugins.

| | name | shape | meaning |
|---|---|---|---|
| in | scores | [A, G] float32 | of all frames of the clip, from vision_score |
| in | kept | [K] int64 | its values are not read: its length says how many groups stay |
| out | order | [K] int64 | the kept groups as frame * G + group, ascending; -1 throughout where a score is not finite |
| out | cumulative_groups | [E] int64 | where each frame's groups begin and end in order; the last is -1 likewise |
"""

from __future__ import annotations

import torch
from torch import nn

from stts_export.ops.select_groups.call import select_groups
from stts_export.parts.part import Part
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Limits
from stts_runtime.bundle.spec import EXACT, Dim, GraphSpec, TensorSpec


class VisionSelect(nn.Module):
    """Selection alone, without a weight."""

    def forward(self, scores: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return order, cumulative_groups; see the table above."""
        _, order, cumulative_groups = select_groups(scores, kept)
        return order, cumulative_groups


def vision_select_part(config: ModelConfig, limits: Limits) -> Part:
    """Return the selecting part of a bundle with plugins."""
    groups, frames = config.grid.groups, limits.max_frames
    likely = min(64, frames)
    spec = GraphSpec(
        name="vision_select",
        inputs=(TensorSpec("scores", "float32", ("A", groups), EXACT), TensorSpec("kept", "int64", ("K",))),
        outputs=(TensorSpec("order", "int64", ("K",)), TensorSpec("cumulative_groups", "int64", ("E",))),
        dims=(
            Dim("A", 1, likely, frames, "--max-frames"),
            Dim("K", groups, max(groups, likely * groups // 2), frames * groups, "--max-frames"),
            Dim("E", 2, likely + 1, frames + 1, "--max-frames"),
        ),
        values=("order", "cumulative_groups"),
    )
    return Part(spec, VisionSelect())
