"""Clips as one stream: fed frame by frame into a window that holds one of them, and asked about when it has come whole.

So a camera would see them, from one scene to the next without a pause. In mode `exact` answers are those of a look at
the clip alone; in mode `settled` groups were decided while the window still held the clip before.
"""

from __future__ import annotations

from stts_export.data.clips import SampledClip
from stts_export.errors import UsageError
from stts_export.evaluate.records import Setting
from stts_runtime.conversation import Conversation
from stts_runtime.live.live import Live
from stts_runtime.session import Session


PAUSE = 1.0
"""Seconds between the last frame of a clip and the first of the next."""


class Stream:
    """The clips so far, as one setting sees them."""

    def __init__(self, session: Session, setting: Setting) -> None:
        """Take the setting's subject for the mode."""
        self._session, self._setting = session, setting
        self._live: Live | None = None
        self._now, self._frames = 0.0, 0

    def look(self, sampled: SampledClip) -> Conversation:
        """Return a conversation about a clip, after its frames have come.

        Raises:
            UsageError: the bundle cannot look at a stream, or the clip has another number of frames than those before.
            LimitError: more frames than the bundle was built for.
        """
        frames, setting = len(sampled.frames), self._setting
        if self._live is None:
            self._live = Live(self._session, frames=frames, mode=setting.subject, prune=setting.prune)
            self._frames = frames
        if frames != self._frames:
            raise UsageError(
                f"a clip gives {frames} frames, and those before it {self._frames}: a window has one size: "
                "say how many to take of each (--frames)"
            )
        for frame, time in zip(sampled.frames, sampled.timestamps.tolist(), strict=True):
            self._live.push(frame, self._now + time)
        self._now += float(sampled.timestamps[-1]) + PAUSE
        return self._live.look()
