"""Frames of a video file by their index, through PyAV: what is in the file, and how to get at it quickly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stts_runtime.errors import VideoError


# Decoding this many frames takes longer than jumping to a key frame.
SEEK_GAP = 48
# A declared rate may differ from the measured one by this share: the last frame's duration is not known to us.
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Packets:
    """The pictures of a video stream, before any is decoded.

    Attributes:
        count: packets that hold a picture.
        fps: average frames a second.
        times: int64 [count], presentation times in the stream's time base, sorted; empty where the file has none.
        seconds: float64 [count], the same since the first frame.
        key_frames: int64 [k], rising indices of frames at which decoding can start; empty where packets and frames may
            not match one to one.
        key_times: int64 [k], where to seek for them.
    """

    count: int
    fps: float
    times: np.ndarray
    seconds: np.ndarray
    key_frames: np.ndarray
    key_times: np.ndarray

    @property
    def can_seek(self) -> bool:
        """Whether frames are found by their times, else by counting from the first."""
        return len(self.key_frames) > 0


def video_stream(container: Any, path: Path) -> Any:
    """The first video stream that is not a cover picture, set to decode with all cores.

    Raises:
        VideoError: there is none.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
    raise VideoError(f"{path} has no video stream (streams in it: {kinds}).")


def scan_packets(container: Any, stream: Any) -> Packets:
    """Read all packets without decoding them: the number of frames in a header is often missing, sometimes wrong."""
    found = [
        (packet.pts, packet.dts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.size and not packet.is_discard
    ]
    count = len(found)
    timed = count > 0 and all(pts is not None for pts, _, _ in found)
    times = np.sort(np.array([pts for pts, _, _ in found] if timed else [], np.int64))
    seconds = (times - times[:1]) * float(stream.time_base or 0)
    fps = _average_rate(float(stream.average_rate or stream.guessed_rate or 0), seconds)
    keys: list[tuple[int, int]] = []
    if (
        timed
        and stream.frames == count
        and all(dts is not None for _, dts, _ in found)
        and len(np.unique(times)) == count
    ):
        keys = sorted((int(np.searchsorted(times, pts)), dts) for pts, dts, is_key in found if is_key)
    key_frames, key_times = np.array(keys, np.int64).reshape(-1, 2).T
    return Packets(count, fps, times, seconds, key_frames, key_times)


def _average_rate(declared: float, seconds: np.ndarray) -> float:
    """Frames a second: what the file declares, unless its own times contradict it.

    Recordings of variable rate often declare a nominal rate (1000 a second from browsers).
    """
    if len(seconds) < 2 or seconds[-1] <= 0:
        return declared if declared > 0 else 1.0  # a lone frame stands at 0 s whatever the rate
    measured = (len(seconds) - 1) / float(seconds[-1])
    return declared if abs(declared - measured) <= RATE_TOLERANCE * measured else measured


def decoded_frames(container: Any, stream: Any, packets: Packets, indices: np.ndarray) -> Iterator[tuple[int, Any]]:
    """Decoded frames with their indices, up to the last of `indices` (rising) or to where decoding fails.

    Where the next one wanted is far ahead, decoding jumps to the last key frame before it. What is presented after a
    key frame decodes completely from there, in open groups of pictures too; what comes before it is not wanted then.
    """
    from av.error import InvalidDataError

    decoder = container.decode(stream)
    position = -1
    for index in indices:
        key = int(np.searchsorted(packets.key_frames, index, side="right")) - 1
        if key >= 0 and packets.key_frames[key] - position > SEEK_GAP:
            container.seek(int(packets.key_times[key]), stream=stream)
            decoder = container.decode(stream)
        while position < index:
            try:
                frame = next(decoder, None)
            except InvalidDataError:
                return
            if frame is None:
                return
            position = int(np.searchsorted(packets.times, frame.pts)) if packets.can_seek else position + 1
            yield position, frame
