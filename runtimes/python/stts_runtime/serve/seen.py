"""What was looked at and talked about before, by what was sent: a bounded memory, the oldest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar


Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, at most so many bytes of them; those not asked for the longest go first.

    Attributes:
        size: bytes held.
    """

    def __init__(self, most_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._most, self._size_of = most_bytes, size_of
        self._held: OrderedDict[Hashable, Value] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> Value | None:
        """Return what is held, and count it as new."""
        if key in self._held:
            self._held.move_to_end(key)
        return self._held.get(key)

    def take(self, key: Hashable) -> Value | None:
        """Return what is held, and hold it no longer."""
        value = self._held.pop(key, None)
        if value is not None:
            self.size -= self._size_of(value)
        return value

    def put(self, key: Hashable, value: Value) -> None:
        """Hold a value, unless it alone is too large."""
        self.take(key)
        size = self._size_of(value)
        if size > self._most:
            return
        self.shrink(self._most - size)
        self._held[key] = value
        self.size += size

    def shrink(self, most_bytes: int) -> None:
        """Let the oldest go until no more than so many bytes are held."""
        while self._held and self.size > most_bytes:
            self.take(next(iter(self._held)))
