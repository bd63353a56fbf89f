"""A shared library's file with nothing in it but what it says of itself: its machine, and the versions it needs."""

from __future__ import annotations

import struct
from pathlib import Path


MACHINES = {"x86_64": 62, "aarch64": 183, "riscv": 243}
_AT = 0x1000  # where the file is loaded


def write_library(
    path: Path,
    machine: str = "x86_64",
    versions: tuple[str, ...] = ("GLIBC_2.4", "GLIBC_2.17"),
    plugins: tuple[str, ...] = (),
) -> Path:
    """Write a 64-bit library into `path`, whose folders are made, and return it; `fake_tensorrt` finds its plugins."""
    strings = b"\0libc.so.6\0" + b"".join(name.encode() + b"\0" for name in (*versions, *plugins))
    places = [strings.index(name.encode() + b"\0") for name in versions]
    needed = struct.pack("<HHIII", 1, len(versions), 1, 16, 0) + b"".join(
        struct.pack("<IHHII", 0, 0, 2, place, 16) for place in places
    )
    head = 64 + 2 * 56
    at_strings, at_needed = head, head + len(strings)
    at_dynamic = at_needed + len(needed)
    tags = ((5, _AT + at_strings), *(((0x6FFFFFFE, _AT + at_needed),) if versions else ()), (0, 0))
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    size = at_dynamic + len(dynamic)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, MACHINES[machine], 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    loaded = struct.pack("<IIQQQQQQ", 1, 5, 0, _AT, _AT, size, size, 0x1000)
    pointer = struct.pack("<IIQQQQQQ", 2, 4, at_dynamic, _AT + at_dynamic, 0, len(dynamic), len(dynamic), 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + loaded + pointer + strings + needed + dynamic)
    return path
