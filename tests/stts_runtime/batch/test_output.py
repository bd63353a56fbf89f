import json
from pathlib import Path

import pytest

from stts_runtime.batch.answer import Answer
from stts_runtime.batch.output import finish, opened, unfinished
from stts_runtime.batch.questions import Question
from stts_runtime.errors import UsageError


ABOUT = {"bundle": "abc", "settings": {"seed": 0}}
ASKED = Question("a.mp4", "Who?", id="7")


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_there_as_they_come_and_the_file_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with opened(path, ABOUT) as output:
        output.write(ASKED, Answer("Änne", "stop", None, 3, 6))
        assert lines_of(unfinished(path))[1]["answer"] == "Änne"
        output.write(ASKED, Answer(None, error="no clip"))
        assert (output.done, output.failed) == (2, 1)
    assert not path.exists()
    finish(path)
    asked = {"clip": "a.mp4", "question": "Who?", "id": "7"}
    cost = {"finish_reason": "stop", "vision_tokens": 3, "vision_tokens_before_pruning": 6}
    assert lines_of(path) == [{**asked, "answer": "Änne", **cost}, {**asked, "error": "no clip"}]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]


def test_what_was_begun_is_gone_on_with_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with opened(path, ABOUT) as output:
        output.write(ASKED, Answer("one"))
        output.write(ASKED, Answer(None, error="two"))
    with unfinished(path).open("a") as file:
        file.write('{"answer": "thr')
    with opened(path, ABOUT) as output:
        assert (output.done, output.failed) == (2, 1)
        output.write(ASKED, Answer("three"))
    finish(path)
    assert [line.get("answer") for line in lines_of(path)] == ["one", None, "three"]


def test_an_empty_answer_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "a", ABOUT) as output:
        output.write(ASKED, Answer("", "stop"))
    assert lines_of(unfinished(tmp_path / "a"))[1]["answer"] == ""


OTHER = '{"answers_about": {"bundle": "other"}}\n'


def test_what_was_begun_about_something_else_and_has_no_answer_is_begun_anew(tmp_path: Path) -> None:
    unfinished(tmp_path / "a").write_text(OTHER)
    with opened(tmp_path / "a", ABOUT) as output:
        assert output.done == 0
    assert lines_of(unfinished(tmp_path / "a")) == [{"answers_about": ABOUT}]


@pytest.mark.parametrize("content", [OTHER + '{"answer": "yes"}\n', OTHER + '{"ans', "my own notes\n", "my own notes"])
def test_what_is_about_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    unfinished(tmp_path / "a").write_text(content)
    with pytest.raises(UsageError, match="holds answers to other questions"), opened(tmp_path / "a", ABOUT):
        pass
    assert unfinished(tmp_path / "a").read_text() == content


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="is being written by another process")
    with opened(tmp_path / "a", ABOUT), refused, opened(tmp_path / "a", ABOUT):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file"), opened(tmp_path / "no" / "a", ABOUT):
        pass
    (tmp_path / "b.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="cannot be written"), opened(tmp_path / "b", ABOUT):
        pass
