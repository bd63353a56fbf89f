"""The connector of towers whose groups are merged: a group's patches side by side, through an MLP for each tap."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.tower import LayerNorm
from stts_export.recipe.config import TowerConfig


class Merger(nn.Module):
    """A group's patches as one vector: norm, side by side, two layers with GELU (by erf) between."""

    def __init__(self, width: int, patches: int, output_width: int, epsilon: float, norms_group: bool) -> None:
        """Build the merger of groups of so many patches, `width` wide each.

        The norm is over a whole group's values where it `norms_group`, else over each patch's.
        """
        super().__init__()
        merged = width * patches
        self.norms_group = norms_group
        self.norm = LayerNorm(merged if norms_group else width, eps=epsilon)
        self.up = nn.Linear(merged, merged)
        self.down = nn.Linear(merged, output_width)

    def forward(self, groups: Tensor) -> Tensor:
        """Return [K, output_width] of `groups` [K, patches, width]."""
        merged = self.norm(groups.flatten(1)) if self.norms_group else self.norm(groups).flatten(1)
        return self.down(F.gelu(self.up(merged)))


class MergerConnector(nn.Module):
    """A merger for each tap, whose features lie side by side: those of embeddings first, then DeepStack's.

    DeepStack: arXiv 2406.04334, as Qwen3-VL has it.
    """

    def __init__(self, config: TowerConfig, pool: int, output_width: int) -> None:
        super().__init__()
        self.width = config.width

        def merger(norms_group: bool) -> Merger:
            return Merger(config.width, pool**2, output_width, config.epsilon, norms_group)

        self.merger = merger(norms_group=False)
        self.deep_mergers = nn.ModuleList(merger(norms_group=True) for _ in config.taps[1:])

    def forward(self, taps: Tensor, readout: Tensor) -> Tensor:
        """Return features [K, sets * d_model], as `Connector` takes them."""
        return self.features(taps.index_select(0, readout.flatten()).unflatten(0, readout.shape))

    def features(self, groups: Tensor) -> Tensor:
        """Return features [K, sets * d_model] of groups [K, pool * pool, taps * D] that lie side by side already."""
        states = groups.split(self.width, dim=-1)
        mergers = (self.merger, *self.deep_mergers)
        return torch.cat([merger(tap) for merger, tap in zip(mergers, states, strict=True)], dim=-1)
