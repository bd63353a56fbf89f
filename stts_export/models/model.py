"""The whole model, as its parts: vision tower, scorer, connector, decoder.

There is no `forward`: the vision flow is read in `vision`, and between its two halves the host selects and packs.
"""

from __future__ import annotations

from torch import Tensor, nn

from stts_export.models.decoder import Decoder
from stts_export.models.gated_mlp import GatedMlp
from stts_export.models.mergers import MergerConnector
from stts_export.models.pool import GroupPool
from stts_export.models.scorer import scorer_from_config
from stts_export.models.tower import VisionTower
from stts_export.recipe.check import check_vision
from stts_export.recipe.config import MERGERS, ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid


class Connector(nn.Module):
    """Attention pooling over the patches of each kept group, then the projector."""

    def __init__(self, config: TowerConfig, hidden_width: int, output_width: int) -> None:
        super().__init__()
        self.pool = GroupPool(config.width, config.heads, len(config.taps) * config.width)
        self.projector = GatedMlp(config.width, hidden_width, output_width)

    def forward(self, taps: Tensor, readout: Tensor) -> Tensor:
        """Return features [K, d_model] in the order of `readout`, int64 [K, pool * pool]: the rows of groups' patches.

        The `taps` [rows, taps * D] are the tapped block outputs side by side for every packed slot.
        """
        return self.features(taps.index_select(0, readout.flatten()).unflatten(0, readout.shape))

    def features(self, groups: Tensor) -> Tensor:
        """Return features [K, d_model] of groups [K, pool * pool, taps * D] that lie side by side already."""
        return self.projector(self.pool.pool(groups))


def connector_from_config(
    tower: TowerConfig, grid: Grid, projector_width: int, output_width: int
) -> Connector | MergerConnector:
    """Return the connector that the configuration names; mergers have no projector."""
    if tower.connector == MERGERS:
        return MergerConnector(tower, grid.pool, output_width)
    return Connector(tower, projector_width, output_width)


class VisionModel(nn.Module):
    """Everything up to the features that the language model reads: `tower.feature_sets` times `output_width` (d_model).

    Raises:
        RecipeError: the sizes do not fit together.
    """

    def __init__(
        self, tower: TowerConfig, scorer: ScorerConfig, grid: Grid, projector_width: int, output_width: int
    ) -> None:
        super().__init__()
        check_vision(grid, tower, "model")
        self.grid = grid
        self.tower_config = tower
        self.scorer_config = scorer
        self.vision_tower = VisionTower(tower, grid)
        self.scorer = scorer_from_config(tower, scorer, grid)
        self.connector = connector_from_config(tower, grid, projector_width, output_width)


class Model(VisionModel):
    """A vision model and the language model behind it."""

    def __init__(self, config: ModelConfig) -> None:
        decoder = config.decoder
        super().__init__(config.tower, config.scorer, config.grid, decoder.mlp_width, decoder.width)
        self.config = config
        self.decoder = Decoder(decoder, config.tokens.image_patch)
