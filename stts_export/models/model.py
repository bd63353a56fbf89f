"""The whole model, as its parts: vision tower, scorer, connector, decoder.

There is no `forward`: the vision flow is read in `vision`, and between its two halves the host selects and packs.
"""

from __future__ import annotations

from torch import nn

from stts_export.errors import RecipeError
from stts_export.models.connector import Connector
from stts_export.models.decoder import Decoder
from stts_export.models.scorer import scorer_from_config
from stts_export.models.tower import VisionTower
from stts_export.recipe.config import ModelConfig, ScorerConfig, TowerConfig
from stts_runtime.bundle.manifest import Grid


class VisionModel(nn.Module):
    """Everything up to the features that the language model reads.

    Args:
        tower: sizes of the tower; the scorer and the pooling follow them.
        scorer: which scorer, and whether its scores bias the next block.
        grid: patches and groups of a frame.
        projector_width: hidden width of the connector's projector.
        output_width: d_model.

    Raises:
        RecipeError: the sizes do not fit together.
    """

    def __init__(
        self, tower: TowerConfig, scorer: ScorerConfig, grid: Grid, projector_width: int, output_width: int
    ) -> None:
        super().__init__()
        _check_tower(tower)
        _check_grid(grid)
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


def _check_tower(tower: TowerConfig) -> None:
    if tower.width % tower.heads:
        raise RecipeError(f"tower width {tower.width} is not a multiple of its {tower.heads} heads")
    first = tower.score_after + 2
    outside = [tap for tap in tower.taps if not first <= tap < tower.blocks]
    if outside or not tower.taps:
        raise RecipeError(
            f"tower taps are {list(tower.taps)}, wanted block indices from {first} (the first block after pruning) "
            f"to {tower.blocks - 1} (the last that is built)"
        )


def _check_grid(grid: Grid) -> None:
    if grid.image_size % grid.patch_size or grid.patches_per_side % grid.pool:
        raise RecipeError(
            f"an image of {grid.image_size} pixels does not divide into patches of {grid.patch_size} and groups of "
            f"{grid.pool} x {grid.pool} patches"
        )
