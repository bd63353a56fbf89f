"""The connector: from the tower's tapped features to one language-model token a kept group."""

from __future__ import annotations

from torch import Tensor, nn

from stts_export.models.gated_mlp import GatedMlp
from stts_export.models.pool import GroupPool
from stts_export.recipe.config import TowerConfig


class Connector(nn.Module):
    """Attention pooling over the patches of each kept group, then the projector."""

    def __init__(self, config: TowerConfig, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.pool = GroupPool(config.width, config.heads, len(config.taps) * config.width)
        self.projector = GatedMlp(config.width, hidden_width, output_width)

    def forward(self, taps: Tensor, readout: Tensor) -> Tensor:
        """Return features [K, d_model] in the order of `readout`.

        Args:
            taps: [rows, taps * D], the tapped block outputs side by side for every packed slot.
            readout: int64 [K, pool * pool], the rows of each kept group's patches.
        """
        groups = taps.index_select(0, readout.flatten()).unflatten(0, readout.shape)
        return self.projector(self.pool.pool(groups))
