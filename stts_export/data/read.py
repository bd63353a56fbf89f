"""Reads datasets: questions checked line by line, so that a wrong one is told before an hour of training."""

from __future__ import annotations

import json
from pathlib import Path

from stts_export.data.records import LETTERS, DatasetInfo, Question
from stts_export.errors import DataError
from stts_runtime.bundle.plain import Record, from_plain


INFO = "dataset.json"
SPLITS = ("train", "validation", "test", "held_out")
SHOWN_PROBLEMS = 5
EXAMPLE = '{"clip": "clips/a.mp4", "question": "How many barrels are there?", "answer": "2", "choices": ["1", "2"]}'


def open_questions(data: Path, split: str) -> tuple[Question, ...]:
    """Return the questions of a split, in the order of its file, `<split>.jsonl`.

    Raises:
        DataError: the file is missing or empty, or lines are no questions; names file, line and what to do for the
            first few of them.
    """
    path = data / f"{split}.jsonl"
    if not path.is_file():
        have = ", ".join(splits_of(data))
        if not have:
            what = "holds no dataset" if data.is_dir() else "does not exist"
            raise DataError(f"{data} {what}; make one with: stts-export data RECIPE -o {data}")
        raise DataError(f"{path} does not exist; {data} has these splits: {have}.")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON may hold U+2028 as it is
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    questions: list[Question] = []
    problems: list[str] = []
    clips: dict[str, bool] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            question = _question(line)
            if not clips.setdefault(question.clip, (data / question.clip).is_file()):
                raise DataError(f"clip {question.clip} is not in {data}; paths are relative to the dataset's folder")
            questions.append(question)
        except DataError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        shown = problems[:SHOWN_PROBLEMS]
        more = len(problems) - len(shown)
        raise DataError("\n".join([*shown, *([f"and {more} more lines like these"] if more else [])]))
    if not questions:
        raise DataError(f"{path} holds no question; a line is a JSON object such as {EXAMPLE}")
    return tuple(questions)


def open_info(data: Path) -> DatasetInfo | None:
    """Return what `dataset.json` says; None where there is none, as in a dataset made by hand.

    Raises:
        DataError: the file is there and is not what a dataset's description looks like.
    """
    return read_json(DatasetInfo, data / INFO)


def read_json(kind: type[Record], path: Path) -> Record | None:
    """Return what a file beside the questions says; None where there is none.

    Raises:
        DataError: the file is there and does not hold a `kind`, key by key.
    """
    if not path.is_file():
        return None
    try:
        return from_plain(kind, json.loads(path.read_text(encoding="utf-8")), "", DataError)
    except (OSError, ValueError, DataError) as error:
        raise DataError(
            f"{path} does not describe a dataset; generate it again, or delete it if the dataset was made by hand: "
            f"{error}"
        ) from error


def splits_of(data: Path) -> tuple[str, ...]:
    """Return the names of the splits that the folder has, the usual ones first."""
    found = {path.stem for path in data.glob("*.jsonl")}
    return (*(split for split in SPLITS if split in found), *sorted(found - set(SPLITS)))


def _question(line: str) -> Question:
    try:
        table = json.loads(line)
    except ValueError as error:
        raise DataError(f"is not JSON: {error}") from None
    if not isinstance(table, dict):
        raise DataError(f"is no JSON object; wanted one such as {EXAMPLE}")
    question = from_plain(Question, table, "", DataError)
    choices = question.choices
    if len(choices) > len(LETTERS):
        raise DataError(f"has {len(choices)} choices; at most {len(LETTERS)} can be lettered")
    if len(set(choices)) < len(choices):
        raise DataError(f"has a choice twice: {', '.join(choices)}")
    if choices and question.answer not in choices:
        raise DataError(f"answer {question.answer!r} is not among its choices {', '.join(choices)}")
    if not question.answer.strip():
        raise DataError("has an empty answer")
    if question.still is not None and not 0 <= question.still <= 1:
        raise DataError(f"still is {question.still!r}; wanted a number from 0 to 1, or null")
    return question
