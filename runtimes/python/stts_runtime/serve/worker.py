"""One model, many requests: a queue with a bound, clips looked at in turn, answers made side by side, a token each.

    submit -> waiting -> [look] -> ready -> [read the prompt, then a token a round] -> done

Two threads: one looks at clips, one reads and answers. So running answers wait for no vision where the engine can run
beside itself, and between two of their tokens lie at most one prompt and one token of each of the others.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from stts_runtime.clip.video import Clip
from stts_runtime.conversation import Conversation
from stts_runtime.errors import SttsError
from stts_runtime.serve.chat import Chat, Turn
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.memory import cache_bytes, features_bytes, most_tokens
from stts_runtime.serve.refused import RefusedError, refused_of
from stts_runtime.serve.seen import Recent
from stts_runtime.serve.stop_texts import StopTexts
from stts_runtime.session import Session
from stts_runtime.timings import Timings
from stts_runtime.vision.run import Vision


Result = TypeVar("Result")

log = logging.getLogger("stts_runtime.serve")

LOOKED_AHEAD = 2
"""Clips that may have been looked at and not been asked about yet: their features lie in memory."""

_FIRST_GUESS = 10.0  # seconds of an answer, before any was made


@dataclass(frozen=True)
class Usage:
    """What an answer cost."""

    prompt_tokens: int  # the video's included, and those of earlier turns
    cached_tokens: int  # of them, that were known from before
    answer_tokens: int  # that were made
    groups: int  # of the clip: vision tokens before pruning
    kept_groups: int  # and after
    milliseconds: dict[str, float]  # by stage


@dataclass(frozen=True)
class Done:
    """An answer's end."""

    finish_reason: str  # `stop` or `length`
    usage: Usage
    notes: tuple[str, ...]  # what the user should know


Event = str | Done | RefusedError
"""What a job tells: pieces of text, then its end, or why there is none."""


@dataclass(eq=False)
class Job:
    """A request on its way."""

    chat: Chat
    clip: Clip
    clip_key: tuple[object, ...]  # equal for clips that were sent and sampled alike
    prune: float  # share of groups to drop
    emit: Callable[[Event], None]  # called from the worker's threads
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False  # set by whoever no longer wants it; heeded before the next token
    size: int = 0  # bytes that its cache may come to; known from when it is submitted

    @property
    def question(self) -> str:
        """The one to answer."""
        return self.chat.turns[-1].question

    def history(self, turns: tuple[Turn, ...]) -> tuple[object, ...]:
        """Return what tells a conversation of these turns about this clip from all others."""
        return (*self.clip_key, self.prune, turns)


class Meter(Protocol):
    """What is told of the work; see `metrics`."""

    def hit(self, cache: str, found: bool) -> None:
        """A memory was asked."""

    def answered(self, usage: Usage) -> None:
        """An answer has ended."""


@dataclass(eq=False)
class _Answer:
    """An answer that is being made."""

    job: Job
    conversation: Conversation
    pieces: Iterator[str]
    stop: StopTexts
    known: int  # tokens of the conversation that were cached before
    text: list[str] = field(default_factory=list)


