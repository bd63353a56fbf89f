"""A request on its way through the worker, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stts_runtime.clip.video import Clip
from stts_runtime.serve.chat import Chat, Turn
from stts_runtime.serve.refused import RefusedError


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


@dataclass(frozen=True)
class Seen:
    """What was looked at, and what was kept of it."""

    frames: NDArray[np.uint8]  # [T, size, size, 3], RGB
    timestamps: NDArray[np.float64]  # [T], seconds
    keep: NDArray[np.bool_]  # [T, G]
    scores: NDArray[np.float32] | None  # [T, G]; None where nothing was scored


Event = str | Seen | Done | RefusedError
"""What a job tells: what was looked at, if it asked; pieces of text; then its end, or why there is none."""


@dataclass(eq=False)
class Job:
    """A request on its way."""

    chat: Chat
    clip: Clip
    clip_key: tuple[object, ...]  # equal for clips that were sent and sampled alike
    prune: float  # share of groups to drop
    asked: int  # tokens of its questions and earlier answers, see `memory.asked_tokens`
    emit: Callable[[Event], None]  # called from the worker's threads
    cancelled: bool = False  # see `Worker.cancel`
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
