"""The blind baseline: what can be got right without a picture, by saying what was right most often in training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from stts_export.data.records import Question
from stts_export.evaluate.records import BLIND, PRIOR, Answers, Asked, Setting, right_text


def blind_answers(trained_on: Iterable[Question], asked: Sequence[Asked]) -> Answers:
    """Return how often the most frequent training answer to the same text is right.

    Of a text that was not trained on, the most frequent answer of its kind is said; where choices are offered, the
    most frequent of them, and the first of them where none was ever right. Choices make no text of their own: their
    order is shuffled.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for question in trained_on:
        by_text[question.question][question.answer] += 1
        by_kind[question.kind][question.answer] += 1
    right = [_guess(one.question, by_text, by_kind) == one.question.answer for one in asked]
    return Answers(Setting(PRIOR, BLIND), right_text(right))


def _guess(question: Question, by_text: dict[str, Counter[str]], by_kind: dict[str, Counter[str]]) -> str:
    for counts in (by_text.get(question.question), by_kind.get(question.kind)):
        offered = [
            (-count, answer)
            for answer, count in (counts or Counter()).items()
            if not question.choices or answer in question.choices
        ]
        if offered:
            return min(offered)[1]
    return question.choices[0] if question.choices else ""
