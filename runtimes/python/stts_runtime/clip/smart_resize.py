"""How large Qwen3-VL's processor makes the pictures of a video: its own aspect, whole groups, and a bound of pixels.

A bundle has one size, chosen when it is built; this says which one the model's own processor would take for a video.
Method: `smart_resize` of transformers' `Qwen3VLVideoProcessor`, whose results it equals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stts_runtime.bundle.manifest import Grid
from stts_runtime.errors import UsageError


MAX_ASPECT = 200
_FLOOR = 1.05  # of `min_pixels`, which no frame is asked to fall below


@dataclass(frozen=True)
class SmartResize:
    """Bounds of a video's pixels, all of its frames together.

    Attributes:
        min_pixels: fewest, over all frames.
        max_pixels: most, over all frames.
        max_frame_tokens: most groups a frame may have (transformers' `cap_pixels_per_frame`, as the authors' own code
            has it): without it a short clip would take as many tokens as a long one. None does not cap.
    """

    min_pixels: int
    max_pixels: int
    max_frame_tokens: int | None = None


def smart_size(rule: SmartResize, grid: Grid, frames: int, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the pictures that a video is resized to, multiples of a group's side.

    Args:
        rule: the bounds.
        grid: says how large a group is, and how many frames are one; its own size does not matter.
        frames: of the video, before the last is repeated to fill a temporal patch.
        height: of the video, in pixels.
        width: likewise.

    Raises:
        UsageError: there are too few frames, no pixels, or one side is more than 200 times the other.
    """
    factor, together = grid.patch_size * grid.pool, grid.frames
    if frames < together or min(height, width) < 1:
        raise UsageError(
            f"a video of {frames} frames of {width} x {height}; wanted at least {together} frames, which are seen as "
            "one (repeat the only one), and a pixel"
        )
    most = rule.max_pixels
    if rule.max_frame_tokens is not None:
        share = min(rule.max_frame_tokens * factor**2, rule.max_pixels // frames)
        most = max(share, int(rule.min_pixels * _FLOOR)) * frames
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    if max(height, width) / min(height, width) > MAX_ASPECT:
        raise UsageError(f"frames of {width} x {height}; wanted one side at most {MAX_ASPECT} times the other")
    # Python rounds halves to the even number, which the reference does too
    rows, columns, filled = round(height / factor), round(width / factor), round(frames / together) * together
    pixels = filled * rows * columns * factor**2
    if pixels > most:
        shrink = math.sqrt(frames * height * width / most)
        rows, columns = (max(1, math.floor(side / shrink / factor)) for side in (height, width))
    elif pixels < rule.min_pixels:
        grow = math.sqrt(rule.min_pixels / (frames * height * width))
        rows, columns = (math.ceil(side * grow / factor) for side in (height, width))
    return rows * factor, columns * factor
