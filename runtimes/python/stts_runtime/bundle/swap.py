"""Put a new directory or file in the place of an old one, so that whoever looks finds one of them, whole.

Bundles and engine sets are written this way: made beside their place under a lock, brought to the disk, renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from stts_runtime.errors import UsageError


DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EFBIG: "the file system does not hold files this large",
}
"""What an OSError's number says of a disk that cannot be written to."""


def claim(file: Path) -> TextIO:
    """Return the lock in `file`, made with its directory where it is missing, with this process's id in it.

    The lock is the operating system's (flock), so it ends with its process however that dies; the id is for messages
    only. Whoever held it may finish, and remove or rename the directory, between any two steps here: then we begin
    again.

    Raises:
        UsageError: another process has it.
        OSError: the file cannot be made.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = file.open("a+")
        except FileNotFoundError:
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
        if is_held(lock, file):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return lock
        lock.close()


def is_held(lock: TextIO, file: Path) -> bool:
    """Tell whether `lock` is the lock that lies in `file` now."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    return False


def put_in_place(staging: Path, destination: Path, replaced: Path) -> None:
    """Rename `staging` to `destination`; what was there waits at `replaced`, and comes back if that fails.

    The caller removes `replaced` at last, see `remove`; `finish_swap` does it for one that was killed.
    """
    if destination.exists():
        destination.rename(replaced)
    try:
        staging.rename(destination)
    except BaseException:
        if replaced.exists() and not destination.exists():
            replaced.rename(destination)
        raise
    sync(destination.parent)


def finish_swap(destination: Path, replaced: Path) -> None:
    """Finish what a process left that was killed while it put something in the place of `destination`."""
    if replaced.exists():
        if destination.exists():
            remove(replaced)
        else:
            replaced.rename(destination)


def remove(path: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync(path: Path) -> None:
    """Bring a file or a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """Return what a file holds; a pipe, a socket or a device is not opened, since reading it may never end.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a directory, a pipe or a device, and no file", str(path))
    return path.read_bytes()


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Have the file `path` appear whole or not at all, and return it.

    Args:
        path: what was there is replaced, and its folder made where there is none. Processes may write it at once.
        write: writes the file it is given, which lies beside `path` and has its suffix.

    Raises:
        OSError: from `write`, or the disk's; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
