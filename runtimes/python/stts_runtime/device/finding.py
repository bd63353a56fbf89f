"""One thing that `doctor` has to say."""

from __future__ import annotations

from dataclasses import dataclass


OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: `ok`; `warning` (runs, but slower, or not to its limits, or cannot be told); `problem` (does not run).
        topic: a word or two: `tensorrt`, `memory`.
        text: what was found, with numbers.
        advice: what to do; empty if there is nothing to do.
    """

    level: str
    topic: str
    text: str
    advice: str = ""
