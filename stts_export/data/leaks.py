"""How much of a dataset could be answered without watching: from the text alone, or from a single frame."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from stts_export.data.questions import ONE_FRAME_KINDS
from stts_export.data.select import BY_GLIMPSE, Asked, by_text


@dataclass(frozen=True)
class Leak:
    """Accuracies on one kind of questions, each 0 to 1."""

    kind: str
    questions: int  # scored ones in the test split
    chance: float  # one over the number of possible answers, on average
    blind: float  # the answer most frequent in training for the same text and choices
    # the answer most frequent in training where the first frame shows the same of what is asked about;
    # `middle_frame` and `last_frame` likewise
    first_frame: float
    middle_frame: float
    last_frame: float
    one_frame_suffices: bool  # whether the kind asks for what one frame shows


def measure_leaks(train: Sequence[Asked], test: Sequence[Asked]) -> tuple[Leak, ...]:
    """Return, for each kind, how well tables learned on `train` answer `test` without watching the clip."""
    hits = [_hits(train, test, key) for key in (by_text, *BY_GLIMPSE)]
    leaks = []
    for kind in sorted({item.candidate.kind for item in test}):
        where = [index for index, item in enumerate(test) if item.candidate.kind == kind]
        blind, first, middle, last = (round(sum(hit[index] for index in where) / len(where), 4) for hit in hits)
        chance = sum(1 / len(test[index].candidate.options) for index in where) / len(where)
        leaks.append(Leak(kind, len(where), round(chance, 4), blind, first, middle, last, kind in ONE_FRAME_KINDS))
    return tuple(leaks)


def _hits(train: Sequence[Asked], test: Sequence[Asked], key: Callable[[Asked], Hashable]) -> list[bool]:
    """Whether the answer most frequent in training for the same key is right, for each test item."""
    by_key: dict[Hashable, Counter[int]] = defaultdict(Counter)
    by_template: dict[str, Counter[int]] = defaultdict(Counter)
    for item in train:
        by_key[key(item)][item.candidate.role] += 1
        by_template[item.candidate.template][item.candidate.role] += 1
    hits = []
    for item in test:
        counts = by_key.get(key(item)) or by_template.get(item.candidate.template)
        hits.append(counts is not None and counts.most_common(1)[0][0] == item.candidate.role)
    return hits
