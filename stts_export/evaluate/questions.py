"""Which questions are asked."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from stts_export.data.read import open_questions, splits_of, unscored_kinds
from stts_export.data.records import Question, clips_of
from stts_export.errors import DataError
from stts_export.evaluate.records import Asked


_SEED = 20260318


def questions_to_ask(data: Path, splits: Sequence[str], most: int | None = None) -> tuple[Asked, ...]:
    """Return the questions of these splits, those on one clip beside each other.

    Captions and lessons, which are trained on and never scored, are left out. Where `most` is given, so many are
    taken, spread evenly over the kinds, the same ones every time.

    Raises:
        DataError: a split is missing, damaged, or has nothing to score.
    """
    asked = [Asked(split, question) for split in dict.fromkeys(splits) for question in scored_questions(data, split)]
    if not asked:
        raise DataError(
            f"{data}: no questions to score in {', '.join(splits)} (captions and lessons are trained on, never "
            f"scored). Splits here: {', '.join(splits_of(data)) or 'none'}"
        )
    return by_clip(asked if most is None else spread(asked, most))


def spread(asked: Sequence[Asked], most: int) -> list[Asked]:
    """Return `most` of the questions: one of each kind in turn, drawn with a fixed seed, in their old order."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(asked):
        kinds[one.question.kind].append(place)
    for kind, places in kinds.items():
        random.Random(f"{_SEED} {kind}").shuffle(places)
    in_turn = [place for row in zip_longest(*kinds.values()) for place in row if place is not None]
    return [asked[place] for place in sorted(in_turn[:most])]


def by_clip(asked: Iterable[Asked]) -> tuple[Asked, ...]:
    """Return the questions with those on one clip beside each other, clips in the order of their first question."""
    return tuple(one for group in clips_of(asked) for one in group)


def scored_questions(data: Path, split: str) -> list[Question]:
    """Return the questions of a split but for those of kinds that are trained on and never scored."""
    unscored = unscored_kinds(data)
    return [question for question in open_questions(data, split) if question.kind not in unscored]
