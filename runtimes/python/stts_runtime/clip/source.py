"""A video file, opened so that nothing but this file is ever read, and the stream of it that players would show."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stts_runtime.errors import UsageError, VideoError


PLAYLISTS = {b"#EXTM3U": "HLS", b"ffconcat version": "ffconcat", b"<MPD": "DASH", b"v=0": "SDP", b"[playlist]": "PLS"}
"""How a file begins that is no video but a list of others."""

PICTURES = ("image2", "gif", "_pipe")
"""How FFmpeg's names of the formats of pictures end."""

TEXTS = ("tty", "bin", "xbin", "adf", "idf")
"""FFmpeg's formats that draw characters: it takes any text for one whose name ends in .txt or .nfo."""

_HEAD = 1024
_BUFFER = 1 << 20  # bytes a read: small ones call back into Python too often


def check_file(path: Path, kind: str = "video", error: type[UsageError] = VideoError) -> None:
    """Raise unless `path` is a file with something in it that can be what is wanted.

    A pipe, a socket or a device is never opened: reading it could wait for ever, and it is read twice.

    Args:
        path: what was given.
        kind: what is wanted, in a word.
        error: the class of what is raised.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise error(f"{path} does not exist; give the path of a file with the {kind}.") from None
    except (OSError, ValueError) as reason:  # ValueError: a name with a zero byte
        raise error(f"{path} cannot be looked at: {getattr(reason, 'strerror', None) or reason}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{path} is a directory; give the path of one {kind} file.")
    if not stat.S_ISREG(status.st_mode):
        raise error(
            f"{path} is a pipe, a socket or a device; a {kind} is read from a file: write the stream to a file first"
            + (", for instance with `ffmpeg -i SOURCE -c copy clip.mp4`." if kind == "video" else ".")
        )
    if status.st_size == 0:
        raise error(f"{path} is empty (0 bytes); was its copy or download cut off?")


@contextmanager
def opened(av: Any, path: Path, **options: str) -> Iterator[Any]:
    """Open a video file with PyAV.

    FFmpeg gets the bytes, not the name: names that look like addresses, patterns of names and lists of other files
    then lead nowhere, whatever is in them.

    Args:
        av: the library.
        path: a file, see `check_file`.
        options: of FFmpeg's demuxer.

    Raises:
        VideoError: it cannot be opened, is a playlist, or is no video.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}.") from None
    with file:
        _refuse_playlist(path, os.pread(file.fileno(), _HEAD, 0))
        options = {"protocol_whitelist": "none", **options}
        with av.open(file, options=options, buffer_size=_BUFFER, metadata_errors="replace") as container:
            if container.format.name in TEXTS:
                raise VideoError(f"{path} is a text and no video; give the path of a video file.")
            yield container


def _refuse_playlist(path: Path, head: bytes) -> None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in PLAYLISTS.items():
        if text.startswith(start) or (start == b"<MPD" and text.startswith(b"<?xml") and start in text):
            raise VideoError(
                f"{path} is a playlist ({kind}): it names other files and holds no pictures, and other files are not "
                f"read. Make one file of it: ffmpeg -i {path.name} -c copy clip.mp4"
            )


def is_picture(container: Any) -> bool:
    """Tell whether the file is of a format for single pictures."""
    return str(container.format.name).endswith(PICTURES)


def video_streams(container: Any, path: Path | str, wanted: int | None = None) -> list[Any]:
    """Return the video streams that are no cover pictures, in the order in which players would take them.

    Args:
        container: the opened file.
        path: what messages call it.
        wanted: the number of a stream, as `ffprobe` shows it: that one alone.

    Raises:
        VideoError: there is none.
        UsageError: `wanted` is no video stream.
    """
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if wanted is not None:
        chosen = [one for one in container.streams.video if one.index == wanted]
        if not chosen:
            there = ", ".join(str(one.index) for one in container.streams.video) or "none"
            raise UsageError(f"{path} has no video stream {wanted} (video streams in it: {there}).")
        return chosen
    if not streams and container.streams.video:
        there = ", ".join(str(one.index) for one in container.streams.video)
        raise VideoError(f"{path} has no video, only a cover picture; --stream {there} looks at that.")
    if not streams:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "none"
        raise VideoError(f"{path} has no video stream (streams in it: {kinds}).")
    best = container.streams.best("video")

    def rank(stream: Any) -> tuple[bool, bool]:
        return best is None or stream.index != best.index, not stream.disposition & Disposition.default

    return sorted(streams, key=rank)


def stream_name(stream: Any) -> str:
    """Return what a person needs to tell a stream from others."""
    return f"stream {stream.index} ({stream.codec_context.name}, {stream.width} x {stream.height})"