class Worker:
    """The threads that own a session."""

    def __init__(self, session: Session, limits: ServerLimits, meter: Meter) -> None:
        self._session, self._limits, self._meter = session, limits, meter
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._ready: deque[tuple[Job, Vision, Timings]] = deque()
        self._looking = 0
        self._running: list[_Answer] = []
        self._seen: Recent[Vision] = Recent(limits.seen_mib << 20, features_bytes)
        spec = session.manifest.graphs["decoder"].spec
        self._bytes_of = lambda tokens: cache_bytes(spec, tokens, session.manifest.limits.max_tokens)
        self._budget = limits.cache_mib << 20
        self._kept: Recent[Conversation] = Recent(self._budget, lambda one: self._bytes_of(one.length))
        self._stopping = False
        self._seconds = _FIRST_GUESS  # of an answer, on average
        # TensorRT's engines share their working memory, so one runs at a time; onnxruntime's do not.
        shares = session.manifest.engine.backend != "onnxruntime"
        self._engine = threading.Lock() if shares else contextlib.nullcontext()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("look", self._look), ("answer", self._answer))
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Refuse everyone who waits, end running answers before their next token, and wait for that."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """Requests that no token has been made for."""
        return len(self._waiting) + self._looking + len(self._ready)

    @property
    def running(self) -> int:
        """Answers that are being made."""
        return len(self._running)

    @property
    def kept(self) -> int:
        """Conversations whose cache is kept."""
        return len(self._kept)

    def submit(self, job: Job) -> None:
        """Let a request wait for its turn.

        Raises:
            RefusedError: too many wait, it can never fit, or the server is ending.
        """
        job.size = self._bytes_of(self._tokens(job))
        if job.size > self._budget:
            raise RefusedError(
                400,
                "context_length_exceeded",
                f"clip, questions and answer may take {job.size >> 20} MiB of cache, and the server has "
                f"{self._budget >> 20} MiB: ask for fewer max_tokens, send fewer frames, or prune more",
            )
        with self._change:
            if self._stopping:
                raise RefusedError(503, "server_stopping", "the server is ending: ask another one")
            if self.waiting >= self._limits.waiting:
                rounds = (self.waiting + self.running) / self._limits.answering
                raise RefusedError(
                    429,
                    "server_busy",
                    f"{self.waiting} requests wait already: ask again later",
                    retry_after=max(1, math.ceil(rounds * self._seconds)),
                )
            self._waiting.append(job)
            self._change.notify_all()

    def _tokens(self, job: Job) -> int:
        """Return how many tokens a job may come to, at most."""
        questions = [self._session.question_tokens(turn.question) for turn in job.chat.turns]
        answers = [
            len(self._session.tokenizer.encode(turn.answer, specials=False)) for turn in job.chat.turns if turn.answer
        ]
        asked = sum(questions) + sum(answers)
        self._session.check_token_limit(len(job.clip.frames), job.prune, asked)
        return most_tokens(
            self._session.manifest, len(job.clip.frames), job.prune, asked + job.chat.generation.max_tokens
        )

    # Looking

    def _look(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._stopping or (self._waiting and len(self._ready) < LOOKED_AHEAD))
                if self._stopping:
                    for job in self._waiting:
                        job.emit(RefusedError(503, "server_stopping", "the server is ending: ask another one"))
                    self._waiting.clear()
                    return
                job = self._waiting.popleft()
                self._looking = 1
            found = self._guarded(self._looked_at, job) if not job.cancelled else None
            with self._change:
                self._looking = 0
                if found is not None:
                    self._ready.append((job, *found))
                self._change.notify_all()

    def _looked_at(self, job: Job) -> tuple[Vision, Timings]:
        timings, key = Timings(), (*job.clip_key, job.prune)
        vision = self._seen.get(key)
        self._meter.hit("clip", vision is not None)
        if vision is None:
            with self._engine:
                vision = self._session.vision(job.clip, job.prune, timings)
            self._seen.put(key, vision)
        return vision, timings

    # Answering

    def _answer(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._stopping or self._ready or self._running)
                if self._stopping:
                    break
                ready = self._ready.popleft() if self._ready and self._has_room(self._ready[0][0]) else None
                self._change.notify_all()
            if ready is not None and not ready[0].cancelled:
                begun = self._guarded(self._begun, *ready)
                if begun is not None:
                    self._running.append(begun)
            self._running = [answer for answer in self._running if self._guarded(self._goes_on, answer)]
        stopping = RefusedError(503, "server_stopping", "the server is ending, and the answer with it")
        for job in (*(answer.job for answer in self._running), *(job for job, *_ in self._ready)):
            job.emit(stopping)

    def _has_room(self, job: Job) -> bool:
        return len(self._running) < self._limits.answering and job.size + self._used() <= self._budget

    def _used(self) -> int:
        """Return the bytes that the caches of running answers may come to."""
        return sum(answer.job.size for answer in self._running)

    def _begun(self, job: Job, vision: Vision, timings: Timings) -> _Answer:
        turns = job.chat.turns
        conversation = self._kept.take(job.history(turns[:-1])) if turns[:-1] else None
        if turns[:-1]:
            self._meter.hit("conversation", conversation is not None)
        self._kept.shrink(self._budget - job.size - self._used())
        known = 0 if conversation is None else conversation.length
        if conversation is None:
            conversation = Conversation(self._session, job.clip, vision, job.prune, timings)
            for turn in turns[:-1]:
                with self._engine:
                    conversation.recall(turn.question, turn.answer or "")
        pieces = conversation.stream(job.question, job.chat.generation)
        return _Answer(job, conversation, pieces, StopTexts(job.chat.stop), known)

    def _goes_on(self, answer: _Answer) -> bool:
        """Make a token of an answer, and tell whether more are to come."""
        job = answer.job
        if job.cancelled:
            answer.pieces.close()  # type: ignore[attr-defined]
            return False
        with self._engine:
            piece = next(answer.pieces, None)
        said = answer.stop.finish() if piece is None else answer.stop.push(piece)
        if said:
            answer.text.append(said)
            job.emit(said)
        if piece is not None and not answer.stop.found:
            return True
        answer.pieces.close()  # type: ignore[attr-defined]
        self._end(answer)
        return False

    def _end(self, answer: _Answer) -> None:
        job, conversation = answer.job, answer.conversation
        made = conversation.timings.tokens.get("answer_tokens", 0)
        keep = conversation.vision.keep
        usage = Usage(
            conversation.length - made,
            answer.known,
            made,
            keep.size,
            int(keep.sum()),
            dict(conversation.timings.milliseconds),
        )
        reason = "stop" if answer.stop.found else conversation.finish_reason or "stop"
        self._seconds += 0.2 * (time.monotonic() - job.arrived - self._seconds)
        if not answer.stop.found:  # else the cache holds more than was said
            said = Turn(job.question, "".join(answer.text))
            self._kept.put(job.history((*job.chat.turns[:-1], said)), conversation)
            self._kept.shrink(self._budget - self._used() + job.size)
        self._meter.answered(usage)
        job.emit(Done(reason, usage, conversation.notes))

    def _guarded(self, work: Callable[..., Result], on: Job | _Answer, *more: object) -> Result | None:
        """Return what `work` returns; of whatever fails the job is told, and the worker goes on."""
        try:
            return work(on, *more)
        except SttsError as error:
            refused = refused_of(error)
            if refused.status >= 500:
                log.error("a request failed: %s", error)
        except Exception:
            refused = RefusedError(500, "engine_failed", "the model could not answer; the server's log says why")
            log.exception("a request failed")
        (on if isinstance(on, Job) else on.job).emit(refused)
        return None
