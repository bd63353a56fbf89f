"""Questions from a file, one JSON object a line, as tasks: what is asked about one clip, beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from stts_runtime.bundle.plain import from_plain, is_text
from stts_runtime.errors import UsageError
from stts_runtime.language.prompt import check_question


@dataclass(frozen=True)
class Question:
    """A line: a clip, what is asked about it, and what is to be done otherwise than for the rest."""

    clip: str  # a video file, from the questions' own folder on, or that of --clips
    question: str
    prune: float | None = None  # share of groups to drop
    frames: int | None = None  # taken of the clip, evenly
    max_tokens: int | None = None  # of the answer, at most
    id: str | None = None  # what the answer is called; told back


@dataclass(frozen=True)
class Task:
    """Questions that are answered on one look at a clip; none hears of another."""

    first: int  # place of the first of them in the file, from 0
    questions: tuple[Question, ...]


def read_questions(path: Path) -> tuple[Question, ...]:
    """Return the questions of a file.

    Raises:
        UsageError: it cannot be read, or a line of it is no question; says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = tuple(_question(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise UsageError(
            f'{path} holds no question; wanted lines such as {{"clip": "a.mp4", "question": "What happens?"}}'
        )
    return found


def _question(line: str, where: str) -> Question:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: no JSON: {error}") from None
    question = from_plain(Question, data, where, UsageError)
    for name, text in (("clip", question.clip), ("id", question.id or "")):
        if not is_text(text):
            raise UsageError(f"{where}: {name} {text!r} holds half a character, and cannot be written: mend it")
    try:
        check_question(question.question)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return question


def tasks_of(questions: Sequence[Question], done: int = 0) -> tuple[Task, ...]:
    """Return the questions behind the first `done` of them as tasks: neighbours about one clip, looked at alike."""

    def look(numbered: tuple[int, Question]) -> tuple[str, int | None, float | None]:
        return numbered[1].clip, numbered[1].frames, numbered[1].prune

    groups = (tuple(group) for _, group in groupby(list(enumerate(questions))[done:], look))
    return tuple(Task(group[0][0], tuple(question for _, question in group)) for group in groups)


def in_folder(task: Task, folder: Path) -> Task:
    """Return a task whose clip is found from any folder."""
    clip = str((folder / task.questions[0].clip).absolute())
    return replace(task, questions=tuple(replace(question, clip=clip) for question in task.questions))


def places(task: Task) -> Iterator[int]:
    """Yield the place of each of the task's questions in the file."""
    yield from range(task.first, task.first + len(task.questions))
