"""A source read in a thread of its own: opened, decoded, told by its own clock, opened anew when it drops out."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stts_runtime.clip.orientation import display_matrix, picture_of
from stts_runtime.clip.source import opened, video_streams
from stts_runtime.clip.timeline import tells_decoding
from stts_runtime.errors import VideoError
from stts_runtime.live.address import CAMERA, FILE, Source
from stts_runtime.live.feed import Feed
from stts_runtime.live.recording import Recording


CONNECT_SECONDS, READ_SECONDS = 10.0, 10.0
"""That a server may take to answer at first, and between two packets."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a source that dropped out is tried again; doubled each time it does not answer."""
JUMP_SECONDS = 10.0
"""Beyond which a clock that leaves this machine's has jumped, and no frames were lost."""
NETWORK_OPTIONS = {
    "rtsp_transport": "tcp",
    # an address may answer with a list of others: never with files of this machine
    "protocol_whitelist": "rtsp,rtsps,rtp,srtp,rtmp,rtmpt,srt,http,https,httpproxy,tcp,udp,tls,crypto",
}

Opener = Callable[[Source], AbstractContextManager[Any]]
"""Called with a source; gives an opened container of PyAV's."""


@dataclass
class StreamClock:
    """From the times that a source tells to seconds that go on over its interruptions."""

    may_skip: bool = False  # whether a long way to the next frame is a gap in a file and no jump of the clock
    offset: float | None = None  # what is added to the source's seconds
    last: float | None = None  # seconds of the last frame
    at: float = 0.0  # when this machine had it, seconds on its own clock

    def begin(self) -> None:
        """Take the next time as that of a source that was opened anew: its clock may be another."""
        self.offset = None

    def anchor(self, told: float) -> None:
        """Let the source's clock go on from now by this machine's, unless it goes on already."""
        if self.offset is None:
            self.offset = self._since(clock.monotonic()) - told

    def seconds(self, told: float | None) -> tuple[float, bool]:
        """Return a frame's seconds since the stream's first, and whether the source's clock jumped before it."""
        now = clock.monotonic()
        since = self._since(now)
        value, jumped = since, False
        if told is not None:
            self.anchor(told)
            value = told + (self.offset or 0.0)
            is_ahead = value - since > JUMP_SECONDS and not self.may_skip
            jumped = self.last is not None and (value <= self.last or is_ahead)
            if jumped:
                self.offset, value = since - told, since
        self.last, self.at = value, now
        return value, jumped

    def _since(self, now: float) -> float:
        return 0.0 if self.last is None else self.last + max(now - self.at, 1e-3)


