"""How long work tells how far it is, and what a person should know on the way."""

from __future__ import annotations

from collections.abc import Callable


OnProgress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done, 0 to 1."""

Log = Callable[[str], None]
"""Called with a sentence that a person should know and no code needs."""


def no_progress(stage: str, share: float) -> None:
    """Tell nobody how far the work is."""


def no_log(text: str) -> None:
    """Tell nobody."""
