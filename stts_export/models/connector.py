"""The connector: from the tower's tapped features to one language-model token a kept group."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from stts_export.models.pool import GroupPool
from stts_export.recipe.config import TowerConfig


class Projector(nn.Module):
    """SwiGLU from the tower's width to the language model's, no biases."""

    def __init__(self, width: int, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.up = nn.Linear(width, hidden_width, bias=False)
        self.down = nn.Linear(hidden_width, output_width, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return [K, d_model] from `pooled` [K, D]."""
        return self.down(F.silu(self.gate(pooled)) * self.up(pooled))


class Connector(nn.Module):
    """Attention pooling over the patches of each kept group, then the projector."""

    def __init__(self, config: TowerConfig, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.pool = GroupPool(config.width, config.heads, len(config.taps) * config.width)
        self.projector = Projector(config.width, hidden_width, output_width)

    def forward(self, taps: Tensor, readout: Tensor) -> Tensor:
        """Return features [K, d_model] in the order of `readout`.

        Args:
            taps: [rows, taps * D], the tapped block outputs side by side for every packed slot.
            readout: int64 [K, pool * pool], the rows of each kept group's patches.
        """
        groups = taps.index_select(0, readout.flatten()).unflatten(0, readout.shape)
        return self.projector(self.pool.pool(groups))
