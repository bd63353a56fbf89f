"""What a dataset is to the rest of the compiler: questions about clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar


LETTERS = "ABCDEFGH"
CAPTION = "caption"
"""Kind of the questions that are trained on and never scored."""


@dataclass(frozen=True)
class Question:
    """One question about one clip, a line of a split's .jsonl file."""

    clip: str  # path of the clip relative to the dataset's folder
    question: str  # the text, without the choices
    answer: str  # one of `choices` where there are any, else a short text
    choices: tuple[str, ...] = ()  # what can be chosen from; empty for a question that is answered in words
    # what is asked for, such as `count`; accuracy is told by it. `caption` is trained on, never scored.
    kind: str = "other"
    scenario: str = ""  # where the clip was taken; accuracy is told by it
    still: float | None = None  # share of patches, 0 to 1, that do not change between frames; None where not known

    @property
    def prompt(self) -> str:
        """What the model is asked: the question, and the choices by letter where there are any."""
        if not self.choices:
            return self.question
        lettered = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.question, *lettered])

    @property
    def target(self) -> str:
        """What the model should say: the letter of the right choice, or the answer itself."""
        return LETTERS[self.choices.index(self.answer)] if self.choices else self.answer


@dataclass(frozen=True)
class DatasetInfo:
    """`dataset.json` of a generated dataset. A dataset made by hand does without it."""

    name: str
    seed: int  # everything follows from it
    frames: int
    fps: float  # frames a second, as the timestamps say
    classes: tuple[str, ...]  # names of the patch classes; index 0 is the background
    label_side: int  # patches a side of the grid that patch classes are stored on (27)
    splits: dict[str, int]
    # every word and mark of questions and answers in small letters, sorted; empty where the vocabulary is open
    words: tuple[str, ...] = ()


class OnClip(Protocol):
    """Something about a clip."""

    @property
    def clip(self) -> str:
        """Path of the clip relative to the dataset's folder."""


Item = TypeVar("Item", bound=OnClip)


def clips_of(items: Iterable[Item]) -> tuple[tuple[Item, ...], ...]:
    """Return the items by clip, clips in the order of their first item."""
    clips: dict[str, list[Item]] = {}
    for item in items:
        clips.setdefault(item.clip, []).append(item)
    return tuple(map(tuple, clips.values()))
