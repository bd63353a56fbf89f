"""A table that reads well as Markdown and as plain text."""

from __future__ import annotations

from collections.abc import Sequence


NONE = "-"


def cell(value: float | None, form: str) -> str:
    """Return a number as text."""
    return NONE if value is None else form.format(value)


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table under a heading; nothing without rows."""
    if not rows:
        return ""
    cells = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[text.ljust(width) for text, width in zip(row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * width for width in widths])
    return f"## {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
