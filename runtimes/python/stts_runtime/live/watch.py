"""One question about what is happening, asked again and again, of one source or several.

A thread a source reads and lets the newest frame wait; this one takes the frames in turn, looks and asks. Frames
that come meanwhile are dropped and counted, and never made up for, so that an answer is always of now.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Protocol

from stts_runtime.errors import UsageError
from stts_runtime.live.address import source_of
from stts_runtime.live.feed import Feed
from stts_runtime.live.live import Host as Looking, Live
from stts_runtime.live.reader import Reader
from stts_runtime.live.recording import Recording
from stts_runtime.live.records import Answer, Watching
from stts_runtime.live.watched import Watched
from stts_runtime.live.webhook import Webhook
from stts_runtime.progress import Log, no_log


IDLE_SECONDS = 0.5
"""That a wait for frames may take before interruptions are looked for."""


class Host(Looking, Protocol):
    """What watching asks of the session that it belongs to."""

    def question_tokens(self, question: str) -> int:
        """Return how many tokens a question has."""


class Watch:
    """The answers about some sources, one after the other, until every source has ended or `close` is called.

    Attributes:
        sources: what is watched, in the order in which it was named.
        webhook: what posts the answers, if something does.
    """

    def __init__(self, session: Host, sources: Sequence[object], watching: Watching, log: Log = no_log) -> None:
        """Open the sources; all that can be refused is refused now.

        Args:
            session: whose bundle is asked.
            sources: cameras' numbers, addresses, files, or `Feed`s.
            watching: what is asked.
            log: called with what the user should know, in the thread that takes the answers.

        Raises:
            UsageError: a setting is impossible, a source is none, or the bundle cannot look at a stream.
            VideoError: a source cannot be opened.
            LimitError: more frames, or more tokens, than the bundle was built for.
        """
        watching.check()
        if not sources:
            raise UsageError("there is no source to watch: a camera's number, an address, a file or a Feed")
        meant = [source if isinstance(source, Feed) else source_of(source) for source in sources]
        if watching.save is not None and any(isinstance(one, Feed) for one in meant):
            raise UsageError(
                "frames that are pushed come decoded, and no clip is cut of them: save them where they come"
            )
        question, self._wake = session.question_tokens(watching.question), Event()
        fps = session.manifest.frame_sampling.max_fps if watching.fps is None else watching.fps
        self.sources: list[Watched] = []
        readers = []
        for number, source in enumerate(meant, 1):
            feed = source if isinstance(source, Feed) else Feed(source.name)
            if feed.name in [one.feed.name for one in self.sources]:
                feed.name = f"{feed.name} ({number})"
            live = Live(session, frames=watching.frames, mode=watching.mode, prune=watching.prune, question=question)
            feed.period, feed.wake = 1 / fps, self._wake
            recording = None
            if watching.save is not None:
                recording = Recording(Path(watching.save), feed, number, watching.before, watching.after)
            if not isinstance(source, Feed):
                readers.append(Reader(source, feed, recording))
            self.sources.append(Watched(feed, live, recording, watching))
        self._log, self._ending = log, ExitStack()
        with ExitStack() as ending:
            self.webhook = None if watching.webhook is None else Webhook(watching.webhook, self.sources[0].feed.say)
            if self.webhook is not None:
                ending.callback(self.webhook.close)
            for reader in readers:
                ending.callback(reader.stop)
                reader.start()
            self._ending = ending.pop_all()
        self._answers = self._asked()

    def __iter__(self) -> Iterator[Answer]:
        return self

    def __next__(self) -> Answer:
        return next(self._answers)

    def close(self) -> None:
        """End watching: clips that were begun are written, and answers that wait are posted; twice does no harm."""
        self._answers.close()
        self._ending.close()
        for one in self.sources:
            self._tell(one)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self) -> Generator[Answer, None, None]:
        while True:
            is_over = all(one.feed.is_over for one in self.sources)
            took = False
            for one in self.sources:  # in turn: no source waits for another's second frame
                took = one.take() or took
                self._tell(one)
                if one.is_due:
                    answer = one.ask()
                    self._tell(one)
                    if self.webhook is not None and answer.matches is not False:
                        self.webhook.send(answer.plain())
                    yield answer
            if is_over and not took:
                return
            if not took and self._wake.wait(IDLE_SECONDS):
                self._wake.clear()

    def _tell(self, one: Watched) -> None:
        notes, one.notes = one.notes, []
        for text in (*one.feed.heard(), *notes):
            self._log(f"{one.feed.name}: {text}" if len(self.sources) > 1 else text)
