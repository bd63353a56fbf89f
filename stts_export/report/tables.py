"""Tables of what was measured: for a terminal, and for a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text


Rows = Sequence[Sequence[object]]


def markdown_table(headers: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table, padded so that it also reads as plain text; columns of numbers are set to the right.

    Args:
        headers: one a column.
        rows: as many cells each; written with `str`, so numbers come formatted.
    """
    _check_cells(headers, rows)
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    right = _numeric_columns(headers, rows)
    rule = ["-" * (width - 1) + (":" if number else "-") for width, number in zip(widths, right, strict=True)]
    lines = [
        [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        for row in cells
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))


def terminal_table(headers: Sequence[str], rows: Rows, title: str | None = None) -> Table:
    """Return the same table for a rich console."""
    _check_cells(headers, rows)
    table = Table(title=title, title_justify="left")
    for header, number in zip(headers, _numeric_columns(headers, rows), strict=True):
        table.add_column(header, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def _check_cells(headers: Sequence[str], rows: Rows) -> None:
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"{len(headers)} columns, but a row of {len(row)}: {row!r}")


def _numeric_columns(headers: Sequence[str], rows: Rows) -> list[bool]:
    """Tell for each column whether all its cells start as numbers do."""
    return [bool(rows) and all(_is_number(str(row[i])) for row in rows) for i in range(len(headers))]


def _is_number(cell: str) -> bool:
    """Tell whether `cell` is a number, with a unit or a percent sign behind it perhaps, or a dash for none."""
    first = cell.strip().rstrip("%x").split(" ")[0]
    try:
        float(first.replace(",", ""))
    except ValueError:
        return first in ("-", "–")  # noqa: RUF001
    return True
