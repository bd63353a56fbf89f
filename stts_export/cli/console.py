"""How results are printed."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console

from stts_export.report.tables import terminal_table
from stts_runtime.bundle.plain import to_plain
from stts_runtime.text_table import Rows


PIPE_WIDTH = 200


def table_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or a wide one where there is none: a cut table is no use in a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)


def print_tables(tables: Iterable[Rows], notes: Iterable[str] = ()) -> None:
    """Print tables, and a line for each note below them."""
    console = table_console()
    for table in tables:
        console.print(terminal_table(table))
    for note in notes:
        console.print(f"note: {note}", highlight=False)


def print_json(result: object) -> None:
    """Print records and plain data as JSON."""
    print(json.dumps(to_plain(result), indent=2))
