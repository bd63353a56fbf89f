"""Canonical JSON and digests: how a bundle's own documents are written so that a change of any byte is found."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


_BLOCK_BYTES = 4 << 20
_LARGEST_DOCUMENT = 64 << 20


def canonical(data: Any) -> bytes:
    """Return plain data as JSON in the one form we write."""
    return (json.dumps(data, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def digest_of(data: Any) -> str:
    """Return the SHA-256 in hex of the canonical form of `data`."""
    return hashlib.sha256(canonical(data)).hexdigest()


def sealed(data: dict[str, Any]) -> bytes:
    """Return `data` as canonical JSON, with the digest of all the rest as one more entry."""
    return canonical({**data, "digest": digest_of(data)})


def unsealed(content: bytes) -> tuple[dict[str, Any], bool]:
    """Return what `sealed` was given, without the digest, and whether no byte has changed since.

    Raises:
        ValueError: no JSON document with a digest.
    """
    try:
        data = dict(json.loads(content.decode()))
        return data, content == canonical(data) and data.pop("digest") == digest_of(data)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        # not JSON, not UTF-8, a number that is not finite, no dictionary, no digest, or nested without end
        raise ValueError("no sealed JSON") from error


def read_document(file: Path) -> bytes:
    """Return the bytes of one of a bundle's own documents.

    Raises:
        OSError: it cannot be read, is no regular file (a pipe would be waited for), or too large for a document.
    """
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # noqa: PTH123 (a descriptor, not a path)
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        if status.st_size > _LARGEST_DOCUMENT:
            raise OSError(errno.EFBIG, f"larger than {_LARGEST_DOCUMENT} bytes", str(file))
        return stream.read()


def sha256_of_file(file: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of the file in hex, reading it in blocks; `on_bytes` hears the size of each."""
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        # clearing a whole block takes a millisecond, and many files are small
        size = os.fstat(stream.fileno()).st_size
        block = memoryview(bytearray(min(size, _BLOCK_BYTES) + 1))
        while count := stream.readinto(block):
            digest.update(block[:count])
            if on_bytes is not None:
                on_bytes(count)
    return digest.hexdigest()
