"""Files that clients sent ahead of their questions: bounded in all, gone when the server ends."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stts_runtime.serve.refused import RefusedError


@dataclass(frozen=True)
class Upload:
    """A file that was sent."""

    id: str
    filename: str  # what the client calls it; told back, and nothing else
    bytes: int
    created_at: int  # seconds since 1970
    path: Path  # where it lies here
    digest: str  # SHA-256, hexadecimal

    def told(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        named = {name: value for name, value in asdict(self).items() if name not in ("path", "digest")}
        return {**named, "object": "file", "purpose": "user_data"}


class Uploads:
    """The files, in a folder of their own."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="stts-uploads-"))
        self._held: dict[str, Upload] = {}
        self._change = threading.Lock()
        self._writing = 0  # bytes

    async def add(self, filename: str, chunks: AsyncIterator[bytes], expected: int) -> Upload:
        """Keep a file, of at most `expected` bytes.

        Raises:
            RefusedError: there is no room for it.
        """
        self._reserve(expected)
        path = self._folder / secrets.token_hex(16)
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
            raise RefusedError(
                507, "disk_full", f"the server could not keep the file: {os.strerror(error.errno or 0)}"
            ) from None
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            with self._change:
                self._writing -= expected
        upload = Upload(f"file-{path.name}", filename[:256], size, int(time.time()), path, digest.hexdigest())
        with self._change:
            self._held[upload.id] = upload
        return upload

    def get(self, name: str) -> Upload:
        """Return a file.

        Raises:
            RefusedError: there is none of that id.
        """
        with self._change:
            if name in self._held:
                return self._held[name]
        raise RefusedError(
            404, "file_not_found", "no file of that id is here: files go when the server ends", "file_id"
        )

    def all(self) -> list[Upload]:
        """Return all files, the newest first."""
        with self._change:
            return list(self._held.values())[::-1]

    def delete(self, name: str) -> None:
        """Remove a file.

        Raises:
            RefusedError: there is none of that id.
        """
        self.get(name).path.unlink(missing_ok=True)
        with self._change:
            self._held.pop(name, None)

    def close(self) -> None:
        """Remove all files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reserve(self, size: int) -> None:
        with self._change:
            held = self._writing + sum(upload.bytes for upload in self._held.values())
            if held + size > self._most:
                raise RefusedError(
                    413,
                    "storage_full",
                    f"{held >> 20} MiB of files are kept, this one has {-(-size >> 20)} MiB, and there is room "
                    f"for {self._most >> 20} MiB: delete some first",
                    "file",
                )
            self._writing += size
