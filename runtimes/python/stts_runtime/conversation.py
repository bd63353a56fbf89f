"""Turns about one video, or some images: prompt -> prefill -> decode -> text."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stts_runtime.bundle.manifest import Manifest, Pruning
from stts_runtime.clip.frame_sampling import patch_times
from stts_runtime.clip.images import Images
from stts_runtime.clip.video import Clip
from stts_runtime.engine import Array, Engine
from stts_runtime.errors import LimitError, UsageError
from stts_runtime.language.generation import Decoding, Generation, generation_from
from stts_runtime.language.prompt import (
    MARKER_TOKENS,
    Pieces,
    Times,
    TokenizedTurn,
    build_next_turn,
    first_turn,
    image_pieces,
    unknown_notes,
    video_pieces,
    video_tokens,
)
from stts_runtime.language.tokenizer import TextStream, Tokenizer
from stts_runtime.timings import Timings
from stts_runtime.vision.plan import is_clipped, kept_groups
from stts_runtime.vision.run import Vision


Step = TypeVar("Step")
Sent = TypeVar("Sent")


class Host(Protocol):
    """What a conversation asks of the session that it belongs to."""

    notes: tuple[str, ...]

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    def engine(self, part: str) -> Engine:
        """Return the engine of a part."""


@dataclass(frozen=True)
class Head:
    """What all first questions about a clip begin with, read: up to the end of what is seen."""

    decoding: Decoding
    token_ids: NDArray[np.int64]  # [L], what it has read
    vision: Vision  # whose features it has read


class Conversation:
    """Several turns about one video, or some images, looked at once.

    Attributes:
        clip: the frames, or the images, that were looked at.
        vision: features, scores and what was kept.
        prune_fraction: the share of groups that was asked to go; 0 of images.
        timings: times and token counts of the looking and of the last turn.
        notes: what the user should know, one sentence each; an answer that was cut adds one, and so do a question's
            words that the model does not know.
        answer_ids: tokens of the last answer, as far as it has been made.
    """

    def __init__(
        self,
        session: Host,
        clip: Clip | Images,
        vision: Vision,
        prune_fraction: float,
        timings: Timings,
        head: Head | None = None,
    ) -> None:
        """Begin one; with a `head` of another one about the same `vision`, what is seen is not read again."""
        self.clip, self.vision, self.prune_fraction, self.timings = clip, vision, prune_fraction, timings
        # images are whole in training too
        trained = untrained_note(session.manifest.pruning, prune_fraction) if isinstance(clip, Clip) else ()
        self.notes = (*session.notes, *clip.notes, *trained, *pruning_notes(vision, prune_fraction))
        self.answer_ids: list[int] = []
        self._session = session
        self._decoding: Decoding | None = None
        self._given = head
        self._first: TokenizedTurn | None = None
        self._turns = 0
        self._turn = Lock()  # held from a question to the end of its answer
        self._asker = 0  # the thread that asked, or went on with the answer at last: the lock is its own
        self._change = Lock()  # of turns and asker

    @property
    def profile(self) -> Timings:
        """What `timings` was called before; the same."""
        return self.timings

    @property
    def finish_reason(self) -> str | None:
        """Why the last answer ended: `stop`, as the model said so, or `length`, as it was cut; None until it has."""
        return self.timings.finish_reason

    def ask(self, question: str, **generation: object) -> str:
        """Return the answer.

        Args:
            question: what to ask.
            generation: `max_tokens`, `temperature`, `top_p`, `seed`, see `Generation`.

        Raises:
            UsageError: a setting is unknown or cannot work, or the question is no text.
            LimitError: the conversation has become longer than the bundle was built for.
        """
        return "".join(self.stream(question, generation_from(generation)))

    def stream(self, question: str, settings: Generation | None = None) -> Iterator[str]:
        """Return the answer's text in pieces, as they are made; stopping early leaves a conversation that can go on.

        See `steps`.
        """
        with closing(self.steps(question, settings)) as pieces:
            yield from filter(None, pieces)

    def steps(
        self, question: str, settings: Generation | None = None
    ) -> Generator[str, NDArray[np.float32] | None, None]:
        """Return the answer's text token by token, often empty; stopping early leaves a conversation that can go on.

        Whoever has read the last token elsewhere (`decoding`, `language/rows.py`) sends the logits of the next one.

        One question is answered at a time: another thread's waits until this answer ends, or is closed. The next
        question of the same thread ends it.

        Raises:
            UsageError: a setting cannot work, the question is no text, or an answer is gone on with after the next
                question was asked.
            LimitError: the conversation has become longer than the bundle was built for.
        """
        settings = Generation() if settings is None else settings
        if not isinstance(settings, Generation):
            raise UsageError(f"settings are a {type(settings).__name__}, wanted a Generation, such as Generation(64)")
        settings.check()
        turn = self._begin_turn()
        self.timings.finish_reason = None
        try:
            pieces = self._pieces(question, settings)
            given = None
            while (piece := sent(pieces, given)) is not None:
                given = yield piece
                self._go_on(turn)
        finally:
            self._end_turn(turn)

    def _begin_turn(self) -> int:
        with self._change:
            if self._asker == get_ident():
                self._turns += 1
                return self._turns
        self._turn.acquire()
        with self._change:
            self._asker = get_ident()
            self._turns += 1
            return self._turns

    def _go_on(self, turn: int) -> None:
        with self._change:
            if turn != self._turns:
                raise UsageError("this answer was left for the next question and cannot be gone on with: ask again")
            self._asker = get_ident()  # servers take each piece in another thread

    def _end_turn(self, turn: int) -> None:
        with self._change:
            if turn == self._turns:  # else the next question has taken over
                self._asker = 0
                self._turn.release()

    def recall(self, question: str, answer: str) -> None:
        """Read a turn that was had elsewhere, as if it had been asked and so answered here.

        Raises:
            UsageError: the question is no text, or an answer is being made.
            LimitError: the conversation becomes longer than the bundle was built for.
        """
        turn = self._begin_turn()
        try:
            decoding, prompt, seen = self._prompt(question)
            ids = np.array(self._session.tokenizer.encode(answer, specials=False), np.int64)
            decoding.room(len(prompt.token_ids) + len(ids), 1)
            flags = np.concatenate((prompt.vision_flags, np.zeros(len(ids), bool)))
            decoding.read(np.concatenate((prompt.token_ids, ids)), flags, *features_of(seen))
        finally:
            self._end_turn(turn)

    def head(self) -> Head | None:
        """Return what other conversations about the clip can begin with; None before the first question is read.

        Raises:
            EngineError: there is no room for it.
        """
        if self._first is None or self._decoding is None:
            return None
        count = int(np.flatnonzero(self._first.vision_flags)[-1]) + 1  # up to the last marker
        return Head(self._decoding.head(count), self._first.token_ids[:count], self.vision)

    @property
    def decoding(self) -> Decoding | None:
        """The decoder with what it has read; None before the first question."""
        return self._decoding

    @property
    def length(self) -> int:
        """Tokens of the conversation so far, those of what is seen included."""
        return 0 if self._decoding is None else self._decoding.length

    def _prompt(self, question: str) -> tuple[Decoding, TokenizedTurn, Vision | None]:
        """Return the decoder with its cache, and what it is to read of a question: what is seen in the first turn."""
        manifest, tokenizer = self._session.manifest, self._session.tokenizer
        if self._decoding is None:
            self._decoding = Decoding(self._session.engine("decoder"), manifest)
        if self._decoding.length > 0:
            return self._decoding, build_next_turn(tokenizer, manifest.prompt, manifest.tokens, question), None
        seen = seen_pieces(manifest, self.clip, self.vision)
        prompt = first_turn(tokenizer, manifest.prompt, manifest.tokens, seen, question)
        self._first = prompt
        if self._given is not None and self._given.vision is self.vision:  # ids tell no clips apart
            known = self._given.token_ids
            if np.array_equal(prompt.token_ids[: len(known)], known):
                self._decoding = self._given.decoding.head(len(known))
                rest = TokenizedTurn(prompt.token_ids[len(known) :], prompt.vision_flags[len(known) :])
                return self._decoding, rest, None
        return self._decoding, prompt, self.vision

    def _pieces(self, question: str, settings: Generation) -> Generator[str, NDArray[np.float32] | None, None]:
        tokenizer, is_first = self._session.tokenizer, self.length == 0
        decoding, prompt, seen = self._prompt(question)
        times: Times = ()
        if is_first and isinstance(self.clip, Clip):
            times = patch_times(self.clip.timestamps, self._session.manifest.grid.frames)
        unknown = unknown_notes(tokenizer, question, times)
        self.notes = (*self.notes, *(note for note in unknown if note not in self.notes))
        most = decoding.room(len(prompt.token_ids), settings.max_tokens)
        self.timings.tokens["prompt_tokens"], self.answer_ids = len(prompt.token_ids), []
        for stage in ("prefill", "decode"):
            self.timings.milliseconds.pop(stage, None)
        with self.timings.stage("prefill"):
            logits = decoding.read(prompt.token_ids, prompt.vision_flags, *features_of(seen))
        text = TextStream(tokenizer)
        tokens = decoding.answer(logits, settings, most, self.timings)
        given = None
        while (token := sent(tokens, given)) is not None:
            self.answer_ids.append(token)
            given = yield text.push(token)
        if rest := text.finish():
            yield rest
        if self.finish_reason == "length":
            self.notes = (*self.notes, cut_note(most, settings.max_tokens))


def seen_pieces(manifest: Manifest, clip: Clip | Images, vision: Vision) -> Pieces:
    """Return what a clip, of which some groups were kept, or images are to the language model."""
    if isinstance(clip, Clip):
        times = patch_times(clip.timestamps, manifest.grid.frames)
        return video_pieces(manifest.prompt, manifest.tokens, times, vision.keep.sum(axis=1))
    assert manifest.image is not None  # else there were no images
    return image_pieces(manifest.tokens, clip.layouts, manifest.image)


def features_of(seen: Vision | None) -> tuple[Array | None, NDArray[np.bool_] | None]:
    """Return what a decoder is given of what is seen: features, and which groups they are of."""
    return (None, None) if seen is None else (seen.features, seen.keep)


def check_frames_of_clip(manifest: Manifest, frames: int) -> None:
    """Raise LimitError if the bundle was built for fewer frames."""
    limit = manifest.most_frames
    if frames > limit:
        raise LimitError(
            f"the clip has {frames} frames, the bundle was built for at most {limit}: take fewer frames, or build "
            "again with a larger --max-frames"
        )


def check_video_tokens(manifest: Manifest, frames: int, prune_fraction: float, question: int) -> None:
    """Raise LimitError if so many frames and a question of so many tokens are more than a conversation may have."""
    grid, limit = manifest.grid, manifest.limits.max_tokens
    patches = grid.temporal_patches(frames)
    least = video_tokens(kept_groups(grid.groups, patches, prune_fraction), patches, timestamp=0)
    if least >= limit:
        raise LimitError(
            f"{frames} frames pruned by {prune_fraction:.0%} make at least {least} tokens, the bundle was built "
            f"for {limit}: take fewer frames, prune more, or build again with a larger --max-tokens"
        )
    if least + question >= limit:
        raise LimitError(
            f"the question has {question} tokens and the video at least {least}, the bundle was built for {limit} "
            "in all: shorten the question, or build again with a larger --max-tokens"
        )
    decoder = manifest.decoder
    if decoder.rope_axes == 3 and decoder.max_positions is not None:
        needed = patches * (max(grid.group_rows, grid.group_columns) + MARKER_TOKENS)
        if needed >= decoder.max_positions:
            raise LimitError(
                f"{frames} frames of {grid.group_rows} x {grid.group_columns} groups take at least {needed} positions, "
                f"however many are pruned; the model was made for {decoder.max_positions}: take fewer frames"
            )


def sent(steps: Generator[Step, Sent | None, None], given: Sent | None) -> Step | None:
    """Return a generator's next step, having sent it something; None at its end."""
    try:
        return steps.send(given)
    except StopIteration:
        return None


