"""What a source is by the word it was given, and how an address is shown: never with what is secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stts_runtime.clip.source import check_file
from stts_runtime.errors import UsageError


CAMERA, NETWORK, FILE = "camera", "network", "file"
SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp", "rtp", "srt", "rtmp")
"""Of the network addresses that can be watched."""


@dataclass(frozen=True)
class Source:
    """Where frames come from."""

    kind: str  # `camera`, `network` or `file`
    address: str  # what FFmpeg opens; may hold a password
    name: str  # what people are shown

    @property
    def is_lasting(self) -> bool:
        """Whether it is opened anew when it ends."""
        return self.kind != FILE


def source_of(word: object) -> Source:
    """Return the source that a word means: a camera's number, a network address, or a file.

    Raises:
        UsageError: it is none of them.
        VideoError: it names a file that cannot be a video.
    """
    if isinstance(word, bool) or not isinstance(word, int | str | Path):
        raise UsageError(f"a source is a {type(word).__name__}, wanted a camera's number, an address, a file or a Feed")
    text = str(word).strip()
    if text.isdecimal():
        return Source(CAMERA, f"/dev/video{int(text)}", f"camera {int(text)}")
    if text.startswith("/dev/video"):
        return Source(CAMERA, text, text)
    scheme, mark, _ = text.partition("://")
    if mark and not isinstance(word, Path):
        if scheme.lower() not in SCHEMES:
            raise UsageError(
                f"{shown(text)} has the scheme {scheme!r}, wanted one of {', '.join(SCHEMES)}; a camera is its number, "
                "a file its path"
            )
        if not _host(text):
            raise UsageError(f"{shown(text)} names no host; an address looks like rtsp://HOST:554/PATH")
        return Source(NETWORK, text, shown(text))
    if not text:
        raise UsageError("the source is empty, wanted a camera's number, an address (rtsp://HOST/PATH) or a file")
    check_file(Path(text))
    return Source(FILE, text, text)


def shown(url: str) -> str:
    """Return an address without user, password, query and fragment, any of which may be secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"{url.partition('://')[0]}://..."
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
