"""Tables of what was measured: for a terminal, and for a Markdown page."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from stts_runtime.text_table import Rows


def markdown_table(table: Rows) -> str:
    """Return a Markdown table without its title.

    It is padded so that it also reads as plain text; columns of numbers are set to the right.
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    right = _numeric_columns(table)
    rule = ["-" * (width - 1) + (":" if number else "-") for width, number in zip(widths, right, strict=True)]
    lines = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        for row in cells
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))


def terminal_table(table: Rows) -> Table:
    """Return the same table for a rich console, its title above it."""
    drawn = Table(title=table.title or None, title_justify="left")
    for header, number in zip(table.headers, _numeric_columns(table), strict=True):
        drawn.add_column(header, justify="right" if number else "left")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def _numeric_columns(table: Rows) -> list[bool]:
    """Tell for each column whether all its cells start as numbers do."""
    return [bool(table.rows) and all(_is_number(row[i]) for row in table.rows) for i in range(len(table.headers))]


def _is_number(cell: str) -> bool:
    """Tell whether `cell` is a number, with a unit or a percent sign behind it perhaps, or a dash for none."""
    first = cell.strip().rstrip("%x").split(" ")[0]
    try:
        float(first.replace(",", ""))
    except ValueError:
        return first in ("-", "–")  # noqa: RUF001
    return True
