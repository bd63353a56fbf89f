"""A table as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


NONE = "-"
NAMES = ("engine", "variant")


@dataclass(frozen=True)
class Rows:
    """A table: a sentence above it, a header for each column, and as many cells a row."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text_table(table: Rows, left: Collection[str] = NAMES) -> str:
    """Return a table as plain text; all but the columns with headers in `left` are set to the right."""
    lines = [table.headers, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, table.headers, strict=True)
        return "  ".join(cell.ljust(width) if name in left else cell.rjust(width) for cell, width, name in placed)

    return "\n".join([table.title, *(line(cells).rstrip() for cells in lines)]) + "\n"
