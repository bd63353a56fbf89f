"""Files that clients sent ahead of their questions: bounded in all, gone when the server ends."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stts_runtime.serve.refused import RefusedError


@dataclass(frozen=True)
class Upload:
    """A file that was sent."""

    id: str
    owner: bytes  # digest of the key that it came with; whoever has another one does not see it
    filename: str  # what the client calls it; told back, and nothing else
    bytes: int
    created_at: int  # seconds since 1970
    path: Path  # where it lies here
    digest: str  # SHA-256, hexadecimal

    def told(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": "user_data",
            "status": "processed",
        }


class Uploads:
    """The files, in a folder of their own."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="stts-uploads-")
        self._held: dict[str, Upload] = {}
        self._change = threading.Lock()
        self._promised = 0  # bytes that are on their way

    @contextmanager
    def promised(self, size: int) -> Iterator[None]:
        """Hold room for a file of at most so many bytes, before the first of them has come.

        Raises:
            RefusedError: there is none.
        """
        with self._change:
            held = self._promised + sum(upload.bytes for upload in self._held.values())
            if held + size > self._most:
                text = (
                    f"{held >> 20} MiB of files are kept or on their way, this one has {-(-size >> 20)} MiB, and there "
                    f"is room for {self._most >> 20} MiB: delete some first"
                )
                raise RefusedError(413, "storage_full", text, "file")
            self._promised += size
        try:
            yield
        finally:
            with self._change:
                self._promised -= size

    async def add(self, filename: str, chunks: AsyncIterator[bytes], owner: bytes = b"") -> Upload:
        """Keep a file, for which there is room.

        Raises:
            RefusedError: it is empty, or the disk is full.
        """
        path = Path(self._folder.name) / secrets.token_hex(16)
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("xb") as file:
                async for chunk in chunks:
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            if size == 0:
                raise RefusedError(400, "invalid_clip", "the file is empty", "file")
        except OSError as error:
            path.unlink(missing_ok=True)
            text = f"the server could not keep the file: {os.strerror(error.errno or 0)}"
            raise RefusedError(507, "disk_full", text) from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        created = int(time.time())
        upload = Upload(f"file-{path.name}", owner, filename[:256], size, created, path, digest.hexdigest())
        with self._change:
            self._held[upload.id] = upload
        return upload

    def get(self, name: str, owner: bytes = b"") -> Upload:
        """Return a file.

        Raises:
            RefusedError: the owner has none of that id.
        """
        with self._change:
            found = self._held.get(name)
        if found is None or found.owner != owner:
            text = "no file of that id is here: files go when the server ends"
            raise RefusedError(404, "file_not_found", text, "file_id")
        return found

    def all(self, owner: bytes = b"") -> list[Upload]:
        """Return the owner's files, the newest first."""
        with self._change:
            return [upload for upload in self._held.values() if upload.owner == owner][::-1]

    def delete(self, name: str, owner: bytes = b"") -> None:
        """Remove a file; whoever is reading it reads on.

        Raises:
            RefusedError: the owner has none of that id.
        """
        found = self.get(name, owner)
        with self._change:
            self._held.pop(name, None)
        found.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all files."""
        self._folder.cleanup()
