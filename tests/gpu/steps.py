"""Steps of the check, each in a process of its own: what one prints as JSON, or why it failed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


CHILD = Path(__file__).with_name("child.py")
_TAIL = 2000


class StepError(Exception):
    """A step printed no result; the message says why."""


class Steps:
    """The steps of one subject.

    Attributes:
        found: what they printed, by title; `failures` and `not_checkable` by title with the reason, `seconds` by title.
    """

    def __init__(self, name: str, command: Sequence[str], deadline: float) -> None:
        """Take a subject.

        Args:
            name: said to whoever waits.
            command: starts a step, which is given its words.
            deadline: when all must be done, by `time.monotonic`.
        """
        self._name, self._command, self._deadline = name, command, deadline
        self.found: dict[str, Any] = {"ok": False, "failures": {}, "not_checkable": {}, "seconds": {}}

    def run(self, title: str, *words: str, most_seconds: float = float("inf")) -> dict[str, Any]:
        """Return what a step printed, which is kept in `found`; why it failed, if it says so, goes there too.

        Raises:
            StepError: it printed no result, and that is kept too.
        """
        say(f"{self._name}: {title} ...")
        start = time.monotonic()
        seconds = min(self._deadline - start, most_seconds)
        try:
            done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=max(0.0, seconds))
            result = json.loads(done.stdout[max(0, done.stdout.find("{")) :])  # libraries print too
        except subprocess.TimeoutExpired as error:
            left = "no time was left for it (--minutes)"
            why = left if seconds < most_seconds else f"it took more than {most_seconds:.0f} s"
            raise self._failed(title, why) from error
        except ValueError as error:
            why = done.stderr.strip()[-_TAIL:] or f"ended with code {done.returncode}, without a word"
            raise self._failed(title, why) from error
        finally:
            self.found["seconds"][title] = round(time.monotonic() - start, 1)
        self.found[title] = result
        if "not_checkable" in result:
            self.found["not_checkable"][title] = result["not_checkable"]
        if done.returncode:
            self._failed(title, failure_of(title, result))
        return result

    def _failed(self, title: str, why: str) -> StepError:
        self.found["failures"][title] = why
        say(f"{self._name}: {title} FAILED: {why}")
        return StepError(f"{title}: {why}")


def failure_of(title: str, result: dict[str, Any]) -> str:
    """Return what a step that failed with a result says of it."""
    if title == "doctor":
        problems = [one for one in result["findings"] if one["level"] == "problem"]
        return "; ".join(f"{one['topic']}: {one['text']} ({one['advice']})" for one in problems)
    return str(result.get("error") or result.get("verdict") or "failed")


def output_of(command: Sequence[str]) -> str:
    """Return what a short command prints.

    Raises:
        OSError: it cannot be started, or fails.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{shlex.join(command)}: {done.stderr.strip()[-_TAIL:]}")
    return done.stdout.strip()


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
