from dataclasses import replace

import pytest
from reference.toy_evaluation import SETTINGS, toy_evaluation

from stts_export.evaluate.records import Setting
from stts_export.evaluate.summary import Row, Summary, summarise
from stts_export.evaluate.table import tables


def row_of(summary: Summary, setting: Setting) -> Row:
    return next(row for row in summary.rows if row.setting == setting)


def test_every_setting_is_counted_as_it_answered() -> None:
    evaluation = toy_evaluation()
    for row, one in zip(summarise(evaluation).rows, evaluation.answers, strict=True):
        assert row.overall.right == one.right.count("1")
        assert row.overall.accuracy == pytest.approx(SETTINGS[one.setting], abs=0.06)


def test_the_parts_of_a_facet_make_up_the_whole() -> None:
    for row in summarise(toy_evaluation()).rows:
        for values in row.parts.values():
            assert sum(one.questions for one in values.values()) == row.overall.questions
            assert sum(one.right for one in values.values()) == row.overall.right


def test_still_shares_are_cut_into_thirds_and_unknown_ones_told() -> None:
    still = summarise(toy_evaluation()).rows[0].parts["still"]
    assert list(still)[-1] == "unknown"
    assert still["unknown"].questions == 40
    known = [one.questions for name, one in still.items() if name != "unknown"]
    assert len(known) == 3
    assert max(known) - min(known) < 40


def test_unknown_still_shares_alone_make_no_facet() -> None:
    evaluation = toy_evaluation()
    nothing_known = tuple(
        replace(one, question=replace(one.question, still=None, scenario="")) for one in evaluation.questions
    )
    parts = summarise(replace(evaluation, questions=nothing_known)).rows[0].parts
    assert "still" not in parts
    assert list(parts["scenario"]) == ["unknown"]


def test_differences_are_told_against_the_dense_twin_where_there_is_one() -> None:
    summary = summarise(toy_evaluation())
    learned = row_of(summary, Setting("model", "learned", 0.5, 8))
    assert summary.reference == "dense twin"
    assert learned.against_dense is not None
    assert learned.against_dense.value == pytest.approx(-0.1, abs=0.04)
    assert learned.against_random is not None
    assert learned.against_random.low > 0
    assert row_of(summary, Setting("dense twin", "dense", 0.0, 8)).against_dense is None
    assert row_of(summary, Setting("no picture", "blind")).against_dense is not None


def test_without_a_twin_they_are_told_against_the_model_dense() -> None:
    alone = {setting: rate for setting, rate in SETTINGS.items() if setting.subject != "dense twin"}
    summary = summarise(toy_evaluation(settings=alone))
    learned = row_of(summary, Setting("model", "learned", 0.5, 8))
    assert summary.reference == "model"
    assert learned.against_dense is not None
    assert learned.against_dense.value == pytest.approx(-0.05, abs=0.04)


def test_more_frames_are_told_against_fewer_at_the_same_setting() -> None:
    more = row_of(summarise(toy_evaluation()), Setting("model", "learned", 0.5, 16))
    assert more.against_fewer is not None
    assert more.against_fewer.value == pytest.approx(0.03, abs=0.03)


def test_the_tables_say_everything_once() -> None:
    overall, *facets = tables(toy_evaluation())
    assert overall.headers == (
        *("model", "scorer", "pruned", "soft bias", "frames", "% right"),
        *("against dense twin", "against random", "against fewer frames"),
    )
    assert [table.title.split(",")[0] for table in facets] == [
        "By split",
        "By kind of question",
        "By share of patches that stand still",
        "By scenario",
    ]
    assert all(len(table.rows) == len(SETTINGS) for table in (overall, *facets))
    assert overall.rows[2][:5] == ("model", "learned", "50%", "on", "8")


def test_an_evaluation_without_answers_has_no_table() -> None:
    assert tables(toy_evaluation(settings={})) == ()
