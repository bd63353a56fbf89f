"""What models may say that only the torch side computes so far; graphs, estimates, training and the runtime do not."""

from __future__ import annotations

from collections.abc import Iterator

from stts_export.recipe.config import POOL, ModelConfig
from stts_runtime.errors import UsageError


def check_has_graphs(config: ModelConfig) -> None:
    """Raise UsageError for a model that has no graphs yet: it would be built, counted or trained as another one."""
    if found := tuple(_without_graphs(config)):
        raise UsageError(
            f"model {config.name} is known in torch only (stts_export/models): graphs, estimates, training and the "
            f"runtime do not have {', '.join(found)} yet. Take a Molmo2 recipe, such as molmo2-4b, until they do"
        )


def _without_graphs(config: ModelConfig) -> Iterator[str]:
    grid, tower, decoder = config.grid, config.tower, config.decoder
    if grid.frames > 1:
        yield f"temporal patches of {grid.frames} frames"
    if tower.position_side is not None or tower.rope_theta is not None:
        yield "positions that are interpolated and turned in the tower"
    if tower.connector != POOL:
        yield "mergers"
    if decoder.rope_sections is not None:
        yield "positions by time, row and column"
    if decoder.causal or decoder.replaces_embedding:
        yield "features in the place of embeddings, seen causally"
