"""The accuracy that a shipped model had when it was measured, and whether it still has it.

It lies beside the weights. What is asked are a few dozen clips from a seed of their own, so that a test can ask them
again in seconds, wherever it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stts_export.data.generate import generate
from stts_export.data.recipe import SplitSizes, read_data_recipe
from stts_export.errors import DataError
from stts_export.evaluate.records import Asked, Evaluation
from stts_export.evaluate.statistics import share
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.swap import write_whole


FILE = "accuracy.json"
FRACTIONS = (0.0, 0.5)
"""Shares of groups to drop that are recorded."""
SPLIT = "test"

_SEED = 20261207  # no dataset that anything is trained on or chosen by has it
_CLIPS = 40  # some 230 questions
_WRITTEN_BY = "make eval-nano NANO_MODEL=MODEL"


@dataclass(frozen=True)
class RecordedShare:
    """The accuracy at one share of pruned groups."""

    prune: float  # share of groups dropped, 0 to 1
    right: int  # questions answered right
    accuracy: float  # share of questions answered right, 0 to 1
    low: float  # lower end of its 95 % interval, 0 to 1: what may not be fallen below; `high` is the upper one
    high: float


@dataclass(frozen=True)
class Recorded:
    """What `accuracy.json` holds."""

    data: str  # the data recipe of the questions
    questions: int  # that were asked
    digest: str  # SHA-256 of what they ask and what is right
    engine: str  # how the model ran, as in `Evaluation`
    precision: str
    packing: str
    shares: tuple[RecordedShare, ...]  # one a setting


def generate_asked(data_recipe: str, folder: Path) -> None:
    """Generate the clips and questions that are asked, in one process.

    Raises:
        RecipeError: there is no such data recipe.
        DataError: the folder holds something else.
    """
    recipe = replace(read_data_recipe(data_recipe), seed=_SEED, clips=SplitSizes(0, 0, _CLIPS, 0))
    generate(recipe, folder, workers=1)


def recorded(evaluation: Evaluation, data_recipe: str) -> Recorded:
    """Return what is to be kept of an evaluation of one subject on the questions of `generate_asked`."""
    shares = []
    for answers in evaluation.answers:
        found = share(answers.flags)
        bounds = (round(value, 5) for value in (found.accuracy, found.low, found.high))
        shares.append(RecordedShare(answers.setting.prune, found.right, *bounds))
    return Recorded(
        data=data_recipe,
        questions=len(evaluation.questions),
        digest=questions_digest(evaluation.questions),
        engine=evaluation.engine,
        precision=evaluation.precision,
        packing=evaluation.packing,
        shares=tuple(shares),
    )


def write_recorded(record: Recorded, folder: Path) -> Path:
    """Write `accuracy.json` into the existing `folder` and return its path."""
    text = json.dumps(to_plain(record), indent=1) + "\n"
    return write_whole(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))


def read_recorded(folder: Path) -> Recorded:
    """Return what `accuracy.json` in `folder` says.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / FILE
    try:
        return from_plain(Recorded, json.loads(path.read_text(encoding="utf-8")), str(path), DataError)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; {_WRITTEN_BY} writes it") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}; {_WRITTEN_BY} writes it") from error


def shortfalls(record: Recorded, evaluation: Evaluation) -> tuple[str, ...]:
    """Return a sentence for each recorded share of pruned groups whose accuracy is now below its interval.

    Raises:
        DataError: the evaluation asked something else, or left out a recorded share.
    """
    if questions_digest(evaluation.questions) != record.digest:
        raise DataError(
            f"{len(evaluation.questions)} questions were asked that are not the {record.questions} recorded ones: the "
            f"dataset {record.data} has changed; measure again with {_WRITTEN_BY}"
        )
    now = {answers.setting.prune: share(answers.flags) for answers in evaluation.answers}
    missing = [f"{one.prune:.0%}" for one in record.shares if one.prune not in now]
    if missing:
        raise DataError(f"recorded, but not asked now: {', '.join(missing)} pruned")
    return tuple(
        f"{one.prune:.0%} pruned: {now[one.prune].right} of {record.questions} right, "
        f"{100 * now[one.prune].accuracy:.1f} %, recorded {100 * one.accuracy:.1f} % [{100 * one.low:.1f}, "
        f"{100 * one.high:.1f}]"
        for one in record.shares
        if now[one.prune].accuracy < one.low
    )


def questions_digest(asked: Sequence[Asked]) -> str:
    """Return the SHA-256 of clips, questions and right answers, in their order."""
    told = [[one.split, one.clip, one.question.prompt, one.question.target] for one in asked]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
