"""The whole vision side for one image: the tower over its crops, and groups that reach over several of them.

| | name | shape | meaning |
|---|---|---|---|
| in | patches | [T, N, 588] float32 | normalised pixels of the whole image, then of its crops |
| in | readout | [K, 4] int64 | which of the T x N patches make each group |
| out | features | [K, d_model] float32 | one row a group: of the whole image, then of the crops put together |

An image is one run: its groups cannot be made before all of its crops are seen. Weights are those of `vision_dense`.
"""

from __future__ import annotations

import torch

from stts_export.models.model import Model
from stts_export.parts.part import Part
from stts_export.parts.vision_dense import VisionDense
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Cropping
from stts_runtime.bundle.spec import ENGINE, Dim, GraphSpec, TensorSpec
from stts_runtime.clip.crops import largest_layout


class VisionImage(VisionDense):
    """Every block of the tower, then the connector over groups that the host names."""

    def forward(self, patches: torch.Tensor, readout: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Return features [K, d_model]; see the table above."""
        return self.connector(torch.cat(self.tapped(patches), dim=-1), readout)


def vision_image_part(model: Model, config: ModelConfig, cropping: Cropping) -> Part:
    """Return the vision part of a bundle that knows images."""
    grid, tower, crops = config.grid, config.tower, 1 + cropping.max_crops
    least = -(-grid.rows // cropping.pool)
    groups = largest_layout(grid, cropping).groups
    spec = GraphSpec(
        name="vision_image",
        inputs=(
            TensorSpec("patches", "float32", ("T", grid.patches, grid.patch_values)),
            TensorSpec("readout", "int64", ("K", cropping.pool**2)),
        ),
        outputs=(TensorSpec("features", "float32", ("K", config.feature_width), ENGINE),),
        dims=(
            Dim("T", 2, crops, crops, "--max-crops"),
            Dim("K", 2 * least**2, groups, groups, "--max-crops"),
        ),
        values=(*(f"vision_tower.blocks.{i}" for i in range(tower.blocks)), "features"),
    )
    return Part(spec, VisionImage(model, config))
