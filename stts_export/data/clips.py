"""Clips on the disk: a zip of JPEG frames with its truth beside them, or any video file.

A generated clip is one zip without compression: `frame_000.jpg` and on, `clip.json` (rate, number of frames, truth)
and `classes.npy` (uint8 [F, side * side], the class of each patch; 0 is the background). Frames can be read one by one,
which is what training does: few of a clip's frames, many times. Small frames that repeat themselves lie in one deflated
`frames.npy` (uint8 [F, H, W, 3]) instead: without loss, in a third of the bytes, and read twice as fast.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stts_export.errors import DataError
from stts_runtime.bundle.manifest import FrameSampling, Grid
from stts_runtime.bundle.swap import write_whole
from stts_runtime.clip.frame_sampling import sample_frames


JPEG_QUALITY = 92
SETTINGS = "clip.json"
CLASSES = "classes.npy"
FRAMES = "frames.npy"
EVERY_FRAME = FrameSampling(method="uniform", max_frames=10**6, max_fps=float(10**6))
# Past it the files get hardly smaller, and take longer to write.
DEFLATE_LEVEL = 4
# What reading a damaged zip, picture or table may raise.
DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, EOFError, IndexError)


@dataclass(frozen=True)
class SampledClip:
    """The frames a model looks at."""

    frames: np.ndarray  # uint8 [T, H, W, 3], RGB; of the clip's own size, or square where a video file was read
    timestamps: np.ndarray  # float64 [T], seconds
    indices: np.ndarray  # int64 [T], which frames of the clip these are


def read_clip(path: Path, sampling: FrameSampling, frames: int | None, grid: Grid | None) -> SampledClip:
    """Read the frames of a clip, its zip or a video file, that a model looks at, chosen as the runtime chooses them.

    Where `frames` is given, exactly so many are taken, evenly spread. Those of a file are resized as the runtime does
    it for a model with that `grid`, and without one for Molmo2; those of a zip are as they lie there.

    Raises:
        DataError: a zip is missing or damaged.
        VideoError: a video file is missing or damaged.
        UsageError: `frames` cannot be had.
    """
    if path.suffix != ".zip":
        from stts_runtime.clip.video import read_video

        if grid is None:
            video = read_video(path, sampling, frames)
        else:
            video = read_video(path, sampling, frames, grid.image_size, resampling=grid.resampling)
        return SampledClip(video.frames, video.timestamps, video.indices)
    with _opened(path) as archive:
        settings = json.loads(archive.read(SETTINGS))
        chosen = sample_frames(sampling, settings["frames"], settings["fps"], frames=frames)
        pictures = _pictures(archive, chosen.indices)
    return SampledClip(pictures, chosen.timestamps, chosen.indices)


def read_settings(path: Path) -> dict[str, Any]:
    """Return `clip.json` of a clip's zip.

    Raises:
        DataError: the zip is missing or damaged.
    """
    with _opened(path) as archive:
        return dict(json.loads(archive.read(SETTINGS)))


def read_patch_classes(path: Path, indices: Sequence[int] | np.ndarray) -> np.ndarray | None:
    """Return uint8 [T, N], the classes of the patches of those frames; None where the clip has none.

    Raises:
        DataError: a zip is missing or damaged.
    """
    if path.suffix != ".zip":
        return None
    with _opened(path) as archive:
        if CLASSES not in archive.namelist():
            return None
        classes: np.ndarray = np.load(io.BytesIO(archive.read(CLASSES)))[np.asarray(indices)]
        return classes


def write_clip(
    path: Path,
    frames: np.ndarray,
    fps: float,
    classes: np.ndarray | None = None,
    truth: dict[str, Any] | None = None,
    lossless: bool = False,
) -> None:
    """Write a clip's zip; it appears whole or not at all, and the same clip gives the same bytes.

    The path ends in .zip, and its directory is made. Frames are uint8 [F, H, W, 3], RGB; `classes`, uint8 [F, N], are
    those of the patches of a square grid; the truth is what is known about the clip, for `clip.json`. Where `lossless`,
    frames are stored as they are, all in one: for small ones of few details that repeat themselves.
    """
    settings = {"fps": fps, "frames": len(frames)} | ({} if truth is None else {"truth": truth})

    def write(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            if lossless:
                archive.writestr(_entry(FRAMES), _table(frames), zipfile.ZIP_DEFLATED, DEFLATE_LEVEL)
            else:
                for index, frame in enumerate(frames):
                    archive.writestr(_entry(_frame_name(index)), _jpeg(frame))
            if classes is not None:
                archive.writestr(_entry(CLASSES), _table(classes))
            archive.writestr(_entry(SETTINGS), json.dumps(settings))

    write_whole(path, write)


def is_whole(path: Path) -> bool:
    """Return whether the clip's zip is there and can be opened; half-written ones never carry their last name."""
    try:
        with zipfile.ZipFile(path) as archive:
            return SETTINGS in archive.namelist()
    except DAMAGE:
        return False


def clip_to_video(path: Path, output: Path) -> None:
    """Write a clip's zip as a video file for people and for `stts-runtime run`; needs PyAV.

    Raises:
        DataError: the zip is missing or damaged, or PyAV is missing.
    """
    try:
        import av
    except ImportError:
        raise DataError("writing a video file needs PyAV: pip install av") from None
    fps = read_settings(path)["fps"]
    frames = read_clip(path, EVERY_FRAME, None, None).frames
    height, width = (side - side % 2 for side in frames.shape[1:3])  # H.264 wants even sides

    def write(file: Path) -> None:
        with av.open(str(file), "w", format=None if file.suffix else "mp4") as container:
            stream = container.add_stream("libx264", rate=round(fps))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": "15"}
            for frame in frames:
                cropped = np.ascontiguousarray(frame[:height, :width])
                for packet in stream.encode(av.VideoFrame.from_ndarray(cropped, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)

    try:
        write_whole(output, write)
    except (OSError, ValueError) as error:  # PyAV's own errors are kinds of these
        raise DataError(f"{output} cannot be written as a video: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Give the clip's zip; what is damaged in it, or not there, is told as a DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; generate the dataset again, which makes what is missing.") from error
    except DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as a clip: {error}; delete it and generate the dataset again."
        ) from error


def _frame_name(index: int) -> str:
    return f"frame_{index:03d}.jpg"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # a fixed date: the same clip gives the same bytes
    entry.external_attr = 0o644 << 16
    return entry


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _table(values: np.ndarray) -> bytes:
    """As a .npy file of uint8."""
    file = io.BytesIO()
    np.save(file, values.astype(np.uint8))
    return file.getvalue()


def _pictures(archive: zipfile.ZipFile, indices: np.ndarray) -> np.ndarray:
    if FRAMES in archive.namelist():
        frames: np.ndarray = np.load(io.BytesIO(archive.read(FRAMES)))[indices]
        return frames
    return np.stack([_picture(archive, index) for index in indices])


def _picture(archive: zipfile.ZipFile, index: int) -> np.ndarray:
    with Image.open(io.BytesIO(archive.read(_frame_name(index)))) as picture:
        return np.asarray(picture.convert("RGB"))
