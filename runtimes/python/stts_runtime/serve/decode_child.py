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

import numpy as np

from stts_runtime.bundle.manifest import FrameSampling, ImageSize
from stts_runtime.bundle.plain import from_plain
from stts_runtime.clip.video import Clip, clip_from_frames, read_video
from stts_runtime.errors import SttsError, UsageError, VideoError


VIDEO, PICTURE = "video", "picture-{}"
CLIP, SAID = "clip.npz", "said.json"
ARRAYS = ("frames", "timestamps", "indices")

TOO_COSTLY = 3
"""Exit code where memory ran out."""


@dataclass(frozen=True)
class DecodeRequest:
    """What is read, and how much it may take."""

    sampling: FrameSampling  # the model's
    size: ImageSize  # pixels of the frames, a square's side or height and width
    resampling: str  # how pictures are resized
    pictures: int  # that the clip consists of; 0 for a video file
    frames: int | None  # of a video file
    fps: float | None  # of pictures
    most_frames: int  # that the model looks at
    most_seconds: int  # of the clip
    most_pixels: int  # of a frame
    memory_bytes: int  # of address space
    seconds: int  # of processor time


class _BoundError(SttsError):
    """The clip is beyond a bound; `code` says which."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def main() -> int:
    """Read the request, then the clip; 0 where `said.json` was written."""
    import av  # noqa: F401  ours, so before limits that are meant for what strangers sent

    request = from_plain(DecodeRequest, json.load(sys.stdin), "the request", UsageError)
    for kind, bound in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, request.memory_bytes),
        (resource.RLIMIT_FSIZE, request.memory_bytes),
        (resource.RLIMIT_CPU, request.seconds),
    ):
        resource.setrlimit(kind, (bound, bound))
    try:
        clip = read(request)
    except MemoryError:
        return TOO_COSTLY
    except SttsError as error:
        is_invalid = isinstance(error, VideoError)
        # FFmpeg takes what it finds no memory for as damage; from the outside the two are told apart by what was taken.
        if is_invalid and (isinstance(error.__context__, MemoryError) or 2 * peak_bytes() > request.memory_bytes):
            return TOO_COSTLY
        usual = "invalid_clip" if is_invalid else "invalid_value"
        said: dict[str, object] = {"code": getattr(error, "code", usual), "error": str(error)}
    else:
        np.savez(CLIP, **{name: getattr(clip, name) for name in ARRAYS})
        said = {name: value for name, value in asdict(clip).items() if name not in ARRAYS}
    Path(SAID).write_text(json.dumps(said), encoding="utf-8")
    return 0


def read(request: DecodeRequest) -> Clip:
    """Return the clip that lies in the working folder.

    Raises:
        SttsError: it cannot be read, or is longer, larger, or has more frames than is allowed.
    """

    def admit(count: int) -> None:
        if count > request.most_frames:
            text = f"the clip has {count} frames to look at, at most {request.most_frames} are allowed"
            raise _BoundError("too_many_frames", text)

    if request.pictures:
        frames = [_picture(request, number) for number in range(request.pictures)]
        pictures, sampling = np.concatenate(frames), request.sampling
        clip = clip_from_frames(pictures, sampling, request.fps, request.size, admit, request.resampling)
    else:
        _check_head(request, Path(VIDEO))
        sampling, count, size = request.sampling, request.frames, request.size
        clip = read_video(VIDEO, sampling, count, size, admit=admit, resampling=request.resampling)
    _check_seconds(request, clip.duration)
    return clip


def peak_bytes() -> int:
    """Return the most address space that this process has had; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmPeak:")), 0)


def _picture(request: DecodeRequest, number: int) -> np.ndarray:
    path = Path(PICTURE.format(number))
    _check_head(request, path)
    return read_video(path, request.sampling, 1, request.size, resampling=request.resampling).frames


def _check_head(request: DecodeRequest, path: Path) -> None:
    """Refuse by what the file's head says, before anything is decoded."""
    import av

    from stts_runtime.clip.source import check_file, opened, video_streams

    check_file(path)
    try:
        with opened(av, path) as container:
            for stream in video_streams(container, path):
                context = stream.codec_context
                if context is not None and context.width * context.height > request.most_pixels:
                    text = (
                        f"frames of {context.width} x {context.height} are larger than is allowed, "
                        f"{request.most_pixels / 1e6:.0f} megapixels"
                    )
                    raise _BoundError("frame_too_large", text)
            if container.duration is not None:
                _check_seconds(request, container.duration / av.time_base)
    except av.error.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or type(error).__name__}") from None


def _check_seconds(request: DecodeRequest, seconds: float) -> None:
    if seconds > request.most_seconds:
        text = f"the clip lasts {seconds:.0f} s, at most {request.most_seconds} s are allowed: send a part of it"
        raise _BoundError("clip_too_long", text)


if __name__ == "__main__":
    sys.exit(main())
