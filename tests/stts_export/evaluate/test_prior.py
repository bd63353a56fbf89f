from stts_export.data.records import Question
from stts_export.evaluate.prior import blind_answers
from stts_export.evaluate.records import Asked


def trained(*pairs: tuple[str, str]) -> list[Question]:
    return [Question("a.zip", text, answer, kind="count") for text, answer in pairs]


def right(trained_on: list[Question], question: Question) -> bool:
    return blind_answers(trained_on, [Asked("test", question)]).right == "1"


def test_the_most_frequent_answer_to_the_same_text_is_said() -> None:
    known = trained(("How many?", "1"), ("How many?", "2"), ("How many?", "2"), ("Which?", "red"))
    assert right(known, Question("b.zip", "How many?", "2"))
    assert not right(known, Question("b.zip", "How many?", "1"))


def test_only_offered_choices_are_said() -> None:
    known = trained(("How many?", "2"), ("How many?", "2"), ("How many?", "3"))
    assert right(known, Question("b.zip", "How many?", "3", ("1", "3")))


def test_a_new_text_is_answered_as_its_kind_is() -> None:
    known = trained(("How many cars?", "4"), ("How many dogs?", "4"))
    assert right(known, Question("b.zip", "How many birds?", "4", kind="count"))


def test_without_any_knowledge_the_first_choice_is_said() -> None:
    assert right([], Question("b.zip", "Where?", "left", ("left", "right")))
    assert not right([], Question("b.zip", "Where?", "left"))
