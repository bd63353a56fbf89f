"""Leaves an evaluation on disk, and reads it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stts_export.errors import DataError, DiskError
from stts_export.evaluate.records import FORMAT, Evaluation
from stts_export.evaluate.summary import summarise
from stts_runtime.bundle.plain import from_plain, to_plain
from stts_runtime.bundle.swap import write_whole


JSON, PAGE, PICTURE = "eval.json", "eval.md", "eval.png"
SUMMARY = "summary"
"""Key of what follows from the rest; it is for readers, and made anew when the file is read."""


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as plain data, with accuracies, intervals and differences."""
    return {**to_plain(evaluation), SUMMARY: to_plain(summarise(evaluation))}


def write_evaluation(evaluation: Evaluation, page: str, folder: Path) -> tuple[Path, ...]:
    """Write `eval.json`, `eval.md` (the `page`) and `eval.png` into `folder`, made if need be, and return their paths.

    Raises:
        DiskError: the disk is full or cannot be written.
    """
    from stts_export.evaluate.plot import plot_evaluation

    data = json.dumps(evaluation_json(evaluation), indent=1) + "\n"
    try:
        return (
            write_whole(folder / JSON, lambda path: path.write_text(data, encoding="utf-8")),
            write_whole(folder / PAGE, lambda path: path.write_text(page, encoding="utf-8")),
            write_whole(folder / PICTURE, lambda path: plot_evaluation(evaluation, path)),
        )
    except OSError as error:
        raise DiskError(f"{folder}: the evaluation could not be written: {error.strerror or error}") from error


def read_evaluation(path: Path) -> Evaluation:
    """Return the evaluation that an `eval.json`, or the folder it lies in, holds.

    Raises:
        DataError: there is none, or it is damaged or newer than this compiler.
    """
    path = path / JSON if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; write one with stts-export eval -o DIR") from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise DataError(f"{path} is no evaluation of format {FORMAT}; write it again with stts-export eval -o DIR")
    data.pop(SUMMARY, None)
    evaluation = from_plain(Evaluation, data, str(path), DataError)
    for one in evaluation.answers:
        if len(one.right) != len(evaluation.questions):
            raise DataError(
                f"{path}: {one.setting.label} has {len(one.right)} answers to {len(evaluation.questions)} questions"
            )
    return evaluation
