"""A line on standard error that says what is being done."""

from __future__ import annotations

import sys


def show_progress(name: str, share: float) -> None:
    """Rewrite one line on standard error with what is being done."""
    if sys.stderr.isatty():
        print(f"\r\033[K{share:4.0%} {name}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the line that `show_progress` wrote."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print something for the person at the terminal, beside the result."""
    print(text, file=sys.stderr)
