"""Frames on their way from whoever has them to the window: the newest waits, an older one is dropped and counted."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass
from threading import Event, Lock

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.plain import argument
from stts_runtime.clip.frames import check_frames
from stts_runtime.errors import UsageError


EARLY = 1e-3  # seconds that a frame may come before it is due: times are often whole milliseconds
MOST_SAID = 64


@dataclass(frozen=True)
class Waiting:
    """A frame that nobody has taken yet."""

    frame: NDArray[np.uint8]  # [H, W, 3], RGB
    time: float  # seconds


class Feed:
    """A source whose frames are pushed, from any thread.

    Attributes:
        name: how messages and answers call it.
        period: seconds between frames that are taken; a frame that comes earlier is passed over, and is no loss.
        wake: set when there is something to take, or nothing more will come.
        dropped: frames that would have been taken, had the one before them been looked at in time.
        connections: how often the source was opened; 1 for one that never dropped out.
        ended: whether nothing more will come.
    """

    def __init__(self, name: str = "pushed") -> None:
        self.name = name
        self.period = 0.0
        self.wake = Event()
        self.dropped = 0
        self.connections = 1
        self.ended = False
        self._change = Lock()
        self._waiting: Waiting | None = None
        self._due: float | None = None
        self._latest: float | None = None
        self._start: float | None = None
        self._said: list[str] = []

    def push(self, frame: NDArray[np.uint8], time: float | None = None) -> None:
        """Let a frame wait, in the place of one that still does.

        Args:
            frame: uint8 [H, W, 3], RGB; not to be changed afterwards.
            time: seconds, on the camera's clock; without it, those since the first frame by this machine's.

        Raises:
            UsageError: it is no frame, or not later than the one before it; or the feed was ended.
        """
        check_frames(frame[None] if isinstance(frame, np.ndarray) and frame.ndim == 3 else frame)
        if frame.ndim != 3:
            raise UsageError(f"frames are pushed one by one, uint8 [height, width, 3]; got {list(frame.shape)}")
        if time is None:
            self._start = clock.monotonic() if self._start is None else self._start
            time = clock.monotonic() - self._start
        time = argument(float, time, "time")
        with self._change:
            if self.ended:
                raise UsageError(f"{self.name} was ended and takes no more frames: make another Feed")
            if self._latest is not None and not time > self._latest:
                raise UsageError(
                    f"a frame of {time:g} s came behind one of {self._latest:g} s: frames come in the order of their "
                    "times, in seconds"
                )
            self._latest = time
            if not self._is_due(time):
                return
            due = time if self._due is None else self._due
            # on the grid of the first frame's time: else each would come later than is due by up to a frame
            self._due = due + self.period * (np.floor((time + EARLY - due) / self.period) + 1) if self.period else time
            self.dropped += self._waiting is not None
            self._waiting = Waiting(frame, time)
        self.wake.set()

    def wants(self, time: float) -> bool:
        """Tell whether a frame of this time would be taken: whoever has to decode it may ask before."""
        with self._change:
            return self._is_due(time)

    def end(self) -> None:
        """Say that nothing more will come; what waits is still taken."""
        with self._change:
            self.ended = True
        self.wake.set()

    def say(self, text: str) -> None:
        """Leave a sentence for whoever watches."""
        with self._change:
            self._said = [*self._said, text][-MOST_SAID:]
        self.wake.set()

    def take(self) -> Waiting | None:
        """Return the frame that waits, if one does."""
        with self._change:
            waiting, self._waiting = self._waiting, None
            return waiting

    def heard(self) -> list[str]:
        """Return what was said since the last call."""
        with self._change:
            said, self._said = self._said, []
            return said

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing will come."""
        with self._change:
            return self.ended and self._waiting is None

    def _is_due(self, time: float) -> bool:
        return self._due is None or not self.period or time >= self._due - EARLY
