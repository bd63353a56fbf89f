from dataclasses import replace

import pytest
from reference.toy_evaluation import toy_evaluation, with_engine

from stts_export.errors import UsageError
from stts_export.evaluate.compare import agreement_rows, compare, differing_conditions
from stts_export.evaluate.records import Answers, Evaluation, Setting


LEARNED = Setting("model", "learned", 0.5, 8)


def one_setting(evaluation: Evaluation, flips: int = 0, subject: str = "model") -> Evaluation:
    right = next(one.right for one in evaluation.answers if one.setting == LEARNED)
    flipped = "".join("10"[int(flag)] for flag in right[:flips]) + right[flips:]
    setting = replace(LEARNED, subject=subject)
    return with_engine(replace(evaluation, answers=(Answers(setting, flipped),)), "bundle")


def test_equal_answers_agree_whatever_the_weights_are_called() -> None:
    first = toy_evaluation()
    (found,) = compare(first, one_setting(first, subject="other"))
    assert found.ok
    assert (found.points, found.same) == (0.0, 1.0)


def test_a_single_answer_of_four_hundred_is_too_much() -> None:
    first = toy_evaluation()
    (found,) = compare(first, one_setting(first, flips=1))
    assert not found.ok
    assert abs(found.points) == pytest.approx(0.25)
    table = agreement_rows(first, one_setting(first, flips=1), (found,))
    assert table.rows[0][-1] == "NO"
    assert table.headers[6:8] == ("% torch", "% bundle")


def test_flips_that_cancel_are_seen_in_the_share_alike() -> None:
    first = toy_evaluation()
    (found,) = compare(first, one_setting(first, flips=400))
    assert found.same == 0.0


def test_conditions_that_may_move_answers_are_named() -> None:
    first = toy_evaluation()
    assert differing_conditions(first, one_setting(first)) == ()
    other = "ragged" if first.packing == "ffd" else "ffd"
    (told,) = differing_conditions(first, replace(one_setting(first), packing=other))
    assert told == f"packing differs: {first.packing} beside {other}"


def test_only_questions_of_both_are_compared() -> None:
    first = toy_evaluation()
    second = one_setting(first)
    half = replace(
        second,
        questions=second.questions[200:],
        answers=tuple(replace(one, right=one.right[200:]) for one in second.answers),
    )
    (found,) = compare(first, half)
    assert (found.questions, found.same) == (200, 1.0)


def test_evaluations_with_nothing_in_common_are_refused() -> None:
    first = toy_evaluation()
    second = one_setting(first)
    others = tuple(replace(one, split="elsewhere") for one in second.questions)
    with pytest.raises(UsageError, match="no question in common"):
        compare(first, replace(second, questions=others))
    moved = tuple(replace(one, setting=replace(one.setting, prune=0.4)) for one in second.answers)
    with pytest.raises(UsageError, match="no setting in common"):
        compare(first, replace(second, answers=moved))
