"""One model, many requests: a queue with a bound, clips looked at in turn, answers made side by side, a token each.

    submit -> waiting -> [look] -> ready -> [read the prompt, then a token a round] -> done

Two threads: one looks at clips, one reads and answers. So running answers wait for no vision where the engine can run
beside itself, and between two of their tokens lie at most one prompt, its earlier turns included, and one token of each
of the others. A bundle that was built for it (`build --batch`) makes the tokens of a round in one run.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stts_runtime.conversation import Conversation, Head, sent
from stts_runtime.errors import SttsError
from stts_runtime.language.generation import Decoding
from stts_runtime.language.rows import Rows
from stts_runtime.serve.chat import Turn
from stts_runtime.serve.job import Done, Job, Meter, Seen, Usage
from stts_runtime.serve.limits import ServerLimits
from stts_runtime.serve.memory import cache_bytes, features_bytes, most_tokens
from stts_runtime.serve.refused import RefusedError, failure, refused_of, stopping
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
_LONGEST_WAIT = 600  # seconds that a client is told to stay away


@dataclass(eq=False)
class _Answer:
    """An answer that is being made."""

    job: Job
    conversation: Conversation
    pieces: Generator[str, NDArray[np.float32] | None, None]
    stop: StopTexts
    known: int  # tokens of the conversation that were cached before
    notes: tuple[str, ...]  # of the conversation, before this turn
    begun: float = field(default_factory=time.monotonic)
    text: list[str] = field(default_factory=list)
    is_asked: bool = False  # whether its prompt was read

    @property
    def decoding(self) -> Decoding:
        """The conversation's decoder, once its prompt was read."""
        assert self.conversation.decoding is not None
        return self.conversation.decoding


