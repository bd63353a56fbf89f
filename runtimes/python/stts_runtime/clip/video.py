"""A video file, or frames in memory, as the clip the model looks at: few frames, already square.

Frames are squeezed one by one while the file is decoded, so a long video never lies in memory whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.clip.decode import Packets, decoded_frames, scan_packets, video_stream
from stts_runtime.clip.frame_sampling import SampledFrames, sample_frames
from stts_runtime.clip.frames import aspect_notes, check_frames, resize_frames
from stts_runtime.errors import UsageError, VideoError


# Timestamps are told to the model in tenths of a second.
TOLD_SECONDS = 0.1


@dataclass(frozen=True)
class Clip:
    """The frames a model looks at.

    Attributes:
        frames: uint8 [T, size, size, 3], RGB.
        timestamps: float64 [T], seconds told to the model: index / average rate.
        indices: int64 [T], which frames of the source these are.
        source_size: (width, height) in pixels, upright.
        source_fps: average frames a second.
        source_frames: frames in the source.
        duration: seconds, source_frames / source_fps.
        denser: whether frames lie closer than the model's highest rate because a number of frames was demanded.
        notes: what a user should be told, each a sentence; mostly empty.
    """

    frames: np.ndarray
    timestamps: np.ndarray
    indices: np.ndarray
    source_size: tuple[int, int]
    source_fps: float
    source_frames: int
    duration: float
    denser: bool = False
    notes: tuple[str, ...] = ()


def read_video(path: str | Path, sampling: FrameSampling, frames: int | None = None, size: int = 378) -> Clip:
    """Read the frames of a video file that the model looks at.

    Args:
        path: a file PyAV can decode; its first video stream is taken, turned upright.
        sampling: which frames, from the manifest.
        frames: take exactly this many, evenly spread, even if that is denser than the model was trained on.
        size: pixels a side of the square frames.

    Raises:
        VideoError: PyAV is missing, or the file is missing, empty, unreadable or without video.
        UsageError: `frames` cannot be had.
    """
    path = Path(path)
    _check_file(path)
    av = _library()
    try:
        return _clip_from_file(av, path, sampling, frames, size)
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise VideoError(f"{path} cannot be read as a video: {reason}. Does `ffprobe` open it?") from None


def clip_from_frames(frames: np.ndarray, sampling: FrameSampling, fps: float | None = None, size: int = 378) -> Clip:
    """Make a clip of frames in memory.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        sampling: which frames are taken where `fps` is given.
        fps: frames a second; without it the frames count as chosen already, at the model's highest rate, and all are
            taken.
        size: pixels a side of the square frames.

    Raises:
        UsageError: `frames` is no such array, or `fps` is not positive.
    """
    check_frames(frames)
    if fps is not None and not (fps > 0 and np.isfinite(fps)):
        raise UsageError(f"fps must be above 0 frames a second, got {fps}.")
    total, height, width = frames.shape[:3]
    if fps is None:
        fps = sampling.max_fps
        chosen = SampledFrames(np.arange(total), np.arange(total) / fps, denser=False)
    else:
        chosen = sample_frames(sampling, total, fps)
    return Clip(
        frames=np.concatenate([resize_frames(frames[i : i + 1], size) for i in chosen.indices]),
        timestamps=chosen.timestamps,
        indices=chosen.indices,
        source_size=(width, height),
        source_fps=fps,
        source_frames=total,
        duration=total / fps,
        notes=aspect_notes(width, height),
    )


def _check_file(path: Path) -> None:
    if not path.exists():
        raise VideoError(f"{path} does not exist; give the path of a video file.")
    if path.is_dir():
        raise VideoError(f"{path} is a directory; give the path of one video file.")
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); was its copy or download cut off?")


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise VideoError(
            "reading video files needs PyAV: pip install av (or install stts-runtime with its video extra), or decode "
            "elsewhere and give the frames as a numpy array."
        ) from None
    return av


def _clip_from_file(av: Any, path: Path, sampling: FrameSampling, frames: int | None, size: int) -> Clip:
    with av.open(str(path)) as container:
        stream = video_stream(container, path)
        packets = scan_packets(container, stream)
        declared = stream.frames
    if packets.count == 0:
        raise VideoError(f"{path} has a video stream without a single frame; was its copy or download cut off?")
    notes = []
    if declared > packets.count:
        notes.append(f"the file is cut off: it says it has {declared} frames and holds {packets.count}; these are used")
    total = packets.count
    chosen = sample_frames(sampling, total, packets.fps, frames=frames)
    squares, source_size, decoded = _squares(av, path, packets, chosen.indices, size)
    if len(squares) < len(chosen.indices) and packets.can_seek:
        packets = replace(packets, key_frames=packets.key_frames[:0])
        squares, source_size, decoded = _squares(av, path, packets, chosen.indices, size)
    if len(squares) < len(chosen.indices):
        if decoded == 0:
            raise VideoError(f"{path} holds no frame that can be decoded; was its copy or download cut off?")
        notes.append(f"of the {total} frames in the file only the first {decoded} can be decoded; these are used")
        total = decoded
        chosen = sample_frames(sampling, total, packets.fps, frames=frames)
        squares, source_size, _ = _squares(av, path, packets, chosen.indices, size)
    return Clip(
        frames=np.stack(squares),
        timestamps=chosen.timestamps,
        indices=chosen.indices,
        source_size=source_size,
        source_fps=packets.fps,
        source_frames=total,
        duration=total / packets.fps,
        denser=chosen.denser,
        notes=(*notes, *_rate_notes(packets, chosen), *aspect_notes(*source_size)),
    )


def _squares(
    av: Any, path: Path, packets: Packets, indices: np.ndarray, size: int
) -> tuple[list[np.ndarray], tuple[int, int], int]:
    """The frames at `indices`, square; the source's (width, height); how many frames were there up to the last."""
    squares: list[np.ndarray] = []
    source_size = (0, 0)
    position = -1
    with av.open(str(path)) as container:
        for position, picture in decoded_frames(container, video_stream(container, path), packets, indices):
            if len(squares) < len(indices) and position == indices[len(squares)]:
                upright = np.rot90(picture.to_ndarray(format="rgb24"), round(picture.rotation / 90))
                source_size = (upright.shape[1], upright.shape[0])
                squares.append(resize_frames(upright[None], size)[0])
    return squares, source_size, position + 1


def _rate_notes(packets: Packets, chosen: SampledFrames) -> tuple[str, ...]:
    if len(packets.times) == 0:
        return ()
    departure = float(np.abs(packets.seconds[chosen.indices] - chosen.timestamps).max())
    if departure <= TOLD_SECONDS:
        return ()
    note = (
        f"the frame rate varies: the times told to the model are index / average rate ({packets.fps:.2f} a second), as"
        f" it was trained, and depart from the true ones by up to {departure:.1f} s; convert the video to a constant"
        " rate if times matter"
    )
    return (note,)
