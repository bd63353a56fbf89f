"""Datasets are read with care: each wrong line is told by file and number."""

import json
import re
from dataclasses import asdict

import pytest

from stts_export.data.read import open_info, open_questions, splits_of
from stts_export.data.records import DatasetInfo, Question
from stts_export.errors import DataError


GOOD = {"clip": "a.mp4", "question": "How many?", "answer": "2", "choices": ["1", "2"]}


def write(folder, *lines):
    (folder / "a.mp4").touch()
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "train.jsonl").write_text(text)


def test_a_dataset_made_by_hand_needs_three_fields(tmp_path):
    write(tmp_path, {"clip": "a.mp4", "question": "What is there?", "answer": "a barrel"}, "", GOOD)
    words, letters = open_questions(tmp_path, "train")
    assert words == Question("a.mp4", "What is there?", "a barrel")
    assert (words.prompt, words.target) == ("What is there?", "a barrel")
    assert (letters.prompt, letters.target) == ("How many?\nA. 1\nB. 2", "B")
    assert open_info(tmp_path) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "is no JSON object; wanted one such as"),
        ({**GOOD, "anser": "2"}, "anser: unknown key; did you mean 'answer'?"),
        ({"clip": "a.mp4", "answer": "2"}, "question: missing; wanted text"),
        ({**GOOD, "answer": "3"}, "answer '3' is not among its choices 1, 2"),
        ({**GOOD, "choices": ["2", "2"]}, "has a choice twice"),
        ({**GOOD, "choices": [str(number) for number in range(9)]}, "has 9 choices; at most 8"),
        ({**GOOD, "choices": "12"}, "choices: wanted a list, each item text, got '12'"),
        ({**GOOD, "answer": 2}, "answer: wanted text, got 2"),
        ({**GOOD, "answer": "", "choices": []}, "has an empty answer"),
        ({**GOOD, "still": 2}, "still is 2.0; wanted a number from 0 to 1"),
        ({**GOOD, "still": True}, "still: wanted a number or nothing (null), got True"),
        ({**GOOD, "still": float("nan")}, "still: wanted a number or nothing (null), got nan"),
        ({**GOOD, "choices": ["1", 2]}, "choices[1]: wanted text, got 2"),
        ({**GOOD, "clip": "b.mp4"}, "clip b.mp4 is not in"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(tmp_path, line, told):
    write(tmp_path, GOOD, line)
    with pytest.raises(DataError) as caught:
        open_questions(tmp_path, "train")
    assert f"train.jsonl:2: {told}" in str(caught.value)


def test_the_first_few_of_many_wrong_lines_are_told(tmp_path):
    write(tmp_path, *["{"] * 9)
    with pytest.raises(DataError) as caught:
        open_questions(tmp_path, "train")
    assert str(caught.value).count("is not JSON") == 5
    assert "and 4 more lines" in str(caught.value)


def test_a_missing_split_names_those_that_are_there(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "mine.jsonl").touch()
    assert splits_of(tmp_path) == ("train", "mine")
    with pytest.raises(DataError, match=r"test.jsonl does not exist; .* has these splits: train, mine"):
        open_questions(tmp_path, "test")
    with pytest.raises(DataError, match="holds no question"):
        open_questions(tmp_path, "mine")


def test_a_folder_that_is_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match=r"holds no dataset; make one with: stts-export data RECIPE -o"):
        open_questions(tmp_path, "train")
    with pytest.raises(DataError, match=r"nowhere does not exist; make one with"):
        open_questions(tmp_path / "nowhere", "train")


def test_lines_end_where_json_says_and_nowhere_else(tmp_path):
    odd = {**GOOD, "question": "How\u2028many?"}
    write(tmp_path, json.dumps(odd, ensure_ascii=False))
    assert open_questions(tmp_path, "train")[0].question == "How\u2028many?"
    (tmp_path / "train.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        open_questions(tmp_path, "train")


def test_a_damaged_description_is_told(tmp_path):
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DataError, match="does not describe a dataset"):
        open_info(tmp_path)


INFO = DatasetInfo("mine", 1, 16, 5.0, ("background", "imp"), 9, {"train": 2})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"lable_side": 9}, "lable_side: unknown key; did you mean 'label_side'?"),
        ({"classes": "imp"}, "classes: wanted a list, each item text, got 'imp'"),
        ({"fps": "5"}, "fps: wanted a number, got '5'"),
        ({"splits": {"train": 2.5}}, "splits.train: wanted a whole number, got 2.5"),
    ],
)
def test_a_description_is_read_key_by_key(tmp_path, change, told):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(asdict(INFO)))
    assert open_info(tmp_path) == INFO
    file.write_text(json.dumps(asdict(INFO) | change))
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        open_info(tmp_path)
    assert str(caught.value).startswith(f"{file} does not describe a dataset")


def test_a_dataset_that_was_not_generated_to_its_end_is_told(tmp_path):
    write(tmp_path, GOOD)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(DataError, match="not generated to its end: run the same `stts-export data` again"):
        open_questions(tmp_path, "train")
