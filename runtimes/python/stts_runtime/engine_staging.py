"""Where a set of engines is made, in a bundle's `engines/`: one build at a time, resumed, and swapped in when whole.

A set is made in `.building-<its name>/`, whose index lists the engines that are finished, so that a build goes on where
an interrupted one ended. The set that is in place stays until the new one is whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from stts_runtime.engine_set import ENGINES, INDEX, EngineFile, EngineSet, index_bytes, is_whole, read_engine_set
from stts_runtime.errors import BundleError, EngineError, UsageError


_LOCK = ".building.lock"
_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up", errno.EROFS: "it is read-only"}


@dataclass(frozen=True)
class Staging:
    """A set of engines in the making.

    Attributes:
        bundle: the bundle's directory.
        wanted: what the set will be, without its files.
        parts: of the bundle, in order.
    """

    bundle: Path
    wanted: EngineSet
    parts: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the set will lie."""
        return self.bundle / ENGINES / self.wanted.folder

    @property
    def path(self) -> Path:
        """Where it is made."""
        return self.bundle / ENGINES / f".building-{self.wanted.folder}"

    def whole(self) -> EngineSet | None:
        """Return the set in place if it is the wanted one and every file of it is whole; reads them all."""
        files = self._whole_files(self.folder)
        return replace(self.wanted, files=files) if len(files) == len(self.parts) else None

    def take_over(self, anew: bool) -> dict[str, EngineFile]:
        """Return, by part, the engines that an interrupted build of the same set has left whole, and clear the rest.

        Args:
            anew: leave none.
        """
        finished = {} if anew else {entry.part: entry for entry in self._whole_files(self.path)}
        self.path.mkdir(parents=True, exist_ok=True)
        self._keep({entry.file for entry in finished.values()})
        return finished

    def write_index(self, finished: dict[str, EngineFile]) -> EngineSet:
        """Write down which engines are finished, and return the set so far."""
        engines = replace(self.wanted, files=tuple(finished[part] for part in self.parts if part in finished))
        partial = self.path / f"{INDEX}.partial"
        with partial.open("wb") as stream:
            stream.write(index_bytes(engines))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path / INDEX)
        return engines

    def publish(self) -> None:
        """Let the new set take the place of the old one."""
        replaced = _replaced(self.folder)
        if self.folder.exists():
            self.folder.rename(replaced)
        self.path.rename(self.folder)
        _sync(self.folder.parent)
        if replaced.exists():
            shutil.rmtree(replaced)

    def _whole_files(self, folder: Path) -> tuple[EngineFile, ...]:
        """Return the whole files of the wanted set that lie in `folder`; none if another set does, or a damaged one."""
        if not folder.is_dir():
            return ()
        try:
            found = read_engine_set(folder)
        except BundleError:
            return ()
        if replace(found, files=()) != self.wanted:
            return ()
        return tuple(
            entry for entry in found.files if entry.part in self.parts and is_whole(folder / entry.file, entry)
        )

    def _keep(self, names: Collection[str]) -> None:
        for path in self.path.iterdir():
            if path.name not in names and (path.name != INDEX or not names):
                path.unlink()


@contextlib.contextmanager
def engine_staging(staging: Staging) -> Iterator[None]:
    """Hold a bundle's `engines/` for one build at a time; what is half-written goes however the block ends.

    Raises:
        UsageError: another build is at work in this bundle.
        EngineError: the disk is full, or the bundle may not be written.
    """
    with _disk_errors(staging.bundle), _lock(staging.bundle / ENGINES):
        _finish_swap(staging.folder)
        try:
            yield
        finally:
            # of a failed build: finished engines stay for the next try, an empty staging folder does not
            if staging.path.is_dir() and not list(staging.path.glob("*.engine")):
                shutil.rmtree(staging.path)


def _finish_swap(folder: Path) -> None:
    """Finish what a build left that was killed while it swapped the old set for the new one."""
    replaced = _replaced(folder)
    if replaced.exists():
        if folder.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(folder)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".replaced-{folder.name}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold `engines/` for one build at a time.

    The lock is the operating system's (flock), so it ends with its process however that dies; the process id in the
    file is for the message only. The file goes with the build, and the folder too if nothing is in it.
    """
    root.mkdir(exist_ok=True)
    lock = _claimed(root / _LOCK)
    try:
        yield
    finally:
        (root / _LOCK).unlink(missing_ok=True)
        lock.close()
        with contextlib.suppress(OSError):  # not empty, as it should be
            root.rmdir()


def _claimed(file: Path) -> TextIO:
    while True:
        file.parent.mkdir(exist_ok=True)
        try:
            lock = file.open("a+")
        except FileNotFoundError:  # a build has ended in this moment, and taken the folder away
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            process = lock.read().strip() or "unknown"
            lock.close()
            raise UsageError(
                f"another build is at work in {file.parent} (process {process}): wait for it, or stop it"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), file.stat()):
                lock.truncate(0)
                lock.write(f"{os.getpid()}\n")
                lock.flush()
                return lock
        lock.close()  # another build has removed the file between the two steps


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a bundle that may not be written into an EngineError; every other OSError passes."""
    try:
        yield
    except PermissionError as error:
        raise EngineError(
            f"{error.filename or path} may not be written: engines are built into the bundle; copy it, or change its "
            "owner"
        ) from error
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise EngineError(
            f"{_DISK[error.errno]} ({error.filename or path}). Finished engines are kept: free some room and run the "
            "same command again"
        ) from error
