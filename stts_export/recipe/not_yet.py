"""What models may say that training, and evaluation of models that are no bundle, do not compute so far."""

from __future__ import annotations

from collections.abc import Iterator

from stts_export.recipe.config import ModelConfig
from stts_runtime.errors import UsageError


def check_is_trained(config: ModelConfig, command: str) -> None:
    """Raise UsageError for a model whose frames, or whose tokens' places, `command` would take for others."""
    if found := tuple(_not_known(config)):
        raise UsageError(
            f"`{command}` does not know {', '.join(found)} yet, which model {config.name} has: build a bundle of it, "
            "with --scorer cosine, or take a Molmo2 recipe, such as molmo2-4b"
        )


def _not_known(config: ModelConfig) -> Iterator[str]:
    grid, decoder = config.grid, config.decoder
    if grid.frames > 1:
        yield f"temporal patches of {grid.frames} frames"
    if decoder.rope_sections is not None:
        yield "positions by time, row and column"
    if decoder.causal:
        yield "vision tokens that see only what is earlier"
