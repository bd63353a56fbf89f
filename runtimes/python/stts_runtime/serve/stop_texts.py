"""Ends a streamed answer before any of some texts, which may come in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Holds back what may be the beginning of a stop text.

    Attributes:
        found: whether one came; nothing is to be said after it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts, self._held = texts, ""
        self.found = False

    def push(self, piece: str) -> str:
        """Return what may be said now that `piece` has come."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for place in map(text.find, self._texts) if place >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        beginning = max((_beginning(text, stop) for stop in self._texts), default=0)
        self._held = text[len(text) - beginning :]
        return text[: len(text) - beginning]

    def finish(self) -> str:
        """Return what was held back and was no stop text after all."""
        held, self._held = self._held, ""
        return held


def _beginning(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` begin `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-size:])), 0)
