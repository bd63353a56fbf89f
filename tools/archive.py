"""A tree of files as numbered parts of a bounded size, with their digests, and back.

The parts are one tar file, cut. Equal files are stored once. Large files come first, so that what changes from day to
day (graphs, code) is in the last part, and the others need not be carried again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path


DIGESTS = "SHA256SUMS"
_BLOCK = 1 << 20


class DamagedError(Exception):
    """A part is missing, or its bytes have changed."""


def write_parts(files: dict[str, Path], folder: Path, part_bytes: int, compression: str = "") -> int:
    """Write `files` (name in the tree -> file) as parts into the empty `folder`; return how many there are.

    Args:
        files: what goes in.
        folder: where the parts go.
        part_bytes: largest size of a part.
        compression: of the tar file, `xz` or none.
    """
    cutter = _Cutter(folder, part_bytes)
    first: dict[str, str] = {}
    with tarfile.open(fileobj=cutter, mode=f"w|{compression}") as tar:  # type: ignore[call-overload]
        for name, path in sorted(files.items(), key=lambda item: (-item[1].stat().st_size, item[0])):
            entry = tarfile.TarInfo(name)  # dated 1970, and nobody's: equal files give equal parts
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            digest = _digest(path)
            if digest in first:
                entry.type, entry.linkname = tarfile.LNKTYPE, first[digest]
                tar.addfile(entry)
                continue
            first[digest], entry.size = name, path.stat().st_size
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    cutter.close()
    (folder / DIGESTS).write_text("".join(f"{digest}  {name}\n" for name, digest in cutter.digests.items()))
    return len(cutter.digests)


def read_parts(folder: Path, destination: Path) -> None:
    """Put the tree together in `destination`, which is whole afterwards or as it was before.

    Raises:
        DamagedError: a part is missing or has changed; names it.
    """
    listed = [line.split("  ", 1) for line in (folder / DIGESTS).read_text().splitlines()]
    for digest, name in listed:
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{path} is missing: {len(listed)} parts are needed, as {folder / DIGESTS} lists them")
        if _digest(path) != digest:
            raise DamagedError(f"{path} is damaged: its digest is not the one in {DIGESTS}; copy it again")
    staging = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    with tarfile.open(fileobj=_Joiner([folder / name for _, name in listed]), mode="r|*") as tar:  # type: ignore[call-overload]
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter  # no path out of the tree, no strange files
        tar.extractall(staging)
    shutil.rmtree(destination, ignore_errors=True)
    staging.replace(destination)


class _Cutter:
    """What tarfile writes to: file after file of `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.digests: dict[str, str] = {}
        self._folder, self._size = folder, size
        self._name, self._left = "", 0
        self._hash = hashlib.sha256()
        self._stream = open(os.devnull, "wb")  # noqa: PTH123, SIM115 - replaced by the first part

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            if not self._left:
                self._begin()
            piece = view[: self._left]
            self._stream.write(piece)
            self._hash.update(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
        return len(data)

    def close(self) -> None:
        self._stream.close()
        if self._name:
            self.digests[self._name] = self._hash.hexdigest()

    def _begin(self) -> None:
        self.close()
        self._name, self._left = f"part-{len(self.digests):03d}", self._size
        self._hash = hashlib.sha256()
        self._stream = (self._folder / self._name).open("wb")


class _Joiner:
    """What tarfile reads from: the parts, one after the other."""

    def __init__(self, parts: list[Path]) -> None:
        self._parts = iter(parts)
        self._stream = open(os.devnull, "rb")  # noqa: PTH123, SIM115

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._stream.read(size - len(found))
            found += piece
            if not piece:
                self._stream.close()
                part = next(self._parts, None)
                if part is None:
                    break
                self._stream = part.open("rb")
        return found


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
