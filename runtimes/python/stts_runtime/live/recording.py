"""The last seconds of a stream, as they came, and the clips that are cut of them: nothing is encoded again.

Packets are kept from a key frame on, where decoding can start, so a clip begins a little before it has to.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import time as clock
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import UsageError
from stts_runtime.live.feed import Feed


BEFORE, AFTER = 5.0, 5.0
"""Seconds of a clip around its moment."""
MOST_BYTES = 256 << 20
"""Of the packets that are held."""
IN_MP4 = ("h264", "hevc", "av1", "mpeg4", "mjpeg", "vp9")
"""Codecs that players expect in an MP4; others are put into Matroska."""


@dataclass(frozen=True)
class _Kept:
    """A packet of the stream."""

    seconds: float  # on the stream's clock
    is_key: bool
    packet: Any


class Recording:
    """What is held of one source. Packets come from the thread that reads it, moments from the one that watches.

    Attributes:
        saved: clips that were written.
        failed: clips that could not be.
    """

    def __init__(self, folder: Path, feed: Feed, number: int, before: float = BEFORE, after: float = AFTER) -> None:
        """Hold nothing yet.

        Args:
            folder: where clips go; made where there is none.
            feed: what is said goes there.
            number: of the source, for names of files.
            before: seconds of a clip before its moment.
            after: seconds behind it.

        Raises:
            UsageError: the folder cannot be made, or nothing can be written into it.
        """
        self.saved = self.failed = 0
        self._folder, self._feed, self._number = folder, feed, number
        self._before, self._after = before, after
        self._kept: deque[_Kept] = deque()
        self._bytes = 0
        self._template: Any = None
        self._container = ""
        self._ended = False  # whether nothing more comes of the stream: clips are written at once then
        self._change, self._writing = Lock(), Lock()
        self._held: float | None = None  # nothing from here on is let go
        self._moments: list[float] = []
        check_folder(folder)

    def begin(self, stream: Any) -> None:
        """Hold packets of a stream that was opened (anew); those of the one before go."""
        self.finish()
        with self._writing:
            self._kept.clear()
            self._bytes, self._template = 0, None
            with contextlib.suppress(OSError, ValueError):  # a codec that cannot be put into a file: each clip says so
                self._template = template_of(stream)
            self._container = "mp4" if stream.codec_context.name in IN_MP4 else "mkv"
        with self._change:
            self._ended = False

    def hold(self, seconds: float | None) -> None:
        """Keep what is needed for a clip of this moment, should it be asked for; None lets it go."""
        with self._change:
            self._held = None if seconds is None else seconds - self._before

    def save(self, seconds: float) -> None:
        """Have a clip around a moment of the stream's clock written, once the seconds behind it have come.

        At once where the stream has ended: its last answers come behind its last packet.
        """
        with self._change:
            if not self._ended:
                self._moments.append(seconds)
                return
        self._write(seconds)

    def keep(self, packet: Any, seconds: float) -> None:
        """Take a packet of the stream, and write the clips that are complete by it."""
        self._kept.append(_Kept(seconds, bool(packet.is_keyframe), packet))
        self._bytes += packet.size
        with self._change:
            due = [moment for moment in self._moments if seconds >= moment + self._after]
            self._moments = [moment for moment in self._moments if moment not in due]
            needed = [seconds - self._before, *(moment - self._before for moment in self._moments)]
            needed += [] if self._held is None else [self._held]
        for moment in due:
            self._write(moment)
        self._let_go(min(needed))

    def finish(self) -> None:
        """Write what was asked for, with the packets that there are: the stream has ended.

        They are held on, for moments that are found in its last seconds.
        """
        with self._change:
            due, self._moments, self._ended = self._moments, [], True
        for moment in due:
            self._write(moment)

    def _let_go(self, needed: float) -> None:
        """Drop what lies before the last key frame that is not later than `needed`, and more if it is too much."""
        keys = [place for place, one in enumerate(self._kept) if one.is_key]
        start = max((place for place in keys if self._kept[place].seconds <= needed), default=0)
        while start < len(self._kept) and self._bytes - self._size(start) > MOST_BYTES:
            start = next((place for place in keys if place > start), len(self._kept))
        for _ in range(start):
            self._bytes -= self._kept.popleft().packet.size

    def _size(self, start: int) -> int:
        return sum(self._kept[place].packet.size for place in range(start)) if start else 0

    def _write(self, moment: float) -> None:
        with self._writing:  # the next stream may begin meanwhile
            self._cut(moment)

    def _cut(self, moment: float) -> None:
        packets = [one for one in self._kept if one.seconds <= moment + self._after]
        packets = packets[next((place for place, one in enumerate(packets) if one.is_key), len(packets)) :]
        needs = sum(one.packet.size for one in packets)
        try:
            if self._template is None:
                raise OSError("its codec cannot be put into a file as it came")
            if not packets:
                raise OSError("no key frame of the moment is held any more")
            if (free := shutil.disk_usage(self._folder).free) < 2 * needs:
                raise OSError(f"no room on the disk: {needs >> 10} KiB are wanted, {free >> 10} KiB are free")
            path = self._folder / self._name(moment)
            write_whole(path, lambda file: mux(file, self._template, [one.packet for one in packets]))
        except (OSError, ValueError) as error:  # PyAV's own errors are kinds of these
            self.failed += 1
            self._feed.say(f"no clip of {moment:.1f} s was saved: {getattr(error, 'strerror', None) or error}")
            return
        self.saved += 1
        self._feed.say(f"saved {path}")

    def _name(self, moment: float) -> str:
        return f"{clock.strftime('%Y%m%d-%H%M%S')}-source-{self._number}-{moment:.1f}s.{self._container}"


def template_of(stream: Any) -> Any:
    """Return what says of a stream all that a file of its packets needs, and outlives the container it came in."""
    import av

    return av.open(io.BytesIO(), "w", format="matroska").add_stream_from_template(stream)


def mux(file: Path, stream: Any, packets: list[Any]) -> None:
    """Write packets of a stream into a file of their own, whose clock begins with them.

    Raises:
        OSError: the disk refuses it, or FFmpeg does.
        ValueError: FFmpeg refuses it.
    """
    import av

    first = min(packet.dts for packet in packets)
    with av.open(str(file), "w") as container:
        target = container.add_stream_from_template(stream)
        for packet in packets:
            copy = av.Packet(bytes(packet))
            copy.time_base, copy.stream = packet.time_base, target
            copy.dts = packet.dts - first
            copy.pts = None if packet.pts is None else packet.pts - first
            copy.is_keyframe = packet.is_keyframe
            container.mux(copy)


def check_folder(folder: Path) -> None:
    """Raise UsageError unless clips can be written into `folder`, which is made where there is none."""
    try:
        write_whole(folder / ".writable", lambda path: path.write_bytes(b""))
        (folder / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"clips cannot be saved in {folder}: {reason}; name a folder that can be written") from None
