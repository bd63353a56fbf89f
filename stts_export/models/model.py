"""The whole model, as its parts: vision tower, scorer, connector, decoder.

There is no `forward`: the vision flow is read in `vision`, and between its two halves the host selects and packs.
"""

from __future__ import annotations

from torch import nn

from stts_export.models.connector import Connector
from stts_export.models.decoder import Decoder
from stts_export.models.scorer import scorer_from_config
from stts_export.models.tower import VisionTower
from stts_export.recipe.check import check_vision
from stts_export.recipe.config import ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid


class VisionModel(nn.Module):
    """Everything up to the features, `output_width` (d_model) wide, that the language model reads.

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
        self.connector = Connector(tower, projector_width, output_width)


class Model(VisionModel):
    """A vision model and the language model behind it."""

    def __init__(self, config: ModelConfig) -> None:
        decoder = config.decoder
        super().__init__(config.tower, config.scorer, config.grid, decoder.mlp_width, decoder.width)
        self.config = config
        self.decoder = Decoder(decoder, config.tokens.image_patch)
