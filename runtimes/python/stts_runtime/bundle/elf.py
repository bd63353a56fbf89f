"""What a shared library's file says of itself, read without loading it: the machine it is for, and the C library.

The loader refuses a library for another machine, or for a newer C library, in words that do not say what to do. Just
enough of the format for that: 64 bits, little-endian, found through the program headers as the loader does it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stts_runtime.bundle.versions import numbers
from stts_runtime.errors import BundleError


# https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic.html, and the ELF-64 object format
_HEADER = struct.Struct("<16sHHIQQQIHHH")  # up to the number of segments
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")  # of the dynamic segment
_NEEDED = struct.Struct("<HHIII")  # versions that are needed of one file
_VERSION = struct.Struct("<IHHII")  # one of them
_SHARED, _LOADED, _DYNAMIC = 3, 1, 2  # kind of file, kinds of segments
_END, _STRINGS, _VERSIONS = 0, 5, 0x6FFFFFFE  # tags of the dynamic segment
_MACHINES = {62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True)
class ElfFile:
    """A shared library."""

    machine: str  # as `platform.machine()` says it, `machine 40` where it is none that we build for
    glibc: tuple[int, ...]  # the oldest C library that has all it asks for; empty where it asks for nothing


def read_elf(path: Path) -> ElfFile:
    """Return what the library at `path` says of itself.

    Raises:
        BundleError: it cannot be read, or is no 64-bit shared library.
    """
    try:
        content = path.read_bytes()
        identity, kind, machine, _, _, first, _, _, _, size, count = _HEADER.unpack_from(content)
        if identity[:6] != b"\x7fELF\x02\x01" or kind != _SHARED:
            raise ValueError("it is not one of 64 bits")
        segments = [_SEGMENT.unpack_from(content, first + place * size) for place in range(count)]
        versions = [numbers(name[6:]) for name in _versions(content, segments) if name.startswith("GLIBC_")]
        return ElfFile(_MACHINES.get(machine, f"machine {machine}"), max(versions, default=()))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, OverflowError, struct.error) as error:
        raise BundleError(f"{path}: cannot be read as a shared library: {error}") from error


def _versions(content: bytes, segments: list[tuple[int, ...]]) -> Iterator[str]:
    """Yield the names of all versions that the library needs of others: `GLIBC_2.34`, `GCC_3.0`."""
    dynamic = [(offset, size) for kind, _, offset, _, _, size, _, _ in segments if kind == _DYNAMIC]
    tags = dict(entry for offset, size in dynamic for entry in _entries(content, offset, size))
    if _VERSIONS not in tags or _STRINGS not in tags:
        return
    strings, at = (_place(segments, tags[tag]) for tag in (_STRINGS, _VERSIONS))
    while True:  # every step leads forward, and past the end of the file reading fails
        _, count, _, first, following = _NEEDED.unpack_from(content, at)
        inner = at + first
        for _ in range(count):
            _, _, _, name, next_version = _VERSION.unpack_from(content, inner)
            start = strings + name
            yield content[start : content.index(b"\0", start)].decode("ascii", "replace")
            inner += next_version
        if not following:
            return
        at += following


def _entries(content: bytes, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for tag, value in _ENTRY.iter_unpack(content[offset : offset + size // _ENTRY.size * _ENTRY.size]):
        if tag == _END:
            return
        yield tag, value


def _place(segments: list[tuple[int, ...]], address: int) -> int:
    """Return where in the file lies what is loaded at `address`."""
    for kind, _, offset, start, _, size, _, _ in segments:
        if kind == _LOADED and start <= address < start + size:
            return address - start + offset
    raise ValueError(f"nothing of it is loaded at {address:#x}")
