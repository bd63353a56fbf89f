"""How files of this room are written."""

from __future__ import annotations

from pathlib import Path

from stts_runtime.bundle.swap import write_whole


def write_changed(file: Path, content: bytes) -> None:
    """Write a file whole or not at all, and leave one that holds this already as old as it is, for `make`."""
    if not file.is_file() or file.read_bytes() != content:
        write_whole(file, lambda path: path.write_bytes(content))
