"""One thing that `doctor` has to say."""

from __future__ import annotations

from dataclasses import dataclass


OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: str  # `ok`; `warning` (runs, but slower, or not to its limits, or cannot be told); `problem` (does not run)
    topic: str  # a word or two: `tensorrt`, `memory`
    text: str  # what was found, with numbers
    advice: str = ""  # what to do; empty if there is nothing to do
