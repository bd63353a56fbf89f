"""Where a set of engines is made, in a bundle's `engines/`: one build at a time, resumed, and swapped in when whole.

A set is made in `.building-<its name>/`, whose index lists the engines that are finished, so that a build goes on where
an interrupted one ended. The set that is in place stays until the new one is whole.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stts_runtime.bundle.engine_set import ENGINES, INDEX, EngineFile, EngineSet, index_bytes, is_whole, read_engine_set
from stts_runtime.bundle.swap import (
    DISK_ERRORS,
    claim,
    discard,
    finish_swap,
    put_in_place,
    refuse_link,
    remove,
    sync,
    write_whole,
)
from stts_runtime.errors import BundleError, EngineError


_LOCK = ".building.lock"


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
        kept = {INDEX, *(entry.file for entry in finished.values())} if finished else set()
        for path in self.path.iterdir():
            if path.name not in kept:
                remove(path)
        return finished

    def write_index(self, finished: dict[str, EngineFile]) -> EngineSet:
        """Write down which engines are finished, and return the set so far."""
        engines = replace(self.wanted, files=tuple(finished[part] for part in self.parts if part in finished))

        def write(file: Path) -> None:
            file.write_bytes(index_bytes(engines))
            sync(file)

        write_whole(self.path / INDEX, write)
        return engines

    def publish(self) -> None:
        """Let the new set take the place of the old one."""
        replaced = _replaced(self.folder)
        put_in_place(self.path, self.folder, replaced)
        discard(replaced)

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


@contextlib.contextmanager
def engine_staging(staging: Staging) -> Iterator[None]:
    """Hold a bundle's `engines/` for one build at a time; what is half-written goes however the block ends.

    Raises:
        UsageError: another build is at work in this bundle, or a link lies where a build's own work should.
        EngineError: the disk is full, or the bundle may not be written.
    """
    with _disk_errors(staging.bundle), _lock(staging.bundle / ENGINES):
        refuse_link(staging.path)
        finish_swap(staging.folder, _replaced(staging.folder))
        try:
            yield
        finally:
            # of a failed build: finished engines stay for the next try, an empty staging folder does not
            if staging.path.is_dir() and not list(staging.path.glob("*.engine")):
                shutil.rmtree(staging.path)


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".replaced-{folder.name}")


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Hold `engines/` for one build at a time; lock and folder go with the build, the folder if nothing is in it."""
    lock = claim(root / _LOCK)
    try:
        yield
    finally:
        (root / _LOCK).unlink(missing_ok=True)
        lock.close()
        with contextlib.suppress(OSError):  # not empty, as it should be
            root.rmdir()


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
        if error.errno not in DISK_ERRORS:
            raise
        raise EngineError(
            f"{DISK_ERRORS[error.errno]} ({error.filename or path}). Finished engines are kept: free some room and run "
            "the same command again"
        ) from error
