"""What a foreign library raises, mapped to one of our errors at the border of the room that calls the library."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from stts_runtime.errors import SttsError


PASSING = (SttsError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)
"""What is ours, or the interpreter's own word: never mapped."""


class foreign_errors:  # noqa: N801  reads as a statement: `with foreign_errors(...):`
    """A block that calls a foreign library and nothing else: whatever it raises leaves as one of our errors.

    Panics of native code too (pyo3's PanicException), which are no Exception. Keep the block to the call itself: a bug
    of ours in it would be blamed on the library.
    """

    def __init__(self, ours: Callable[[str], SttsError]) -> None:
        """Take what makes our error of the library's own words."""
        self._ours = ours

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, PASSING):
            raise self._ours(str(error) or type(error).__name__) from error
