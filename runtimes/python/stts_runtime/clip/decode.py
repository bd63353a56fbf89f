"""Frames of a video stream by their places, decoded through PyAV: quickly where the file is sound, else patiently."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from stts_runtime.clip.timeline import Timeline, packets_of


# Decoding this many frames takes longer than jumping to a key frame.
SEEK_GAP = 48


class DamagedError(Exception):
    """A packet cannot be decoded, or a jump did not lead to the frame it promised: decode from the start, patiently."""


class DisorderError(DamagedError):
    """Frames are shown in another order than their times say."""


def decoded_frames(container: Any, stream: Any, timeline: Timeline, indices: np.ndarray) -> Iterator[tuple[int, Any]]:
    """Yield decoded frames with their places, up to the last of `indices` (rising), with all cores and by jumps.

    Where the next one wanted is far ahead, decoding jumps to the last key frame before it. What is presented after a
    key frame decodes completely from there, in open groups of pictures too; what comes before it is not wanted then.

    Raises:
        DamagedError: something in the file is not as it should be.
        DisorderError: its times are not.
    """
    from av.error import FFmpegError

    stream.thread_type = "AUTO"
    places = Places(timeline)
    position = -1
    decoder = container.decode(stream)
    try:
        for index in indices:
            key = int(np.searchsorted(timeline.key_places, index, side="right")) - 1
            if key >= 0 and timeline.key_places[key] - position > SEEK_GAP:
                decoder = _frames_from_key(container, stream, timeline, key)
                position = int(timeline.key_places[key]) - 1
            while position < index:
                frame = next(decoder, None)
                if frame is None:
                    return
                place = places.of(frame, position)
                if place is None:
                    raise DisorderError(f"{frame} is shown behind place {position}")
                position = place
                yield position, frame
    except FFmpegError as error:
        raise DamagedError(str(error)) from error


def frames_of_damaged(container: Any, stream: Any, timeline: Timeline) -> Iterator[tuple[int, Any]]:
    """Yield all frames that can be decoded, with their places, from the first on; what cannot is passed over."""
    places = Places(timeline)
    position = -1
    for packet, frames in _patiently(container, stream):
        if frames is None:
            position += not timeline.is_timed and not packet.is_discard  # its place stays empty
            continue
        for frame in frames:
            place = places.of(frame, position)
            if place is not None:
                position = place
                yield position, frame


def decodes_whole(container: Any, stream: Any, timeline: Timeline) -> bool:
    """Tell whether each packet gives a frame: then the order in which they come is the true one, whatever times say."""
    count = 0
    for _, frames in _patiently(container, stream):
        if frames is None:
            return False
        count += len(frames)
    return count == timeline.count == len(timeline.times)


def _patiently(container: Any, stream: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each packet with its frames, None where it cannot be decoded.

    One thread: several report a failure late, with frames that it did not concern.
    """
    from av.error import FFmpegError

    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    for packet in packets_of(container, stream):
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = None
        yield packet, frames


class Places:
    """Knows the place of a decoded frame by its time, or by counting where the file has no times."""

    def __init__(self, timeline: Timeline) -> None:
        self._of_time: dict[int, list[int]] = defaultdict(list)
        for time, place in zip(timeline.times.tolist(), timeline.places.tolist(), strict=True):
            self._of_time[time].append(place)

    def of(self, frame: Any, before: int) -> int | None:
        """Return a frame's place: after the place `before`, the next one where its time is not known.

        None where its time says that it was shown before: it must not push on those that follow.
        """
        found = self._of_time.get(frame.pts, ()) if frame.pts is not None else ()
        if not found:
            return before + 1
        return next((place for place in found if place > before), None)


def _frames_from_key(container: Any, stream: Any, timeline: Timeline, key: int) -> Iterator[Any]:
    """Yield decoded frames from a key frame on.

    Raises:
        DamagedError: the first that is presented is another frame, is no key frame, or is not whole.
    """
    wanted = int(timeline.key_times[key])
    container.seek(int(timeline.key_seeks[key]), stream=stream)
    decoder = container.decode(stream)
    for frame in decoder:
        if frame.pts is not None and frame.pts < wanted:
            continue  # shown before the key frame, and decoded behind it
        if frame.pts != wanted or not frame.key_frame or frame.is_corrupt:
            raise DamagedError(f"a jump to the frame at {wanted} led to {frame}")
        yield frame
        break
    yield from decoder