def cut_note(most: int, max_tokens: int) -> str:
    """Return what a user should know of an answer that ended at `most` tokens, where it might have gone on."""
    if most == max_tokens:
        return f"the answer was cut at {most} tokens: allow more with --max-tokens, or max_tokens in Python"
    return (
        f"the answer was cut at {most} tokens, as the conversation is as long as the bundle was built for: start a new "
        "one, use fewer frames or prune more, or build again with a larger --max-tokens"
    )


def untrained_note(pruning: Pruning, prune_fraction: float) -> tuple[str, ...]:
    """Return what a user should know of a share of groups that the model was not trained to lose."""
    if pruning.trained_fractions is None:
        return ()
    least, most = pruning.trained_fractions
    if least <= prune_fraction <= most:
        return ()
    trained = f"{most:.0%}" if least == most else f"{least:.0%} to {most:.0%}"
    said = f"the model was trained with {trained} of its groups pruned, and runs with {prune_fraction:.0%}"
    return (f"{said}: its accuracy there is not promised",)


def pruning_notes(vision: Vision, prune_fraction: float) -> tuple[str, ...]:
    """Return what a user should know about what was kept."""
    frames, groups = vision.keep.shape
    if prune_fraction == 0 or not is_clipped(groups, frames, prune_fraction):
        return ()
    if frames == 1:
        return ("the video has one frame, which is always kept whole: nothing was pruned",)
    pruned = 1 - vision.keep.mean()
    wanted = f"pruning {prune_fraction:.0%} of {frames} frames would reach into the first frame"
    return (f"{wanted}, which is always kept: {pruned:.0%} was pruned",)
