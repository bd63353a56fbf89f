"""Token rows for training: several clips a row, each with several questions that do not see each other.

    row:  | clip 1: video | question + answer | question + answer | clip 2: video | question + answer | ... | padding |
           `------ trunk '`---- branch 1 ----'`---- branch 2 ----'

Every branch goes on where the trunk ends, as if it stood there alone, so the ids and positions of trunk and branch are
those that the runtime sends for the same question. A branch may also be a conversation of several questions, as the
runtime holds it. Packing of several clips a row is STTS's (arXiv 2603.18004), several questions a clip Molmo2's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stts_export.data.records import Question
from stts_export.recipe.config import ModelConfig
from stts_runtime.bundle.manifest import Grid, Prompt, Tokens
from stts_runtime.language.prompt import build_first_turn, build_next_turn, vision_flags
from stts_runtime.language.rope_positions import rope_positions
from stts_runtime.language.tokenizer import Tokenizer


NO_TARGET = -100
PADDING = -1
_ALIGNMENT = 16  # rows are padded to a multiple, which kernels like and so that few different lengths occur


@dataclass(frozen=True)
class Rows:
    """A batch as the decoder reads it: R rows of S tokens."""

    token_ids: NDArray[np.int64]  # [R, S]
    feature_rows: NDArray[np.int64]  # [R, S], the row of the batch's features an image patch is given; 0 elsewhere
    positions: NDArray[np.int64]  # [R, S], places in a sequence of trunk and branch, which say who is earlier
    # [R, S, 3], time, row and column that a token is turned by, or [R, S, 1], its place, where a model turns by that
    rope_positions: NDArray[np.int64]
    clips: NDArray[np.int64]  # [R, S], the clip a token belongs to; -1 for padding
    branches: NDArray[np.int64]  # [R, S], 0 in a trunk, else counted from 1 within the clip
    vision_flags: NDArray[np.bool_]  # [R, S]
    targets: NDArray[np.int64]  # [R, S], the id to be predicted at a place; -100 where nothing is
    # [R, S], of a target: an answer of n tokens weighs sqrt(n) in all, as Molmo2 is trained
    weights: NDArray[np.float32]
    questions: NDArray[np.int64]  # [R, S], the question, in batch order, whose answer has the target; -1 elsewhere


@dataclass(frozen=True)
class ClipTokens:
    """What is known of one clip in a row."""

    timestamps: NDArray[np.float64]  # [T], of its temporal patches
    keep: NDArray[np.bool_]  # [T, G], the groups that are kept
    questions: tuple[Question, ...]  # that are asked


class RowWriter:
    """Turns clips and questions into token rows; remembers the ids of questions it has seen."""

    def __init__(self, tokenizer: Tokenizer, prompt: Prompt, tokens: Tokens, turned: Grid | None = None) -> None:
        """Write rows for a model; `turned` is its grid where it turns tokens by time, row and column."""
        self.tokenizer, self.prompt, self.tokens, self.turned = tokenizer, prompt, tokens, turned
        self.branch = lru_cache(maxsize=65536)(self._branch)
        self.follow_up = lru_cache(maxsize=65536)(self._follow_up)

    def rows(self, clips: Sequence[ClipTokens], row_tokens: int, turns: int = 1) -> Rows:
        """Return the rows of a batch; a clip that is longer than `row_tokens` gets a longer row to itself.

        With more than one of `turns`, some of a clip's questions follow others in one conversation, with the wanted
        answers between them; as many branches have one turn as have two, and so on.
        """
        pieces: list[Rows] = []
        features = questions = 0
        for number, clip in enumerate(clips):
            pieces.append(self._clip(number, clip, features, questions, turns))
            features += int(clip.keep.sum())
            questions += len(clip.questions)
        groups = _first_fit([piece.token_ids.shape[1] for piece in pieces], row_tokens)
        length = max(sum(pieces[index].token_ids.shape[1] for index in group) for group in groups)
        return _stacked([[pieces[index] for index in group] for group in groups], -(-length // _ALIGNMENT) * _ALIGNMENT)

    def _clip(self, number: int, clip: ClipTokens, first_feature: int, first_question: int, turns: int) -> Rows:
        """Return one clip's trunk and branches as a single row."""
        trunk = self._trunk(clip)
        parts, answers = [trunk], []  # answers: where in the row a question's answer begins, and its ids
        end = len(trunk)
        for branch in _conversations(clip.questions, turns, number):
            said: list[NDArray[np.int64]] = []
            for turn, question in enumerate(branch):
                opening, answer = self.branch(question.prompt, question.target)
                # the answer stays without its stop, which the next turn begins with
                said = [*said[:-1], said[-1][:-1], self.follow_up(question.prompt)] if turn else [opening]
                answers.append((end + sum(map(len, said)), answer))
                said.append(answer)
            parts.append(np.concatenate(said))
            end += len(parts[-1])
        lengths = [len(part) for part in parts]
        ids = np.concatenate(parts)
        is_patch = ids == self.tokens.image_patch
        places = np.concatenate([np.arange(lengths[0]), *(lengths[0] + np.arange(length) for length in lengths[1:])])
        turned: NDArray[np.int64] = places[:, None]
        if self.turned is not None:  # text behind the frames is turned by one number, further on than its place
            of_trunk, following = rope_positions(trunk, self.tokens, clip.keep, self.turned)
            behind = np.repeat(turned[len(trunk) :] + following - len(trunk), 3, axis=1)
            turned = np.concatenate([of_trunk.T, behind])
        targets = np.full(len(ids), NO_TARGET, np.int64)
        weights = np.zeros(len(ids), np.float32)
        asked = np.full(len(ids), PADDING, np.int64)
        for index, (begin, answer) in enumerate(answers):
            # a place predicts the token behind it: from the prompt's last to the answer's last but one
            answered = slice(begin - 1, begin - 1 + len(answer))
            targets[answered], weights[answered] = answer, len(answer) ** -0.5
            asked[answered] = first_question + index
        return Rows(
            token_ids=ids[None],
            feature_rows=np.where(is_patch, first_feature + np.cumsum(is_patch) - 1, 0)[None],
            positions=places[None],
            rope_positions=turned[None],
            clips=np.full((1, len(ids)), number),
            branches=np.repeat(np.arange(len(parts)), lengths)[None],
            vision_flags=vision_flags(ids, self.tokens)[None],
            targets=targets[None],
            weights=weights[None],
            questions=asked[None],
        )

    def _trunk(self, clip: ClipTokens) -> NDArray[np.int64]:
        """Return the ids up to the video's last marker; which question follows does not matter."""
        kept = clip.keep.sum(axis=1)
        turn = build_first_turn(self.tokenizer, self.prompt, self.tokens, clip.timestamps, kept, "?")
        return turn.token_ids[: np.flatnonzero(turn.vision_flags)[-1] + 1]

    def _branch(self, prompt: str, answer: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids from behind the video to the opening of the answer, and those of the answer with its end."""
        turn = build_first_turn(self.tokenizer, self.prompt, self.tokens, [0.0], [1], prompt)
        opening = turn.token_ids[np.flatnonzero(turn.vision_flags)[-1] + 1 :]
        return opening, np.array([*self.tokenizer.encode(answer, specials=False), self.tokens.stop[0]], np.int64)

    def _follow_up(self, prompt: str) -> NDArray[np.int64]:
        """Return the ids from the end of the answer before a question to the opening of its own."""
        return build_next_turn(self.tokenizer, self.prompt, self.tokens, prompt).token_ids


def row_writer(tokenizer: Tokenizer, config: ModelConfig) -> RowWriter:
    """Return the writer of a model's rows."""
    turned = None if config.decoder.rope_sections is None else config.grid
    return RowWriter(tokenizer, config.prompt, config.tokens, turned)


def _conversations(questions: Sequence[Question], turns: int, number: int) -> Iterator[Sequence[Question]]:
    """Yield the questions of clip `number` in their order, by branch: of one turn, of two, and so on up to `turns`."""
    start = 0
    while start < len(questions):
        count = 1 + number % turns
        yield questions[start : start + count]
        start, number = start + count, number + 1


def _first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return which clips share a row, longest first, each into the first row with room for it."""
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, free in enumerate(left) if free >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(max(room, lengths[index]))
        rows[row].append(index)
        left[row] -= lengths[index]
    return rows


def _stacked(groups: Sequence[Sequence[Rows]], length: int) -> Rows:
    empty = {"token_ids": 0, "feature_rows": 0, "positions": 0, "rope_positions": 0, "clips": PADDING, "branches": 0}
    empty |= {"vision_flags": False, "targets": NO_TARGET, "weights": 0, "questions": PADDING}

    def column(name: str, filler: int) -> NDArray:
        rows = [np.concatenate([getattr(piece, name)[0] for piece in group]) for group in groups]
        return np.stack([_filled(row, length, filler) for row in rows])

    return Rows(**{name: column(name, filler) for name, filler in empty.items()})


def _filled(row: NDArray, length: int, filler: int) -> NDArray:
    """Return a row [S, ...] with `filler` behind it up to `length` places."""
    return np.pad(row, [(0, length - len(row)), *[(0, 0)] * (row.ndim - 1)], constant_values=filler)
