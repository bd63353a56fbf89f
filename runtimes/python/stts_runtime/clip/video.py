"""A video file, or frames in memory, as the clip the model looks at: few frames, already of its size.

Frames are squeezed one by one while the file is decoded, so a long video never lies in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime.bundle.manifest import BILINEAR, FrameSampling, ImageSize
from stts_runtime.bundle.plain import argument
from stts_runtime.clip.decode import DamagedError, DisorderError, decoded_frames, decodes_whole, frames_of_damaged
from stts_runtime.clip.frame_sampling import SampledFrames, is_number, patch_times, sample_frames
from stts_runtime.clip.frames import aspect_notes, check_frames, resize_frames
from stts_runtime.clip.orientation import display_matrix, picture_of, shown_size
from stts_runtime.clip.source import check_file, is_picture, opened, stream_name, video_streams
from stts_runtime.clip.timeline import Timeline, packets_of, read_timeline
from stts_runtime.errors import UsageError, VideoError


# Timestamps are told to the model in tenths of a second.
TOLD_SECONDS = 0.1
MOST_FPS = 1e6


@dataclass(frozen=True)
class Clip:
    """The frames a model looks at.

    Attributes:
        frames: uint8 [T, height, width, 3] of that size, RGB.
        timestamps: float64 [T], seconds told to the model: index / average rate; what transformers tells it, unless a
            note speaks of the clock.
        indices: int64 [T], which frames of the source these are.
        source_size: (width, height) in pixels as the source is shown: upright, pixels square.
        source_fps: average frames a second.
        source_frames: frames in the source, lost ones counted.
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

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.frames.nbytes

    def patches(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first frame of every temporal patch of so many `frames`, and the seconds it is told to stand at.

        Where frames are seen by themselves, all of them: uint8 [T, height, width, 3] and float64 [T].
        """
        return self.frames[::frames], patch_times(self.timestamps, frames)


Admit = Callable[[int], None]
"""Called with the number of frames that will be looked at, before any is decoded or resized; raises to refuse them."""


def admit_all(count: int) -> None:
    """Refuse no number of frames."""


def read_video(
    path: str | Path,
    sampling: FrameSampling,
    frames: int | None = None,
    size: ImageSize = 378,
    stream: int | None = None,
    admit: Admit = admit_all,
    resampling: str = BILINEAR,
) -> Clip:
    """Read the frames of a video file that the model looks at.

    A frame that is missing or damaged is replaced by the nearest before it, at the start by the nearest after it.

    Args:
        path: a file that PyAV can decode; shown as players show it: their choice of stream, upright.
        sampling: which frames, from the manifest.
        frames: take exactly this many, evenly spread, even if that is denser than the model was trained on.
        size: pixels of the frames, a square's side or height and width.
        stream: the number of the video stream in the file, as `ffprobe` shows it; default the players' choice.
        admit: asked before the work begins.
        resampling: how pictures are resized, see `resize_frames`.

    Raises:
        VideoError: PyAV is missing, or the file is missing, empty, unreadable, a playlist or without video.
        UsageError: `frames` or `stream` cannot be had, or `path` is none.
    """
    if not isinstance(path, str | Path):
        raise UsageError(f"wanted the path of a video file, got {type(path).__name__}.")
    stream = None if stream is None else argument(int, stream, "stream")
    path = Path(path)
    check_file(path)
    av = _library()
    try:
        return _clip_from_file(av, path, sampling, frames, _Size(size, resampling), stream, admit)
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise VideoError(f"{path} cannot be read as a video: {reason}. Does `ffprobe` open it?") from None


def clip_from_frames(
    frames: np.ndarray,
    sampling: FrameSampling,
    fps: float | None = None,
    size: ImageSize = 378,
    admit: Admit = admit_all,
    resampling: str = BILINEAR,
) -> Clip:
    """Make a clip of frames in memory.

    Args:
        frames: uint8 [T, H, W, 3], RGB.
        sampling: which frames are taken where `fps` is given.
        fps: frames a second; without it the frames count as chosen already, at the model's highest rate, and all are
            taken.
        size: pixels of the frames, a square's side or height and width.
        admit: asked before the work begins.
        resampling: how pictures are resized, see `resize_frames`.

    Raises:
        UsageError: `frames` is no such array, or `fps` is not positive.
    """
    check_frames(frames)
    if fps is not None and not (is_number(fps) and 1 / MOST_FPS <= fps <= MOST_FPS):
        raise UsageError(f"fps must be a number above 0, frames a second, at most {MOST_FPS:g}; got {fps!r}.")
    total, height, width = frames.shape[:3]
    if fps is None:
        admit(total)
        fps = sampling.max_fps
        chosen = SampledFrames(np.arange(total), np.arange(total) / fps, denser=False)
    else:
        chosen = sample_frames(sampling, total, fps)
        admit(len(chosen.indices))
    return Clip(
        frames=np.concatenate([resize_frames(frames[i : i + 1], size, resampling) for i in chosen.indices]),
        timestamps=chosen.timestamps,
        indices=chosen.indices,
        source_size=(width, height),
        source_fps=fps,
        source_frames=total,
        duration=total / fps,
        notes=aspect_notes(width, height, size),
    )


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise VideoError(
            "reading video files needs PyAV: pip install av (or install stts-runtime with its video extra), or decode "
            "elsewhere and give the frames as a numpy array."
        ) from None
    return av


def _clip_from_file(
    av: Any, path: Path, sampling: FrameSampling, frames: int | None, size: _Size, wanted: int | None, admit: Admit
) -> Clip:
    film = _film(av, path, wanted)
    timeline, notes = film.timeline, list(film.notes)
    total = timeline.count
    chosen = sample_frames(sampling, total, timeline.fps, frames=frames)
    admit(len(chosen.indices))
    pictures = _pictures(av, path, film, chosen.indices, size)
    if pictures.missing and pictures.ended and not timeline.is_timed and pictures.last + 1 < total:
        # Frames of files without times are only counted: those that never came may be halves of others.
        total = pictures.last + 1
        notes.append(f"of the {timeline.count} packets in the file only {total} give frames; these are used")
        chosen = sample_frames(sampling, total, timeline.fps, frames=frames)
        pictures = _pictures(av, path, film, chosen.indices, size)
    if pictures.missing:
        notes.append(
            f"{pictures.missing} of the {len(chosen.indices)} frames looked at are damaged or missing in the file; the "
            "nearest before each is used in its place (at the start, the nearest after it)"
        )
    return Clip(
        frames=np.stack(pictures.squares),
        timestamps=chosen.timestamps,
        indices=chosen.indices,
        source_size=pictures.source_size,
        source_fps=timeline.fps,
        source_frames=total,
        duration=total / timeline.fps,
        denser=chosen.denser,
        notes=(*notes, *_time_notes(timeline, chosen), *aspect_notes(*pictures.source_size, size.pixels)),
    )


@dataclass(frozen=True)
class _Size:
    """What pictures are resized to, and how."""

    pixels: ImageSize
    resampling: str


@dataclass(frozen=True)
class _Film:
    """The stream that is looked at: its number in the file, its frames, what its format is called, and notes."""

    stream: int
    timeline: Timeline
    format: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pictures:
    """Square frames, the source's (width, height), how many were missing, the last place that was decoded, and whether
    nothing came behind it, or nothing more was asked for.
    """

    squares: list[np.ndarray]
    source_size: tuple[int, int]
    missing: int
    last: int
    ended: bool


def _film(av: Any, path: Path, wanted: int | None) -> _Film:
    """Return the first of the streams that players would take which has frames.

    Raises:
        VideoError: none has.
    """
    with opened(av, path) as container:
        order = [stream.index for stream in video_streams(container, path, wanted)]
        film, declared = _film_of(container, order[0], order)
    for index in order[1:]:  # opened anew: the packets of all streams were read
        if film is not None:
            break
        with opened(av, path) as container:
            film, declared = _film_of(container, index, order)
    if film is None:
        raise VideoError(f"{path} has a video stream without a single frame; was its copy or download cut off?")
    packets = film.timeline.packets
    if declared > packets and not _is_trimmed(av, path, film.stream, declared):
        note = f"the file is cut off: it says it has {declared} frames and holds {packets}; these are used"
        return replace(film, notes=(*film.notes, note))
    return film


def _film_of(container: Any, index: int, order: list[int]) -> tuple[_Film | None, int]:
    """Return a stream as it is looked at, None where it has no frames, and how many frames its header declares."""
    stream = container.streams[index]
    if stream.codec_context is None:
        return None, 0
    timeline, declared = read_timeline(container, stream), stream.frames
    if timeline.count == 0:
        return None, 0
    notes = []
    if len(order) > 1:
        notes.append(
            f"the file has {len(order)} video streams: {stream_name(stream)} is looked at; --stream chooses "
            f"another ({', '.join(str(other) for other in sorted(order) if other != index)})"
        )
    if timeline.count == 1 and is_picture(container):
        notes.append("the file is a picture: it is looked at as a video of one frame")
    name = f"{stream.codec_context.codec.long_name} in {container.format.long_name or container.format.name}"
    return _Film(index, timeline, name, tuple(notes)), declared


def _is_trimmed(av: Any, path: Path, index: int, declared: int) -> bool:
    """Tell whether frames that a file declares are there and only hidden, by an edit list."""
    with opened(av, path, ignore_editlist="1") as container:
        return sum(packet.size > 0 for packet in packets_of(container, container.streams[index])) >= declared


def _pictures(av: Any, path: Path, film: _Film, indices: np.ndarray, size: _Size) -> _Pictures:
    """Return the frames at the places `indices`, square.

    Raises:
        VideoError: no frame can be decoded.
    """
    timeline = film.timeline
    try:
        with opened(av, path) as container:
            stream = container.streams[film.stream]
            found = _taken(decoded_frames(container, stream, timeline, indices), stream, indices, size)
    except DisorderError:
        found = None
        with opened(av, path) as container:
            if decodes_whole(container, container.streams[film.stream], timeline):
                timeline = timeline.counted()
    except DamagedError:
        found = None
    if found is None or found.missing or not found.squares:  # threads may lose sound frames beside a damaged one
        with opened(av, path) as container:
            stream = container.streams[film.stream]
            found = _taken(frames_of_damaged(container, stream, timeline), stream, indices, size)
    if not found.squares:
        raise VideoError(
            f"{path}: no frame can be decoded ({film.format}): the file is damaged, or this FFmpeg does not decode all "
            f"of the format. If a player shows it, convert it: ffmpeg -i {path.name} -c:v libx264 clip.mp4"
        )
    return found


def _taken(frames: Iterator[tuple[int, Any]], stream: Any, indices: np.ndarray, size: _Size) -> _Pictures:
    """Take the frames at `indices`; for one that does not come, the nearest before it, or after it at the start."""
    squares: list[np.ndarray] = []
    source_size, missing, place = (0, 0), 0, -1
    before: Any = None
    ended = True

    def take(frame: Any) -> None:
        nonlocal source_size
        matrix = display_matrix(frame)
        if not squares:
            source_size = shown_size(frame.width, frame.height, stream.sample_aspect_ratio, matrix)
        squares.append(resize_frames(picture_of(frame, matrix)[None], size.pixels, size.resampling)[0])

    for place, frame in frames:
        while len(squares) < len(indices) and indices[len(squares)] < place:
            take(frame if before is None else before)
            missing += 1
        if len(squares) < len(indices) and indices[len(squares)] == place:
            take(frame)
        before = frame
        if len(squares) == len(indices):
            ended = False
            break
    while before is not None and len(squares) < len(indices):
        take(before)
        missing += 1
    return _Pictures(squares, source_size, missing, place, ended)


def _time_notes(timeline: Timeline, chosen: SampledFrames) -> tuple[str, ...]:
    if len(timeline.jumps):
        jumps = ", ".join(f"{seconds:+.1f} s" for seconds in timeline.jumps[:3])
        more = f" and {len(timeline.jumps) - 3} more" if len(timeline.jumps) > 3 else ""
        note = (
            f"the file's clock jumps ({jumps}{more}): the times told to the model go on counting at {timeline.fps:.4g} "
            "frames a second, the rate of the longest stretch without a jump, and are not the clock's"
        )
        return (note,)
    found = np.isin(timeline.places, chosen.indices)
    if not found.any():
        return ()
    departure = float(np.abs(timeline.seconds[found] - timeline.places[found] / timeline.fps).max())
    if departure <= TOLD_SECONDS:
        return ()
    note = (
        f"the frame rate varies: the times told to the model are index / average rate ({timeline.fps:.4g} a second), as"
        f" it was trained, and depart from the true ones by up to {departure:.1f} s; convert the video to a constant"
        " rate if times matter"
    )
    return (note,)
