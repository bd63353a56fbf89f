"""When a run stops before its end: its minutes are over, or it was told to. The step under way is finished first."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType


class Stop:
    """Whether to stop, asked after every step.

    Attributes:
        signal: the number of the signal that asked for it; None where none did.
    """

    def __init__(self, minutes: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.signal: int | None = None
        self._clock = clock  # in seconds
        self._end = None if minutes is None else clock() + 60 * minutes

    @property
    def due(self) -> bool:
        """Whether the run is to stop now."""
        return self.signal is not None or (self._end is not None and self._clock() >= self._end)


@contextlib.contextmanager
def signals_stop(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM ask for a stop; a second one ends the step under way too.

    Python can set handlers in the main thread only; in another one signals do what they always did.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.signal = number

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not the main thread
            before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
