"""What a bundle prunes from a video, as a picture."""

from __future__ import annotations

from pathlib import Path

from stts_export.report.pruning_picture import pruning_picture, write_picture
from stts_runtime.errors import UsageError
from stts_runtime.session import load


def draw_pruning(
    bundle: Path, video: Path, picture: Path, *, prune: float | None = None, frames: int | None = None
) -> None:
    """Write the frames of `video` that `bundle` looks at, dropped groups dimmed, with scores as a heat map.

    Args:
        bundle: a bundle that can prune.
        video: a video file.
        picture: where to, .png or .html.
        prune: share of groups to drop; default the bundle's.
        frames: take exactly this many frames; default the model's own sampling.

    Raises:
        UsageError: nothing would be pruned, or the picture's file type is unknown.
    """
    with load(bundle) as session:
        if session.prune_fraction(prune) == 0:
            raise UsageError(f"{bundle.name} at prune 0 drops nothing, so there is nothing to draw: add --prune 0.5")
        clip = session.read(video, frames=frames)
        vision = session.vision(clip, prune)
        grid = session.manifest.grid
    assert vision.scores is not None
    pictures, times = clip.patches(grid.frames)
    caption = f"{video.name}, {session.manifest.name}, {session.manifest.pruning.scorer} scorer"
    write_picture(pruning_picture(pictures, vision.scores, vision.keep, times, grid, caption), picture)
