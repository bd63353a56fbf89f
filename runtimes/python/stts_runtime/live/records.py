"""What is asked of a stream, and what is answered."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stts_runtime.bundle.plain import argument
from stts_runtime.errors import UsageError
from stts_runtime.language.generation import Generation, generation_from
from stts_runtime.live.live import ANSWER_TOKENS
from stts_runtime.live.match import check_when
from stts_runtime.live.recording import AFTER, BEFORE


@dataclass(frozen=True)
class Watching:
    """What is asked, of which frames, and what becomes of the answers.

    Attributes:
        question: the question.
        every: seconds of the camera's clock between two answers.
        frames: W, most frames of the window; default see `Live`.
        fps: frames a second that are taken; default the model's highest.
        mode: `settled` or `exact`, see `live.window`.
        prune: share of groups to drop, in (0, 1); default the bundle's.
        when: the words that an answer begins with that is waited for.
        webhook: where answers are posted, those that match where `when` is given.
        save: folder for a clip around each moment at which answers begin to match.
        before: seconds of such a clip before the moment.
        after: seconds behind it.
        generation: how answers are drawn.
    """

    question: str
    every: float = 2.0
    frames: int | None = None
    fps: float | None = None
    mode: str = "settled"
    prune: float | None = None
    when: str | None = None
    webhook: str | None = None
    save: str | Path | None = None
    before: float = BEFORE
    after: float = AFTER
    generation: Generation = field(default_factory=lambda: Generation(max_tokens=ANSWER_TOKENS))

    def check(self) -> None:
        """Raise UsageError for a setting that cannot work."""
        for name in ("every", "before", "after"):
            if (value := argument(float, getattr(self, name), name)) < 0:
                raise UsageError(f"{name} is {value:g} seconds, wanted 0 or more")
        if self.fps is not None and not 0 < argument(float, self.fps, "fps") <= 1000:
            raise UsageError(f"fps is {self.fps}, wanted frames a second, above 0 and at most 1000")
        if self.save is not None and not isinstance(self.save, str | Path):
            raise UsageError(f"save is a {type(self.save).__name__}, wanted a folder's path")
        if self.when is not None:
            check_when(self.when)
        if self.save is not None and self.when is None:
            raise UsageError("clips are saved when an answer matches: say which with when (--when yes)")
        self.generation.check()


def watching_from(question: str, settings: dict[str, Any]) -> Watching:
    """Return what is asked, from settings of `Watching` and of `Generation`.

    Raises:
        UsageError: a setting is unknown or cannot work.
    """
    own = [one.name for one in fields(Watching) if one.name not in ("question", "generation")]
    drawn = {name: value for name, value in settings.items() if name in Generation.__dataclass_fields__}
    given = {name: value for name, value in settings.items() if name not in drawn}
    unknown = sorted(set(given) - set(own))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}; watching takes {', '.join(own)}, and what an answer takes")
    watching = Watching(question, **given, generation=generation_from({"max_tokens": ANSWER_TOKENS, **drawn}))
    watching.check()
    return watching


@dataclass(frozen=True)
class Answer:
    """What was said of a window of frames.

    Attributes:
        source: of the frames, as people are shown it.
        at: when it was given, by this machine's clock: ISO 8601, in UTC.
        time: seconds of the newest frame since the source's first, on the camera's clock.
        start: those of the oldest.
        answer: the text.
        matches: whether it is what was waited for; None where nothing was.
        is_event: whether it is, and the answer before was not.
        frames: that were looked at.
        interval: seconds since the last answer, on the camera's clock; None for the first.
        seconds: that looking and answering took, by this machine's.
        milliseconds: of it by stage, see `Timings`; scoring is that of all frames since the last answer.
        tokens: counts by name, see `Timings`; `encoded_frames`: of the window, those whose features were made (again).
        finish_reason: see `Timings`.
        dropped: frames of this source so far that came while others were looked at, and were not taken.
        connections: how often it was opened so far.
    """

    source: str
    at: str
    time: float
    start: float
    answer: str
    matches: bool | None
    is_event: bool
    frames: int
    interval: float | None
    seconds: float
    milliseconds: dict[str, float]
    tokens: dict[str, int]
    finish_reason: str | None
    dropped: int
    connections: int

    def plain(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)
