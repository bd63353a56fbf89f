"""Which frames of a video are looked at, and at which seconds the model is told they stand.

A frame's time is its index / the average rate, also in videos of variable rate: that is what the models were trained
with, and what the timestamps in the prompt say.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from stts_runtime.bundle.manifest import SAMPLINGS, FrameSampling
from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class SampledFrames:
    """The frames taken.

    Attributes:
        indices: int64 [T], rising, each below the number of frames in the video.
        timestamps: float64 [T], seconds.
        denser: whether they lie closer than the model's highest rate because a number of frames was demanded.
    """

    indices: np.ndarray
    timestamps: np.ndarray
    denser: bool


def sample_frames(
    sampling: FrameSampling, total: int, fps: float, duration: float | None = None, frames: int | None = None
) -> SampledFrames:
    """Choose frames as the model was trained on them, or exactly `frames` of them spread evenly.

    Args:
        sampling: the method and its bounds.
        total: frames in the video, at least 1.
        fps: average frames a second.
        duration: seconds; total / fps where not given.
        frames: take this many, whatever the rate they then have.

    Raises:
        UsageError: `frames` cannot be had, or the method is unknown.
    """
    if frames is not None:
        if not (is_number(frames) and frames == int(frames) and 1 <= frames <= total):
            raise UsageError(f"{frames!r} frames were asked for; the video has {total}, so ask for 1 to {total}.")
        frames = int(frames)
        indices = _evenly(total, frames)
    elif sampling.method == "uniform":
        indices = sample_uniform(total, fps, duration, sampling.max_frames, sampling.max_fps)
    elif sampling.method == "uniform_last_frame":
        indices = sample_uniform_last_frame(total, fps, duration, sampling.max_frames, sampling.max_fps)
    elif sampling.method == "uniform_both_ends":
        indices = sample_uniform_both_ends(total, fps, sampling.min_frames, sampling.max_frames, sampling.max_fps)
    else:
        raise UsageError(f"frame sampling method {sampling.method!r} is unknown; wanted one of {', '.join(SAMPLINGS)}.")
    # A frame asked for beyond the rate counts; a video that is itself slower or a fraction faster does not.
    allowed = max(1, int(total / fps * sampling.max_fps)) + 1
    return SampledFrames(indices, indices / fps, denser=frames is not None and len(indices) > allowed)


def patch_times(timestamps: np.ndarray, frames: int) -> np.ndarray:
    """Return the seconds that temporal patches of so many `frames` are told to stand at, float64.

    Midway between a patch's first and last frame; where the last patch lacks frames, the last one is repeated.
    `timestamps` are float64 [T], of the frames.
    """
    padded = np.append(timestamps, np.repeat(timestamps[-1:], -len(timestamps) % frames))
    return (padded[::frames] + padded[frames - 1 :: frames]) / 2


def is_number(value: object) -> bool:
    """Tell whether a caller's value is a number that can be reckoned with; true is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(np.isfinite(float(value)))


def sample_uniform(total: int, fps: float, duration: float | None, max_frames: int, max_fps: float) -> np.ndarray:
    """Frames as transformers' `Molmo2VideoProcessor` takes them: evenly from the first on, the last not included.

    Up to `max_frames`, and up to `max_fps` a second where the video is faster than that.

    Returns:
        int64 [T].
    """
    seconds = total / fps if duration is None else duration
    wanted = min(max_frames, int(seconds * max_fps)) if fps > max_fps else max_frames
    return _evenly(total, max(min(wanted, total), 1))


def sample_uniform_last_frame(
    total: int, fps: float, duration: float | None, max_frames: int, max_fps: float
) -> np.ndarray:
    """Frames as the authors of Molmo2 and STTS take them: `max_fps` a second and the last frame, else evenly with it.

    Videos slower than `max_fps` give each frame once, where the authors' code would repeat some.

    Returns:
        int64 [T].
    """
    seconds = total / fps if duration is None else duration
    if total <= 2:
        return np.arange(total)[: max(max_frames, 1)]
    if seconds > (max_frames - 1) / max_fps:  # the last frame takes one place
        return np.linspace(0, total - 1, num=min(max_frames, total)).astype(np.int64)
    places = np.arange(0.0, total - 1, max(fps / max_fps, 1.0))
    if np.round(places[-1]) != total - 1:
        places = np.append(places, total - 1)
    return np.round(places).astype(np.int64)


def sample_uniform_both_ends(total: int, fps: float, min_frames: int, max_frames: int, max_fps: float) -> np.ndarray:
    """Frames as transformers' `Qwen3VLVideoProcessor` takes them: evenly, the first and the last included.

    So many as `max_fps` makes of the video, at least `min_frames` and at most `max_frames`, and each once.

    Returns:
        int64 [T].
    """
    wanted = min(max(int(total / fps * max_fps), min_frames), max_frames, total)
    return np.linspace(0, total - 1, wanted).round().astype(np.int64)


def _evenly(total: int, frames: int) -> np.ndarray:
    """The whole part of multiples of total / frames in float32, as torch.arange makes them.

    Beyond some 36 000 frames torch's rounding depends on the width of the processor's vectors; an index may then
    differ by one. A multiple rounded up to `total` (15 of 13 frames, say) names no frame: torch returns it, we do not.
    """
    step = total / frames
    return (np.arange(frames) * step).astype(np.float32).astype(np.int64)
