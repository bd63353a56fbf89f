"""Datasets as tables: every kind, every split."""

from stts_export.data.leaks import Leak
from stts_export.data.records import Question
from stts_export.report.data import leak_rows, split_rows


def test_questions_are_counted_by_kind_and_split():
    asked = [Question("a", "?", "1", kind="count"), Question("a", "?", "2", kind="where")]
    headers, rows = split_rows({"train": asked, "test": asked[:1]})
    assert headers == ("questions", "train", "test")
    assert rows == [("count", "1", "1"), ("where", "1", "0"), ("clips", "1", "1")]


def test_leaks_are_told_in_per_cent():
    headers, rows = leak_rows([Leak("motion", 10, 0.5, 0.51, 0.4, 0.5, 0.625, False)])
    assert len(headers) == len(rows[0])
    assert rows[0] == ("motion", "10", "50.0", "51.0", "40.0", "50.0", "62.5", "not enough")
