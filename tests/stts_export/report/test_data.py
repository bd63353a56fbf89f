"""Datasets as tables: every kind, every split."""

from stts_export.data.leaks import Leak
from stts_export.data.records import Question
from stts_export.report.data import leak_rows, split_rows


def test_questions_are_counted_by_kind_and_split():
    asked = [Question("a", "?", "1", kind="count"), Question("a", "?", "2", kind="where")]
    table = split_rows({"train": asked, "test": asked[:1]})
    assert table.headers == ("questions", "train", "test")
    assert table.rows == (("count", "1", "1"), ("where", "1", "0"), ("clips", "1", "1"))


def test_leaks_are_told_in_per_cent():
    table = leak_rows([Leak("motion", 10, 0.5, 0.51, 0.4, 0.5, 0.625, False)])
    assert len(table.headers) == len(table.rows[0])
    assert table.rows[0] == ("motion", "10", "50.0", "51.0", "40.0", "50.0", "62.5", "not enough")
