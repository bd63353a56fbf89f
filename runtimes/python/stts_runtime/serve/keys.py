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
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise UsageError(
            f"--keys {path} holds a key that no header can carry: letters, digits and signs of ASCII alone"
        )
    if any(len(key) < LEAST for key in keys):
        raise UsageError(f"--keys {path} holds a key of less than {LEAST} characters, which can be guessed")
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


def known_key(authorization: str | None, keys: tuple[bytes, ...]) -> bytes | None:
    """Return the digest of the key in a header `Authorization: Bearer KEY`, None if it is none of `keys`.

    All of them are compared, each in a time that does not depend on where it differs.
    """
    scheme, _, key = (authorization or "").partition(" ")
    digest = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
    found = [hmac.compare_digest(known, digest) for known in keys]
    return digest if any(found) and scheme.lower() == "bearer" else None
