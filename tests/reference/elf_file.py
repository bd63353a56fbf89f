"""A shared library's file with nothing in it but what it says of itself: its machine, and the versions it needs."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any


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


def write_page(library: Path, **changes: Any) -> Path:
    """Write the page that `make plugins` leaves beside a library, for SM 86 and 120, and return the library."""
    sms = changes.get("sms", (86, 120))
    compilers = {sm: f"nvidia-cuda-nvrtc{'-cu12==12.6.85' if sm < 100 else '-cu13==13.0.1'}" for sm in sms}
    said = {
        "contract": 2,
        "machine": "x86_64",
        "tensorrt_headers": "10.14.1",
        "compiler": "g++ 12",
        "sms": list(sms),
        "kernels": [{"name": "pack_tokens", "sm": sm, "compiler": compilers[sm], "sha256": ""} for sm in sms],
        "size": library.stat().st_size,
        "sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
        "made_from": "",
    }
    library.with_name("libstts_trt.json").write_text(json.dumps({**said, **changes}))
    return library
