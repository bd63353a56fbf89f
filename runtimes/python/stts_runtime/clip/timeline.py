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
# which the order of decoding alone does not explain: a frame is decoded before at most so many that are shown earlier.
JUMP_SECONDS, JUMP_FRAMES, BACK_FRAMES, REORDERED_FRAMES = 60.0, 100, 8, 16
# Times lie on a grid where nearly all differ by whole frames, and most by one: what is missing on it was lost.
GRID_TOLERANCE, GRID_SHARE, MOST_GAPS, MOST_LOST = 0.25, 0.98, 0.2, 0.5
# A demuxer that finds no more sense in a file than this, again and again, has come to its end.
MOST_DEMUX_FAILURES = 100
# Where a file tells only when packets are decoded (AVI), FFmpeg works out when they are shown, but not of these codecs.
TIMES_BY_DECODING = ("h264", "hevc", "vvc")


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

    def counted(self) -> Timeline:
        """Return the same frames without their times."""
        return _counted(len(self.times), self.fps, self.packets)


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
    if not timed or 2 * len(timed) < len(shown) or _are_of_decoding(timed, container, stream.codec_context):
        return _counted(len(shown), declared if declared > 0 else 1.0, packets)
    times, clock, stretches, jumps = _presented(timed, float(stream.time_base))
    seconds = (clock - clock[0]) * float(stream.time_base)
    is_whole = stream.frames == len(shown) == len(timed)
    places = np.arange(len(times)) if is_whole else _places(seconds, stretches, declared)
    longest = np.flatnonzero(stretches == np.bincount(stretches).argmax())[[0, -1]]
    fps = average_rate(declared, int(np.diff(places[longest])[0]), float(np.diff(seconds[longest])[0]))
    can_seek = is_whole and not len(jumps) and bool((np.diff(times) > 0).all())
    can_seek = can_seek and all(dts is not None for _, dts in shown)
    found = sorted(keys) if can_seek else []
    key_times, key_seeks = np.array(found, np.int64).reshape(-1, 2).T
    key_places = places[np.searchsorted(times, key_times)] if can_seek else key_times
    count = int(places[-1]) + 1
    return Timeline(count, fps, times, places, seconds, key_places, key_times, key_seeks, jumps, packets)


def _counted(count: int, fps: float, packets: int) -> Timeline:
    none, no_seconds = np.zeros(0, np.int64), np.zeros(0)
    return Timeline(count, fps, none, none, no_seconds, none, none, none, no_seconds, packets)


def average_rate(declared: float, steps: int, seconds: float) -> float:
    """Frames a second: what the file declares, unless its own times contradict it.

    Recordings of variable rate often declare a nominal rate (1000 a second from browsers).

    Args:
        declared: 0 where the file does not say.
        steps: from the first frame to the last, over places of lost ones too.
        seconds: between them.
    """
    if steps < 1 or seconds <= 0:
        return declared if declared > 0 else 1.0  # a lone frame stands at 0 s whatever the rate
    measured = steps / seconds
    return declared if abs(declared - measured) <= RATE_TOLERANCE * measured else measured


def tells_decoding(container: Any, context: Any) -> bool:
    """Tell whether a container, by its kind, says of this codec's frames when they are decoded and not when shown."""
    return container.format.name == "avi" and context.name in TIMES_BY_DECODING and bool(context.has_b_frames)


def _are_of_decoding(timed: list[tuple[Any, Any]], container: Any, context: Any) -> bool:
    """Tell whether what stands for times of presentation are times of decoding, and tell nothing of the order.

    So in AVI, which has no others, and where a file was made of one and both are equal though the decoder reorders. A
    constant delay elsewhere is that of an encoder that could have reordered, and did not.
    """
    if context.name not in TIMES_BY_DECODING or not context.has_b_frames:
        return False
    delays = {None if dts is None else pts - dts for pts, dts in timed}
    return delays == {0} or (tells_decoding(container, context) and len(delays) == 1)


def _presented(timed: list[tuple[Any, Any]], time_base: float) -> tuple[np.ndarray, ...]:
    """Return times in order of presentation, the clock, the stretch without jumps in which each is, and the jumps.

    A clock starts again between two packets: the order of decoding tells. It jumps ahead between two frames as they are
    shown, since packets of both sides are decoded in turns. A time that fits neither the packet before nor the one
    behind, which fit each other, is damaged: the clock goes on there.

    Args:
        timed: presentation and decoding time of each packet.
        time_base: seconds a unit.

    Returns:
        int64 [n], as the file has them; int64 [n], with damaged ones mended; int64 [n]; seconds, float64 [j].
    """
    pts = np.array([pts for pts, _ in timed], np.int64)
    known = np.array([dts is not None for _, dts in timed])
    dts = np.array([pts if dts is None else dts for pts, dts in timed], np.int64)
    forward = np.diff(np.sort(dts))
    forward = forward[forward > 0]
    step = float(np.median(forward)) if len(forward) else 1.0
    clock = pts.copy()
    if known.all() and len(dts) > 2:
        before, at, behind = dts[:-2], dts[1:-1].copy(), dts[2:]
        damaged = (before < behind) & ((at < before) | (at > behind))
        dts[1:-1][damaged] = (before + (behind - before) // 2)[damaged]
        clock += dts - np.array([dts for _, dts in timed])
    back = np.diff(dts) < -BACK_FRAMES * step
    for place in np.flatnonzero(back & ~(known[1:] & known[:-1])):  # by times of presentation: they go back for long
        back[place] = (clock[place + 1 : place + 2 + REORDERED_FRAMES] < clock[place]).all()
    restarts = np.concatenate([[0], np.cumsum(back)])
    order = np.lexsort((clock, restarts))
    times, clock, restarts = pts[order], clock[order], restarts[order]
    steps = np.diff(clock)
    ahead = (steps > JUMP_FRAMES * step) & (steps * time_base > JUMP_SECONDS)
    is_jump = ahead | (np.diff(restarts) > 0)
    return times, clock, np.concatenate([[0], np.cumsum(is_jump)]), (steps[is_jump] - step) * time_base


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
