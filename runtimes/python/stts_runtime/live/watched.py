"""A source while it is watched: its window, when it is asked next, and what was told of it."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Sequence
from datetime import datetime, timezone

from stts_runtime.live.feed import EARLY, Feed
from stts_runtime.live.live import Live
from stts_runtime.live.match import matches
from stts_runtime.live.recording import Recording
from stts_runtime.live.records import Answer, Watching


SLOWER = 1.5
"""How many times as long as told an answer takes before it is told again."""
NUMBERS = re.compile(r"\(.*?\)|[\d.,]+")
"""What differs between two notes that say the same."""


class Watched:
    """A source while it is watched: its window, when it is asked next, and what was told of it."""

    def __init__(self, feed: Feed, live: Live, recording: Recording | None, watching: Watching) -> None:
        self.feed, self.live, self.recording, self._watching = feed, live, recording, watching
        self._due: float | None = None
        self._asked = 0  # what had come into the window when it was last asked
        self._answered: float | None = None  # seconds of the last frame that was looked at then
        self._matched = False
        self._told: set[str] = set()
        self._slowest = 0.0
        self.notes: list[str] = []  # that nobody has told yet
        self.answers = 0

    def take(self) -> bool:
        """Take the frame that waits into the window, and return whether one did."""
        waiting = self.feed.take()
        if waiting is None:
            return False
        self.live.push(waiting.frame, waiting.time)
        if self._due is None:
            self._due = waiting.time + self._watching.every
        return True

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask: so many seconds of the camera's are over, or frames came and no more will.

        Frames that wait for others, see `Live`, count when these came.
        """
        times = self.live.times
        is_new = len(times) > 0 and self.live.window.arrived != self._asked
        if self.feed.is_over:
            return is_new or self.live.is_waiting
        return is_new and self._due is not None and bool(times[-1] >= self._due - EARLY)

    def ask(self) -> Answer:
        """Ask about the window."""
        start, watching = clock.perf_counter(), self._watching
        if self.feed.is_over:
            self.live.complete()
        times = self.live.times.tolist()
        time = times[-1]
        if self.recording is not None:
            self.recording.hold(time)
        conversation = self.live.look()
        text = "".join(conversation.stream(watching.question, watching.generation))
        found = None if watching.when is None else matches(text, watching.when)
        is_event = bool(found) and not self._matched
        if self.recording is not None:
            if is_event:
                self.recording.save(time)
            self.recording.hold(None)
        answer = Answer(
            source=self.feed.name,
            at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            time=time,
            start=times[0],
            answer=text,
            matches=found,
            is_event=is_event,
            frames=len(times),
            interval=None if self._answered is None else time - self._answered,
            seconds=clock.perf_counter() - start,
            milliseconds=dict(conversation.timings.milliseconds),
            tokens=dict(conversation.timings.tokens),
            finish_reason=conversation.finish_reason,
            dropped=self.feed.dropped,
            connections=self.feed.connections,
        )
        due = time if self._due is None else self._due
        self._due = (due if due + watching.every > time else time) + watching.every  # on a grid, unless it fell behind
        self._matched, self._asked, self._answered = bool(found), self.live.window.arrived, time
        self.answers += 1
        self._note(answer, conversation.notes)
        return answer

    def _note(self, answer: Answer, notes: Sequence[str]) -> None:
        every, cut = self._watching.every, self.live.cut_frames
        if cut:
            text = f"in {cut} frames fewer groups are kept than their scores call for: more would not fit the bundle's"
            notes = (*notes, f"{text} tokens; use fewer frames, prune more, or build with a larger --max-tokens")
        if answer.dropped:
            text = f"{answer.dropped} frames came while others were looked at and were dropped"
            notes = (*notes, f"{text}: fewer a second (--fps) leave room for all; each answer counts them")
        if answer.seconds > every > 0 and answer.seconds > SLOWER * self._slowest:
            self._slowest = answer.seconds
            text = f"an answer takes {answer.seconds:.1f} s, longer than the {every:g} s between two (--every)"
            self.notes.append(f"{text}: the interval stretches to that, and frames in between are dropped")
        for text in notes:
            if (kind := NUMBERS.sub("", text)) not in self._told:
                self._told.add(kind)
                self.notes.append(text)
