"""A table as data, and as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


NONE = "-"
NAMES = ("engine", "variant")


@dataclass(frozen=True)
class Rows:
    """A table: a sentence above it (may be empty), a header for each column, and as many cells a row."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"{len(self.headers)} columns, but a row of {len(row)}: {row!r}")

    def records(self) -> list[dict[str, str]]:
        """Return each row as header -> cell."""
        return [dict(zip(self.headers, row, strict=True)) for row in self.rows]


def text_table(table: Rows, left: Collection[str] = NAMES) -> str:
    """Return a table as plain text; all but the columns with headers in `left` are set to the right."""
    lines = [table.headers, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, table.headers, strict=True)
        return "  ".join(cell.ljust(width) if name in left else cell.rjust(width) for cell, width, name in placed)

    return "\n".join([table.title, *(line(cells).rstrip() for cells in lines)]) + "\n"
