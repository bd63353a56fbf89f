"""Datasets as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from stts_export.data.leaks import Leak
from stts_export.data.records import Question
from stts_runtime.text_table import Rows


def split_rows(splits: Mapping[str, Sequence[Question]]) -> Rows:
    """Return a row a kind of questions, with how many of it each split has; the last row counts clips."""
    kinds = sorted({question.kind for questions in splits.values() for question in questions})
    counts = {split: Counter(question.kind for question in questions) for split, questions in splits.items()}
    rows = [(kind, *(str(counts[split][kind]) for split in splits)) for kind in kinds]
    rows.append(("clips", *(str(len({question.clip for question in questions})) for questions in splits.values())))
    return Rows("", ("questions", *splits), tuple(rows))


def leak_rows(leaks: Sequence[Leak]) -> Rows:
    """Return a row a kind: what is right without watching the clip, in per cent of the test split."""
    headers = ("kind", "questions", "chance %", "text alone %", "first frame %", "middle %", "last %", "one frame is")
    rows = tuple(
        (
            leak.kind,
            str(leak.questions),
            *(
                f"{100 * share:.1f}"
                for share in (leak.chance, leak.blind, leak.first_frame, leak.middle_frame, leak.last_frame)
            ),
            "enough" if leak.one_frame_suffices else "not enough",
        )
        for leak in leaks
    )
    return Rows("", headers, rows)
