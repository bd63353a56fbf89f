"""The vision tower: pre-norm blocks over the patches of a frame, or of frames that are seen as one.

Where a block's queries may look is decided by its caller through `attend`: within a frame while running dense, within
segments of packed bins or ragged frames after pruning.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.attention import Attend
from stts_export.models.norm import product_dtype
from stts_export.models.positions import LearnedPositions, PatchRotation
from stts_export.recipe.config import TowerConfig
from stts_runtime.bundle.manifest import Grid


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in float32 whatever the dtype around it."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Return `hidden` [..., D] normalised over D, in its own dtype; see `product_dtype` for a GPU."""
        normed = F.layer_norm(hidden.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(product_dtype(hidden))


class Attention(nn.Module):
    """The four projections around an attention core, with biases."""

    def __init__(self, width: int, input_width: int | None = None) -> None:
        super().__init__()
        input_width = width if input_width is None else input_width
        self.query = nn.Linear(input_width, width)
        self.key = nn.Linear(input_width, width)
        self.value = nn.Linear(input_width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor, context: Tensor, attend: Attend) -> Tensor:
        """Return what `hidden` [..., input_width] reads from `context` [..., input_width], as [..., width]."""
        return self.output(attend(self.query(hidden), self.key(context), self.value(context)))


class MLP(nn.Module):
    """Two layers with tanh-GELU between."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden_width)
        self.down = nn.Linear(hidden_width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [..., D] from `hidden` [..., D]."""
        return self.down(F.gelu(self.up(hidden), approximate="tanh"))


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.width, eps=config.epsilon)
        self.attention = Attention(config.width)
        self.mlp_norm = LayerNorm(config.width, eps=config.epsilon)
        self.mlp = MLP(config.width, config.mlp_width)

    def forward(self, hidden: Tensor, attend: Attend) -> Tensor:
        """Return the block's output, same shape as `hidden` [..., D]; `attend` applies the attention mask."""
        normed = self.attention_norm(hidden)
        hidden = hidden + self.attention(normed, normed, attend)
        return hidden + self.mlp(self.mlp_norm(hidden))


class VisionTower(nn.Module):
    """Patch embedding with learned positions, and the blocks; no final norm."""

    table_rows: Tensor
    table_weights: Tensor

    def __init__(self, config: TowerConfig, grid: Grid) -> None:
        super().__init__()
        self.heads = config.heads
        self.patches = grid.patches
        self.patch_embedding = nn.Linear(grid.patch_values, config.width)
        self.resamples = config.position_side is not None
        if config.position_side is not None:
            table = LearnedPositions(config.position_side, grid)
            self.register_buffer("table_rows", table.rows, persistent=False)
            self.register_buffer("table_weights", table.weights, persistent=False)
        rows = grid.patches if config.position_side is None else config.position_side**2
        self.position_embedding = nn.Parameter(torch.zeros(rows, config.width))
        self.rotation: PatchRotation | None = None
        if config.rope_theta is not None:
            self.rotation = PatchRotation(grid, config.width // config.heads, config.rope_theta)
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.blocks))

    def embed(self, patches: Tensor) -> Tensor:
        """Return [T, N, D] from `patches` [T, N, grid.patch_values], pixels in [-1, 1]."""
        return self.patch_embedding(patches) + self.positions()

    def positions(self) -> Tensor:
        """Return what is learned of each patch's place, [N, D]."""
        if not self.resamples:
            return self.position_embedding
        corners = F.embedding(self.table_rows, self.position_embedding)
        return (corners * self.table_weights[..., None].to(corners.dtype)).sum(dim=1)

    def placed(self, attend: Attend, gather: Tensor | None = None, order: Tensor | None = None) -> Attend:
        """Return the attention core `attend` as the blocks want it: with rotary positions, where the tower has them.

        Args:
            attend: over whole frames [T, N, D]; or over packed patches [..., D], of which one of the others tells.
            gather: int64 [...], which of the clip's patches, counted through all frames, each is.
            order: int64 [k], which of the clip's groups, counted likewise, lie side by side; see `pack_tokens`.
        """
        if self.rotation is None:
            return attend
        places = None if gather is None else gather % self.patches
        return self.rotation.around(attend, self.heads, places if order is None else self.rotation.places_of(order))
