"""The flow: questions -> tasks -> answers, here or on a cluster -> lines in the order of the questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stts_runtime.batch import output
from stts_runtime.batch.answer import Answer, Settings, answers_of, checked
from stts_runtime.batch.questions import Task, in_folder, places, read_questions, tasks_of
from stts_runtime.bundle.digest import digest_of, sha256_of_file
from stts_runtime.bundle.open import open_bundle
from stts_runtime.bundle.plain import to_plain
from stts_runtime.errors import UsageError
from stts_runtime.session import load


@dataclass(frozen=True)
class BatchRequest:
    """What is to be answered."""

    bundle: Path
    questions: Path  # JSON lines
    output: Path  # JSON lines
    clips: Path | None = None  # folder that clips are named from; None for that of the questions
    settings: Settings = field(default_factory=Settings)
    overwrite: bool = False  # whether finished answers may be replaced


@dataclass(frozen=True)
class BatchResult:
    """What became of it."""

    questions: int
    resumed: int  # that had been answered before
    failed: int  # without an answer, of all


Answering = Callable[[Path, tuple[Task, ...], Settings], Iterator[tuple[int, Answer]]]
"""Yields the place and the answer of every question of the tasks, in any order."""


def answer_here(bundle: Path, tasks: tuple[Task, ...], settings: Settings) -> Iterator[tuple[int, Answer]]:
    """Answer on this machine, one after the other."""
    with load(bundle) as session:
        for task in tasks:
            yield from zip(places(task), answers_of(session, task, settings), strict=True)


def answer_batch(
    request: BatchRequest,
    answering: Answering = answer_here,
    on_line: Callable[[int, int], None] = lambda done, of: None,
) -> BatchResult:
    """Answer every question once, and leave the answers in the order of the questions; goes on after a stop.

    Args:
        request: what.
        answering: where.
        on_line: told how many lines are written, and of how many.

    Raises:
        UsageError: a file, or a setting that holds for all questions, is wrong.
        BundleError: the bundle is damaged.
        EngineError: it cannot be run.
    """
    bundle = open_bundle(request.bundle)
    settings = checked(request.settings, bundle)
    if request.output.exists() and not request.overwrite:
        raise UsageError(f"{request.output} is there already: give another -o, or --overwrite")
    questions = read_questions(request.questions)
    folder = request.questions.parent if request.clips is None else request.clips
    if not folder.is_dir():
        raise UsageError(f"--clips {folder} is no folder: name the one that paths of clips start from")
    about = {
        "bundle": sha256_of_file(bundle.path / "manifest.json"),
        "clips": str(folder.absolute()),
        "questions": digest_of(to_plain(questions)),
        "settings": to_plain(settings),
    }
    with output.opened(request.output, about) as lines:
        resumed = lines.done
        tasks = tuple(in_folder(task, folder) for task in tasks_of(questions, resumed))
        early: dict[int, Answer] = {}
        for place, answer in answering(request.bundle, tasks, settings) if tasks else ():
            early[place] = answer
            while lines.done in early:
                lines.write(questions[lines.done], early.pop(lines.done))
                on_line(lines.done, len(questions))
        failed = lines.failed
    output.finish(request.output)
    return BatchResult(len(questions), resumed, failed)
