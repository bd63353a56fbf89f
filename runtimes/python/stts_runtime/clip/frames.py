"""Frames as the tower wants them: squeezed to one size as the model's processor does it, then cut into patches.

For Molmo2 every frame becomes 378 x 378 whatever its aspect: bilinear, half-pixel centres (align_corners false), no
antialiasing, rounded to whole bytes, then scaled to [-1, 1]. Trained weights rely on these very bytes. How Qwen3-VL's
are resized: `bicubic`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from stts_runtime.bundle.manifest import BICUBIC, BILINEAR, RESAMPLINGS, Grid, ImageSize, height_and_width
from stts_runtime.clip.bicubic import resize_bicubic
from stts_runtime.errors import UsageError


MAX_ASPECT = 3.0
MOST_PIXELS = 1 << 28
"""Of a frame, which is held in memory several times while it is resized."""

# Float32 sums of four products of a byte and a weight depart from the reference order by less than this.
TIE_WINDOW = 1e-3
# uint8 -> [-1, 1], as (x / 255 - 0.5) / 0.5 with the factors fused like the reference does it.
PIXEL_VALUES = (np.arange(256, dtype=np.float32) - np.float32(127.5)) / np.float32(127.5)


def check_frames(frames: object) -> np.ndarray:
    """Return `frames` if it is a video: uint8 [T, H, W, 3], RGB, with at least one frame and one pixel.

    Raises:
        UsageError: it is something else; the text says what was got and wanted.
    """
    wanted = "frames must be a numpy array of uint8, [frames, height, width, 3] in RGB order"
    if not isinstance(frames, np.ndarray):
        raise UsageError(f"{wanted}; got {type(frames).__name__}. Convert with numpy.stack(list_of_frames).")
    got = f"{frames.dtype} {list(frames.shape)}"
    if frames.dtype != np.uint8:
        raise UsageError(f"{wanted}; got {got}. Give pixels as bytes 0..255, for instance (x * 255).astype('uint8').")
    if frames.ndim != 4:
        hint = (
            "Add the frame dimension with frames[None]." if frames.ndim == 3 else "Stack frames along a new first axis."
        )
        raise UsageError(f"{wanted}; got {got}. {hint}")
    if frames.shape[3] != 3:
        last = frames.shape[3]
        channels_first = "Move the channels last with frames.transpose(0, 2, 3, 1)."
        hint = channels_first if frames.shape[1] == 3 else f"The last axis has {last} channels: convert to RGB."
        raise UsageError(f"{wanted}; got {got}. {hint}")
    if frames.size == 0:
        raise UsageError(f"{wanted}; got {got}, which has no pixels. At least one frame is needed.")
    if frames.shape[1] * frames.shape[2] > MOST_PIXELS:
        raise UsageError(f"a frame has at most {MOST_PIXELS} pixels; got {got}. Scale the frames down first.")
    return frames


def aspect_notes(width: int, height: int, size: ImageSize = 378) -> tuple[str, ...]:
    """What to tell a user whose frames lose their shape in a square, or a picture of that `size`; empty up to 3:1."""
    high, wide = height_and_width(size)
    aspect = max(width * high / (height * wide), height * wide / (width * high))
    if aspect <= MAX_ASPECT:
        return ()
    if high != wide:
        note = (
            f"frames of {width} x {height} are squeezed to {wide} x {high}, and come out {aspect:.1f} times as wide or "
            "high as they are: shapes are distorted strongly; build with a --video-size of their aspect"
        )
        return (note,)
    note = (
        f"frames of {width} x {height} (aspect {aspect:.1f}:1) are squeezed to a square, as the model was trained on;"
        " beyond 3:1 shapes are distorted strongly: crop or split the video if the answers suffer"
    )
    return (note,)


def resize_frames(frames: np.ndarray, size: ImageSize = 378, resampling: str = BILINEAR) -> np.ndarray:
    """Squeeze frames to one size, byte for byte as transformers' `Molmo2VideoProcessor` does on several CPU threads.

    (On a single thread torch sums in another order, and some three values in a million round the other way.)

    Args:
        frames: uint8 [T, H, W, 3].
        size: pixels of the result, a square's side or height and width.
        resampling: one of the manifest's `RESAMPLINGS`; `bicubic` is as transformers' `Qwen3VLVideoProcessor` does it.

    Returns:
        uint8 [T, height, width, 3]; `frames` itself where nothing is to be done.

    Raises:
        UsageError: `frames` is no such array, or the resampling is unknown.
    """
    check_frames(frames)
    if resampling not in RESAMPLINGS:
        raise UsageError(f"resampling is {resampling!r}, wanted {' or '.join(RESAMPLINGS)}")
    wanted = height_and_width(size)
    if frames.shape[1:3] == wanted:
        return frames
    resized = np.empty((len(frames), *wanted, 3), np.uint8)
    for target, frame in zip(resized, frames, strict=True):
        if resampling == BICUBIC:
            target[...] = resize_bicubic(frame, *wanted)
        else:
            _resize_frame(frame, target)
    return resized


def patches_from_frames(frames: np.ndarray, grid: Grid) -> np.ndarray:
    """Cut frames of the grid's size into patches and scale their pixels to [-1, 1].

    Args:
        frames: uint8 [t * grid.frames, height, width, 3]; where the last temporal patch lacks frames, the last one is
            repeated.
        grid: the model's image and patch size.

    Returns:
        float32 [t, N, grid.patch_values]: patches in raster order, in each patch frames, rows, columns, channels.

    Raises:
        UsageError: frames are not of the grid's size.
    """
    (height, width), patch, together = grid.size, grid.patch_size, grid.frames
    check_frames(frames)
    if frames.shape[1:3] != grid.size:
        got = f"{frames.shape[2]} x {frames.shape[1]}"
        raise UsageError(f"patches need frames of {width} x {height}, got {got}; call resize_frames first.")
    if lacking := -len(frames) % together:
        frames = np.concatenate([frames, np.repeat(frames[-1:], lacking, axis=0)])
    cells = frames.reshape(-1, together, grid.rows, patch, grid.columns, patch, 3).transpose(0, 2, 4, 1, 3, 5, 6)
    return PIXEL_VALUES[cells.reshape(-1, grid.patches, grid.patch_values)]


def _resize_frame(frame: np.ndarray, target: np.ndarray) -> None:
    """Write `frame` [H, W, 3] in the size of `target` [height, width, 3] into it."""
    top, bottom, weight_top, weight_bottom = _interpolation(frame.shape[0], target.shape[0])
    left, right, weight_left, weight_right = _flat_columns(frame.shape[1], target.shape[1])
    rows = frame.reshape(len(frame), -1)
    upper, lower = rows[top], rows[bottom]
    corners = [np.take(line, column, axis=1) for line in (upper, lower) for column in (left, right)]
    value = (corners[0] * weight_left + corners[1] * weight_right) * weight_top[:, None]
    value += (corners[2] * weight_left + corners[3] * weight_right) * weight_bottom[:, None]
    rounded = np.rint(value)
    # A value next to a half rounds by the order of summation: those are summed again in the reference's own order.
    row, column = np.nonzero(np.abs(value - rounded) > 0.5 - TIE_WINDOW)
    near = [corner[row, column] for corner in corners]
    across = weight_left[column], weight_right[column]
    exact = _fused_sum(
        _fused_sum(near[0], near[1], *across),
        _fused_sum(near[2], near[3], *across),
        weight_top[row],
        weight_bottom[row],
    )
    rounded[row, column] = np.rint(exact)
    target[...] = np.clip(rounded, 0, 255, out=rounded).reshape(target.shape)


def _fused_sum(
    first: np.ndarray, second: np.ndarray, weight_first: np.ndarray, weight_second: np.ndarray
) -> np.ndarray:
    """float32 first x weight_first + second x weight_second, the first product being fused with the sum as in torch.

    The product of two float32 is exact in float64, so adding there and rounding once to float32 is one fused step.
    """
    return (first * weight_first.astype(np.float64) + second * weight_second).astype(np.float32)


@lru_cache(maxsize=8)
def _flat_columns(width: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`_interpolation` along a row whose pixels and channels lie end to end: each array has 3 * size entries."""
    left, right, weight_left, weight_right = _interpolation(width, size)
    channels = np.arange(3)
    flat_left, flat_right = ((3 * index[:, None] + channels).ravel() for index in (left, right))
    return flat_left, flat_right, np.repeat(weight_left, 3), np.repeat(weight_right, 3)


@lru_cache(maxsize=16)
def _interpolation(source: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` outputs: int64 indices of both neighbours among `source` pixels, and their float32 weights."""
    scale = np.float32(source) / np.float32(size)
    # scale * (i + 0.5) - 0.5 is one fused float32 operation in torch; float64 holds its product exactly.
    centre = (np.float64(scale) * (np.arange(size) + 0.5) - 0.5).astype(np.float32)
    centre = np.maximum(centre, np.float32(0))
    first = np.minimum(centre.astype(np.int64), source - 1)
    second = np.minimum(first + 1, source - 1)
    weight = np.clip(centre - first.astype(np.float32), np.float32(0), np.float32(1))
    return first, second, np.float32(1) - weight, weight
