"""Keys that clients must have."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from stts_runtime.errors import UsageError


LEAST = 16
"""Characters of a key."""


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Return the digests of the keys in a file, one a line; blank lines and lines with # are left out.

    Raises:
        UsageError: it cannot be read, holds none, or a short one.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--keys {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"--keys {path} holds no key: one a line, for instance from `openssl rand -hex 24`")
    if any(len(key) < LEAST for key in keys):
        raise UsageError(f"--keys {path} holds a key of less than {LEAST} characters, which can be guessed")
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


def is_known(authorization: str | None, keys: tuple[bytes, ...]) -> bool:
    """Tell whether a header `Authorization: Bearer KEY` has one of the keys, in a time that does not depend on them."""
    scheme, _, key = (authorization or "").partition(" ")
    digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
    found = False
    for known in keys:
        found |= hmac.compare_digest(known, digest)
    return found and scheme.lower() == "bearer"