class Worker:
    """The threads that own a session."""

    def __init__(self, session: Session, limits: ServerLimits, meter: Meter) -> None:
        self._session, self._limits, self._meter = session, limits, meter
        self._change = threading.Condition()
        self._jobs: set[Job] = set()  # that were let in and have not been told an end
        self._waiting: deque[Job] = deque()
        self._looking: Job | None = None
        self._ready: deque[tuple[Job, Vision, Timings]] = deque()
        self._running: list[_Answer] = []
        self._seen: Recent[Vision] = Recent(limits.seen_mib << 20, features_bytes)
        spec = session.manifest.graphs["decoder"].spec
        self._bytes_of = lambda tokens: cache_bytes(spec, tokens, session.manifest.limits.max_tokens)
        self._budget = limits.cache_mib << 20
        self._kept: Recent[Conversation | Head] = Recent(self._budget, self._bytes_kept)
        self._stopping = False
        self._seconds = _FIRST_GUESS  # of an answer, on average
        rows = session.manifest.limits.max_rows
        self._rows = Rows(session.engine("decoder_rows"), session.manifest) if rows > 1 else None
        self._most = limits.answering if self._rows is None else min(limits.answering, rows)
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
        """Tell everyone that the server ends, and wait for the engines to finish what they are at: a clip, a token."""
        self.end()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def end(self) -> None:
        """Take no more requests, and tell everyone who waits or is answered; returns at once."""
        with self._change:
            self._stopping = True
            told, self._jobs = self._jobs, set()
            for job in told:
                job.cancelled = True
            self._change.notify_all()
        for job in told:
            job.emit(stopping())

    @property
    def is_alive(self) -> bool:
        """Whether requests would be answered."""
        return not self._stopping and all(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> int:
        """Requests that no token has been made for."""
        return len(self._waiting) + (self._looking is not None) + len(self._ready)

    @property
    def running(self) -> int:
        """Answers that are being made."""
        return len(self._running)

    @property
    def is_batching(self) -> bool:
        """Whether tokens of running answers are made together."""
        return self._rows is not None

    @property
    def kept(self) -> int:
        """Conversations whose cache is kept."""
        return len(self._kept)

    def submit(self, job: Job) -> None:
        """Let a request wait for its turn.

        Raises:
            LimitError: the bundle was built for fewer frames or tokens.
            RefusedError: too many wait, it can never fit, or the server is ending.
        """
        self._session.check_token_limit(len(job.clip.frames), job.prune, job.asked)
        frames, turns, more = len(job.clip.frames), len(job.chat.turns), job.asked + job.chat.generation.max_tokens
        job.size = self._bytes_of(most_tokens(self._session.manifest, frames, job.prune, turns, more))
        if job.size > self._budget:
            raise RefusedError(
                400,
                "context_length_exceeded",
                f"clip, questions and answer may take {job.size >> 20} MiB of cache, and the server has "
                f"{self._budget >> 20} MiB: ask for fewer max_tokens, send fewer frames, or prune more",
            )
        with self._change:
            if self._stopping:
                raise stopping()
            if self.waiting >= self._limits.waiting:
                raise RefusedError(
                    429,
                    "server_busy",
                    f"{self.waiting} requests wait already: ask again later",
                    retry_after=self.patience(),
                )
            self._jobs.add(job)
            self._waiting.append(job)
            self._change.notify_all()

    def patience(self) -> int:
        """Return after how many seconds there may be room again."""
        rounds = (self.waiting + self.running) / self._limits.answering
        return min(max(1, math.ceil(rounds * self._seconds)), _LONGEST_WAIT)

    def cancel(self, job: Job) -> None:
        """Let go of a request: it leaves the queue at once, or its answer ends before the next token."""
        with self._change:
            job.cancelled = True
            self._jobs.discard(job)
            with contextlib.suppress(ValueError):
                self._waiting.remove(job)
            self._ready = deque(ready for ready in self._ready if ready[0] is not job)
            self._change.notify_all()

    def _end(self, job: Job, event: Done | RefusedError) -> None:
        """Tell a job its end, unless it was told one."""
        with self._change:
            is_told = job not in self._jobs
            self._jobs.discard(job)
        if not is_told:
            job.emit(event)

    # Looking

    def _look(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._stopping or (self._waiting and len(self._ready) < LOOKED_AHEAD))
                if self._stopping:
                    return
                self._looking = job = self._waiting.popleft()
            found = self._guarded(self._looked_at, job)
            with self._change:
                self._looking = None
                if found is not None and not job.cancelled:
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
                    return
                ready = self._ready.popleft() if self._ready and self._has_room(self._ready[0][0]) else None
                self._change.notify_all()
            begun = self._guarded(self._begun, *ready) if ready is not None else None
            if begun is not None:
                self._running.append(begun)
            self._make_tokens()

    def _make_tokens(self) -> None:
        """Make a token of each running answer: together, where the bundle can, those whose prompt has been read."""
        for answer in self._running:
            if answer.job.cancelled:
                self._let_go(answer, keep=False)
        running = [answer for answer in self._running if not answer.job.cancelled]
        asked = [answer for answer in running if answer.is_asked]
        logits = self._read_together(asked) if asked else {}
        self._running = [answer for answer in running if self._guarded(self._goes_on, answer, logits.get(id(answer)))]
        for answer in running:
            if answer not in self._running:
                self._let_go(answer, keep=False)

    def _read_together(self, answers: list[_Answer]) -> dict[int, NDArray[np.float32]]:
        """Return logits of the next token of each answer, by its id; of none that is to read by itself, or has all."""
        if self._rows is None:
            return {}
        for answer in answers:
            if not answer.decoding.unread and answer.decoding in self._rows:  # only the rest of its text is to come
                self._rows.leave(answer.decoding, keep=True)
        answers = [answer for answer in answers if answer.decoding.unread]
        decodings = [answer.decoding for answer in answers]
        if not answers or (len(answers) == 1 and decodings[0] not in self._rows):
            return {}
        start = time.perf_counter()
        try:
            with self._engine:
                logits = self._rows.step(decodings)
        except BaseException as error:  # of whatever it is, all of them are told
            self._rows = Rows(self._session.engine("decoder_rows"), self._session.manifest)
            for answer in answers:
                answer.job.cancelled = True
                self._end(answer.job, refused_of(error) if isinstance(error, SttsError) else failure(error))
            return {}
        taken = 1e3 * (time.perf_counter() - start)
        for answer in answers:
            stages = answer.conversation.timings.milliseconds
            stages["decode"] = stages.get("decode", 0.0) + taken
        return {id(answer): row for answer, row in zip(answers, logits, strict=True)}

    def _let_go(self, answer: _Answer, keep: bool) -> None:
        """End an answer's text, and give its conversation a cache of its own again if it is to be kept."""
        answer.pieces.close()
        if self._rows is not None and answer.is_asked and answer.decoding in self._rows:
            self._rows.leave(answer.decoding, keep)

    def _has_room(self, job: Job) -> bool:
        return len(self._running) < self._most and job.size + self._used() <= self._budget

    def _used(self) -> int:
        """Return the bytes that the caches of running answers may come to: rows are all as long as the longest."""
        sizes = [answer.job.size for answer in self._running]
        return sum(sizes) if self._rows is None else len(sizes) * max(sizes, default=0)

    def _bytes_kept(self, kept: Conversation | Head) -> int:
        """Return the bytes of what is kept: its cache, and of a conversation the clip that it is about."""
        if isinstance(kept, Head):
            return self._bytes_of(kept.decoding.length) + features_bytes(kept.vision)
        return self._bytes_of(kept.length) + kept.clip.nbytes + features_bytes(kept.vision)

    def _begun(self, job: Job, vision: Vision, timings: Timings) -> _Answer:
        turns = job.chat.turns
        conversation = self._kept.take(job.history(turns[:-1])) if turns[:-1] else None
        if turns[:-1]:
            self._meter.hit("conversation", conversation is not None)
        head = None if conversation is not None else self._kept.get(job.history(()))
        self._kept.shrink(self._budget - job.size - self._used())
        known = 0
        if isinstance(conversation, Conversation):
            known, conversation.timings = conversation.length, timings
        else:
            head = head if isinstance(head, Head) and head.vision is vision else None
            self._meter.hit("video", head is not None)
            known = 0 if head is None else len(head.token_ids)
            conversation = Conversation(self._session, job.clip, vision, job.prune, timings, head)
            for turn in turns[:-1]:
                with self._engine:
                    conversation.recall(turn.question, turn.answer or "")
        if job.chat.explain:
            job.emit(Seen(*job.clip.patches(self._session.manifest.grid.frames), vision.keep, vision.scores))
        pieces = conversation.steps(job.question, job.chat.generation)
        return _Answer(job, conversation, pieces, StopTexts(job.chat.stop), known, conversation.notes)

    def _goes_on(self, answer: _Answer, logits: NDArray[np.float32] | None = None) -> bool:
        """Make a token of an answer, of its logits where they are known, and tell whether more are to come."""
        job = answer.job
        if job.cancelled:
            return False
        with self._engine:
            piece = sent(answer.pieces, logits)
            if not answer.is_asked and answer.known == 0:
                self._keep_head(answer)
        answer.is_asked = True
        said = answer.stop.finish() if piece is None else answer.stop.push(piece)
        if said:
            answer.text.append(said)
            job.emit(said)
        if piece is not None and not answer.stop.found:
            return True
        self._ended(answer)
        return False

    def _ended(self, answer: _Answer) -> None:
        job, conversation = answer.job, answer.conversation
        made = len(conversation.answer_ids)
        keep = conversation.vision.keep
        usage = Usage(
            conversation.length - made,
            answer.known,
            made,
            keep.size,
            int(keep.sum()),
            dict(conversation.timings.milliseconds),
        )
        # The session's notes are for whoever runs the server, and may name its paths.
        notes = tuple(note for note in conversation.notes if note not in self._session.notes)
        done = Done("stop" if answer.stop.found else conversation.finish_reason or "stop", usage, notes)
        self._seconds += 0.2 * (time.monotonic() - answer.begun - self._seconds)
        self._keep(answer)
        self._meter.answered(usage)
        self._end(job, done)

    def _keep_head(self, answer: _Answer) -> None:
        """Keep what was read of the video for other conversations about it, if there is room beside the answers."""
        job, room = answer.job, self._budget - self._used() - answer.job.size
        if job.size <= room and (head := answer.conversation.head()) is not None:
            self._kept.put(job.history(()), head)
            self._kept.shrink(room)

    def _keep(self, answer: _Answer) -> None:
        """Keep a conversation for its next turn, if reading its text would give the tokens that it consists of."""
        job, conversation, text = answer.job, answer.conversation, "".join(answer.text)
        if answer.stop.found or self._session.tokenizer.encode(text, specials=False) != conversation.answer_ids:
            return
        self._let_go(answer, keep=True)
        conversation.notes = answer.notes
        self._kept.put(job.history((*job.chat.turns[:-1], Turn(job.question, text))), conversation)
        self._kept.shrink(self._budget - self._used() + job.size)

    def _guarded(self, work: Callable[..., Result], on: Job | _Answer, *more: object) -> Result | None:
        """Return what `work` returns; of whatever fails the job is told, and the worker goes on."""
        try:
            return work(on, *more)
        except SttsError as error:
            refused = refused_of(error)
            if refused.status >= 500:
                log.error("a request failed: %s", error)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            refused = failure(error)
        self._end(on if isinstance(on, Job) else on.job, refused)
        return None
