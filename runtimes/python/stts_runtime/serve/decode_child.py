"""Reads one clip that a client sent, in a process of its own with limits of memory and time.

    python -m stts_runtime.serve.decode_child < REQUEST

REQUEST is JSON (`DecodeRequest`); files are named relative to the folder that the process runs in, so that no message
names the host's. The clip is written to `clip.npz`, and `said.json` has what else is to be known: of it, or an error.
A video decoder reads what strangers wrote. Where it fails, loops or takes all memory, this process alone ends.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime.bundle.manifest import FrameSampling
from stts_runtime.bundle.plain import from_plain
from stts_runtime.clip.video import Clip, clip_from_frames, read_video
from stts_runtime.errors import LimitError, SttsError, UsageError, VideoError


VIDEO, PICTURE = "video", "picture-{}"
CLIP, SAID = "clip.npz", "said.json"
ARRAYS = ("frames", "timestamps", "indices")
ERRORS = (VideoError, LimitError, UsageError)


@dataclass(frozen=True)
class DecodeRequest:
    """What is read, and how much it may take."""

    sampling: FrameSampling  # the model's
    size: int  # pixels a side of the square frames
    pictures: int  # that the clip consists of; 0 for a video file
    frames: int | None  # of a video file
    fps: float | None  # of pictures
    most_frames: int  # that the model looks at
    most_seconds: int  # of the clip
    most_pixels: int  # of a frame
    memory_bytes: int  # of address space
    seconds: int  # of processor time


def main() -> int:
    """Read the request, then the clip; 0 where `said.json` was written."""
    request = from_plain(DecodeRequest, json.load(sys.stdin), "the request", UsageError)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (request.seconds, request.seconds))
    try:
        clip = read(request)
    except SttsError as error:
        kind = next((kind for kind in ERRORS if isinstance(error, kind)), VideoError)
        said: dict[str, Any] = {"error": kind.__name__, "text": str(error)}
    except MemoryError:
        said = {
            "error": VideoError.__name__,
            "text": f"the clip takes more than {request.memory_bytes >> 20} MiB to read",
        }
    else:
        np.savez(CLIP, **{name: getattr(clip, name) for name in ARRAYS})
        said = {name: value for name, value in asdict(clip).items() if name not in ARRAYS}
    Path(SAID).write_text(json.dumps(said), encoding="utf-8")
    return 0


def read(request: DecodeRequest) -> Clip:
    """Return the clip that lies in the working folder.

    Raises:
        VideoError: it cannot be read.
        LimitError: it is longer, larger, or has more frames than is allowed.
    """

    def admit(count: int) -> None:
        if count > request.most_frames:
            raise LimitError(f"the clip has {count} frames to look at, at most {request.most_frames} are allowed")

    if request.pictures:
        admit(request.pictures)
        frames = [_picture(request, number) for number in range(request.pictures)]
        return clip_from_frames(np.concatenate(frames), request.sampling, request.fps, request.size, admit)
    _check_size(request, Path(VIDEO))
    clip = read_video(VIDEO, request.sampling, frames=request.frames, size=request.size, admit=admit)
    _check_seconds(request, clip.duration)
    return clip


def _picture(request: DecodeRequest, number: int) -> np.ndarray:
    path = Path(PICTURE.format(number))
    _check_size(request, path)
    clip = read_video(path, request.sampling, frames=1, size=request.size)
    return clip.frames


def _check_size(request: DecodeRequest, path: Path) -> None:
    """Refuse by what the file's head says, before anything is decoded."""
    import av

    from stts_runtime.clip.source import check_file, opened, video_streams

    check_file(path)
    try:
        with opened(av, path) as container:
            for stream in video_streams(container, path):
                context = stream.codec_context
                if context is not None and context.width * context.height > request.most_pixels:
                    raise LimitError(
                        f"frames of {context.width} x {context.height} are larger than is allowed, "
                        f"{request.most_pixels / 1e6:.0f} megapixels"
                    )
            if container.duration is not None:
                _check_seconds(request, container.duration / av.time_base)
    except av.error.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or type(error).__name__}") from None


def _check_seconds(request: DecodeRequest, seconds: float) -> None:
    if seconds > request.most_seconds:
        raise LimitError(
            f"the clip lasts {seconds:.0f} s, at most {request.most_seconds} s are allowed: send a part of it"
        )


if __name__ == "__main__":
    sys.exit(main())
