"""The file of answers: written line by line beside its place, gone on with after a stop, and put there when whole.

The first line of the unfinished file says what it is of, so that no other questions or settings are gone on with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stts_runtime.batch.answer import Answer
from stts_runtime.batch.questions import Question
from stts_runtime.bundle.plain import to_plain
from stts_runtime.bundle.swap import write_whole
from stts_runtime.errors import UsageError


ABOUT = "answers_about"
"""The only key of the first line."""


class Output:
    """The unfinished file, open at its end.

    Attributes:
        done: lines that were there already, or have been written since.
        failed: of them, those without an answer.
    """

    def __init__(self, file: IO[bytes], done: int, failed: int) -> None:
        self._file = file
        self.done, self.failed = done, failed

    def write(self, question: Question, answer: Answer) -> None:
        """Add the next line; it is in the file, whole, before this returns."""
        asked = {name: value for name, value in to_plain(question).items() if value is not None}
        told = {name: value for name, value in to_plain(answer).items() if value not in (None, [], 0)}
        self._file.write((json.dumps({**asked, **told}, ensure_ascii=False) + "\n").encode())
        self._file.flush()
        self.done += 1
        self.failed += answer.error is not None


def unfinished(path: Path) -> Path:
    """Return where the answers lie until all are there."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def opened(path: Path, about: Mapping[str, Any]) -> Iterator[Output]:
    """Give the unfinished file of answers, begun anew or gone on with.

    Args:
        path: of the finished one.
        about: what answers depend on, as plain data; the unfinished file has to be about the same.

    Raises:
        UsageError: it is about something else, is another program's now, or is none of ours.
    """
    partial = unfinished(path)
    with _locked(partial) as file:
        *whole, cut_off = file.read().split(b"\n")
        head = (json.dumps({ABOUT: about}, sort_keys=True)).encode()
        if len(whole) == 1 and not cut_off and whole[0].startswith(f'{{"{ABOUT}": '.encode()):
            whole = []  # nothing was answered yet, so it matters not about what
        if whole[:1] not in ([], [head]) or not (whole or head.startswith(cut_off)):
            raise UsageError(
                f"{partial} holds answers to other questions, or by another bundle or other settings: finish it as it "
                "was begun, or remove it"
            )
        file.truncate(sum(len(line) + 1 for line in whole))  # a line that was cut off is answered again
        file.seek(0, os.SEEK_END)
        if not whole:
            file.write(head + b"\n")
            file.flush()
        answers = [json.loads(line) for line in whole[1:]]
        yield Output(file, len(answers), sum("error" in answer for answer in answers))
        os.fsync(file.fileno())


def finish(path: Path) -> None:
    """Put the finished answers in their place, and remove the unfinished file.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    partial = unfinished(path)
    with partial.open("rb") as source:
        source.readline()

        def copy(target: Path) -> None:
            with target.open("wb") as file:
                while block := source.read(1 << 20):
                    file.write(block)

        write_whole(path, copy)
    partial.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path} is being written by another process: wait for it, or give another -o") from None
        yield file
