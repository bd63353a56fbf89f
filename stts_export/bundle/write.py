"""Write a bundle so that it is whole or not there: staged next to its destination, then renamed.

Whoever holds the lock inside the staging directory may write there. The lock is the operating system's (flock), so it
ends with its process however that dies; the process id in the file is for the message only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from stts_export.errors import DiskError
from stts_runtime.bundle import (
    BUILD_LOCK,
    MANIFEST,
    Progress,
    files_below,
    manifest_bytes,
    open_bundle,
    sha256_of_file,
    staging_path,
)
from stts_runtime.errors import UsageError
from stts_runtime.manifest import FileEntry, Manifest
from stts_runtime.termination import termination_as_exit


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "the file system does not hold files this large",
}


@contextlib.contextmanager
def writing_bundle(destination: Path, needed_bytes: int, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty directory to fill; it becomes `destination` when the block ends, and vanishes if the block fails.

    Failing includes Ctrl-C, SIGTERM and SIGHUP. What a killed build left is cleared by the next one. A bundle that is
    already there stays whole until the new one is, then it is removed.

    Args:
        destination: the bundle's directory, `NAME.stts`; missing parents are made.
        needed_bytes: about how much will be written.
        overwrite: whether a bundle that is already there may be replaced.

    Yields:
        The staging directory, on the destination's disk. Fill it, then call `write_manifest`.

    Raises:
        UsageError: something is there that may not be replaced, or another build is writing there.
        DiskError: too little room, or the disk turned out full or not writable.
    """
    destination = Path(destination).resolve()
    staging = staging_path(destination)
    with termination_as_exit(), _disk_errors(destination, needed_bytes):
        lock = _claim(staging)
        try:
            _restore(destination)
            _check_replaceable(destination, overwrite)
            _check_room(destination, needed_bytes)
            yield staging
            _publish(staging, destination, overwrite)
        except BaseException:
            if _is_locked_by(lock, staging):
                _clear(staging)
            raise
        finally:
            lock.close()


def write_manifest(staging: Path, manifest: Manifest, progress: Progress | None = None) -> Manifest:
    """Write `manifest` into `staging` with size and digest of every file there, and return it so completed.

    The same files and the same manifest give the same bytes. May be called again after more files were added.

    Args:
        staging: a filled directory.
        manifest: what to write. Entries of its `files` are taken as they are, for files that have not changed since;
            all others are read.
        progress: called with the bytes hashed so far and in all.

    Raises:
        BundleError: a graph or the tokenizer that the manifest names is not there.
    """
    known = {entry.path: entry for entry in manifest.files}
    names = files_below(staging)
    sizes = {name: (staging / name).stat().st_size for name in names if name not in known}
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, sum(sizes.values()))

    read = {name: FileEntry(name, size, sha256_of_file(staging / name, count)) for name, size in sizes.items()}
    entries = tuple(known.get(name) or read[name] for name in names)
    manifest = dataclasses.replace(manifest, files=entries)
    (staging / MANIFEST).write_bytes(manifest_bytes(manifest))
    return open_bundle(staging).manifest  # what is written must pass the reader's own checks


def _claim(staging: Path) -> TextIO:
    """Return the lock of an empty staging directory.

    Another build may finish, and so rename or remove the directory, between any two steps here: then we begin again.
    """
    try:
        while True:
            staging.mkdir(parents=True, exist_ok=True)
            try:
                lock = (staging / BUILD_LOCK).open("a+")
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                writer = lock.read().strip() or "unknown"
                lock.close()
                raise UsageError(
                    f"another build is writing {staging} (process {writer}): wait for it, stop it, or write elsewhere"
                ) from None
            if _is_locked_by(lock, staging):
                break
            lock.close()
        _remove_contents(staging)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise DiskError(f"cannot write in {staging.parent}: {error.strerror}") from error
    return lock


def _is_locked_by(lock: TextIO, staging: Path) -> bool:
    """Tell whether `lock` is the lock file that lies in `staging` now."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), (staging / BUILD_LOCK).stat())
    except FileNotFoundError:
        return False


def _clear(staging: Path) -> None:
    """Remove a staging directory whose lock we hold; the lock goes last, so that nobody else has begun before."""
    _remove_contents(staging)
    (staging / BUILD_LOCK).unlink()
    with contextlib.suppress(OSError):  # another build has taken the directory over in this moment
        staging.rmdir()


def _remove_contents(staging: Path) -> None:
    for path in staging.iterdir():
        if path.name != BUILD_LOCK:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _replaced_path(destination: Path) -> Path:
    """Return where the old bundle waits while the new one takes its place."""
    return destination.with_name(f".{destination.name}.replaced")


def _restore(destination: Path) -> None:
    """Finish what a build left that was killed while it swapped the old bundle for the new one."""
    replaced = _replaced_path(destination)
    if replaced.exists():
        if destination.exists():
            _remove(replaced)
        else:
            replaced.rename(destination)


def _check_replaceable(destination: Path, overwrite: bool) -> None:
    if not destination.exists():
        return
    if not overwrite:
        raise UsageError(f"{destination} exists: choose another name, or pass --overwrite to replace it")
    manifest = destination / MANIFEST
    if destination.is_dir() and (manifest.is_file() and b'"schema_version"' in manifest.read_bytes()):
        return
    raise UsageError(f"{destination} exists and is not a bundle, so it will not be overwritten: choose another name")


def _check_room(destination: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(destination.parent).free
    if free < needed_bytes:
        raise DiskError(
            f"too little room for {destination}: needed {_size(needed_bytes)}, free {_size(free)} in "
            f"{destination.parent}. Free some, or write to another disk"
        )


def _publish(staging: Path, destination: Path, overwrite: bool) -> None:
    """Bring everything to the disk, then let the new bundle take the place of the old one."""
    if not (staging / MANIFEST).is_file():
        raise ValueError(f"{staging} has no {MANIFEST}: write_manifest was not called")  # our own bug
    for folder, _, names in os.walk(staging, topdown=False):
        for path in [*(Path(folder) / name for name in names), Path(folder)]:
            _sync(path)
    _check_replaceable(destination, overwrite)  # again: builds take long, and something may have come meanwhile
    replaced = _replaced_path(destination)
    if destination.exists():
        destination.rename(replaced)
    try:
        staging.rename(destination)
    except BaseException:
        if replaced.exists() and not destination.exists():
            replaced.rename(destination)
        raise
    (destination / BUILD_LOCK).unlink()
    _sync(destination.parent)
    if replaced.exists():
        _remove(replaced)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(destination: Path, needed_bytes: int) -> Iterator[None]:
    """Turn a full or read-only disk into a DiskError; every other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = error.filename or destination.parent
        free = shutil.disk_usage(destination.parent).free
        raise DiskError(
            f"{_FULL[error.errno]} ({where}) while {destination} was written: needed about {_size(needed_bytes)} in "
            f"all, free now {_size(free)} in {destination.parent}. Nothing half-written was left; free some room, or "
            "write to another disk"
        ) from error


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 // 10 else f"{size / 2**20:.1f} MiB"
