"""Which frames a video stream has and when: read from its packets, before any is decoded.

A frame's place is its number in order of presentation, from 0. Files lose frames, clocks jump, rates vary; what is told
of a frame is place / rate, so a place must stay right whatever happened before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stts_runtime.clip.random_access import can_start_at


# A declared rate may differ from the measured one by this share: the last frame's duration is not known to us.
RATE_TOLERANCE = 0.1
# A clock jumped where it moves by more than this many seconds, and frames, at once; or back by more than a few frames,
# which decoding order alone does not explain.
JUMP_SECONDS, JUMP_FRAMES, BACK_FRAMES = 60.0, 100, 8
# Times lie on a grid where nearly all differ by whole frames, and most by one: what is missing on it was lost.
GRID_TOLERANCE, GRID_SHARE, MOST_GAPS, MOST_LOST = 0.25, 0.98, 0.2, 0.5
# A demuxer that finds no more sense in a file than this, again and again, has come to its end.
MOST_DEMUX_FAILURES = 100


@dataclass(frozen=True)
class Timeline:
    """The frames of a video stream.

    Attributes:
        count: places in all, those of lost frames among them.
        fps: average frames a second.
        times: int64 [n], presentation times of the packets in the stream's time base, in order of presentation; empty
            where the file has none, and frames are counted as they come.
        places: int64 [n], the place of each.
        seconds: float64 [n], the same times since the first frame, as the file's clock tells them.
        key_places: int64 [k], rising; where decoding can start; empty where it cannot but from the beginning.
        key_times: int64 [k], their presentation times.
        key_seeks: int64 [k], where to seek for them.
        jumps: float64 [j], by how many seconds the clock jumped, each time it did.
        packets: how many the stream has, hidden ones too.
    """

    count: int
    fps: float
    times: np.ndarray
    places: np.ndarray
    seconds: np.ndarray
    key_places: np.ndarray
    key_times: np.ndarray
    key_seeks: np.ndarray
    jumps: np.ndarray
    packets: int

    @property
    def is_timed(self) -> bool:
        """Whether frames are known by their times, else by counting them."""
        return len(self.times) > 0


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream; where the demuxer stumbles, go on behind it."""
    from av.error import FFmpegError

    failures = 0
    while failures < MOST_DEMUX_FAILURES:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except FFmpegError:
            failures += 1


def read_timeline(container: Any, stream: Any) -> Timeline:
    """Read all packets without decoding them: the number of frames in a header is often missing, sometimes wrong."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    packets = 0
    shown: list[tuple[int | None, int | None]] = []
    keys: list[tuple[int | None, int | None]] = []
    for packet in packets_of(container, stream):
        if packet.size:
            packets += 1
            if not packet.is_discard:
                shown.append((packet.pts, packet.dts))
                if packet.is_keyframe and can_start_at(packet, codec, extradata):
                    keys.append(shown[-1])
    declared = float(stream.average_rate or stream.guessed_rate or 0)
    timed = [(pts, dts) for pts, dts in shown if pts is not None]
    if not timed or 2 * len(timed) < len(shown):
        none, no_seconds = np.zeros(0, np.int64), np.zeros(0)
        fps = declared if declared > 0 else 1.0
        return Timeline(len(shown), fps, none, none, no_seconds, none, none, none, no_seconds, packets)
    stretches, jumps = _stretches(timed, float(stream.time_base))
    pts = np.array([pts for pts, _ in timed], np.int64)
    order = np.lexsort((pts, stretches))
    times, stretches = pts[order], stretches[order]
    seconds = (times - times[0]) * float(stream.time_base)
    longest = seconds[stretches == np.bincount(stretches).argmax()]
    fps = average_rate(declared, longest - longest[0])
    is_whole = stream.frames == len(shown) == len(timed)
    places = np.arange(len(times)) if is_whole else _places(seconds, stretches, declared)
    can_seek = is_whole and not len(jumps) and len(np.unique(times)) == len(times)
    can_seek = can_seek and all(dts is not None for _, dts in shown)
    found = sorted(keys) if can_seek else []
    key_times, key_seeks = np.array(found, np.int64).reshape(-1, 2).T
    key_places = places[np.searchsorted(times, key_times)] if can_seek else key_times
    count = int(places[-1]) + 1
    return Timeline(count, fps, times, places, seconds, key_places, key_times, key_seeks, jumps, packets)


def average_rate(declared: float, seconds: np.ndarray) -> float:
    """Frames a second: what the file declares, unless its own times contradict it.

    Recordings of variable rate often declare a nominal rate (1000 a second from browsers).

    Args:
        declared: 0 where the file does not say.
        seconds: float64 [n], rising times of frames.
    """
    if len(seconds) < 2 or seconds[-1] <= 0:
        return declared if declared > 0 else 1.0  # a lone frame stands at 0 s whatever the rate
    measured = (len(seconds) - 1) / float(seconds[-1])
    return declared if abs(declared - measured) <= RATE_TOLERANCE * measured else measured


def _stretches(timed: list[tuple[Any, Any]], time_base: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which stretch of a clock without jumps each packet is in, int64 [n], and the jumps between, in seconds."""
    by_decoding = all(dts is not None for _, dts in timed)
    clock = np.array([dts if by_decoding else pts for pts, dts in timed], np.int64)
    steps = np.diff(clock)
    forward = steps[steps > 0]
    step = float(np.median(forward)) if len(forward) else 1.0
    is_jump = (steps < -BACK_FRAMES * step) | ((steps > JUMP_FRAMES * step) & (steps * time_base > JUMP_SECONDS))
    return np.concatenate([[0], np.cumsum(is_jump)]), (steps[is_jump] - step) * time_base


def _places(seconds: np.ndarray, stretches: np.ndarray, declared: float) -> np.ndarray:
    """Return the place of each frame: frames that are missing on an even grid of times leave theirs empty.

    Args:
        seconds: float64 [n], in order of presentation.
        stretches: int64 [n], see `_stretches`; behind a jump places go on without a gap.
        declared: frames a second, 0 where the file does not say.
    """
    ranks = np.arange(len(seconds))
    steps, within = np.diff(seconds), np.diff(stretches) == 0
    inner = steps[within]
    if len(inner) == 0 or np.median(inner) <= 0:
        return ranks
    step = float(np.median(inner))
    # Times are often whole milliseconds: many of them together know the step better than any does.
    step = float(inner[np.abs(inner - step) < GRID_TOLERANCE * step].mean())
    if declared > 0 and abs(declared * step - 1) <= RATE_TOLERANCE:
        step = 1 / declared
    frames = np.round(inner / step)
    on_grid = (np.abs(inner / step - frames) <= GRID_TOLERANCE) & (frames >= 1)
    lost = frames.sum() - len(frames)
    if on_grid.mean() < GRID_SHARE or (frames > 1).mean() > MOST_GAPS or not 0 < lost <= MOST_LOST * frames.sum():
        return ranks
    gaps = np.ones(len(steps), np.int64)
    gaps[within] = np.maximum(frames, 1)
    return np.concatenate([[0], np.cumsum(gaps)])
