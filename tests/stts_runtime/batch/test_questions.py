from pathlib import Path

import pytest

from stts_runtime.batch.questions import Question, in_folder, places, read_questions, tasks_of
from stts_runtime.errors import UsageError


def written(folder: Path, *lines: str) -> Path:
    file = folder / "questions.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_lines_are_questions_and_blank_ones_are_not(tmp_path: Path) -> None:
    file = written(tmp_path, '{"clip": "a.mp4", "question": "Who?"}', "", '{"clip": "a", "question": "?", "prune": 0}')
    assert read_questions(file) == (Question("a.mp4", "Who?"), Question("a", "?", prune=0.0))


def test_only_the_end_of_a_line_ends_it(tmp_path: Path) -> None:
    file = written(tmp_path, '{"clip": "a", "question": "Who\u2028comes?"}\r', '{"clip": "b", "question": "\x85?"}')
    assert [question.question for question in read_questions(file)] == ["Who\u2028comes?", "\x85?"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"questions.jsonl:2: no JSON"),
        ("[" * 100_000, r"questions.jsonl:2: no JSON"),
        ('"text"', r"questions.jsonl:2: wanted"),
        ('{"clip": "a.mp4"}', r"questions.jsonl:2: question: missing"),
        ('{"clip": "a.mp4", "question": " "}', r"questions.jsonl:2: the question is empty"),
        ('{"clip": "a.mp4", "question": "?", "prun": 1}', r"questions.jsonl:2: .*prun"),
        ('{"clip": "a\\ud800.mp4", "question": "?"}', r"questions.jsonl:2: clip .* holds half a character"),
        ('{"clip": "a.mp4", "question": "?", "id": "\\udfff"}', r"questions.jsonl:2: id .* holds half a character"),
        ('{"clip": "a.mp4", "question": "?", "frames": "8"}', r"questions.jsonl:2: frames: wanted a whole number"),
    ],
    ids=str,
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_questions(written(tmp_path, '{"clip": "a.mp4", "question": "Who?"}', line))


def test_files_without_a_question_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no question; wanted lines such as"):
        read_questions(written(tmp_path))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(UsageError, match="cannot be read"):
        read_questions(tmp_path / "latin")


def test_neighbours_about_one_clip_are_one_task() -> None:
    a, b = Question("a", "1"), Question("b", "1")
    questions = (a, Question("a", "2"), Question("a", "3", prune=0.5), b, a)
    tasks = tasks_of(questions)
    assert [(task.first, len(task.questions)) for task in tasks] == [(0, 2), (2, 1), (3, 1), (4, 1)]
    assert [place for task in tasks for place in places(task)] == list(range(5))
    assert [(task.first, len(task.questions)) for task in tasks_of(questions, 1)] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert tasks_of(questions, 5) == ()


def test_clips_are_found_from_any_folder(tmp_path: Path) -> None:
    (task,) = tasks_of([Question("sub/a.mp4", "?"), Question("sub/a.mp4", "!")])
    assert [question.clip for question in in_folder(task, tmp_path).questions] == [f"{tmp_path}/sub/a.mp4"] * 2
    (task,) = tasks_of([Question("/clips/a.mp4", "?")])
    assert in_folder(task, tmp_path).questions[0].clip == "/clips/a.mp4"
