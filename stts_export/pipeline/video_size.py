"""The size that a build's pictures have, where the model takes several: `--video-size`."""

from __future__ import annotations

import re
from dataclasses import replace

from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.check import LARGEST_IMAGE
from stts_runtime.errors import UsageError


def with_video_size(config: ModelConfig, asked: str | None) -> ModelConfig:
    """Return the model as it sees pictures of `WIDTHxHEIGHT` pixels; None leaves its recipe's own size.

    Raises:
        UsageError: it is no size, the model sees one size alone, or groups of patches do not divide it.
    """
    if asked is None:
        return config
    grid, side = config.grid, config.grid.patch_size * config.grid.pool
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", asked)
    if match is None:
        raise UsageError(f"--video-size is {asked[:40]!r}, wanted WIDTHxHEIGHT in pixels, such as 512x288")
    width, height = int(match[1]), int(match[2])
    if config.tower.position_side is None:
        high, wide = grid.size
        raise UsageError(
            f"--video-size {asked}: model {config.name} has a learned position for each patch of {wide} x {high} "
            "pixels, and sees no other size; leave it out"
        )
    nearest = "x".join(str(min(max(side, round(pixels / side) * side), LARGEST_IMAGE)) for pixels in (width, height))
    if any(pixels % side or not side <= pixels <= LARGEST_IMAGE for pixels in (width, height)):
        raise UsageError(
            f"--video-size {asked}: wanted multiples of {side} up to {LARGEST_IMAGE} (patches of {grid.patch_size} "
            f"pixels, merged {grid.pool} x {grid.pool}); {nearest} is the nearest"
        )
    return replace(config, grid=replace(grid, image_size=(height, width)))
