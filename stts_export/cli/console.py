"""Where tables are printed."""

from __future__ import annotations

from rich.console import Console


PIPE_WIDTH = 200


def table_console(stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or a wide one where there is none: a cut table is no use in a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=PIPE_WIDTH)
