from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from reference.toy_questions import toy_questions, write_dataset

from stts_export.data.generate import generate
from stts_export.data.read import open_questions
from stts_export.data.recipe import LESSONS, SplitSizes, read_data_recipe
from stts_export.data.records import Question
from stts_export.errors import DataError
from stts_export.evaluate.questions import by_clip, questions_to_ask, spread
from stts_export.evaluate.records import Asked


def asked(count: int, kind: str, split: str = "test") -> list[Asked]:
    return [Asked(split, Question(f"{place}.zip", f"What {kind}?", "a", kind=kind)) for place in range(count)]


def test_captions_are_not_asked(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", toy_questions(clips=2), frames=2)
    found = questions_to_ask(data, ["test"])
    assert len(found) == 6
    assert "caption" not in {one.question.kind for one in found}


def test_lessons_are_not_asked_though_they_are_there(tmp_path: Path) -> None:
    recipe = replace(read_data_recipe("nano"), clips=SplitSizes(train=12, validation=0, test=0, held_out=0))
    generate(recipe, tmp_path, workers=1)
    there = {one.kind for one in open_questions(tmp_path, "train")}
    asked = {one.question.kind for one in questions_to_ask(tmp_path, ["train"])}
    assert there - asked == set(LESSONS["sprites"])
    assert "flash_at" in asked


def test_a_dataset_of_captions_alone_is_refused(tmp_path: Path) -> None:
    captions = [one for one in toy_questions(clips=2) if one.kind == "caption"]
    data = write_dataset(tmp_path / "data", captions, frames=2)
    with pytest.raises(DataError, match=r"no questions to score in test.*Splits here: test"):
        questions_to_ask(data, ["test"])


def test_a_few_questions_are_spread_over_the_kinds_and_always_the_same() -> None:
    pool = asked(100, "count") + asked(50, "order") + asked(3, "rare")
    chosen = spread(pool, 33)
    assert Counter(one.question.kind for one in chosen) == {"count": 15, "order": 15, "rare": 3}
    assert chosen == spread(pool, 33)
    assert [pool.index(one) for one in chosen] == sorted(pool.index(one) for one in chosen)


def test_a_larger_choice_holds_the_smaller_one() -> None:
    pool = asked(100, "count") + asked(50, "order")
    assert set(spread(pool, 10)) <= set(spread(pool, 40))


def test_asking_for_more_than_there_is_takes_all() -> None:
    pool = asked(5, "count")
    assert spread(pool, 100) == pool


def test_questions_on_a_clip_stand_beside_each_other() -> None:
    mixed = asked(3, "count") + asked(3, "order")
    assert [one.question.clip for one in by_clip(mixed)] == ["0.zip", "0.zip", "1.zip", "1.zip", "2.zip", "2.zip"]
