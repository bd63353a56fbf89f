"""Sizes in bytes, as people read them."""

from __future__ import annotations


MIB = 1 << 20
GIB = 1 << 30


def size_text(size: int) -> str:
    """Return a number of bytes for a message: `7.9 GiB`, `512 MiB`, `12 bytes`."""
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size} bytes"