class Reader:
    """Reads a source into a feed until it ends or is stopped."""

    def __init__(self, source: Source, feed: Feed, recording: Recording | None = None, opener: Opener | None = None):
        self._source, self._feed, self._recording = source, feed, recording
        self._open = open_source if opener is None else opener
        self._clock = StreamClock(may_skip=not source.is_lasting)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {source.name}", daemon=True)
        self._first: AbstractContextManager[Any] | None = None
        self._container: Any = None
        self._failures = 0
        self._jumped = False

    def start(self) -> None:
        """Open the source, and read on in a thread.

        Raises:
            VideoError: it does not open, in bounded time.
        """
        self._first = self._open(self._source)
        self._container = self._first.__enter__()
        self._thread.start()

    def stop(self) -> None:
        """End reading; waits for a read that hangs no longer than it may."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(READ_SECONDS + 1)

    def _run(self) -> None:
        try:
            reason = self._read_first()
            while self._source.is_lasting and not self._stop.is_set():
                self._feed.say(f"{reason or 'it ended'}; it is opened again")
                reason = self._read_again()
            if reason and not self._source.is_lasting:
                self._feed.say(reason)
        except Exception as error:  # a thread that dies in silence would look like a source that ended
            self._feed.say(f"reading it failed: {getattr(error, 'strerror', None) or type(error).__name__}")
        finally:
            self._feed.end()

    def _read_first(self) -> str | None:
        first, self._first = self._first, None
        assert first is not None
        try:
            return self._read(self._container)
        finally:
            first.__exit__(None, None, None)

    def _read_again(self) -> str | None:
        pause = FIRST_PAUSE
        while not self._stop.wait(pause):
            try:
                with self._open(self._source) as container:
                    self._clock.begin()
                    self._feed.connections += 1
                    return self._read(container)
            except VideoError:
                pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _read(self, container: Any) -> str | None:
        """Push what the container gives; return why it stopped, None where it came to its end."""
        from av.error import FFmpegError

        stream = video_streams(container, self._source.name)[0]
        stream.thread_type = "SLICE" if self._source.is_lasting else "AUTO"  # frame threads hold frames back
        if self._recording is not None:
            self._recording.begin(stream)
        started: float | None = None
        # frames of a file that does not say when they are shown are counted, as where it is asked about
        rate = float(stream.average_rate or stream.guessed_rate or 0) if self._source.kind == FILE else 0.0
        is_counted = rate > 0 and tells_decoding(container, stream.codec_context)
        number = 0
        try:
            for packet in container.demux(stream):
                if self._stop.is_set():
                    return None
                # before it is decoded: frames of the first packet may come packets later
                if is_counted or packet.pts is not None:
                    self._clock.anchor(0.0 if is_counted else float(packet.pts * packet.time_base))
                for frame in self._decoded(packet):
                    told = number / rate if is_counted or (rate and frame.time is None) else frame.time
                    seconds, jumped = self._clock.seconds(told)
                    number += 1
                    if jumped and not self._jumped:
                        self._jumped = True
                        self._feed.say("its clock jumped: times go on by this machine's over the jump")
                    if self._source.kind == FILE:
                        started = clock.monotonic() - seconds if started is None else started
                        if self._stop.wait(max(0.0, started + seconds - clock.monotonic())):
                            return None
                    if self._feed.wants(seconds):
                        self._feed.push(picture_of(frame, display_matrix(frame)), seconds)
                self._keep(packet)
        except FFmpegError as error:
            return f"it dropped out: {error.strerror or type(error).__name__}"
        finally:
            if self._recording is not None:
                self._recording.finish()
        return None

    def _decoded(self, packet: Any) -> list[Any]:
        """Return a packet's frames; none of one that cannot be decoded, as after a loss on the way."""
        from av.error import FFmpegError

        try:
            return packet.decode()
        except FFmpegError as error:
            self._failures += 1
            if self._failures == 1:
                self._feed.say(f"frames are damaged and passed over: {error.strerror or type(error).__name__}")
            return []

    def _keep(self, packet: Any) -> None:
        if self._recording is None or packet.dts is None or not packet.size or self._clock.offset is None:
            return
        self._recording.keep(packet, float(packet.dts * packet.time_base) + self._clock.offset)


@contextmanager
def open_source(source: Source) -> Iterator[Any]:
    """Open a source with PyAV.

    Raises:
        VideoError: PyAV is missing, or the source does not answer in time, or shows no video; says which, and nothing
            that is secret in its address.
    """
    try:
        import av
    except ImportError:
        raise VideoError(
            "watching a camera, an address or a file needs PyAV: pip install av (or install stts-runtime with "
            "its video extra), or push the frames into a Feed"
        ) from None
    with _opened(av, source) as container:
        video_streams(container, source.name)
        yield container


def _opened(av: Any, source: Source) -> Any:
    """Return a context manager that gives the container."""
    if source.kind == FILE:
        return _opened_file(av, source)
    is_camera = source.kind == CAMERA
    if is_camera and not Path(source.address).exists():
        cameras = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise VideoError(f"{source.name}: there is no {source.address} (cameras here: {cameras})")
    limits = (CONNECT_SECONDS, READ_SECONDS)
    start = clock.monotonic()
    try:
        return av.open(
            source.address,
            format="v4l2" if is_camera else None,
            options={} if is_camera else NETWORK_OPTIONS,
            timeout=limits,
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:  # its text has the address, password and all
        waited = clock.monotonic() - start
        reason = error.strerror or type(error).__name__
    if waited >= 0.9 * CONNECT_SECONDS:
        raise VideoError(
            f"{source.name} does not answer within {CONNECT_SECONDS:g} s: is it on, and reached from here?"
        )
    raise VideoError(f"{source.name} cannot be opened: {reason}. Does `ffprobe` open it?")


@contextmanager
def _opened_file(av: Any, source: Source) -> Iterator[Any]:
    with ExitStack() as opening:
        try:
            container = opening.enter_context(opened(av, Path(source.address)))
        except av.error.FFmpegError as error:
            reason = error.strerror or type(error).__name__
            raise VideoError(f"{source.name} cannot be read as a video: {reason}. Does `ffprobe` open it?") from None
        yield container
