"""What an evaluation is: questions that were asked, settings they were asked in, and which were answered right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stts_export.data.records import Question


FORMAT = 1
"""Counted up when an older `eval.json` can no longer be read."""

DENSE, ONE_FRAME, BLIND = "dense", "one-frame", "blind"
UNPRUNED = (DENSE, ONE_FRAME, BLIND)
SCORERS = {
    "learned": ("learned", True),
    "learned-no-bias": ("learned", False),
    "cosine": ("cosine", False),
    "cosine-bias": ("cosine", True),
    "random": ("random", False),
    "random-bias": ("random", True),
}
"""Word on the command line -> kind of scorer, and whether its scores bias the block after scoring."""

MAIN, TWIN, PRIOR = "model", "dense twin", "no picture"
"""Names of the subjects that every evaluation may have."""


@dataclass(frozen=True)
class Asked:
    """A question and the split it is from."""

    split: str
    question: Question

    @property
    def clip(self) -> str:
        """Path of the clip that it is asked about."""
        return self.question.clip

    @property
    def key(self) -> tuple[str, str, str, tuple[str, ...]]:
        """What tells it from every other question of the dataset."""
        return self.split, self.question.clip, self.question.question, self.question.choices


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    subject: str  # which weights
    scorer: str  # a word of `SCORERS`; `dense`: nothing is pruned; `blind`: nothing is looked at
    # `one-frame`: dense, and every frame is the middle one, so that nothing happens
    prune: float = 0.0  # share of groups dropped, 0 to 1
    frames: int | None = None  # frames looked at; None for the model's own sampling

    @property
    def label(self) -> str:
        """How messages name it."""
        frames = "" if self.frames is None else f", {self.frames} frames"
        return f"{self.subject}, {self.scorer}{f' {self.prune:.0%}' if self.prune else ''}{frames}"

    @property
    def kind(self) -> str:
        """Kind of scorer, or what there is instead of one."""
        return SCORERS[self.scorer][0] if self.scorer in SCORERS else self.scorer

    @property
    def soft_bias(self) -> bool:
        """Whether scores bias the block after scoring."""
        return self.scorer in SCORERS and SCORERS[self.scorer][1]


@dataclass(frozen=True)
class Answers:
    """How one setting did."""

    setting: Setting  # which
    right: str  # one character a question, in the evaluation's order: 1 for right, 0 for wrong
    seconds: float | None = None  # a question took on average, those on a clip sharing its look; None where not timed
    said: tuple[str, ...] = ()  # what was answered, in the same order; empty where only right or wrong is known

    @property
    def flags(self) -> NDArray[np.bool_]:
        """`right` as bool [Q]."""
        return np.frombuffer(self.right.encode("ascii"), np.uint8) == ord("1")


FATES = ("still", "other change", "thing")
"""What becomes of a group from one frame to the next: nothing; a change, as of water; a thing comes, moves or goes."""


@dataclass(frozen=True)
class Kept:
    """How many groups a scorer keeps, by what became of them; each clip's first frame is left out."""

    subject: str  # which weights
    kind: str  # of scorer
    prune: float  # share of groups dropped
    frames: int | None  # of a clip; None for the model's own sampling
    clips: int  # that were looked at
    kept: tuple[int, ...]  # groups kept, in the order of `FATES`
    groups: tuple[int, ...]  # groups there were


@dataclass(frozen=True)
class Evaluation:
    """Everything an `eval.json` says, but what follows from it."""

    what: str  # the checkpoint or bundle, as it was named
    engine: str  # `torch` or `bundle`
    data: str  # the dataset's name
    device: str  # where it ran
    precision: str  # of the computation
    packing: str  # of the kept patches, `ffd` or `ragged`
    questions: tuple[Asked, ...]  # what was asked
    answers: tuple[Answers, ...]  # one a setting
    seconds: float  # of it all
    notes: tuple[str, ...] = ()  # what a reader should know, one sentence each
    kept: tuple[Kept, ...] = ()  # what the scorers keep, where torch ran and patches are labelled
    format: int = FORMAT  # version of this file


def right_text(flags: Iterable[bool | np.bool_]) -> str:
    """Return whether each question was answered right as `Answers.right`."""
    return "".join("1" if flag else "0" for flag in flags)
