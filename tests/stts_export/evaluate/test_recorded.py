from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_evaluation import toy_evaluation

from stts_export.data.read import splits_of
from stts_export.errors import DataError
from stts_export.evaluate.questions import questions_to_ask
from stts_export.evaluate.recorded import (
    FILE,
    SPLIT,
    generate_asked,
    read_recorded,
    recorded,
    shortfalls,
    write_recorded,
)
from stts_export.evaluate.records import Evaluation, Setting


DENSE, PRUNED = Setting("model", "dense"), Setting("model", "learned", 0.5)


def measured(dense: float = 0.95, pruned: float = 0.9, questions: int = 200) -> Evaluation:
    return toy_evaluation(questions, {DENSE: dense, PRUNED: pruned})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = recorded(measured(), "nano")
    assert write_recorded(record, tmp_path) == tmp_path / FILE
    assert read_recorded(tmp_path) == record
    assert (record.data, record.questions, [one.prune for one in record.shares]) == ("nano", 200, [0.0, 0.5])
    assert all(0 < one.low < one.accuracy == one.right / 200 < one.high < 1 for one in record.shares)


def test_accuracy_below_the_interval_is_told_and_within_or_above_it_is_not() -> None:
    record = recorded(measured(), "nano")
    assert shortfalls(record, measured()) == ()
    assert shortfalls(record, measured(dense=0.93, pruned=1.0)) == ()
    (told,) = shortfalls(record, measured(dense=1.0, pruned=0.7))
    assert told.startswith("50% pruned: 1")
    assert " of 200 right, " in told


def test_other_questions_or_answers_are_no_measurement() -> None:
    record, now = recorded(measured(), "nano"), measured()
    with pytest.raises(DataError, match="196 questions were asked that are not the 200 recorded ones: the data"):
        shortfalls(record, measured(questions=196))
    first, *rest = now.questions
    other = replace(now, questions=(replace(first, question=replace(first.question, answer="no")), *rest))
    with pytest.raises(DataError, match="are not the 200 recorded ones"):
        shortfalls(record, other)


def test_a_recorded_share_that_was_not_asked_is_told() -> None:
    record, now = recorded(measured(), "nano"), measured()
    with pytest.raises(DataError, match="recorded, but not asked now: 50% pruned"):
        shortfalls(record, replace(now, answers=now.answers[:1]))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"data": "nano"}'])
def test_a_record_that_is_missing_or_damaged_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match=r"accuracy\.json"):
        read_recorded(tmp_path)


def test_what_is_asked_are_some_two_hundred_questions_of_a_test_split_of_its_own(tmp_path: Path) -> None:
    generate_asked("nano", tmp_path)
    assert splits_of(tmp_path) == (SPLIT,)
    asked = questions_to_ask(tmp_path, (SPLIT,))
    assert 200 <= len(asked) <= 300
    assert len({one.question.kind for one in asked}) == 8
    assert all(one.question.scenario != "rings" for one in asked)  # the held-out one
